"""The executor: everything that one launch of the library holds, from the database to the runs in memory."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import secrets
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dbos.model.clock import Clock
from dbos.model.values import Lease, RecordedOutcome, RecordedStep
from dbos.runtime.endings import ending_of, shut_down_error
from dbos.runtime.leases import RENEW_INTERVAL_S, TTL_S, LeaseKeeper
from dbos.runtime.outcomes import OutcomeWatch
from dbos.runtime.processes import this_process
from dbos.runtime.recovery import Recovery
from dbos.runtime.registry import Registry, WorkflowFunction
from dbos.runtime.run import Run
from dbos.runtime.running import abandon, run_as_task, run_in_background
from dbos.runtime.threads import BackgroundLoop, ElasticThreads
from dbos.serialization.codec import Codec
from dbos.storage.batches import batch_store
from dbos.storage.claims import read_checkpoints, read_claims, release
from dbos.storage.database import Database
from dbos.storage.errors import JournalClosed
from dbos.storage.journal import Journal
from dbos.storage.leases import register_lease, release_lease
from dbos.storage.reads import read_outcomes

_logger = logging.getLogger("dbos")


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """What one launch is told.

    Attributes:
        executor_id: A label; several executors may share it.
        application_version: Workflows of this version are recovered here, those of others are not.
        hold_back_s: The longest time that a checkpoint is held back; see the journal.
        renew_interval_s: How often the lease is renewed.
        lease_ttl_s: For how long another executor's lease must stand still until it counts as dead.
    """

    executor_id: str
    application_version: str
    application_id: str = ""
    hold_back_s: float = 0.002
    renew_interval_s: float = RENEW_INTERVAL_S
    lease_ttl_s: float = TTL_S


class Executor:
    """See the module's description. ``register`` and ``begin`` start it, ``shut_down`` ends it."""

    def __init__(
        self, database: Database, codec: Codec, clock: Clock, registry: Registry, settings: ExecutorSettings
    ) -> None:
        self.database = database
        self.codec = codec
        self.clock = clock
        self.registry = registry
        self.executor_id = settings.executor_id
        self.application_version = settings.application_version
        self.application_id = settings.application_id
        self.hold_back_s = settings.hold_back_s
        self.journal = Journal(batch_store(database), clock, settings.hold_back_s)
        self.threads = ElasticThreads("dbos-worker")
        self.loop = BackgroundLoop()
        self.outcomes = OutcomeWatch(self.read_outcomes, lambda outcome: ending_of(codec, outcome), clock)
        self.recovery = Recovery(self)
        self.lease = self._new_lease()
        self.is_closing = False
        self._keeper = LeaseKeeper(database, self, clock, settings.renew_interval_s, settings.lease_ttl_s)
        self._lease_lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._runs: dict[str, Run] = {}
        """The runs in memory by token; an old and a new run of one workflow may coexist for a moment."""
        self._known: dict[str, Run] = {}
        """The runs that own their workflow, by its id."""
        self._loops: dict[Run, asyncio.AbstractEventLoop] = {}
        """On which event loop each run of a coroutine is, or is about to begin."""
        self._tasks: dict[Run, asyncio.Task[None]] = {}
        self._idle = threading.Condition()

    # -- life cycle

    def register(self) -> None:
        """Register the lease: from now on workflows can be started here."""
        register_lease(self.database, self.lease)

    def begin(self) -> None:
        """Take up what crashed executors of this version left behind, and keep the lease."""
        self._keeper.bury_the_gone()
        self.recovery.kick()
        self._keeper.start()

    def shut_down(self, completion_timeout_s: float = 0.0) -> None:
        """Wait for running workflows for a while; then flush, stop, and hand back what did not end."""
        with self._idle:
            self._idle.wait_for(lambda: not self._runs, completion_timeout_s)
        self.is_closing = True
        self._keeper.stop()
        self.journal.close()
        for task in list(self._tasks.values()):
            _cancel(task)
        for run in list(self._runs.values()):
            # Its thread may be in the user's code for long; whoever waits for it shall not be.
            run.ended.reject(shut_down_error(run.workflow_id))
        self.outcomes.stop()
        self.loop.stop()
        try:
            release_lease(self.database, self.lease_id)
        except Exception as error:
            _logger.warning("The lease could not be given back; it runs out by itself: %r", error)

    # -- identity

    @property
    def lease_id(self) -> str:
        return self.lease.lease_id

    def new_token(self) -> str:
        """A new claim token: unique, as the lease is."""
        return f"{self.lease.lease_id}-{next(self._numbers)}"

    def replace_lease(self, lost: str) -> None:
        """Register a new lease, as the lost one was buried. Runs under that are fenced when others take them up."""
        with self._lease_lock:
            if self.lease.lease_id != lost:
                return
            lease = self._new_lease()
            register_lease(self.database, lease)
            self.lease = lease

    def _new_lease(self) -> Lease:
        return Lease(secrets.token_hex(8), self.executor_id, self.application_version, this_process())

    # -- runs

    def new_run(
        self, function: WorkflowFunction, workflow_id: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Run:
        """A run that is about to be started; nobody finds it by its workflow's id yet."""
        run = Run(self, function, workflow_id, self.new_token(), self.lease_id, args, kwargs)
        self._runs[run.log.token] = run
        return run

    def adopt(
        self, function: WorkflowFunction, workflow_id: str, token: str, recorded: Mapping[int, RecordedStep]
    ) -> Run:
        """A run of a workflow that was claimed under the token."""
        run = Run(self, function, workflow_id, token, self.lease_id, (), {}, recorded)
        self._runs[token] = run
        self._known[workflow_id] = run
        return run

    def know(self, run: Run) -> None:
        """The run owns its workflow now."""
        self._known[run.workflow_id] = run

    def forget(self, run: Run) -> None:
        """The run has ended, or never began."""
        self._runs.pop(run.log.token, None)
        self._tasks.pop(run, None)
        self._loops.pop(run, None)
        self.disown(run)
        if not self._runs:
            with self._idle:
                self._idle.notify_all()

    def disown(self, run: Run) -> None:
        """The run does not own its workflow any more, but has not come to its end."""
        if self._known.get(run.workflow_id) is run:
            del self._known[run.workflow_id]

    def find_run(self, workflow_id: str) -> Run | None:
        return self._known.get(workflow_id)

    def find_token(self, token: str | None) -> Run | None:
        return None if token is None else self._runs.get(token)

    def spawn(self, run: Run, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Run the workflow in the background: a coroutine on the given loop or the library's own, else in a thread."""
        if self.is_closing:
            self.forget(run)
            run.ended.reject(shut_down_error(run.workflow_id))
            return
        try:
            if run.function.is_async:
                self._spawn_task(run, loop)
            else:
                context = contextvars.copy_context()
                self.threads.submit(lambda: context.run(run_in_background, run))
        except BaseException as error:
            _logger.error("Workflow %s could not be run here, it is given back: %r", run.workflow_id, error)
            abandon(run, at_once=False)
            if not isinstance(error, Exception):
                raise

    def _spawn_task(self, run: Run, loop: asyncio.AbstractEventLoop | None) -> None:
        # The caller's loop may be closed before the workflow can begin there.
        target = self.loop.get() if loop is None or loop.is_closed() else loop
        self._loops[run] = target
        if target is _running_loop():
            self._create_task(run, target)
        else:
            with contextlib.suppress(RuntimeError):
                target.call_soon_threadsafe(self._create_task, run, target)

    def give_back(self, run: Run, *, at_once: bool) -> None:
        """The run ended without an outcome: release its claim, so that it is taken up again, maybe at once."""
        if self.is_closing:
            return

        def give() -> None:
            try:
                # What the run recorded counts, though it did not come to its end.
                ticket = self.journal.barrier(run.log)
                if ticket is not None:
                    ticket.block()
                release(self.database, workflow_id=run.workflow_id, token=run.log.token)
            except JournalClosed:
                return
            except Exception as error:
                _logger.warning("The claim of workflow %s could not be released: %r", run.workflow_id, error)
            if at_once:
                self.recovery.kick()

        try:
            self.threads.submit(give)
        except RuntimeError as error:
            _logger.error("The claim of workflow %s is released later: %r", run.workflow_id, error)

    def look_after_runs(self) -> None:
        """Take up, in the background, what nobody runs: left behind by the dead, released, or lost here."""
        self.recovery.kick()

    def release_lost_runs(self) -> None:
        """Give back what is claimed here and not run: its event loop was closed, or its start was interrupted."""
        for run, loop in list(self._loops.items()):
            if loop.is_closed():
                abandon(run, at_once=False)
        for workflow_id, token in read_claims(self.database, self.lease_id):
            if token not in self._runs:
                self.journal.flush()
                release(self.database, workflow_id=workflow_id, token=token)

    # -- reads

    def read_checkpoints(self, workflow_id: str) -> dict[int, RecordedStep]:
        return read_checkpoints(self.database, [workflow_id]).get(workflow_id, {})

    def read_outcomes(self, workflow_ids: Iterable[str]) -> dict[str, RecordedOutcome]:
        return read_outcomes(self.database, list(workflow_ids))

    def _create_task(self, run: Run, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(run_as_task(run), name=f"dbos-{run.workflow_id}")
        if task.done():
            return
        self._tasks[run] = task
        task.add_done_callback(lambda _: self._abandon_unbegun(run))

    def _abandon_unbegun(self, run: Run) -> None:
        """A task that is cancelled before its first step runs nothing of ours."""
        if run.log.token in self._runs and not self.is_closing:
            abandon(run, at_once=True)

    @property
    def run_count(self) -> int:
        """How many runs are in memory."""
        return len(self._runs)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _cancel(task: asyncio.Task[None]) -> None:
    # A closed loop has no running tasks.
    with contextlib.suppress(RuntimeError):
        task.get_loop().call_soon_threadsafe(task.cancel)
