"""What a key may do. A scope holds no other: who may submit may not read, unless the key says so too."""

from enum import StrEnum


class Scope(StrEnum):
    """Look at tasks; submit, cancel and retry them; delete them, order many at once and audit."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


OPEN = None
"""Instead of a scope: for whoever asks, with or without a key."""
