"""Finding users' own actions: in installed packages that announce them, and in modules that the settings name."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Final

from taskqueue.actions import Action
from taskqueue.actions.registry import DuplicateAction, Registry, actions_in
from taskqueue.errors import InvalidSettings
from taskqueue_worker import child

ENTRY_POINT_GROUP: Final = "taskqueue.actions"


def discover(registry: Registry, modules: Sequence[str]) -> None:
    """Adds every action of installed packages and of `modules` to `registry`.

    Raises InvalidSettings for one that cannot be imported, has no action, or takes a name that another one has.
    """
    for source, found in _sources(modules):
        actions = [found] if isinstance(found, Action) else actions_in(found) if isinstance(found, ModuleType) else []
        if not actions:
            raise InvalidSettings(f"{source} has no action")
        for action in actions:
            _add(registry, action, source)


def _sources(modules: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        source = f"the entry point {entry_point.name!r} of group {ENTRY_POINT_GROUP!r}"
        yield source, _imported(source, entry_point.load)
    for module in modules:
        source = f"the module {module!r} of TASKQUEUE_ACTIONS"
        yield source, _imported(source, lambda name=module: import_module(name))


def _imported(source: str, load: Any) -> Any:
    try:
        return load()
    except Exception as error:  # a user's module may fail in any way
        raise InvalidSettings(f"{source} cannot be imported: {type(error).__name__}: {error}") from error


def _add(registry: Registry, action: Action, source: str) -> None:
    try:
        if action.process:
            child.find(action.handler.__module__, action.name)
        registry.add(action)
    except (DuplicateAction, LookupError) as error:
        raise InvalidSettings(f"{source}: {error}") from error
