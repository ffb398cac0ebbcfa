"""A run: one claimed execution of a workflow in this process.

What replay needs it loads once: a fresh workflow has no checkpoints, a recovered one gets all of them with its claim.
What the run records goes through its log, which holds it back until the *barrier*: before anything that the outside
could see (the next step's code, a wait, the outcome), all that was recorded must be durable. The answer also tells
whether the run may go on: it may have been cancelled, or its claim may have passed to another executor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dbos.error import (
    DBOSException,
    DBOSSerializationError,
    DBOSUnexpectedStepError,
    DBOSWorkflowCancelledError,
)
from dbos.model.authentication import NOBODY
from dbos.model.status import CANCELLED
from dbos.model.values import Checkpoint, Effect, RecordedStep, RunAnswer
from dbos.runtime.classes import conflict_of
from dbos.runtime.drivers import Command, Ending, Raised, Returned, Wait
from dbos.serialization.codec import Codec
from dbos.storage.errors import JournalClosed
from dbos.storage.promise import Promise
from dbos.storage.tickets import RunLog, Ticket

if TYPE_CHECKING:
    import asyncio

    from dbos.runtime.dispatcher import Slot
    from dbos.runtime.executor import Executor
    from dbos.runtime.registry import WorkflowFunction
    from dbos.runtime.tracing import Origin


_NOTHING: Mapping[Any, Any] = MappingProxyType({})
"""One for all runs without keyword arguments, and without checkpoints."""


class RunStopped(BaseException):
    """The run must not go on. A ``BaseException``, as user code must not catch it."""


class RunFenced(RunStopped):
    """The workflow is owned by another run now, or by none; its recorded outcome will be another's."""


class WorkflowDeleted(RunStopped):
    """The workflow is no more."""


class RunOutdated(RunStopped):
    """Another run had recorded a step that this one did not know of: it has to load the checkpoints and replay."""


def workflow_cancelled(workflow_id: str) -> DBOSWorkflowCancelledError:
    """What a cancelled workflow meets at its next step, or where it waits."""
    return DBOSWorkflowCancelledError(f"Workflow {workflow_id!r} was cancelled; it ends here.")


class WriteRefused(RunStopped):
    """The database refused for good what the run recorded."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Run:
    """See the module's description.

    Attributes:
        deferred: What went wrong with a child's start after it was submitted; raised at the next barrier.
        unsettled_children: The function ids of children of which is not known yet whether they started.
        authentication: Whom the workflow runs for.
        ended: Settled with how the workflow ended, as it is recorded.
        recorded: The checkpoints to replay from, by function id.
        seen_at: When this run last heard that it owns the workflow and may go on; monotonic.
        deadline_ms: When the workflow is cancelled, by the database's clock.
        receiving: How many calls are receiving messages at the moment.
        calling: The runs of the workflows that it has called, and that have not returned to it.
        received: The ids of messages that were received and may still be found in the database.
        stop: Why the run is to stop, once that is known: cancelled, deleted or shut down.
        has_begun: Whether its start or its claim is durable.
        is_over: Whether its outcome was recorded, or another's adopted. Nothing may be recorded after it.
        slot: What it holds of the queue that it came from.
        loop: The event loop on which it runs, or is about to begin, if it is a coroutine.
        task: Its task there.
        older_context: What ``dbos.compat`` shows of it, once it was asked for.
        origin: Where it comes from, if it is traced.
    """

    __slots__ = (
        "_interruption",
        "_last_recorded_id",
        "_next_function_id",
        "args",
        "authentication",
        "calling",
        "deadline_ms",
        "deferred",
        "ended",
        "executor",
        "function",
        "has_begun",
        "is_over",
        "kwargs",
        "lease_id",
        "log",
        "loop",
        "older_context",
        "origin",
        "received",
        "receiving",
        "recorded",
        "seen_at",
        "slot",
        "stop",
        "task",
        "unsettled_children",
        "workflow_id",
    )

    def __init__(
        self,
        executor: Executor,
        function: WorkflowFunction,
        workflow_id: str,
        token: str,
        lease_id: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        recorded: Mapping[int, RecordedStep] | None = None,
    ) -> None:
        self.executor = executor
        self.function = function
        self.workflow_id = workflow_id
        self.args = args
        self.kwargs = kwargs or _NOTHING
        self.authentication = NOBODY
        self.ended: Promise[Ending[Any]] = Promise()
        self.log = RunLog(workflow_id, token)
        self.lease_id = lease_id
        self.recorded: Mapping[int, RecordedStep] = recorded or _NOTHING
        self.seen_at = 0.0
        self.deferred: BaseException | None = None
        self.unsettled_children: set[int] | None = None
        self.deadline_ms: int | None = None
        self.receiving = 0
        self.calling: tuple[Run, ...] = ()
        self.received: set[str] | None = None
        self.stop: BaseException | None = None
        self.has_begun = False
        self.is_over = False
        self.slot: Slot | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[Any] | None = None
        self.older_context: Any = None
        self.origin: Origin | None = None
        self._interruption: Promise[None] | None = None
        self._last_recorded_id: int | None = None
        self._next_function_id = 0

    def task_ended(self, task: asyncio.Task[Any]) -> None:
        """Its task is over."""
        self.executor.task_ended(self, task)

    def begin(self) -> None:
        """Start at the first step."""
        self._next_function_id = 0
        self.seen_at = self.executor.clock.monotonic()
        if self.slot is not None:
            self.slot.begin()

    def vacate(self) -> None:
        """Its function has returned, or will not be called: give up the slot that it holds of its queue."""
        if self.slot is not None:
            self.slot.free()

    def begun_anew(self, recorded: Mapping[int, RecordedStep]) -> Run:
        """A run under the same claim that replays these checkpoints; this one is over.

        Tasks and threads that this one's function left behind still hold it, and record nothing more.
        """
        run = Run(
            self.executor,
            self.function,
            self.workflow_id,
            self.log.token,
            self.lease_id,
            self.args,
            self.kwargs,
            recorded,
        )
        run.authentication = self.authentication
        run.ended, run.deadline_ms, run.has_begun = self.ended, self.deadline_ms, True
        run.loop, run.task, run.stop, run.slot = self.loop, self.task, self.stop, self.slot
        self.is_over, self.stop = True, RunOutdated(f"Workflow {self.workflow_id!r} was begun anew")
        return run

    def next_function_id(self) -> int:
        """Number a step, at the moment of the call: from 1, in the order in which the workflow starts them."""
        self._next_function_id += 1
        return self._next_function_id

    @property
    def upcoming_function_id(self) -> int:
        """The number of the step that starts next."""
        return self._next_function_id + 1

    @property
    def last_recorded_id(self) -> int:
        """The highest function id under which an earlier run recorded something; 0 if there is none."""
        if self._last_recorded_id is None:
            self._last_recorded_id = max(self.recorded, default=0)
        return self._last_recorded_id

    def find_recorded(self, function_id: int, name: str) -> RecordedStep | None:
        """The checkpoint of this step, if an earlier run recorded it.

        Raises:
            DBOSUnexpectedStepError: It recorded another step there.
        """
        recorded = self.recorded.get(function_id)
        return None if recorded is None else self.expect(recorded, name)

    def expect(self, recorded: RecordedStep, name: str) -> RecordedStep:
        """The checkpoint, which is to be of the step of this name. (Errors as ``find_recorded``.)"""
        if recorded.name != name:
            raise DBOSUnexpectedStepError(self.workflow_id, recorded.function_id, name, recorded.name)
        return recorded

    def replay(self, recorded: RecordedStep) -> Ending[Any]:
        """How the recorded step ended."""
        codec = self.executor.codec
        if recorded.error is not None:
            return Raised(codec.decode_error(recorded.error, recorded.serialization))
        return Returned(codec.decode(recorded.output, recorded.serialization))

    def checkpoint(
        self,
        function_id: int,
        name: str,
        ending: Ending[Any],
        started_at_ms: int,
        child_id: str | None = None,
        codec: Codec | None = None,
    ) -> Ending[Any]:
        """Record how the step ended, and hold the record back until the next barrier.

        Args:
            function_id: The step's number.
            name: The step's name.
            ending: How it ended.
            started_at_ms: When it began.
            child_id: The workflow that it started or awaited.
            codec: Encodes the result; by default as the configuration says.

        Returns:
            How the step ended for the workflow: a result that cannot be stored makes it fail.
        """
        if self.is_over:
            # A step of a task that the workflow left behind.
            return ending
        codec = codec or self.executor.codec
        ending, output, error, serialization = encode_ending(
            codec, ending, lambda: f"The result of step {name} of workflow {self.workflow_id!r}"
        )
        checkpoint = Checkpoint(
            function_id=function_id,
            name=name,
            output=output,
            error=error,
            serialization=serialization,
            child_workflow_id=child_id,
            started_at_ms=started_at_ms,
            completed_at_ms=self.executor.clock.now_ms(),
        )
        self.executor.journal.hold(self.log, checkpoint)
        return ending

    def note(
        self,
        function_id: int,
        name: str,
        started_at_ms: int,
        *,
        output: str | None = None,
        error: str | None = None,
        serialization: str | None = None,
        effect: Effect | None = None,
    ) -> Checkpoint:
        """A checkpoint, its value serialized already."""
        return Checkpoint(
            function_id,
            name,
            output,
            error,
            serialization,
            started_at_ms=started_at_ms,
            completed_at_ms=self.executor.clock.now_ms(),
            effect=effect,
        )

    def barrier(self, *, must_ask: bool = False) -> Generator[Command, Any, None]:
        """Wait until all that was recorded is durable, and make sure that the run may go on.

        Args:
            must_ask: Whether to ask the database even if that was done a moment ago.

        Raises:
            RunStopped: It may not.
            DBOSWorkflowCancelledError: The workflow is cancelled.
        """
        executor = self.executor
        self.check()
        ticket = executor.journal.barrier(self.log)
        if ticket is None:
            now = executor.clock.monotonic()
            is_fresh = now - self.seen_at <= executor.hold_back_s and executor.trusts_lease(self.lease_id, now)
            if is_fresh and self.log.failure is None and not must_ask:
                return
            # What was recorded was made durable some time ago: much may have happened since.
            ticket = executor.journal.submit(self.log)
        yield from self.settle(ticket)

    def settle(self, ticket: Ticket) -> Generator[Command, Any, RunAnswer]:
        """Wait for what was submitted, and make sure that the run may go on.

        Raises:
            RunStopped, DBOSWorkflowCancelledError: As ``barrier``.
        """
        try:
            answer: RunAnswer = yield ticket
        except Exception as error:
            raise WriteRefused(error) from error
        self.accept(answer)
        self._raise_deferred()
        return answer

    def check(self) -> None:
        """Raise what is known to stop the run, without asking anybody.

        Raises:
            RunStopped, DBOSWorkflowCancelledError, JournalClosed: It may not go on.
        """
        self._raise_deferred()
        if self.stop is not None:
            raise self.stop.with_traceback(None)
        if self.executor.is_closing:
            raise JournalClosed("DBOS is shutting down.")
        if self.log.refusal is not None:
            self.accept(self.log.refusal)
        if self.is_over:
            raise DBOSException(
                f"Workflow {self.workflow_id!r} has ended, and its outcome is recorded. A task that it left behind can "
                "do nothing more in its name: await such tasks before the workflow returns."
            )

    @property
    def is_to_stop(self) -> bool:
        """Whether it is known that nothing may be recorded any more."""
        return self.stop is not None or self.is_over or self.executor.is_closing

    def interrupt(self, stop: BaseException) -> None:
        """Wake whatever the run waits for, to raise this, as does whatever it does next."""
        self.stop = stop
        if self._interruption is not None:
            self._interruption.resolve(None)

    @property
    def interruption(self) -> Promise[None]:
        """Settled when the run is interrupted, and never if it is not."""
        if self._interruption is None:
            self._interruption = Promise()
        # The interruption may have come before there was a promise of it.
        if self.stop is not None:
            self._interruption.resolve(None)
        return self._interruption

    def wait(self, *promises: Promise[Any], seconds: float | None = None) -> Generator[Command, Any, None]:
        """Wait for one of the promises, or for some time, or until the run is interrupted, which is raised.

        Raises:
            RunStopped, DBOSWorkflowCancelledError, JournalClosed: As ``check``.
        """
        time = self.executor.time
        until = None if seconds is None else time.moment_in(seconds)
        left: float | None = None
        while not any(promise.is_done for promise in promises):
            if until is not None and (left := time.seconds_left(until)) <= 0:
                break
            yield time.wait(self, (*promises, self.interruption), left)
            self.check()
        self.check()

    def pause(self, seconds: float) -> Generator[Command, Any, None]:
        """Wait for so many seconds of the machine's, or until the run is interrupted, which is raised."""
        clock = self.executor.clock
        until = clock.monotonic() + seconds
        while (left := until - clock.monotonic()) > 0:
            yield Wait((self.interruption,), left)
            self.check()

    def _raise_deferred(self) -> None:
        if self.deferred is not None:
            error, self.deferred = self.deferred, None
            raise error
        if self.log.conflict is not None:
            (start, existing), self.log.conflict = self.log.conflict, None
            if (conflict := conflict_of(existing, start)) is not None:
                raise conflict

    def accept(self, answer: RunAnswer, *, is_cancellable: bool = True) -> None:
        """Take note of what the guard saw.

        Args:
            answer: What it saw.
            is_cancellable: Whether a cancelled workflow ends here; if not, it does at its next barrier.

        Raises:
            RunStopped, DBOSWorkflowCancelledError: As ``barrier``.
        """
        if answer.status is None:
            raise WorkflowDeleted(f"Workflow {self.workflow_id!r} was deleted")
        if answer.token != self.log.token:
            raise RunFenced(f"Workflow {self.workflow_id!r} is owned by another run")
        if self.log.foreign:
            raise RunOutdated(f"Steps {sorted(self.log.foreign)} of workflow {self.workflow_id!r} were recorded before")
        if answer.status == CANCELLED:
            if not is_cancellable:
                self.seen_at = -math.inf
                return
            raise workflow_cancelled(self.workflow_id)
        self.seen_at = self.executor.clock.monotonic()


def encode_ending(
    codec: Codec, ending: Ending[Any], what: Callable[[], str]
) -> tuple[Ending[Any], str | None, str | None, str]:
    """The ending as it can be recorded, its result or error as text, and the text's format.

    A result that cannot be stored makes it an ending with the exception that says so.
    """
    if isinstance(ending, Returned):
        try:
            encoded = codec.encode(ending.value, what)
            return ending, encoded.text, None, encoded.format
        except DBOSSerializationError as refusal:
            ending = Raised(refusal)
    encoded = codec.encode_error(ending.error)
    return ending, None, encoded.text, encoded.format
