"""A run: one claimed execution of a workflow in this process.

What replay needs it loads once: a fresh workflow has no checkpoints, a recovered one gets all of them with its claim.
What the run records goes through its log, which holds it back until the *barrier*: before anything that the outside
could see (the next step's code, a wait, the outcome), all that was recorded must be durable. The answer also tells
whether the run may go on: it may have been cancelled, or its claim may have passed to another executor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

from dbos.error import DBOSSerializationError, DBOSUnexpectedStepError, DBOSWorkflowCancelledError
from dbos.model.status import CANCELLED
from dbos.model.values import Checkpoint, RecordedStep, RunAnswer
from dbos.runtime.drivers import Command, Ending, Raised, Returned
from dbos.serialization.codec import Codec
from dbos.storage.errors import JournalClosed
from dbos.storage.journal import RunLog
from dbos.storage.promise import Promise

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor
    from dbos.runtime.registry import WorkflowFunction


class RunStopped(BaseException):
    """The run must not go on. A ``BaseException``, as user code must not catch it."""


class RunFenced(RunStopped):
    """The workflow is owned by another run now, or by none; its recorded outcome will be another's."""


class RunOutdated(RunStopped):
    """Another run had recorded a step that this one did not know of: it has to load the checkpoints and replay."""


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
        ended: Settled with how the workflow ended, as it is recorded.
        recorded: The checkpoints to replay from, by function id.
        seen_at: When this run last heard that it owns the workflow and may go on; monotonic.
    """

    __slots__ = (
        "_next_function_id",
        "args",
        "deferred",
        "ended",
        "executor",
        "function",
        "kwargs",
        "lease_id",
        "log",
        "recorded",
        "seen_at",
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
        self.kwargs = kwargs
        self.ended: Promise[Ending[Any]] = Promise()
        self.log = RunLog(workflow_id, token)
        self.lease_id = lease_id
        self.recorded: Mapping[int, RecordedStep] = recorded or {}
        self.seen_at = 0.0
        self.deferred: BaseException | None = None
        self.unsettled_children: set[int] = set()
        self._next_function_id = 0

    def begin(self, recorded: Mapping[int, RecordedStep] | None = None) -> None:
        """Start at the first step; ``recorded`` replaces the checkpoints to replay from."""
        if recorded is not None:
            self.log = RunLog(self.workflow_id, self.log.token)
            self.recorded = recorded
        self._next_function_id = 0
        self.seen_at = self.executor.clock.monotonic()

    def next_function_id(self) -> int:
        """Number a step, at the moment of the call: from 1, in the order in which the workflow starts them."""
        self._next_function_id += 1
        return self._next_function_id

    def find_recorded(self, function_id: int, name: str) -> RecordedStep | None:
        """The checkpoint of this step, if an earlier run recorded it.

        Raises:
            DBOSUnexpectedStepError: It recorded another step there.
        """
        recorded = self.recorded.get(function_id)
        if recorded is not None and recorded.name != name:
            raise DBOSUnexpectedStepError(self.workflow_id, function_id, name, recorded.name)
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
        codec = codec or self.executor.codec
        ending, output, error, serialization = encode_ending(
            codec, ending, lambda: f"The result of step {name} of workflow {self.workflow_id!r}"
        )
        self.executor.journal.hold(
            self.log,
            Checkpoint(
                function_id=function_id,
                name=name,
                output=output,
                error=error,
                serialization=serialization,
                child_workflow_id=child_id,
                started_at_ms=started_at_ms,
                completed_at_ms=self.executor.clock.now_ms(),
            ),
        )
        return ending

    def barrier(self) -> Generator[Command, Any, None]:
        """Wait until all that was recorded is durable, and make sure that the run may go on.

        Raises:
            RunStopped: It may not.
            DBOSWorkflowCancelledError: The workflow is cancelled.
        """
        executor = self.executor
        self._raise_deferred()
        if executor.is_closing:
            raise JournalClosed("DBOS is shutting down.")
        ticket = executor.journal.barrier(self.log)
        if ticket is None:
            if self.log.failure is None and executor.clock.monotonic() - self.seen_at <= executor.hold_back_s:
                return
            # What was recorded was made durable some time ago: much may have happened since.
            ticket = executor.journal.submit(self.log)
        try:
            answer = yield ticket
        except Exception as error:
            raise WriteRefused(error) from error
        self.accept(answer)
        self._raise_deferred()

    def _raise_deferred(self) -> None:
        if self.deferred is not None:
            error, self.deferred = self.deferred, None
            raise error

    def accept(self, answer: RunAnswer, *, is_cancellable: bool = True) -> None:
        """Take note of what the guard saw.

        Args:
            answer: What it saw.
            is_cancellable: Whether a cancelled workflow ends here; if not, it does at its next barrier.

        Raises:
            RunStopped, DBOSWorkflowCancelledError: As ``barrier``.
        """
        if answer.token != self.log.token:
            raise RunFenced(f"Workflow {self.workflow_id!r} is owned by another run")
        if self.log.foreign:
            raise RunOutdated(f"Steps {sorted(self.log.foreign)} of workflow {self.workflow_id!r} were recorded before")
        if answer.status == CANCELLED:
            if not is_cancellable:
                self.seen_at = -math.inf
                return
            raise DBOSWorkflowCancelledError(f"Workflow {self.workflow_id!r} was cancelled; it ends here.")
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
