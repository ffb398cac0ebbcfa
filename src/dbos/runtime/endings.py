"""How workflows end: read from their rows, waited for, handed on to whoever waits."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from dbos.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded,
    DBOSException,
    DBOSNonExistentWorkflowError,
    DBOSSerializationError,
)
from dbos.model.status import CANCELLED, ERROR, MAX_RECOVERY_ATTEMPTS_EXCEEDED, SUCCESS
from dbos.model.values import RecordedOutcome
from dbos.runtime.drivers import Command, Ending, Raised, Returned, Wait
from dbos.serialization.codec import Codec
from dbos.storage.promise import Promise
from dbos.storage.waiting import OutcomeQuery

if TYPE_CHECKING:
    from dbos.runtime.gateway import Gateway
    from dbos.runtime.run import Run


class Expected(Promise[Ending[Any]]):
    """Where the end of an enqueued workflow shows if it comes to run here. Forgotten when nobody holds it any more."""

    __slots__ = ("__weakref__",)


def wait_for_end(
    gateway: Gateway,
    workflow_id: str,
    ended: Promise[Ending[Any]] | None = None,
    *,
    polling_interval_s: float | None = None,
    must_exist: bool = False,
    waiting: Run | None = None,
) -> Generator[Command, Any, Ending[Any]]:
    """Wait for a workflow's end, wherever it runs, and return how it ended.

    Args:
        gateway: Where to wait.
        workflow_id: The workflow.
        ended: Where its end will show, if it runs here; if that is not certain, ``Expected``.
        polling_interval_s: How often to look without a hint; by default as the gateway does.
        must_exist: Whether a workflow that is not there is an error; otherwise it is waited for.
        waiting: The run that waits, if one does; it may be interrupted.
    """
    may_run_elsewhere = isinstance(ended, Expected) and not ended.is_done
    if may_run_elsewhere and (here := gateway.ending_here(workflow_id)) is not None:
        ended, may_run_elsewhere = here, False
    if ended is not None and not may_run_elsewhere:
        yield from _wait((ended,), waiting)
        ending = ended.result()
        if not _may_be_resumed(ending):
            return ending
        ended = None
    with gateway.waits.watching(OutcomeQuery(workflow_id, must_exist), polling_interval_s) as found:
        while not found.is_done:
            yield from _wait((found,) if ended is None else (found, ended), waiting)
            if ended is not None and ended.is_done:
                ending = ended.result()
                if not _may_be_resumed(ending):
                    return ending
                ended = None
        return _ending(gateway.codec, workflow_id, found.result())


def _wait(promises: tuple[Promise[Any], ...], waiting: Run | None) -> Generator[Command, Any, None]:
    if waiting is None:
        yield Wait(promises)
    else:
        yield from waiting.wait(*promises)


def _may_be_resumed(ending: Ending[Any]) -> bool:
    return isinstance(ending, Raised) and isinstance(
        ending.error, DBOSAwaitedWorkflowCancelledError | DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded
    )


def follow(
    gateway: Gateway, workflow_id: str, ended: Promise[Ending[Any]], other: Promise[Ending[Any]] | None = None
) -> None:
    """Settle ``ended`` when the workflow ends, wherever it runs."""
    source: Promise[Any] = gateway.waits.watch(OutcomeQuery(workflow_id)) if other is None else other

    def copy() -> None:
        try:
            result = source.result()
            ended.resolve(_ending(gateway.codec, workflow_id, result) if other is None else result)
        except BaseException as error:
            ended.reject(error)

    source.then(copy)


def _ending(codec: Codec, workflow_id: str, outcome: RecordedOutcome | None) -> Ending[Any]:
    if outcome is None:
        return Raised(DBOSNonExistentWorkflowError(workflow_id))
    ending = ending_of(codec, outcome)
    assert ending is not None, f"workflow {workflow_id} has not ended"
    return ending


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
