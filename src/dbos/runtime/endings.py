"""How workflows end: read from their rows, waited for, handed on to whoever waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbos.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded,
    DBOSException,
    DBOSSerializationError,
)
from dbos.model.status import CANCELLED, ERROR, MAX_RECOVERY_ATTEMPTS_EXCEEDED, SUCCESS
from dbos.model.values import RecordedOutcome
from dbos.runtime.drivers import Core, Ending, Raised, Returned
from dbos.serialization.codec import Codec
from dbos.storage.promise import Promise

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor


def wait_for_end(
    executor: Executor,
    workflow_id: str,
    ended: Promise[Ending[Any]] | None = None,
    polling_interval_s: float | None = None,
) -> Core[Ending[Any]]:
    """Wait for a workflow's end, wherever it runs, and return how it ended."""
    if ended is None:
        known = executor.find_run(workflow_id)
        ended = executor.outcomes.watch(workflow_id, polling_interval_s) if known is None else known.ended
    ending: Ending[Any] = yield ended
    return ending


def follow(
    executor: Executor, workflow_id: str, ended: Promise[Ending[Any]], other: Promise[Ending[Any]] | None = None
) -> None:
    """Settle ``ended`` when the workflow ends, wherever it runs."""
    source = executor.outcomes.watch(workflow_id) if other is None else other

    def copy() -> None:
        try:
            ended.resolve(source.result())
        except BaseException as error:
            ended.reject(error)

    source.then(copy)


def ending_of(codec: Codec, outcome: RecordedOutcome) -> Ending[Any] | None:
    """How a workflow ended according to its row; ``None`` if it has not ended."""
    if outcome.status == SUCCESS:
        try:
            return Returned(codec.decode(outcome.output, outcome.serialization))
        except DBOSSerializationError as error:
            return Raised(error)
    if outcome.status == ERROR:
        return Raised(codec.decode_error(outcome.error or "", outcome.serialization))
    if outcome.status == CANCELLED:
        return Raised(DBOSAwaitedWorkflowCancelledError(outcome.workflow_id))
    if outcome.status == MAX_RECOVERY_ATTEMPTS_EXCEEDED:
        return Raised(DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded(outcome.workflow_id))
    return None


def shut_down_error(workflow_id: str) -> DBOSException:
    """What they get who wait for a workflow when the executor shuts down."""
    return DBOSException(f"DBOS was shut down before workflow {workflow_id!r} ended.")
