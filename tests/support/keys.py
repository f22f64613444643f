"""A file of keys, as an operator keeps it."""

from collections.abc import Iterable
from pathlib import Path

from taskqueue_api.access.keys import new_key
from taskqueue_api.access.scopes import Scope


class KeyBook:
    """Writes the file anew with each change, in place, as an editor does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[str, str] = {}

    def issue(self, *scopes: Scope, expires: str | None = None) -> str:
        """A new key that is in the file."""
        token, line = new_key(frozenset(scopes or Scope), expires)
        self._lines[token] = line
        self._write(self._lines.values())
        return token

    def revoke(self, token: str) -> None:
        """The key is no longer in the file."""
        del self._lines[token]
        self._write(self._lines.values())

    def spoil(self, content: str) -> None:
        """The file holds something else."""
        self._write([content])

    def _write(self, lines: Iterable[str]) -> None:
        self.path.touch(mode=0o600)
        self.path.write_text("".join(f"{line}\n" for line in lines))


def bearer(token: str) -> dict[str, str]:
    """The header of a request that comes with this key, for `Http`."""
    return {"Authorization": f"Bearer {token}"}
