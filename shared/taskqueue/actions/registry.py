"""Which actions a worker has. Two of one name are a mistake, and refused."""

from collections.abc import Iterable, Sequence
from types import ModuleType

from taskqueue.actions.contract import Action


class DuplicateAction(ValueError):
    """Two handlers claim the same action."""


class Registry:
    """Actions by name, and perhaps one for every name that is not there."""

    def __init__(self, fallback: Action | None, actions: Iterable[Action] = ()) -> None:
        self._fallback = fallback
        self._actions: dict[str, Action] = {}
        for each in actions:
            self.add(each)

    def add(self, action: Action) -> None:
        """Adds an action. Raises DuplicateAction where its name is taken by another one."""
        if self._actions.setdefault(action.name, action) is not action:
            raise DuplicateAction(f"two handlers claim the action {action.name!r}")

    def find(self, name: str) -> Action | None:
        """The action of this name, or the fallback, if there is one."""
        return self._actions.get(name, self._fallback)

    @property
    def actions(self) -> Sequence[Action]:
        """All actions, by name."""
        return [self._actions[name] for name in self.names]

    @property
    def names(self) -> list[str]:
        """The names of all actions, sorted."""
        return sorted(self._actions)


def actions_in(module: ModuleType) -> list[Action]:
    """The actions that `module` defines or imports."""
    return [value for value in vars(module).values() if isinstance(value, Action)]
