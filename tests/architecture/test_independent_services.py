"""Each service installs and imports with the shared package alone: an environment of its own proves it."""

import json
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ["api", "worker", "migrate"]
STRANGERS = {"api": ["alembic"], "worker": ["aiohttp", "alembic"], "migrate": ["aio_pika", "aiohttp", "aiormq"]}
INSTALL_SECONDS = 240

# Alembic runs env.py in a context that it made; every other module can be imported by anybody.
IMPORT_EVERYTHING = """
import importlib, importlib.util, json, pathlib, sys
package = sys.argv[1]
root = pathlib.Path(importlib.util.find_spec(package).origin).parent
files = sorted(file for file in root.rglob("*.py") if file.name != "env.py")
names = [".".join((package, *file.relative_to(root).with_suffix("").parts)) for file in files]
modules = [name.removesuffix(".__init__") for name in names]
for module in modules:
    importlib.import_module(module)
print(json.dumps(modules))
"""
FIND = "import importlib.util, json, sys; print(json.dumps([n for n in sys.argv[1:] if importlib.util.find_spec(n)]))"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * INSTALL_SECONDS)]


@dataclass(frozen=True)
class Installed:
    """A service in a clean environment."""

    service: str
    folder: Path

    def answer(self, script: str, *arguments: str) -> list[str]:
        """The list that a script prints there, run apart from this process's folders and variables."""
        answer: list[str] = json.loads(_run(self.folder / "bin" / "python", "-I", "-c", script, *arguments))
        return answer


def test_every_module_of_a_service_is_importable(installed: Installed) -> None:
    """A service needs no module that its own lock and the shared package do not bring."""
    modules = installed.answer(IMPORT_EVERYTHING, f"taskqueue_{installed.service}")

    assert f"taskqueue_{installed.service}.__main__" in modules


def test_no_other_service_is_there(installed: Installed) -> None:
    """Installing a service brings no other service along."""
    packages = [f"taskqueue_{service}" for service in (*SERVICES, "embedded")]

    assert [f"taskqueue_{installed.service}"] == installed.answer(FIND, *packages)


def test_nothing_is_there_that_only_other_services_need(installed: Installed) -> None:
    """The API carries no Alembic, the worker no aiohttp, and migrate no aio-pika."""
    assert installed.answer(FIND, *STRANGERS[installed.service]) == []


def test_the_lock_of_a_service_is_complete(installed: Installed) -> None:
    """Whatever an installed package asks for is installed, in a version that it accepts."""
    assert _pip(installed.folder, "check").strip() == "No broken requirements found."


@pytest.fixture(name="installed", scope="module", params=SERVICES)
def _installed(request: pytest.FixtureRequest, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    service: str = request.param
    folder = _environment(tmp_path_factory.mktemp(service), service)
    ours = [next(wheels.glob(f"taskqueue_{name}-*.whl")) for name in ("shared", service)]
    _pip(folder, "install", "--no-deps", "--no-index", *ours)
    return Installed(service, folder)


@pytest.fixture(name="wheels", scope="module")
def _wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    builder = _environment(tmp_path_factory.mktemp("builder"), "build")
    folder = tmp_path_factory.mktemp("wheels")
    sources = [ROOT / "shared", *(ROOT / "services" / service for service in SERVICES)]
    _pip(builder, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, *sources)
    return folder


def _environment(folder: Path, lock: str) -> Path:
    venv.create(folder, with_pip=False, symlinks=True)
    _pip(folder, "install", "--require-hashes", "--requirement", ROOT / "requirements" / f"{lock}.txt")
    return folder


def _pip(environment: Path, *arguments: str | Path) -> str:
    return _run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", environment, *arguments)


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
