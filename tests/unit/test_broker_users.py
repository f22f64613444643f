"""`services/rabbitmq/users.py`: passwords that nobody chose, each where one service alone finds it."""

import base64
import json
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.rabbitmq.users import hashed
from taskqueue.broker.contract import DEAD_LETTER_QUEUE, QUEUE

SCRIPT = Path(__file__).parents[2] / "services" / "rabbitmq" / "users.py"
PASSWORDS = {"api": "api/password", "worker": "worker/password", "admin": "rabbitmq/admin-password"}


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """The folders as the image has them."""
    for name in ("api", "worker", "rabbitmq"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_a_hash_is_the_one_that_rabbitmq_computes() -> None:
    """The worked example of rabbitmq.com/docs/passwords."""
    assert hashed("test12", bytes.fromhex("908DC60A")) == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"


def test_every_user_gets_a_password_of_its_own(folder: Path) -> None:
    """Long, by chance, another one for each; the definitions hold their hashes, and none of them."""
    assert _run(folder).returncode == 0

    passwords = _passwords(folder)
    assert len(set(passwords.values())) == 3
    assert all(len(password) >= 40 for password in passwords.values())
    hashes = {user["name"]: user["password_hash"] for user in _definitions(folder)["users"]}
    for name, password in passwords.items():
        assert hashed(password, base64.b64decode(hashes[name])[:4]) == hashes[name]
        assert password not in (folder / "rabbitmq" / "definitions.json").read_text()


def test_a_file_is_for_those_who_need_it(folder: Path) -> None:
    """A service's password is its user's alone; what RabbitMQ needs is its group's too; nobody may write."""
    _run(folder)

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (folder / "rabbitmq").iterdir()}
    assert modes == {"admin-password": 0o440, "definitions.json": 0o440}
    assert {stat.S_IMODE((folder / PASSWORDS[name]).stat().st_mode) for name in ("api", "worker")} == {0o400}


def test_passwords_stay_until_they_are_renewed(folder: Path) -> None:
    """It runs before each start: what is known stays good; `--renew` makes all of them anew."""
    _run(folder)
    before = _passwords(folder)
    (folder / PASSWORDS["api"]).unlink()
    _run(folder)
    repaired = _passwords(folder)
    _run(folder, "--renew")
    renewed = _passwords(folder)

    assert {name for name in before if before[name] != repaired[name]} == {"api"}
    assert not set(renewed.values()) & set(repaired.values())
    assert sorted(file.name for file in folder.rglob("*") if file.is_file()) == [
        *("admin-password", "definitions.json", "password", "password"),
    ]


def test_no_password_is_shown(folder: Path) -> None:
    """What it prints ends in the log of its container."""
    ended = _run(folder)

    assert ended.stdout == "RabbitMQ's users: api, worker, admin\n"
    assert not any(password in ended.stdout + ended.stderr for password in _passwords(folder).values())


def test_a_mistyped_option_changes_nothing(folder: Path) -> None:
    """Passwords are not renewed, nor kept, by mistake."""
    ended = _run(folder, "--renw")

    assert (ended.returncode, ended.stderr) == (1, "unknown: --renw; known is --renew\n")
    assert not any(file.is_file() for file in folder.rglob("*"))


def test_rights_name_the_queues_that_there_are(folder: Path) -> None:
    """The script stands alone in its image, and still means the queues of the contract."""
    _run(folder)

    rights = {permission["user"]: permission for permission in _definitions(folder)["permissions"]}
    assert rights["worker"]["read"] == f"^{QUEUE}$"
    configured = re.compile(rights["worker"]["configure"])
    assert [bool(configured.search(name)) for name in (QUEUE, DEAD_LETTER_QUEUE, "tasksXdead", "mytasks")] == [
        *(True, True, False, False),
    ]
    assert (rights["api"]["read"], rights["api"]["configure"]) == ("^$", "^$")


def _run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *options], cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )


def _passwords(folder: Path) -> dict[str, str]:
    return {name: (folder / file).read_text() for name, file in PASSWORDS.items()}


def _definitions(folder: Path) -> dict[str, Any]:
    definitions: dict[str, Any] = json.loads((folder / "rabbitmq" / "definitions.json").read_text())
    return definitions
