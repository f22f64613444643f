"""Keys: what a client holds, and the line of a file that knows it without being able to tell it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from secrets import token_hex
from typing import Final

from taskqueue.requests import instant
from taskqueue_api.access.scopes import Scope

RANDOM_BYTES: Final = 32
_NO_DIGEST: Final = bytes(32)
"""What an unknown key is compared with, so that it costs what a known one costs. Nothing has this digest."""

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_WORDS: Final = (3, 4)


class UnreadableKeys(ValueError):
    """The lines are no keys. The message quotes none of them: one may be a key itself, put there by mistake."""


@dataclass(frozen=True)
class Key:
    """A key as the file has it: `id` is what it begins with, `expires_at` (ms) when it ends."""

    id: str
    digest: bytes
    scopes: frozenset[Scope]
    expires_at: int | None = None

    def valid(self, now: int) -> bool:
        """Whether it has not ended at `now` (ms)."""
        return self.expires_at is None or now < self.expires_at


Keys = Mapping[str, Key]
"""By their ids."""


def holder(keys: Keys, token: str, now: int) -> Key | None:
    """The key that `token` is, if it is one and valid at `now` (ms). It costs the same whatever `token` is."""
    key = keys.get(token.rpartition("_")[0])
    digest = sha256(token.encode(errors="surrogateescape")).digest()
    is_it = compare_digest(digest, key.digest if key else _NO_DIGEST)
    return key if is_it and key and key.valid(now) else None


def new_key(scopes: frozenset[Scope], expires: str | None = None) -> tuple[str, str]:
    """A key that was never there, and its line for the file."""
    key_id = f"tq_{token_hex(4)}"
    token = f"{key_id}_{token_hex(RANDOM_BYTES)}"
    words = [key_id, sha256(token.encode()).hexdigest(), ",".join(sorted(scopes)), *([expires] if expires else [])]
    return token, " ".join(words)


def parse(content: bytes) -> Keys:
    """The keys of a file: a line each, `ID SHA-256 SCOPES [EXPIRES]`; # begins a comment. Raises UnreadableKeys."""
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise UnreadableKeys("it is not UTF-8") from None
    keys: dict[str, Key] = {}
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            key = _key(words)
        except ValueError as error:
            raise UnreadableKeys(f"line {number}: {error}") from None
        if key.id in keys:
            raise UnreadableKeys(f"line {number}: the id is that of an earlier line")
        keys[key.id] = key
    return keys


def parse_scopes(text: str) -> frozenset[Scope]:
    """The scopes that `text` names, separated by commas. Raises ValueError."""
    words = text.split(",")
    if not all(word in list(Scope) for word in words):
        raise ValueError(f"scopes must be one or several of {','.join(Scope)}")
    return frozenset(map(Scope, words))


def _key(words: list[str]) -> Key:
    if len(words) not in _WORDS:
        raise ValueError("a line is ID SHA-256 SCOPES and perhaps EXPIRES")
    key_id, digest, scopes, *expires = words
    if not _ID.fullmatch(key_id):
        raise ValueError("the id must be up to 64 letters, digits, _ and -")
    if not _DIGEST.fullmatch(digest):
        raise ValueError("the second word must be a SHA-256 in 64 small hexadecimal digits")
    try:
        expires_at = instant(expires[0]) if expires else None
    except ValueError as error:
        raise ValueError(f"the time of expiry {error}") from None
    return Key(key_id, bytes.fromhex(digest), parse_scopes(scopes), expires_at)
