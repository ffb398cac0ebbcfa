"""Child workflows: started by a workflow, recorded among its steps, and awaited."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

from dbos.error import DBOSAwaitedWorkflowCancelledError
from dbos.model.limits import MAX_DERIVED_ID_BYTES
from dbos.model.values import Checkpoint, ChildStart, Deduplicated, LeaseLost, StartAnswer, Started
from dbos.runtime.classes import conflict_of
from dbos.runtime.drivers import Core, Ending, Raised
from dbos.runtime.endings import follow, wait_for_end
from dbos.runtime.run import Run, RunFenced, RunOutdated, WriteRefused
from dbos.runtime.running import RunHere
from dbos.runtime.starting import Call, Launched, encode_inputs, join, observe_child, start_row
from dbos.storage.promise import Promise
from dbos.storage.tickets import Ticket

GET_RESULT = "DBOS.getResult"


def start_child(parent: Run, function_id: int, call: Call) -> tuple[Launched, Ticket | None]:
    """Submit a child's start together with the checkpoint that records it; returns before they are durable.

    The child may run when its start is durable. An id that belongs to another function shows at the parent's next
    barrier.
    """
    observe_child(parent, function_id, call)
    recorded = parent.find_recorded(function_id, call.function.name)
    if recorded is not None and recorded.child_workflow_id is not None:
        known = parent.executor.find_run(recorded.child_workflow_id)
        return Launched(recorded.child_workflow_id, None, None if known is None else known.ended), None
    parent.check()
    executor = parent.executor
    inputs = encode_inputs(executor.codec, call)
    run = executor.new_run(call)
    now_ms = executor.clock.now_ms()
    checkpoint = Checkpoint.of_child(function_id, call.function.name, call.workflow_id, now_ms)
    if parent.unsettled_children is None:
        parent.unsettled_children = set()
    parent.unsettled_children.add(function_id)
    child = ChildStart(function_id, start_row(run, call, inputs, parent))
    ticket = executor.journal.submit(parent.log, checkpoint=checkpoint, children=[child])
    return Launched(call.workflow_id, run, run.ended), ticket


def settle_child(parent: Run, call: Call, run: Run, ticket: Ticket) -> bool:
    """What became of a child's start, once its ticket is settled; returns whether the child is to be run.

    A parent that was cancelled meanwhile learns that at its next barrier; the child is recorded and started all the
    same.

    Raises:
        DBOSConflictingWorkflowError: Its id belongs to a workflow of another function.
        RunStopped: The parent must not go on.
    """
    if parent.unsettled_children is not None:
        parent.unsettled_children.discard(ticket.children[0].function_id)
    try:
        child = _child_answer(parent, ticket)
        if isinstance(child, Started):
            run.executor.begin_run(run)
            return True
        if isinstance(child, LeaseLost):
            raise RunFenced(f"The lease under which workflow {call.workflow_id!r} was started is dead")
        if isinstance(child, Deduplicated):
            raise AssertionError("a workflow that is started at once has no deduplication id")
        if (conflict := conflict_of(child, ticket.children[0].start)) is not None:
            raise conflict
    except BaseException:
        run.executor.forget(run)
        raise
    run.executor.forget(run)
    joined = join(run.executor, call.workflow_id, child)
    follow(run.executor, call.workflow_id, run.ended, joined.ended)
    return False


def _child_answer(parent: Run, ticket: Ticket) -> StartAnswer:
    try:
        answer = ticket.result()
    except Exception as error:
        raise WriteRefused(error) from error
    parent.accept(answer, is_cancellable=False)
    function_id = ticket.children[0].function_id
    if function_id in answer.foreign:
        raise RunOutdated(f"Step {function_id} of workflow {parent.workflow_id!r} was recorded before")
    return answer.children[function_id]


def run_child_when_durable(
    parent: Run, call: Call, run: Run, ticket: Ticket, loop: asyncio.AbstractEventLoop | None = None
) -> None:
    """Run the child in the background as soon as its start is durable: on the loop, if it is a coroutine."""
    context = contextvars.copy_context()

    def begin() -> None:
        try:
            if settle_child(parent, call, run, ticket):
                context.run(run.executor.spawn, run, loop)
        except BaseException as error:
            parent.deferred = error
            if isinstance(error, Exception):
                run.ended.resolve(Raised(error))
            else:
                run.ended.reject(error)

    ticket.then(begin)
    parent.executor.journal.kick()


def call_child(parent: Run, function_id: int, result_id: int, call: Call) -> Core[Ending[Any]]:
    """Call a workflow from a workflow: start it as a child, run it here, and record its result as a step."""
    launched, ticket = start_child(parent, function_id, call)
    run_here = None
    if ticket is not None and launched.run is not None:
        try:
            yield ticket
        except Exception:
            # Why, settle_child tells.
            pass
        except BaseException:
            run_child_when_durable(parent, call, launched.run, ticket)
            raise
        if settle_child(parent, call, launched.run, ticket):
            run_here = RunHere(launched.run)
    return (yield from await_child(parent, result_id, launched.workflow_id, launched.ended, run_here))


def await_child(
    parent: Run,
    function_id: int,
    workflow_id: str,
    ended: Promise[Ending[Any]] | None,
    run_here: RunHere | None = None,
) -> Core[Ending[Any]]:
    """Wait for a workflow's end in a workflow, and record it as a step."""
    recorded = parent.find_recorded(function_id, GET_RESULT)
    if recorded is not None:
        return parent.replay(recorded)
    if run_here is None and ended is not None and ended.is_done:
        # It is recorded already how it ended, and replay would find it again: nothing has to be durable before.
        parent.check()
    else:
        try:
            yield from parent.barrier()
        except BaseException:
            if run_here is not None:
                parent.executor.spawn(run_here.run)
            raise
    started_at_ms = parent.executor.clock.now_ms()
    ending: Ending[Any]
    if run_here is not None:
        parent.calling = (*parent.calling, run_here.run)
        try:
            ending = yield run_here
        finally:
            parent.calling = tuple(run for run in parent.calling if run is not run_here.run)
    else:
        ending = yield from wait_for_end(parent.executor, workflow_id, ended, waiting=parent)
    if isinstance(ending, Raised) and isinstance(ending.error, DBOSAwaitedWorkflowCancelledError):
        # The deadline may have been the parent's too: then it stops here, and a resumed one waits for the child anew.
        yield from parent.barrier(must_ask=True)
    return parent.checkpoint(function_id, GET_RESULT, ending, started_at_ms, workflow_id)


def child_id(parent: Run, function_id: int) -> str:
    """The id of a child that does not set its own: derived, so that replay derives it again."""
    derived = f"{parent.workflow_id}-{function_id}"
    if len(derived.encode()) > MAX_DERIVED_ID_BYTES:
        raise ValueError(
            f"The id of a child of workflow {parent.workflow_id[:40]!r}… would be longer than {MAX_DERIVED_ID_BYTES} "
            "bytes: workflows are nested too deep. Set the child's id with SetWorkflowID."
        )
    return derived
