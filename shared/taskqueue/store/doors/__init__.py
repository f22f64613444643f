"""The doors of the store, by what one comes for: whoever calls takes the one that it needs."""
