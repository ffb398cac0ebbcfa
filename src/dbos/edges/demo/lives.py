"""The supervisor: starts the worker, listens to it, kills it, and looks at what is in the database afterwards."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, text

from dbos.storage.opening import parse_url

HERE = Path(__file__).parent


class WorkerFailed(Exception):
    """The worker ended by itself before it was done."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the demo. `id` is also the id of the root workflow, and the prefix of its children's ids."""

    id: str
    database_url: str
    files: int

    @property
    def steps(self) -> int:
        """One step for each file, and one that lists them."""
        return self.files + 1


@dataclass(frozen=True, slots=True)
class Life:
    """One process of the worker, from its start to its end. A step is named `workflow id/function id`."""

    killed: bool
    seconds: float
    first_step_after: float
    """The seconds before its first step."""
    started: list[str]
    """The steps that it began to run, as it told itself."""
    recorded: set[str]
    """The steps that the database held when it was over, those of earlier lives included."""
    result: str

    @property
    def in_flight(self) -> set[str]:
        """Steps that were begun but not recorded when the life ended: all that a crash may cost."""
        return set(self.started) - self.recorded


def live(run: Run, finished: set[str], kill_at: int | None, show: Callable[[int], None]) -> Life:
    """Run the worker until it is done, or until `kill_at` steps are finished.

    Args:
        run: What to work on.
        finished: The steps that earlier lives have finished; those of this life are added.
        kill_at: The number of finished steps at which the worker is killed; None to leave it alone.
        show: Called with the number of finished steps whenever it changes.

    Raises:
        WorkerFailed: It ended before it was done, and nobody had killed it.
    """
    told: dict[str, list[str]] = {"started": [], "finished": [], "result": []}
    born, first_step_after, is_to_die = time.monotonic(), 0.0, False
    worker = start_program("durable_index.py", run.database_url, run.id, str(run.files))
    try:
        assert worker.stdout
        for line in worker.stdout:  # to its end: what the worker told before it was killed is heard after that
            first_step_after = first_step_after or time.monotonic() - born
            event, _, subject = line.rstrip().partition(" ")
            told[event].append(subject)
            if event == "finished":
                finished.add(subject)
                show(len(finished))
            if kill_at is not None and len(finished) >= kill_at:
                is_to_die = True
                worker.kill()  # SIGKILL: no handler runs, nothing is flushed
        exit_code = worker.wait()
    finally:
        worker.kill()
        worker.wait()
    if exit_code != 0 and not is_to_die:
        raise WorkerFailed(f"The worker failed with exit code {exit_code}.")
    return Life(
        killed=exit_code != 0,
        seconds=time.monotonic() - born,
        first_step_after=first_step_after,
        started=told["started"],
        recorded=recorded_steps(run),
        result="".join(told["result"]),
    )


def recorded_steps(run: Run) -> set[str]:
    """The steps of this run that the database holds, by plain SQL: the tables are there for everyone to read."""
    url = parse_url(run.database_url)
    schema = "dbos." if url.get_backend_name() == "postgresql" else ""
    query = f"""
        SELECT workflow_uuid, function_id FROM {schema}operation_outputs
        WHERE workflow_uuid LIKE :ids AND function_name IN ('list_files', 'index_file')
    """
    engine = create_engine(url)
    with engine.connect() as connection:
        steps = {f"{workflow}/{step}" for workflow, step in connection.execute(text(query), {"ids": f"{run.id}%"})}
    engine.dispose()
    return steps


def start_program(name: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a program of this package, out of reach of the terminal's Ctrl-C."""
    command = [sys.executable, str(HERE / name), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
