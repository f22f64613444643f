"""What SQLite needs to be safe between processes, and the sentences that refuse the rest."""

import os
import sys
from pathlib import Path

import pytest

from taskqueue.errors import FolderNotWritable, NetworkFileSystem, SQLiteTooOld
from taskqueue.store.sqlite import (
    file_system_of,
    is_mended,
    require_mended,
    require_usable_folder,
    use_bundled_sqlite,
)

MOUNT = "{number} 1 8:{number} / {point} rw,relatime shared:{number} - {kind} {source} rw\n"


@pytest.mark.parametrize("version", [(3, 51, 3), (3, 51, 4), (3, 52, 0), (4, 0, 0), (3, 50, 7), (3, 50, 8), (3, 44, 6)])
def test_a_mended_sqlite_is_known(version: tuple[int, ...]) -> None:
    """The fix is in 3.51.3 and in the branches 3.50.7 and 3.44.6."""
    assert is_mended(version)
    require_mended(version)


@pytest.mark.parametrize(
    "version", [(3, 51, 2), (3, 51, 0), (3, 50, 6), (3, 49, 9), (3, 46, 1), (3, 45, 0), (3, 44, 5), (3, 40, 1)]
)
def test_a_sqlite_with_the_wal_reset_bug_is_refused(version: tuple[int, ...]) -> None:
    """The sentence says which version was found, and which is needed."""
    assert not is_mended(version)

    with pytest.raises(SQLiteTooOld, match=r"3\.51\.3 or newer is needed") as refusal:
        require_mended(version)

    assert f"SQLite {'.'.join(map(str, version))} " in str(refusal.value)


def test_the_sqlite_in_use_is_mended() -> None:
    """Whatever the system carries, the wheel's takes its place where it is newer, and stays."""
    version = use_bundled_sqlite()

    assert is_mended(version)
    assert use_bundled_sqlite() == version == sys.modules["sqlite3"].sqlite_version_info


def test_a_local_folder_is_usable(tmp_path: Path) -> None:
    """A local disk under a mount point of any depth is fine."""
    mounts = _mounts(tmp_path, ("/", "overlay"), (str(tmp_path), "ext4"))

    require_usable_folder(tmp_path, mounts)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "fuse.sshfs", "fuse", "ceph"])
def test_a_shared_file_system_is_refused(tmp_path: Path, kind: str) -> None:
    """The sentence says the kind, the folder, and what to use instead."""
    mounts = _mounts(tmp_path, ("/", "ext4"), (str(tmp_path), kind))

    with pytest.raises(NetworkFileSystem) as refusal:
        require_usable_folder(tmp_path, mounts)

    assert f"({kind})" in str(refusal.value)
    assert str(tmp_path) in str(refusal.value)
    assert "local disk or a named volume" in str(refusal.value)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuseblk"])
def test_other_file_systems_are_not_refused(tmp_path: Path, kind: str) -> None:
    """What is not known to break a write-ahead log may hold one."""
    require_usable_folder(tmp_path, _mounts(tmp_path, (str(tmp_path), kind)))


def test_the_nearest_mount_point_counts(tmp_path: Path) -> None:
    """Not one further up, and not one whose name is only similar."""
    (tmp_path / "data" / "deep").mkdir(parents=True)
    mounts = _mounts(
        tmp_path,
        ("/", "nfs"),
        (f"{tmp_path}/data", "ext4"),
        (f"{tmp_path}/dat", "nfs"),
        (f"{tmp_path}/data/deep/er", "nfs"),
    )

    assert file_system_of(tmp_path / "data" / "deep", mounts) == "ext4"


def test_the_last_mount_over_a_point_counts(tmp_path: Path) -> None:
    """It hides those before."""
    mounts = _mounts(tmp_path, (str(tmp_path), "ext4"), (str(tmp_path), "nfs4"))

    assert file_system_of(tmp_path, mounts) == "nfs4"


@pytest.mark.parametrize("name", ["with space", "with\\backslash", "données", "数据", "a\tb"])
def test_any_name_of_a_mount_point_is_understood(tmp_path: Path, name: str) -> None:
    """The kernel writes blanks and backslashes as octal numbers, and other scripts as they are."""
    folder = tmp_path / name
    folder.mkdir()
    mounts = _mounts(tmp_path, ("/", "ext4"), (str(folder), "nfs4"))

    assert file_system_of(folder, mounts) == "nfs4"


def test_a_name_that_is_no_text_is_no_obstacle(tmp_path: Path) -> None:
    """File names are bytes; somebody else's odd one must not keep this process from starting."""
    mounts = _mounts(tmp_path, (os.fsdecode(b"/mnt/\xff"), "nfs4"), (str(tmp_path), "ext4"))

    assert file_system_of(tmp_path, mounts) == "ext4"


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    """The disk that the file ends up on counts."""
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "there")
    mounts = _mounts(tmp_path, (str(tmp_path), "ext4"), (f"{tmp_path}/there", "nfs4"))

    assert file_system_of(tmp_path / "here", mounts) == "nfs4"


def test_a_system_without_a_list_of_mounts_is_trusted(tmp_path: Path) -> None:
    """Only Linux has one."""
    assert file_system_of(tmp_path, tmp_path / "missing") == ""
    require_usable_folder(tmp_path, tmp_path / "missing")


def test_this_systems_own_list_is_understood(tmp_path: Path) -> None:
    """The real one has a kind for the folder of this test."""
    assert file_system_of(tmp_path, Path("/proc/self/mountinfo"))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """The sentence says which."""
    with pytest.raises(FolderNotWritable, match=f"does not exist: {tmp_path}/missing"):
        require_usable_folder(tmp_path / "missing")


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    """A file is no folder."""
    (tmp_path / "data").touch()

    with pytest.raises(FolderNotWritable, match=f"{tmp_path}/data"):
        require_usable_folder(tmp_path / "data")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says the folder and the user, which is what an operator has to bring together."""
    monkeypatch.setattr(os, "access", lambda *_: False)

    with pytest.raises(FolderNotWritable, match=f"cannot be written by user {os.getuid()}: {tmp_path}"):
        require_usable_folder(tmp_path)


def _mounts(folder: Path, *mounts: tuple[str, str]) -> Path:
    """A file as proc(5) describes /proc/self/mountinfo, with these mount points and file systems."""
    lines = [
        MOUNT.format(number=number, point=_escaped(point), kind=kind, source=f"server:/{number}")
        for number, (point, kind) in enumerate(mounts, start=20)
    ]
    file = folder / "mountinfo"
    file.write_bytes(os.fsencode("".join(lines)))
    return file


def _escaped(point: str) -> str:
    for character in "\\ \t\n":
        point = point.replace(character, f"\\{ord(character):03o}")
    return point
