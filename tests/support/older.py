"""The older library, version 2 of the distribution ``dbos`` by others, as a black box in an environment of its own.

It is installed from the package index into ``.venv/older``, once; where the index cannot be reached, tests that need it
are skipped, and say so.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.support.processes import ROOT

OLDER = "2.13.0"
"""The version that programs and databases of the time are of."""

NEWEST_OLDER = "2.31.1"
"""The last one of version 2."""

_PLACE = ROOT / ".venv" / "older"
_PATIENCE_S = 100

_STAND_IN = {
    "uuid-ossp.control": "comment = 'a stand-in'\ndefault_version = '1.1'\nrelocatable = true\n",
    "uuid-ossp--1.1.sql": "CREATE FUNCTION uuid_generate_v4() RETURNS uuid LANGUAGE sql AS 'SELECT gen_random_uuid()';",
}


def older_python(version: str = OLDER) -> Path:
    """The interpreter of an environment that has this version of the older library; skips the test if there is none."""
    # SQLAlchemy came later than some versions, whose test of it was with the one of their time.
    return _environment(f"dbos-{version}", [f"dbos=={version}", "psycopg[binary]", "sqlalchemy<2.1"])


def _environment(name: str, requirements: Sequence[str]) -> Path:
    place = _PLACE / name
    python, complete = place / "bin" / "python", place / "complete"
    _PLACE.mkdir(parents=True, exist_ok=True)
    with (_PLACE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete.exists():
            return python
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        for command in ([sys.executable, "-m", "venv", "--clear", str(place)], pip):
            try:
                subprocess.run(
                    command, check=True, capture_output=True, text=True, timeout=_PATIENCE_S, env=clean_environment()
                )
            except (OSError, subprocess.SubprocessError) as error:
                output = str(getattr(error, "stderr", "") or error).strip()
                pytest.skip(f"NOT TESTED against {requirements[0]}: it could not be installed: {output[-300:]}")
        complete.touch()
    return python


def clean_environment() -> dict[str, str]:
    """The environment without what would lead another interpreter to this library, or configure it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DBOS"))}


def prepare_postgres(url: str) -> None:
    """Give the database the extension that the older library asks for, and that the tests' server does not have.

    A stand-in: the library uses nothing of it that is not built in by now.
    """
    with psycopg.connect(url, autocommit=True) as connection, tempfile.TemporaryDirectory(prefix="dbos-ext-") as place:
        if connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'uuid-ossp'").fetchone():
            return
        if connection.info.server_version < 180000:
            pytest.skip("NOT TESTED: the older library needs the extension uuid-ossp, which this server does not have")
        directory = Path(place, "extension")
        directory.mkdir()
        # For the server's user.
        Path(place).chmod(0o755)
        for name, text in _STAND_IN.items():
            (directory / name).write_text(text)
        connection.execute(sql.SQL("SET extension_control_path = {}").format(sql.Literal(f"{place}:$system")))
        connection.execute('CREATE EXTENSION "uuid-ossp"')
