"""The executor: everything that one launch of the library holds, from the database to the runs in memory."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import secrets
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dbos.error import DBOSAwaitedWorkflowCancelledError, DBOSNonExistentWorkflowError
from dbos.model.clock import Clock
from dbos.model.values import Batch, BatchAnswer, Lease, RecordedStep
from dbos.runtime.announcing import Announcement
from dbos.runtime.application import ApplicationDatabase
from dbos.runtime.database_time import DatabaseTime, ProgramTime
from dbos.runtime.dispatcher import Dispatcher
from dbos.runtime.drivers import Ending, Raised, drive_async
from dbos.runtime.duties import Duties
from dbos.runtime.endings import Expected, shut_down_error
from dbos.runtime.gateway import Gateway
from dbos.runtime.interests import Interests
from dbos.runtime.leases import LeaseKeeper
from dbos.runtime.observing import ObservedStore, Observer
from dbos.runtime.overseeing import Overseer
from dbos.runtime.processes import this_process
from dbos.runtime.recovery import Recovery
from dbos.runtime.registry import QUEUES, Registry, WorkflowFunction
from dbos.runtime.retention import Retention
from dbos.runtime.run import Run, RunFenced, WorkflowDeleted, workflow_cancelled
from dbos.runtime.running import abandon, execute, run_in_background
from dbos.runtime.schedules import Decorated, Schedules
from dbos.runtime.settings import ExecutorSettings
from dbos.runtime.starting import Call
from dbos.runtime.threads import BackgroundLoop
from dbos.runtime.tracing import Origin, Tracing
from dbos.runtime.versions import OtherVersions
from dbos.serialization.codec import Codec
from dbos.storage.batches import batch_store, forget_expired_keys
from dbos.storage.claims import count_claims, read_checkpoints, read_claims, read_owners, release
from dbos.storage.database import Database
from dbos.storage.errors import JournalClosed
from dbos.storage.hints import ASKING, DUTIES, EVERYTHING, SCHEDULES, STOPPING, Hints
from dbos.storage.journal import Journal
from dbos.storage.leases import register_lease, release_lease
from dbos.storage.management import Owned
from dbos.storage.promise import Promise, plain_context
from dbos.storage.queues import forget_starts
from dbos.storage.waiting import delivered, enqueued, hint, published, queue_hint, receivers

_logger = logging.getLogger("dbos")

_ROUNDS_PER_REPORT = 3
"""Every so many renewals, what waits for others is looked for and reported."""

_COUNTS_PER_COMPARISON = 10
"""Every so many times, runs and claims are compared one by one though there are as many of them."""

_ROUNDS_PER_CLEANING = 100
"""Every so many renewals of the lease, what nobody needs any more is deleted: by default every five minutes."""


class Executor(Gateway):
    """See the module's description. ``register`` and ``begin`` start it, ``shut_down`` ends it."""

    def __init__(
        self,
        database: Database,
        codec: Codec,
        clock: Clock,
        registry: Registry,
        settings: ExecutorSettings,
        hints: Hints | None = None,
        application: ApplicationDatabase | None = None,
        time: ProgramTime | None = None,
    ) -> None:
        super().__init__(database, codec, clock, hints, settings.longest_poll_s, application=application)
        self.registry = registry
        self.executor_id = settings.executor_id
        self.application_version = settings.application_version
        self.application_id = settings.application_id
        self.hold_back_s = settings.hold_back_s
        self.is_patching_enabled = settings.is_patching_enabled
        self.journal = Journal(batch_store(database), clock, settings.hold_back_s, self._committed)
        self.time: ProgramTime = DatabaseTime(database, clock) if time is None else time
        self.loop = BackgroundLoop()
        self.recovery = Recovery(self)
        self.duties = Duties(self)
        self.dispatcher = Dispatcher(self)
        self.announcement = Announcement(self)
        self._other_versions = OtherVersions(self)
        self.retention = Retention(self, settings.retention)
        self.schedules = Schedules(self, settings.schedules_poll_s)
        self._interests = Interests(clock)
        self.lease = self._new_lease()
        self.is_closing = False
        self.tracing: Tracing | None = None
        """Makes spans of runs and steps, if that is wanted; set before the first one."""
        self.observers: Sequence[Observer] = ()
        """Who is told of what happens; see ``observe``."""
        self.overseer: Overseer | None = None
        """Is told of what workflows call, if that is wanted; set before the first one."""
        self._keeper = LeaseKeeper(database, self, clock, settings.renew_interval_s, settings.lease_ttl_s)
        self._lease_lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._rounds = itertools.count()
        self._comparisons = itertools.count()
        self._runs: dict[str, Run] = {}
        """The runs in memory by token; an old and a new run of one workflow may coexist for a moment."""
        self._known: dict[str, Run] = {}
        """The runs that own their workflow, by its id."""
        self._expected: weakref.WeakValueDictionary[str, Expected] = weakref.WeakValueDictionary()
        """Where handles wait for enqueued workflows, by their ids, as long as there are such handles."""
        self._idle = threading.Condition()
        self.left_behind: deque[Run] = deque()
        """Runs whose coroutines were closed by the garbage collector."""

    # -- life cycle

    def register(self) -> None:
        """Register the lease: from now on workflows can be started here."""
        register_lease(self.database, self.lease)
        self.time.refresh()

    def begin(self, decorated: Iterable[Decorated] = ()) -> None:
        """Take up what crashed executors of this version left behind, keep the lease, fire schedules.

        Args:
            decorated: Functions whose decorators say when they run.
        """
        self._keeper.bury_the_gone()
        # Before it is said what waits for other versions.
        self.recovery.take_over_adopted()
        self.recovery.kick()
        self._other_versions.report_soon()
        self._keeper.start()
        self.dispatcher.listen()
        self.announcement.tell()
        QUEUES.on_declared = self.dispatcher.declared
        self.schedules.begin(decorated)
        self.connect()
        self.waits.start(self.duties.attend)

    def stop_claiming(self) -> None:
        """Take up no more workflows; what runs here goes on."""
        QUEUES.on_declared = lambda: None
        self.schedules.stop()
        self.dispatcher.stop()
        self.recovery.stop()

    def shut_down(self, completion_timeout_s: float = 0.0) -> None:
        """Wait for running workflows for a while; then flush, stop, and hand back what did not end."""
        self.stop_claiming()
        self.announcement.stop()
        self._other_versions.stop()
        self.retention.stop()
        with self._idle:
            self._idle.wait_for(lambda: not self._runs, completion_timeout_s)
        self.is_closing = True
        for run in list(self._runs.values()):
            run.interrupt(JournalClosed("DBOS is shutting down."))
        self.duties.stop()
        self._keeper.stop()
        self.journal.close()
        for run in list(self._runs.values()):
            if run.task is not None:
                _cancel(run.task)
            # Its thread may be in the user's code for long; whoever waits for it shall not be.
            run.ended.reject(shut_down_error(run.workflow_id))
        try:
            self.dispatcher.flush()
        except Exception as error:
            _logger.warning("Starts of queues with a rate limit could not be noted: %r", error)
        self.close()
        self.loop.stop()
        try:
            release_lease(self.database, self.lease_id)
        except Exception as error:
            _logger.warning("The lease could not be given back; it runs out by itself: %r", error)

    def deactivate(self) -> None:
        """Begin nothing new: what waits on queues, and schedules, are left to other executors.

        What runs goes on, and can be started.
        """
        self.schedules.stop()
        self.dispatcher.stop()
        self.announcement.tell_soon()

    def recover(self, executor_ids: Sequence[str]) -> list[str]:
        """Take up what was last run by executors of these labels and is owned by nobody who is alive.

        Returns:
            The ids of the workflows that run here now, and of those that went back to their queues.
        """
        self._keeper.bury_the_gone()
        return self.recovery.make_pass(executor_ids)

    def observe(self, observer: Observer) -> None:
        """Tell this observer too of what happens from now on."""
        if observer in self.observers:
            return
        self.observers = (*self.observers, observer)
        self.journal.store = ObservedStore(batch_store(self.database), self.clock, self.observers)

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
        for observer in self.observers:
            observer.lease_lost()
        # Under the lost one nothing could be claimed.
        self.waits.attend_now()

    def buried(self, lease: Lease, reason: str, left_behind: int) -> None:
        for observer in self.observers:
            observer.executor_died(lease, reason, left_behind)

    @property
    def lease_age_s(self) -> float:
        """For how long the lease has not been renewed, in seconds."""
        return self._keeper.renewed_ago_s

    def trusts_lease(self, lease_id: str, now: float) -> bool:
        """Whether the lease is alive for certain, so that nobody else owns what was claimed under it."""
        return self._keeper.trusts(lease_id, now)

    def _new_lease(self) -> Lease:
        return Lease(secrets.token_hex(8), self.executor_id, self.application_version, this_process())

    # -- runs

    def new_run(self, call: Call) -> Run:
        """A run that is about to be started; nobody finds it by its workflow's id yet."""
        args = call.target.passed + call.args
        run = Run(self, call.function, call.workflow_id, self.new_token(), self.lease_id, args, call.kwargs)
        run.authentication = call.authentication
        if self.tracing is not None:
            run.origin = Origin(self.tracing.current_context())
        self._runs[run.log.token] = run
        return run

    def adopt(
        self,
        function: WorkflowFunction,
        workflow_id: str,
        token: str,
        recorded: Mapping[int, RecordedStep],
        deadline_ms: int | None,
        lease_id: str,
    ) -> Run:
        """A run of a workflow that was claimed under the token and the lease."""
        run = Run(self, function, workflow_id, token, lease_id, (), {}, recorded)
        expected = self._expected.get(workflow_id)
        if expected is not None and not expected.is_done:
            run.ended = expected
        run.deadline_ms = deadline_ms
        self._runs[token] = run
        self.begin_run(run)
        return run

    def expect(self, workflow_id: str) -> Expected:
        """Where the end of an enqueued workflow will show, if a run here is about to begin."""
        promise = self._expected.get(workflow_id)
        if promise is None or promise.is_done:
            # What is done was the end of an earlier workflow of this id, which was deleted.
            promise = self._expected[workflow_id] = Expected()
        return promise

    def begin_run(self, run: Run) -> None:
        """The run owns its workflow now."""
        former = self._known.get(run.workflow_id)
        self._known[run.workflow_id] = run
        run.has_begun = True
        if former is not None and former is not run:
            former.interrupt(RunFenced(f"Workflow {run.workflow_id!r} is owned by another run"))
        if run.deadline_ms is not None:
            self.duties.expect_deadline(run.deadline_ms)

    def replace(self, run: Run, anew: Run) -> None:
        """The one run goes on as the other, under the same claim."""
        self._runs[run.log.token] = anew
        if self._known.get(run.workflow_id) is run:
            self._known[run.workflow_id] = anew

    def forget(self, run: Run) -> None:
        """The run has ended, or never began."""
        self._runs.pop(run.log.token, None)
        run.task = run.loop = None
        run.vacate()
        self.disown(run)
        if not self._runs:
            with self._idle:
                self._idle.notify_all()

    def disown(self, run: Run) -> None:
        """The run does not own its workflow any more, but has not come to its end."""
        if self._known.get(run.workflow_id) is run:
            del self._known[run.workflow_id]

    def ending_here(self, workflow_id: str) -> Promise[Ending[Any]] | None:
        run = self._known.get(workflow_id)
        return None if run is None else run.ended

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
        run.loop = target
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
        self.time.refresh()
        self.announcement.tell_soon()
        rounds = next(self._rounds)
        if rounds % _ROUNDS_PER_CLEANING == 0:
            forget_expired_keys(self.database)
            forget_starts(self.database)
            self.retention.run_soon()
        if rounds % _ROUNDS_PER_REPORT == 0:
            self.dispatcher.report_unserved()
            self.recovery.report_stranded()
            self._other_versions.report_soon()
        self.recovery.kick()

    def compare_runs(self) -> None:
        """Give back what is claimed here and not run, and stop what runs here and is not claimed any more.

        The one happens when its event loop was closed, or its start was interrupted; the other when its workflow was
        deleted or taken over.
        """
        left_behind = [self.left_behind.popleft() for _ in range(len(self.left_behind))]
        for run in list(self._runs.values()):
            if run in left_behind or (run.loop is not None and run.loop.is_closed()):
                abandon(run, at_once=False)
        known = [run for run in list(self._runs.values()) if run.has_begun]
        is_thorough = next(self._comparisons) % _COUNTS_PER_COMPARISON == 0
        if not is_thorough and count_claims(self.database, self.lease_id) == len(known):
            return
        claims = read_claims(self.database, self.lease_id)
        for workflow_id, token in claims:
            if token not in self._runs:
                self.journal.flush()
                release(self.database, workflow_id=workflow_id, token=token)
        claimed = {token for _, token in claims}
        self._stop_disowned([run for run in known if run.log.token not in claimed])

    def _stop_disowned(self, runs: Sequence[Run]) -> None:
        """Stop those of the runs whose workflows were deleted or taken over."""
        owners = read_owners(self.database, [run.workflow_id for run in runs]) if runs else {}
        for run in runs:
            if run.workflow_id not in owners:
                self._stop_deleted(run)
            elif owners[run.workflow_id] != run.log.token:
                self.disown(run)
                run.interrupt(RunFenced(f"Workflow {run.workflow_id!r} is owned by another run"))

    def _stop_deleted(self, run: Run) -> None:
        deleted = WorkflowDeleted(f"Workflow {run.workflow_id!r} was deleted")
        self._stop_run(run, deleted, DBOSNonExistentWorkflowError(run.workflow_id))

    def stop_cancelled(self, runs: Iterable[Run]) -> None:
        """Their workflows are cancelled: whoever waits for them is told so, the runs stop by themselves."""
        for run in runs:
            self._stop_run(run, workflow_cancelled(run.workflow_id), DBOSAwaitedWorkflowCancelledError(run.workflow_id))

    def _stop_run(self, run: Run, stop: BaseException, error: Exception) -> None:
        if not self.is_closing:
            # What it holds back counts, whatever happens to its claim next.
            self.journal.barrier(run.log)
            self.journal.kick()
        self.disown(run)
        if run.slot is not None:
            run.slot.lose_claim()
        run.ended.resolve(Raised(error))
        run.interrupt(stop)

    # -- what others do and wait for

    def receive_hints(self, hints: Sequence[str]) -> None:
        asked = [hint[len(ASKING) :] for hint in hints if hint.startswith(ASKING)]
        if asked:
            self.hints.publish(self._interests.asked(asked))
        if not {DUTIES, STOPPING, EVERYTHING}.isdisjoint(hints):
            self.waits.attend_now()
        if STOPPING in hints or EVERYTHING in hints:
            # A workflow that was deleted, or cancelled and resumed already, shows only by its absence.
            self.recovery.kick()
        if SCHEDULES in hints or EVERYTHING in hints:
            self.schedules.changed()
        self.dispatcher.hinted(hints)
        super().receive_hints(hints)

    def flush(self) -> None:
        self.journal.flush()

    def cancelled(self, workflows: Sequence[Owned]) -> None:
        self.stop_cancelled(self._runs_of(workflows))
        if workflows:
            # Slots may be free, and deduplication ids.
            self.waits.attend_now()
        super().cancelled(workflows)

    def deleted(self, workflows: Sequence[Owned]) -> None:
        for run in self._runs_of(workflows):
            self._stop_deleted(run)
        if workflows:
            self.waits.attend_now()
        super().deleted(workflows)

    def delayed(self, workflow_id: str, seconds: float) -> None:
        self.duties.attend_in(seconds)
        super().delayed(workflow_id, seconds)

    def enqueued(self, queues: Iterable[str] = ()) -> None:
        queues = list(queues)
        self.dispatcher.wake(queues)
        if not queues:
            self.waits.attend_now()
        super().enqueued(queues)

    def rescheduled(self) -> None:
        self.schedules.changed()
        super().rescheduled()

    def _runs_of(self, workflows: Sequence[Owned]) -> list[Run]:
        """The runs that owned the workflows, as far as they are here. By now others may own them."""
        return [run for workflow in workflows if (run := self.find_token(workflow.token)) is not None]

    def _committed(self, batch: Batch, answer: BatchAnswer) -> None:
        """The journal has committed a batch: wake who waits for what it did, here and elsewhere."""
        happened = published(batch)
        hints: set[str] = set(happened)
        queues = enqueued(batch)
        if queues:
            self.dispatcher.wake(queues)
            hints.update(queue_hint(name) for name in queues)
        for workflow_id in receivers(batch):
            its_hint = hint("message", workflow_id)
            happened.add(its_hint)
            if workflow_id not in self._known:
                # Nobody but the run that owns it receives its messages.
                hints.add(its_hint)
        ended = [
            run.workflow_id
            for run, its_answer in zip(batch.runs, answer.runs, strict=True)
            if run.outcome is not None and its_answer.token == run.token
        ]
        if ended:
            hints.update(self._interests.ended(ended))
            if not self.waits.is_empty:
                happened.update(hint("outcome", workflow_id) for workflow_id in ended)
        if happened and not self.waits.is_empty:
            self.waits.deliver(delivered(batch, answer))
            self.waits.wake(happened)
        if hints:
            self.hints.publish(hints)

    # -- reads

    def read_checkpoints(self, workflow_ids: Sequence[str]) -> dict[str, dict[int, RecordedStep]]:
        """What is recorded of the workflows' steps, by workflow id and function id."""
        recorded = self.application.records(workflow_ids)
        for workflow_id, steps in read_checkpoints(self.database, workflow_ids).items():
            recorded.setdefault(workflow_id, {}).update(steps)
        return recorded

    def _create_task(self, run: Run, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(drive_async(execute(run)), name=run.workflow_id)
        if not task.done():
            run.task = task
        task.add_done_callback(run.task_ended, context=plain_context())

    def task_ended(self, run: Run, task: asyncio.Task[Any]) -> None:
        """The task of a run is over, with the run or without it."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, JournalClosed):
            _logger.warning("Workflow %s was interrupted by %r", run.workflow_id, error)
        if run.log.token in self._runs and not self.is_closing:
            # It was cancelled before its first step, and ran nothing of ours.
            abandon(run, at_once=True)

    @property
    def run_count(self) -> int:
        """How many runs are in memory."""
        return len(self._runs)

    @property
    def runs(self) -> list[Run]:
        """The runs in memory."""
        return list(self._runs.values())


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _cancel(task: asyncio.Task[Any]) -> None:
    # A closed loop has no running tasks.
    with contextlib.suppress(RuntimeError):
        task.get_loop().call_soon_threadsafe(task.cancel)
