"""What the programs share: the configuration, the check, and the one JSON line at the end.

Programs use the public API only, which both libraries have, and are run unchanged by either's interpreter. This module
does not import the library, since some programs measure just that.
"""

import json
import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from dbos import DBOSConfig


def database_url() -> str:
    """The fresh database this process is to work on."""
    try:
        return os.environ["BENCH_DATABASE_URL"]
    except KeyError:
        sys.exit("set BENCH_DATABASE_URL, for example to sqlite:////tmp/new.sqlite")


def config() -> "DBOSConfig":
    """The same for both libraries: no admin server, no log lines, everything else at its default."""
    return {
        "name": "benchmark",
        "system_database_url": database_url(),
        "application_version": "benchmark",
        "executor_id": "benchmark",
        "run_admin_server": False,
        "log_level": "ERROR",
    }


def expect(actual: object, expected: object, what: str) -> None:
    """Leave with an error when a result is wrong: who does not work cannot win."""
    if actual != expected:
        print(f"wrong {what}: {str(actual)[:500]}, expected {str(expected)[:500]}", file=sys.stderr, flush=True)
        os._exit(1)


def finish(value: float, *, workflows: int = 0, checkpoints: int = 0) -> NoReturn:
    """Print the measurement and what the database must hold, then leave at once: nothing can be written late."""
    print(json.dumps({"value": value, "workflows": workflows, "checkpoints": checkpoints}), flush=True)
    os._exit(0)
