"""The two contestants: an interpreter with our library, and one with the peer in a virtual environment of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PEER_VERSION = "3.4.0"
PEER_REQUIREMENT = f"dbos=={PEER_VERSION}"
DEFAULT_PEER_VENV = Path(__file__).resolve().parent.parent / ".venvs" / "peer"

_REPORT_VERSIONS = """
import json, platform, sqlite3
from importlib.metadata import PackageNotFoundError, version
found = {"Python": platform.python_version(), "SQLite": sqlite3.sqlite_version}
for name in ("dbos", "sqlalchemy", "psycopg"):
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""
_UNWANTED_PREFIXES = ("DBOS", "BENCH_", "PYTHON", "OTEL_", "PG")


@dataclass(frozen=True, slots=True)
class Contestant:
    """A library under measurement: the interpreter that has it, and the versions found there."""

    name: str
    python: Path
    versions: Mapping[str, str]

    @property
    def label(self) -> str:
        return f"{self.name} (dbos {self.versions.get('dbos', 'not installed')})"


def clean_environment() -> dict[str, str]:
    """This process's environment without anything that could configure one library or interpreter differently."""
    return {key: value for key, value in os.environ.items() if not key.startswith(_UNWANTED_PREFIXES)}


def find_ours(python: Path) -> Contestant:
    """Our library as installed in `python`. Exits with an explanation if it is not."""
    ours = Contestant("ours", python, _versions(python))
    if "dbos" not in ours.versions:
        sys.exit(f"no distribution named dbos in {python}: install this project there, or pass --ours-python")
    return ours


def prepare_peer(venv: Path, *, base_python: Path) -> Contestant:
    """The peer in `venv`, which is made (with the same Python as ours) and filled by pip when it is not there yet."""
    python = venv / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        print(f"creating the peer's virtual environment ({PEER_REQUIREMENT})", file=sys.stderr, flush=True)
        subprocess.run([str(base_python), "-m", "venv", str(venv)], check=True, env=clean_environment())
    if _versions(python).get("dbos") != PEER_VERSION:
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, PEER_REQUIREMENT], check=True, env=clean_environment())
    return Contestant("peer", python, _versions(python))


def _versions(python: Path) -> dict[str, str]:
    command = [str(python), "-c", _REPORT_VERSIONS]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=clean_environment(), cwd="/")
    versions: dict[str, str] = json.loads(done.stdout)
    return versions
