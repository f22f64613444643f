"""What every service shares. Rooms: `schema` (the wire contract), `actions`, `broker`, `store`, `dispatch` and `sweep`.

Importing this package, or any module in it, has no effect.
"""
