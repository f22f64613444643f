"""`make sbom` says what each service is made of: all that its lock pins, and nothing else."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "requirements"
SERVICES = ("api", "worker", "migrate", "embedded")
MAKE_SECONDS = 500


@pytest.fixture(scope="module", name="bills")
def _bills(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `make sbom` wrote, by service."""
    folder = tmp_path_factory.mktemp("sbom")
    made = subprocess.run(
        ["make", "--silent", "sbom", f"SBOM={folder}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=MAKE_SECONDS,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-4000:]
    return {service: json.loads((folder / f"{service}.cdx.json").read_text()) for service in SERVICES}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("service", SERVICES)
def test_every_package_of_a_lock_is_in_its_bill(bills: dict[str, Any], service: str) -> None:
    """By name and version, each with the hashes by which it is installed; the bill is about that service."""
    bill = bills[service]

    listed = {(component["name"], component["version"]) for component in bill["components"]}
    assert listed == _pinned(f"{service}.txt")
    assert len(listed) > 5
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == f"taskqueue-{service}"
    for component in bill["components"]:
        assert _hashes(component), component["name"]


@pytest.mark.parametrize("lock", sorted(path.name for path in LOCKS.glob("*.txt")))
def test_a_lock_pins_by_hash_and_names_no_registry(lock: str) -> None:
    """Wherever it is installed from, it is the same: there is no address in it, and nothing without a hash."""
    text = (LOCKS / lock).read_text()

    assert "://" not in text
    assert "--index-url" not in text
    requirements = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())
    assert [requirement for requirement in requirements if "--hash=sha256:" not in requirement] == []


def test_every_image_is_installed_from_a_lock_that_has_a_bill() -> None:
    """Nothing comes into an image by another way."""
    for service in ("api", "worker", "migrate"):
        dockerfile = (ROOT / "services" / service / "Dockerfile").read_text()
        used = set(re.findall(r"-r /requirements/([a-z]+)\.txt", dockerfile))

        assert used == {"build", service}


def _pinned(lock: str) -> set[tuple[str, str]]:
    return set(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", (LOCKS / lock).read_text(), re.MULTILINE))


def _hashes(component: dict[str, Any]) -> list[Any]:
    references = component.get("externalReferences", [])
    return [found for reference in references for found in reference.get("hashes", [])]
