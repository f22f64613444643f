"""Keys and their file: what is a key, what is a line, and what is neither."""

import math
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from taskqueue import events
from taskqueue.errors import InvalidSettings
from taskqueue.requests import instant
from taskqueue_api.access import __main__ as command
from taskqueue_api.access import keyfile
from taskqueue_api.access import keys as key_module
from taskqueue_api.access.keyfile import KeyFile
from taskqueue_api.access.keys import RANDOM_BYTES, UnreadableKeys, holder, new_key, parse
from taskqueue_api.access.pace import REMEMBERED, Pace
from taskqueue_api.access.scopes import Scope
from tests.support.keys import KeyBook

READ = frozenset({Scope.READ})
ENDS = "2027-01-31T00:00:00Z"
DIGEST = sha256(b"x").hexdigest()


@pytest.fixture
def book(tmp_path: Path) -> KeyBook:
    """A file of keys."""
    return KeyBook(tmp_path / "keys")


def test_a_key_is_found_by_its_file() -> None:
    """The file knows its scopes and its end, and not the key."""
    token, line = new_key(frozenset({Scope.SUBMIT, Scope.READ}), ENDS)

    key = holder(parse(line.encode()), token, now=0)

    assert key is not None
    assert key.scopes == {Scope.SUBMIT, Scope.READ}
    assert key.expires_at == instant(ENDS)
    assert token.startswith(f"{key.id}_")
    assert token.removeprefix(f"{key.id}_") not in line


def test_keys_cannot_be_guessed() -> None:
    """At least 128 random bits, and never the same key twice."""
    tokens = {new_key(READ)[0] for _ in range(1_000)}

    assert RANDOM_BYTES * 8 >= 128
    assert len({token.rpartition("_")[2] for token in tokens}) == 1_000
    assert {len(token.rpartition("_")[2]) for token in tokens} == {RANDOM_BYTES * 2}


def test_a_key_ends_at_its_time() -> None:
    """Valid until then, and unknown from then on."""
    token, line = new_key(READ, ENDS)
    keys = parse(line.encode())

    assert holder(keys, token, instant(ENDS) - 1) is not None
    assert holder(keys, token, instant(ENDS)) is None


def test_only_the_whole_key_is_the_key() -> None:
    """Neither its beginning, its digest, nor another key's secret opens a door."""
    (token, line), (other, other_line) = new_key(READ), new_key(READ)
    keys = parse(f"{line}\n{other_line}".encode())
    key_id, _, secret = token.rpartition("_")

    for wrong in (
        "",
        "_",
        key_id,
        f"{key_id}_",
        secret,
        token[:-1],
        token + "0",
        token.upper(),
        line.split()[1],
        f"{key_id}_{line.split()[1]}",
        f"{key_id}_{other.rpartition('_')[2]}",
        "\udcff",
    ):
        assert holder(keys, wrong, now=0) is None


def test_a_wrong_key_costs_what_a_right_one_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One digest and one comparison of whole digests, in constant time, whatever comes: time tells nothing."""
    (token, line), (stranger, _) = new_key(READ), new_key(READ)
    keys = parse(line.encode())
    compared: list[tuple[int, int]] = []
    digested: list[int] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare_digest(one, other)

    def digest(text: bytes) -> object:
        digested.append(len(text))
        return sha256(text)

    monkeypatch.setattr(key_module, "compare_digest", compare)
    monkeypatch.setattr(key_module, "sha256", digest)
    held = [holder(keys, each, now=0) for each in (token, stranger, token[:-1] + "!", "x" * len(token))]

    assert [key is not None for key in held] == [True, False, False, False]
    assert compared == [(32, 32)] * 4
    assert digested == [len(token)] * 4


def test_lines_may_be_commented_and_blank() -> None:
    """An operator notes whose key it is."""
    (_, first), (_, second) = new_key(READ), new_key(READ)

    assert len(parse(f"# ours\n\n  {first}   # of the shop\n\t\n#{second}\n{second}\r\n".encode())) == 2


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("tq_1", "line 1: a line is ID SHA-256 SCOPES and perhaps EXPIRES"),
        (f"tq_1 {DIGEST}", "line 1: a line is ID SHA-256 SCOPES and perhaps EXPIRES"),
        (f"tq_1 {DIGEST} read {ENDS} more", "line 1: a line is ID SHA-256 SCOPES and perhaps EXPIRES"),
        (f"tq/1 {DIGEST} read", "line 1: the id must be up to 64 letters, digits, _ and -"),
        (f"tq_1 {DIGEST[:-1]} read", "line 1: the second word must be a SHA-256 in 64 small hexadecimal digits"),
        (f"tq_1 {DIGEST} write", "line 1: scopes must be one or several of read,submit,admin"),
        (f"tq_1 {DIGEST} read,", "line 1: scopes must be one or several of read,submit,admin"),
        (
            f"tq_1 {DIGEST} read 2027-01-31",
            "line 1: the time of expiry must be a time with its offset, such as 2026-01-31T12:00:00Z",
        ),
        (f"tq_1 {DIGEST} read\ntq_1 {DIGEST} submit", "line 2: the id is that of an earlier line"),
        ("\udcff", "it is not UTF-8"),
    ],
)
def test_a_line_that_is_none_is_named_and_not_quoted(line: str, sentence: str) -> None:
    """It may hold a key that was put there by mistake."""
    with pytest.raises(UnreadableKeys) as raised:
        parse(line.encode(errors="surrogateescape"))

    assert str(raised.value) == sentence


def test_a_file_that_is_not_there_refuses_the_start(tmp_path: Path) -> None:
    """With the setting's name, the path and the cause."""
    with pytest.raises(InvalidSettings, match=r"^TASKQUEUE_API_KEYS_FILE: .*/none cannot be used: No such file"):
        KeyFile(tmp_path / "none")


def test_a_folder_is_no_file_of_keys(tmp_path: Path) -> None:
    """Nor is whatever else can be opened."""
    with pytest.raises(InvalidSettings, match=r"cannot be used: (it is not a file|Is a directory)"):
        KeyFile(tmp_path)


def test_an_empty_file_refuses_the_start(book: KeyBook) -> None:
    """It would lock everybody out, which nobody wants from the start."""
    book.spoil("# none yet")

    with pytest.raises(InvalidSettings, match="holds no key"):
        KeyFile(book.path)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o606, 0o601])
def test_a_file_that_others_may_use_refuses_the_start(book: KeyBook, mode: int) -> None:
    """And the sentence says what to do."""
    book.issue()
    book.path.chmod(mode)

    with pytest.raises(InvalidSettings, match="others may read or write it: take that away"):
        KeyFile(book.path)


def test_a_file_of_a_group_is_taken(book: KeyBook) -> None:
    """A container's user may have it by its group."""
    book.issue()
    book.path.chmod(0o640)

    assert len(KeyFile(book.path).keys) == 1


def test_a_broken_new_file_changes_nothing_and_is_reported_once(book: KeyBook) -> None:
    """However often it is read, whatever is wrong with it; and a good one holds again."""
    token = book.issue()
    file = KeyFile(book.path)
    faults = []
    spoils: list[Callable[[], None]] = [
        partial(book.spoil, "nonsense"),
        partial(book.path.chmod, 0o644),
        book.path.unlink,
        partial(book.spoil, "x" * 2_000_000),
    ]
    for spoil in spoils:
        spoil()
        with capture_logs() as log:
            file.refresh()
            file.refresh()
        faults += [entry["reason"].rpartition("used: ")[2] for entry in log if entry["name"] == "keys_unusable"]
        assert holder(file.keys, token, now=0) is not None

    second = book.issue()
    with capture_logs() as log:
        file.refresh()
        file.refresh()

    assert faults == [
        "line 1: a line is ID SHA-256 SCOPES and perhaps EXPIRES",
        "others may read or write it: take that away (chmod o-rwx)",
        "No such file or directory",
        "it is over 1 MiB",
    ]
    assert [entry["name"] for entry in log] == [events.KEYS_READ.name]
    assert holder(file.keys, second, now=0) is not None


def test_a_file_that_is_being_written_changes_nothing(book: KeyBook, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor may empty it before it fills it: what is found in between locks nobody out."""
    token = book.issue()
    file = KeyFile(book.path)
    whole = book.path.read_bytes()
    for found in ([b"", whole], [whole[:80], whole], [b"", b"#"]):
        finds = iter(found)
        monkeypatch.setattr(keyfile, "_content", lambda _, finds=finds: next(finds))
        file.refresh()

        assert holder(file.keys, token, now=0) is not None


def test_the_last_key_can_be_revoked(book: KeyBook) -> None:
    """A file that has become empty locks everybody out: that is what was asked for."""
    token = book.issue()
    file = KeyFile(book.path)

    book.revoke(token)
    file.refresh()

    assert holder(file.keys, token, now=0) is None


def test_the_command_makes_a_key_and_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What it prints works, once the line is in the file."""
    command.main(["new", "--scopes", "read,submit", "--expires", "2027-01-31 00:00:00Z"])

    shown = capsys.readouterr().out.splitlines()
    key = holder(parse(shown[4].encode()), shown[1], now=0)
    assert key is not None
    assert key.scopes == {Scope.READ, Scope.SUBMIT}
    assert key.expires_at == instant(ENDS)
    assert shown[4].endswith(f" read,submit {ENDS}")


@pytest.mark.parametrize(
    "arguments", [[], ["new"], ["new", "--scopes", "all"], ["new", "--scopes", "read", "--expires", "soon"]]
)
def test_the_command_refuses_what_it_cannot_make(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and a sentence."""
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)

    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_pace_lets_through_what_its_rate_allows() -> None:
    """A second's worth at once, then one each tenth of a second; a wait is as long as it must be, and costs nothing."""
    now = 0.0
    pace = Pace(10, clock=lambda: now)

    assert [pace.wait("a") for _ in range(10)] == [0] * 10
    assert pace.wait("a") == pytest.approx(0.1)
    assert pace.wait("b") == 0
    now += 0.1001
    assert [pace.wait("a") > 0 for _ in range(2)] == [False, True]
    now += 100
    assert sum(pace.wait("a") == 0 for _ in range(100)) == 10


def test_a_slow_pace_lets_one_through() -> None:
    """Less than one a second is a rate, too."""
    now = 0.0
    pace = Pace(0.1, clock=lambda: now)

    assert pace.wait("a") == 0
    assert pace.wait("a") == pytest.approx(10)
    now += 10
    assert pace.wait("a") == 0


def test_no_pace_is_no_bound() -> None:
    """And remembers nobody."""
    pace = Pace(0)

    assert {pace.wait("a") for _ in range(1_000)} == {0.0}
    assert not pace._paid_until


def test_a_pace_remembers_a_bounded_number() -> None:
    """Whoever has more names than that gains no more than a name's worth of each; who asks on is not forgotten."""
    pace = Pace(1, clock=lambda: 0.0)

    assert pace.wait("a") == 0
    for number in range(3 * REMEMBERED):
        pace.wait(str(number))

    assert len(pace._paid_until) == REMEMBERED
    assert not math.isinf(pace.wait(str(3 * REMEMBERED - 1)))
    assert pace.wait(str(3 * REMEMBERED - 1)) > 0
