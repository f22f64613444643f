"""Makes RabbitMQ's users: each has a password of its own, and the least rights that its service needs.

    python users.py [--renew]

It runs before RabbitMQ, and writes below the working folder:

    api/password, worker/password     for that service alone
    rabbitmq/definitions.json         the users with their rights and the hashes of their passwords
    rabbitmq/admin-password           for operators, by way of RabbitMQ's container

RabbitMQ imports the definitions whenever it starts. A password that is there stays, unless `--renew` is given.

Sources: rabbitmq.com/docs/access-control (which right each operation needs; `amq.default` is the default exchange),
/docs/passwords (the hash), /docs/definitions (the import; a new node then makes no user `guest`).
"""

import base64
import hashlib
import json
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SALT_BYTES: Final = 4
PASSWORD_BYTES: Final = 32
FOR_THE_OWNER: Final = 0o400
FOR_RABBITMQ: Final = 0o440
NOTHING: Final = "^$"
TO_PUBLISH: Final = r"^amq\.default$"


@dataclass(frozen=True)
class User:
    """A user of RabbitMQ: where its password stands, and which names it may configure, write and read."""

    name: str
    password_file: str
    configure: str
    write: str
    read: str
    mode: int = FOR_THE_OWNER
    tags: tuple[str, ...] = ()

    def permission(self) -> dict[str, str]:
        """Its rights, as RabbitMQ's definitions have them."""
        rights = {"configure": self.configure, "write": self.write, "read": self.read}
        return {"user": self.name, "vhost": "/", **rights}


USERS: Final = (
    # Publishes, and looks for the queues. To make the one of tasks it would have to be allowed to read it.
    User("api", "api/password", configure=NOTHING, write=TO_PUBLISH, read=NOTHING),
    # Makes the queues, consumes tasks, publishes what is tried again, and puts away what nobody can read.
    User("worker", "worker/password", configure=r"^tasks(\.dead)?$", write=TO_PUBLISH, read="^tasks$"),
    User("admin", "rabbitmq/admin-password", ".*", ".*", ".*", mode=FOR_RABBITMQ, tags=("administrator",)),
)


def main() -> None:
    """Writes what is missing, or all of it with `--renew`; names the users, and no password."""
    if unknown := set(sys.argv[1:]) - {"--renew"}:
        sys.exit(f"unknown: {' '.join(sorted(unknown))}; known is --renew")
    write_users(Path(), renew="--renew" in sys.argv)
    sys.stdout.write(f"RabbitMQ's users: {', '.join(user.name for user in USERS)}\n")


def write_users(folder: Path, *, renew: bool) -> None:
    """Writes passwords and definitions below `folder`. Each file is replaced as a whole."""
    users = [_definition(user, _password(folder / user.password_file, user.mode, renew=renew)) for user in USERS]
    permissions = [user.permission() for user in USERS]
    definitions = {"vhosts": [{"name": "/"}], "users": users, "permissions": permissions}
    _replace(folder / "rabbitmq" / "definitions.json", json.dumps(definitions, indent=1), FOR_RABBITMQ)


def hashed(password: str, salt: bytes) -> str:
    """The hash by which RabbitMQ knows a password: rabbit_password_hashing_sha256."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _definition(user: User, password: str) -> dict[str, Any]:
    return {
        "name": user.name,
        "password_hash": hashed(password, secrets.token_bytes(SALT_BYTES)),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": user.tags,
    }


def _password(file: Path, mode: int, *, renew: bool) -> str:
    known = file.read_text().strip() if file.exists() else ""
    if known and not renew:
        return known
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    _replace(file, password, mode)
    return password


def _replace(file: Path, content: str, mode: int) -> None:
    draft = file.with_name(f".{file.name}.draft")
    draft.unlink(missing_ok=True)
    draft.touch(mode=mode)
    draft.chmod(mode | 0o200)
    draft.write_text(content)
    draft.chmod(mode)
    draft.replace(file)


if __name__ == "__main__":
    main()
