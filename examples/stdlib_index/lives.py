"""The supervisor: starts the worker, follows its ledger, kills it at a given point of progress, starts it again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from durable_index import index_package, take_inventory, worker_command, worker_environment
from stdlib_files import Summary
from step_ledger import LedgerReader, step_key

from dbos import DBOSClient, WorkflowHandle

POLL_S = 0.02
PATIENCE_S = 60.0
"""A worker that neither runs a step nor exits for this long has failed."""

OUR_STEPS = frozenset({take_inventory.__qualname__, index_package.__qualname__})


class DemoFailure(Exception):
    """The demo could not be carried through, or showed something that must not happen."""


@dataclass(frozen=True, slots=True)
class Run:
    """Where one run of the demo keeps its things. `run_id` is also the id of the root workflow."""

    run_id: str
    database_url: str
    workspace: Path

    @property
    def ledger(self) -> Path:
        """The file in which the worker notes its step executions."""
        return self.workspace / "ledger.jsonl"

    def log(self, life: int) -> Path:
        """What one life of the worker printed."""
        return self.workspace / f"worker-{life}.log"


@dataclass(frozen=True, slots=True)
class Life:
    """What one life of the worker did.

    `started` are its step executions, in order; `recorded` are the steps that the database held when it was over, those
    of earlier lives included; `idle_s` is the time from its start to its first step.
    """

    number: int
    killed: bool
    seconds: float
    idle_s: float
    started: tuple[str, ...]
    recorded: frozenset[str]

    @property
    def in_flight(self) -> frozenset[str]:
        """Steps that had started when the life ended but were not recorded: all that a crash may cost."""
        return frozenset(self.started) - self.recorded


class Supervisor:
    """Gives the worker one life after the other until its work is done.

    `progress` is called every few milliseconds with the number of different steps that have finished so far, `note`
    with a line of text for every start and every kill.
    """

    def __init__(self, run: Run, progress: Callable[[int], None], note: Callable[[str], None]) -> None:
        self._run = run
        self._progress = progress
        self._note = note
        self._ledger = LedgerReader(run.ledger)

    def live_until_done(self, kill_points: Sequence[int]) -> list[Life]:
        """Kill the worker whenever the next of the given numbers of steps has finished; leave its last life alone."""
        points: list[int | None] = [*kill_points, None]
        return [self._live(number, point) for number, point in enumerate(points, start=1)]

    def _live(self, number: int, kill_point: int | None) -> Life:
        """One life, from the start of the process to its death."""
        born, clock = time.time(), time.monotonic()
        worker = _start_worker(self._run, number)
        self._note(f"life {number}: process {worker.pid} starts")
        try:
            killed = self._follow(worker, kill_point)
        finally:
            _kill(worker)
        seconds = time.monotonic() - clock
        self._ledger.read_new()
        if killed:
            self._note(f"life {number}: SIGKILL to process {worker.pid} after {self._finished_steps()} steps")
        elif worker.returncode != 0 or kill_point is not None:
            log = _tail(self._run.log(number))
            raise DemoFailure(f"life {number} ended unasked, with exit code {worker.returncode}:\n{log}")
        first_step_at = self._ledger.first_start(number)
        return Life(
            number=number,
            killed=killed,
            seconds=seconds,
            idle_s=seconds if first_step_at is None else first_step_at - born,
            started=tuple(self._ledger.steps("started", number)),
            recorded=recorded_steps(self._run),
        )

    def _follow(self, worker: subprocess.Popen[bytes], kill_point: int | None) -> bool:
        """Read the ledger until the kill point is reached (true) or the worker has exited by itself (false)."""
        last_news = time.monotonic()
        while worker.poll() is None:
            if self._ledger.read_new():
                last_news = time.monotonic()
            finished = self._finished_steps()
            self._progress(finished)
            if kill_point is not None and finished >= kill_point:
                return True
            if time.monotonic() - last_news > PATIENCE_S:
                raise DemoFailure(f"process {worker.pid} is alive, but ran no step for {PATIENCE_S:.0f} s")
            time.sleep(POLL_S)
        return False

    def _finished_steps(self) -> int:
        """How many different steps have finished, in all lives so far."""
        return len(set(self._ledger.steps("finished")))


def _start_worker(run: Run, life: int) -> subprocess.Popen[bytes]:
    """Start the worker in a session of its own, out of reach of the terminal's Ctrl-C."""
    environment = os.environ | worker_environment(run.run_id, run.database_url, run.ledger, life)
    with run.log(life).open("wb") as log:
        return subprocess.Popen(worker_command(), env=environment, stdout=log, stderr=log, start_new_session=True)


def _kill(worker: subprocess.Popen[bytes]) -> None:
    """SIGKILL: no handler runs, nothing is flushed. A process that has already exited is left in peace."""
    if worker.poll() is None:
        os.kill(worker.pid, signal.SIGKILL)
    worker.wait()


def outcome_of(run: Run) -> Summary:
    """The outcome of the root workflow, as anyone who knows its id may ask for it."""
    with _client(run) as client:
        handle: WorkflowHandle[Summary] = client.retrieve_workflow(run.run_id)
        return handle.get_result()


def recorded_steps(run: Run) -> frozenset[str]:
    """The steps of this run that the database holds, of the root workflow and of all its children."""
    with _client(run) as client:
        workflows = client.list_workflows(workflow_id_prefix=run.run_id, load_input=False, load_output=False)
        return frozenset(
            step_key(workflow.workflow_id, step["function_id"])
            for workflow in workflows
            for step in client.list_workflow_steps(workflow.workflow_id)
            if step["function_name"] in OUR_STEPS
        )


@contextmanager
def _client(run: Run) -> Iterator[DBOSClient]:
    """A view of the database from outside the application."""
    client = DBOSClient(system_database_url=run.database_url)
    try:
        yield client
    finally:
        client.destroy()


def _tail(log: Path, lines: int = 15) -> str:
    """The last lines that the worker printed."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
