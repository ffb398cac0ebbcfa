"""Another process that works with the first one: through a `DBOSClient`, or as a second executor.

It is the same program, started with `--outside` or what the first one says. The first process gives it one line per
task; it answers in lines, and ends when its input does. Times are `time.monotonic()`, which is one clock for all
processes of a machine.
"""

import subprocess
import sys
from typing import TYPE_CHECKING

from support import database_url, expect

if TYPE_CHECKING:
    from dbos import DBOSClient


class Outside:
    """The first process's end."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, sys.argv[0], *(arguments or ("--outside",))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        expect(self.hear(), "ready", "answer of the outside process")

    def tell(self, task: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{task}\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        expect(self._process.wait(timeout=30), 0, "exit code of the outside process")


def connect_client() -> "DBOSClient":
    """In the second process: a client of the database, ready to work."""
    from dbos import DBOSClient

    client = DBOSClient(system_database_url=database_url())
    client.list_workflows(limit=1)  # connections and imports are not what is measured
    answer("ready")
    return client


def answer(line: str) -> None:
    print(line, flush=True)
