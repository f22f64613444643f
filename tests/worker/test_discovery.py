"""Users' own actions are found where they are announced, and what is wrong with them is said before the start."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskqueue.actions.registry import Registry
from taskqueue.errors import InvalidSettings
from taskqueue_worker.builtin import builtin_registry
from taskqueue_worker.discovery import discover
from taskqueue_worker.settings import WorkSettings

GREET = """
from taskqueue.actions import action

@action("greet")
async def greet(data: dict) -> str:
    return "hello"

@action("part")
def part(data: dict) -> str:
    return "bye"
"""

Install = Callable[..., str]


@pytest.fixture
def registry() -> Registry:
    """The actions of a worker that has found nothing yet."""
    return builtin_registry(0)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a module on the path, and announces it as an installed package does if it is told how."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def install(name: str, source: str, *entry_points: str) -> str:
        (tmp_path / f"{name}.py").write_text(source)
        if entry_points:
            folder = tmp_path / f"{name}-1.0.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            (folder / "entry_points.txt").write_text("\n".join(["[taskqueue.actions]", *entry_points]))
        return name

    yield install
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_without_anything_to_find_there_are_the_builtin_actions(registry: Registry) -> None:
    """Nothing is invented, and nothing is missed."""
    discover(registry, [])

    assert registry.names == ["sum", "uppercase"]


def test_a_module_that_the_settings_name_brings_all_its_actions(registry: Registry, install: Install) -> None:
    """No registration beyond the decorator is needed."""
    discover(registry, [install("shop", GREET)])

    assert registry.names == ["greet", "part", "sum", "uppercase"]


def test_several_modules_are_named_with_commas() -> None:
    """Blanks and empty places between them mean nothing."""
    assert WorkSettings(actions=" a, b.c,,d ").action_modules == ["a", "b.c", "d"]
    assert WorkSettings(actions="").action_modules == []


def test_an_installed_package_brings_what_it_announces(registry: Registry, install: Install) -> None:
    """An entry point names a module, and so every action in it; or one action alone."""
    install("whole", GREET, "all = whole")
    install("single", GREET.replace("greet", "wave").replace("part", "nod"), "one = single:wave")

    discover(registry, [])

    assert registry.names == ["greet", "part", "sum", "uppercase", "wave"]


def test_what_is_announced_and_named_too_is_one_action(registry: Registry, install: Install) -> None:
    """The same handler found twice is no conflict."""
    install("whole", GREET, "all = whole", "one = whole:greet")

    discover(registry, ["whole"])

    assert registry.names == ["greet", "part", "sum", "uppercase"]


def test_importing_actions_registers_nothing(registry: Registry, install: Install) -> None:
    """Two workers of one process, such as two tests, do not see one another's."""
    discover(registry, [install("shop", GREET)])

    assert builtin_registry(0).names == ["sum", "uppercase"]


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (None, "cannot be imported: ModuleNotFoundError"),
        ("import no_such_module_anywhere", "cannot be imported: ModuleNotFoundError"),
        ("def broken(:", "cannot be imported: SyntaxError"),
        ("1 / 0", "cannot be imported: ZeroDivisionError"),
        ("from taskqueue.actions import action\n@action('x')\ndef no_data(): ...", "cannot be imported: TypeError"),
        ("from taskqueue.actions import action\n@action('')\ndef no_name(data): ...", "cannot be imported: ValueError"),
        ("x = 1", "has no action"),
        (GREET.replace('"greet"', '"sum"'), "two handlers claim the action 'sum'"),
        (GREET.replace('"greet"', '"part"'), "two handlers claim the action 'part'"),
    ],
)
def test_a_module_that_cannot_be_used_is_named(
    registry: Registry, install: Install, source: str | None, fault: str
) -> None:
    """The sentence says which module of which setting, and what is wrong with it."""
    if source is not None:
        install("shop", source)

    with pytest.raises(InvalidSettings) as refusal:
        discover(registry, ["shop"])

    assert "the module 'shop' of TASKQUEUE_ACTIONS" in str(refusal.value)
    assert fault in str(refusal.value)


@pytest.mark.parametrize(
    ("entry_point", "fault"),
    [
        ("mine = nowhere", "cannot be imported: ModuleNotFoundError"),
        ("mine = shop:missing", "cannot be imported: AttributeError"),
        ("mine = shop:action", "has no action"),
    ],
)
def test_an_announcement_that_cannot_be_used_is_named(
    registry: Registry, install: Install, entry_point: str, fault: str
) -> None:
    """The sentence says which entry point, and what is wrong with it."""
    install("shop", GREET, entry_point)

    with pytest.raises(InvalidSettings) as refusal:
        discover(registry, [])

    assert "the entry point 'mine' of group 'taskqueue.actions'" in str(refusal.value)
    assert fault in str(refusal.value)
