"""`docs/settings.md` tells every setting, its default and its meaning, as the code has them."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from taskqueue.settings import PREFIX, Settings
from taskqueue.variables import SETTINGS
from taskqueue_api.settings import ApiSettings
from taskqueue_embedded.settings import EmbeddedSettings
from taskqueue_migrate.settings import MigrateSettings
from taskqueue_worker.settings import WorkerSettings

DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"
SERVICES: dict[str, type[Settings]] = {
    "api": ApiSettings,
    "worker": WorkerSettings,
    "migrate": MigrateSettings,
    "embedded": EmbeddedSettings,
}


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value == "":
        return "–"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _row(name: str) -> str:
    readers = [service for service, settings in SERVICES.items() if name in settings.model_fields]
    field = SERVICES[readers[0]].model_fields[name]
    return f"| `{PREFIX}{name.upper()}` | {_default(field)} | {field.description} | {', '.join(readers)} |"


NAMES = sorted({name for settings in SERVICES.values() for name in settings.model_fields})


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_is_documented_with_its_default_its_meaning_and_its_readers(name: str) -> None:
    """Whoever reads docs/settings.md reads what the code does."""
    assert _row(name) in DOCUMENT.read_text().splitlines()


def test_nothing_is_documented_that_no_service_reads() -> None:
    """A setting that went away goes from the document too."""
    documented = {line.split("`")[1] for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")}

    assert {f"{PREFIX}{name.upper()}" for name in NAMES} == documented


def test_every_setting_is_known_to_all_services() -> None:
    """Or a service would warn of a variable that another one reads: `taskqueue.variables` names all of them."""
    assert set(NAMES) <= SETTINGS
