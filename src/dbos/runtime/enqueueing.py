"""Enqueueing: a workflow's row is recorded without a run; whichever executor has room for it starts it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbos.error import DBOSQueueDeduplicatedError
from dbos.model.status import ENQUEUED
from dbos.model.values import AlreadyExists, Checkpoint, ChildStart, Deduplicated, LeaseLost, Place, WorkflowStart
from dbos.runtime.classes import conflict_of
from dbos.runtime.drivers import Command, Core, Ending, Raised, Returned
from dbos.runtime.endings import Expected, shut_down_error
from dbos.runtime.run import Run
from dbos.runtime.starting import Call, encode_inputs, observe_child
from dbos.storage.errors import JournalClosed

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor


@dataclass(frozen=True, slots=True)
class QueuedCall:
    """A call that is to be made when its queue lets it; ``application_version``: by an executor of which version."""

    call: Call
    place: Place
    application_version: str | None


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A workflow that waits on a queue, and where its end will show if it comes to run here."""

    workflow_id: str
    ended: Expected


def enqueue(executor: Executor, queued: QueuedCall) -> Core[Ending[Enqueued]]:
    """Record a workflow on its queue, unless its id is known already.

    Raises:
        DBOSConflictingWorkflowError: The id belongs to a workflow of another function.
        DBOSQueueDeduplicatedError: The queue holds another workflow with the deduplication id.
        DBOSSerializationError: The arguments cannot be stored.
    """
    ended = executor.expect(queued.call.workflow_id)
    start = enqueued_row(executor, queued)
    try:
        while True:
            answer = yield executor.journal.start(start)
            # One with its id was there, and was deleted meanwhile, if the answer is this.
            if not isinstance(answer, LeaseLost):
                break
    except JournalClosed:
        return Raised(shut_down_error(queued.call.workflow_id))
    if isinstance(answer, Deduplicated):
        return Raised(_deduplicated(queued))
    if isinstance(answer, AlreadyExists) and (conflict := conflict_of(answer, start)) is not None:
        return Raised(conflict)
    return Returned(Enqueued(queued.call.workflow_id, ended))


def enqueue_child(parent: Run, function_id: int, queued: QueuedCall) -> Core[Ending[Enqueued]]:
    """Record a child on its queue, together with the checkpoint that tells of it.

    It is not waited for: both are durable before the parent's next step. An id that belongs to another function shows
    there. Only with a deduplication id there is an answer to wait for, which is recorded.
    """
    call, executor = queued.call, parent.executor
    observe_child(parent, function_id, call)
    recorded = parent.find_recorded(function_id, call.function.name)
    if recorded is not None:
        if recorded.child_workflow_id is None:
            return parent.replay(recorded)
        return Returned(Enqueued(recorded.child_workflow_id, executor.expect(recorded.child_workflow_id)))
    parent.check()
    ended = executor.expect(call.workflow_id)
    now_ms = executor.clock.now_ms()
    child = ChildStart(function_id, enqueued_row(executor, queued, parent))
    checkpoint = Checkpoint.of_child(function_id, call.function.name, call.workflow_id, now_ms)
    if queued.place.deduplication_id is None:
        executor.journal.hold(parent.log, checkpoint, child, is_urgent=True)
        return Returned(Enqueued(call.workflow_id, ended))
    is_refused = yield from _submit(parent, checkpoint, child)
    if is_refused:
        return parent.checkpoint(function_id, call.function.name, Raised(_deduplicated(queued)), now_ms)
    return Returned(Enqueued(call.workflow_id, ended))


def _submit(parent: Run, checkpoint: Checkpoint, child: ChildStart) -> Generator[Command, Any, bool]:
    """Enqueue the child now; returns whether the queue refused it, and nothing was recorded."""
    ticket = parent.executor.journal.submit(parent.log, checkpoint=checkpoint, children=[child])
    answer = yield from parent.settle(ticket)
    return isinstance(answer.children.get(child.function_id), Deduplicated)


def _deduplicated(queued: QueuedCall) -> DBOSQueueDeduplicatedError:
    place = queued.place
    return DBOSQueueDeduplicatedError(queued.call.workflow_id, place.queue, place.deduplication_id or "")


def enqueued_row(executor: Executor, queued: QueuedCall, parent: Run | None = None) -> WorkflowStart:
    """The row of a workflow that waits to be started.

    A timeout begins with the start. Without one of its own a child has its parent's deadline.
    """
    call = queued.call
    if executor.tracing is not None:
        executor.tracing.enqueued(call.workflow_id)
    inputs = encode_inputs(executor.codec, call)
    timeout_s = None if call.timeout is None else call.timeout.seconds
    return WorkflowStart(
        workflow_id=call.workflow_id,
        name=call.function.name,
        status=ENQUEUED,
        inputs=inputs.text,
        serialization=inputs.format,
        token=None,
        lease_id=None,
        executor_id=None,
        class_name=call.target.class_name,
        config_name=call.target.config_name,
        authentication=call.authentication,
        application_version=queued.application_version,
        application_id=executor.application_id,
        parent_workflow_id=None if parent is None else parent.workflow_id,
        timeout_ms=None if timeout_s is None else round(timeout_s * 1000),
        deadline_ms=parent.deadline_ms if parent is not None and call.timeout is None else None,
        place=queued.place,
    )
