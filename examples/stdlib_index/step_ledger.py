"""An append-only record of every step execution, kept outside the database.

The database says what was *recorded*. The ledger says what *ran*: one JSON line when a step starts and one when it
finishes, each written with a single `write` to a file opened for appending, so that a SIGKILL leaves whole lines.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Event = Literal["started", "finished"]


def step_key(workflow_id: str | None, step_id: int | None) -> str:
    """The identity of a step, the same in the ledger and in the database."""
    return f"{workflow_id}/{step_id}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger. `life` is the number of the process, counted from 1; `at` is in seconds since 1970."""

    life: int
    event: Event
    step: str
    at: float


@dataclass(frozen=True, slots=True)
class LedgerWriter:
    """The worker's end: notes the executions of one life."""

    path: Path
    life: int

    @contextmanager
    def execution(self, step: str) -> Iterator[None]:
        """Note that the step starts, and, unless it raises or the process dies, that it finished."""
        self._append("started", step)
        yield
        self._append("finished", step)

    def _append(self, event: Event, step: str) -> None:
        line = json.dumps(asdict(Entry(self.life, event, step, time.time()))) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)


class LedgerReader:
    """The supervisor's end: follows the file while it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.entries: list[Entry] = []

    def read_new(self) -> int:
        """Read the lines that were added since the last call into `entries`; returns how many."""
        if not self._path.exists():
            return 0
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole_lines, _, _ = file.read().rpartition(b"\n")
        lines = whole_lines.splitlines()
        self.entries += [Entry(**json.loads(line)) for line in lines]
        self._offset += len(whole_lines) + 1 if lines else 0
        return len(lines)

    def steps(self, event: Event, life: int | None = None) -> list[str]:
        """The steps that started or finished, in one life or in all of them; a step that ran twice appears twice."""
        return [entry.step for entry in self.entries if entry.event == event and life in (None, entry.life)]

    def first_start(self, life: int) -> float | None:
        """When the first step of a life started, in seconds since 1970."""
        return next((entry.at for entry in self.entries if entry.life == life and entry.event == "started"), None)
