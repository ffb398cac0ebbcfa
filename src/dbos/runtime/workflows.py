"""Workflows: how they start, run to a recorded outcome, and are waited for."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from dbos.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded,
    DBOSConflictingWorkflowError,
    DBOSException,
    DBOSSerializationError,
    DBOSWorkflowCancelledError,
)
from dbos.model.limits import MAX_DERIVED_ID_BYTES
from dbos.model.status import CANCELLED, ERROR, MAX_RECOVERY_ATTEMPTS_EXCEEDED, PENDING, SUCCESS
from dbos.model.values import (
    AlreadyExists,
    Checkpoint,
    ChildStart,
    LeaseLost,
    Outcome,
    RecordedOutcome,
    StartAnswer,
    Started,
    WorkflowStart,
)
from dbos.runtime.context import Context
from dbos.runtime.drivers import Command, Core, Ending, Offload, Raised, Returned, UserCode, drive, drive_async
from dbos.runtime.registry import WorkflowFunction
from dbos.runtime.run import Run, RunFenced, RunOutdated, WriteRefused, encode_ending
from dbos.serialization.codec import Codec
from dbos.storage.errors import JournalClosed
from dbos.storage.journal import RunLog, Ticket
from dbos.storage.promise import Promise

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor

_logger = logging.getLogger("dbos")

GET_RESULT = "DBOS.getResult"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a workflow function."""

    function: WorkflowFunction
    workflow_id: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Launched:
    """A workflow that was asked for: ``run`` if this call began it and has to run it, and where its end will show."""

    workflow_id: str
    run: Run | None
    ended: Promise[Ending[Any]] | None


# -- starting


def start(executor: Executor, call: Call) -> Generator[Command, Any, Launched]:
    """Record a new workflow, or find the one that has the id already.

    Raises:
        DBOSConflictingWorkflowError: The id belongs to a workflow of another function.
        DBOSSerializationError: The arguments cannot be stored.
    """
    inputs = _encode_inputs(executor.codec, call)
    while True:
        run = executor.new_run(call.function, call.workflow_id, call.args, call.kwargs)
        ticket = executor.journal.start(_start_row(executor, run, inputs))
        try:
            answer: StartAnswer = yield ticket
        except BaseException:
            # Nobody waits any more, but the row may become durable: then it runs in the background.
            ticket.then(partial(_run_if_started, run, ticket))
            raise
        if isinstance(answer, LeaseLost):
            executor.forget(run)
            yield Offload(executor.threads.submit, partial(executor.replace_lease, run.lease_id))
            continue
        if isinstance(answer, Started):
            executor.know(run)
            return Launched(call.workflow_id, run, run.ended)
        executor.forget(run)
        _refuse_other_function(call, answer)
        _warn_of_other_version(executor, call, answer)
        return _join(executor, call.workflow_id, answer)


def start_child(parent: Run, function_id: int, call: Call) -> tuple[Launched, Ticket | None]:
    """Submit a child's start together with the checkpoint that records it; returns before they are durable.

    The child may run when its start is durable. An id that belongs to another function shows at the parent's next
    barrier.
    """
    recorded = parent.find_recorded(function_id, call.function.name)
    if recorded is not None and recorded.child_workflow_id is not None:
        known = parent.executor.find_run(recorded.child_workflow_id)
        return Launched(recorded.child_workflow_id, None, None if known is None else known.ended), None
    executor = parent.executor
    inputs = _encode_inputs(executor.codec, call)
    run = executor.new_run(call.function, call.workflow_id, call.args, call.kwargs)
    now_ms = executor.clock.now_ms()
    checkpoint = Checkpoint(
        function_id,
        call.function.name,
        None,
        None,
        None,
        call.workflow_id,
        started_at_ms=now_ms,
        completed_at_ms=now_ms,
    )
    parent.unsettled_children.add(function_id)
    child = ChildStart(function_id, _start_row(executor, run, inputs, parent.workflow_id))
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
    parent.unsettled_children.discard(ticket.children[0].function_id)
    try:
        child = _child_answer(parent, ticket)
        if isinstance(child, Started):
            run.executor.know(run)
            return True
        if isinstance(child, LeaseLost):
            raise RunFenced(f"The lease under which workflow {call.workflow_id!r} was started is dead")
        _refuse_other_function(call, child)
    except BaseException:
        run.executor.forget(run)
        raise
    run.executor.forget(run)
    joined = _join(run.executor, call.workflow_id, child)
    _follow(run.executor, call.workflow_id, run.ended, joined.ended)
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


def _run_if_started(run: Run, ticket: Promise[StartAnswer]) -> None:
    try:
        is_started = isinstance(ticket.result(), Started)
    except BaseException:
        is_started = False
    if is_started:
        run.executor.know(run)
        run.executor.spawn(run)
    else:
        run.executor.forget(run)


def _join(executor: Executor, workflow_id: str, existing: AlreadyExists) -> Launched:
    """The workflow runs or ran already, here or elsewhere."""
    known = executor.find_token(existing.token)
    return Launched(workflow_id, None, None if known is None else known.ended)


def _follow(
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


def _refuse_other_function(call: Call, existing: AlreadyExists) -> None:
    if existing.name != call.function.name:
        raise DBOSConflictingWorkflowError(call.workflow_id, existing.name, call.function.name)


def _warn_of_other_version(executor: Executor, call: Call, existing: AlreadyExists) -> None:
    if existing.status == PENDING and existing.application_version != executor.application_version:
        _logger.warning(
            "Workflow %s was started by application version %s and is not recovered by this one, %s; it ends when an "
            "executor of its version runs. Configure application_version to keep a version over changes of the code.",
            *(call.workflow_id, existing.application_version, executor.application_version),
        )


def _encode_inputs(codec: Codec, call: Call) -> Outcome:
    value = {"args": call.args, "kwargs": dict(call.kwargs)}
    encoded = codec.encode(value, lambda: f"The arguments of workflow {call.function.name} ({call.workflow_id!r})")
    return Outcome(PENDING, encoded.text, None, encoded.format)


def _start_row(executor: Executor, run: Run, inputs: Outcome, parent_id: str | None = None) -> WorkflowStart:
    return WorkflowStart(
        workflow_id=run.workflow_id,
        name=run.function.name,
        status=PENDING,
        inputs=inputs.output or "",
        serialization=inputs.serialization or "",
        token=run.log.token,
        lease_id=run.lease_id,
        executor_id=executor.executor_id,
        application_version=executor.application_version,
        application_id=executor.application_id,
        parent_workflow_id=parent_id,
    )


def child_id(parent: Run, function_id: int) -> str:
    """The id of a child that does not set its own: derived, so that replay derives it again."""
    derived = f"{parent.workflow_id}-{function_id}"
    if len(derived.encode()) > MAX_DERIVED_ID_BYTES:
        raise ValueError(
            f"The id of a child of workflow {parent.workflow_id[:40]!r}… would be longer than {MAX_DERIVED_ID_BYTES} "
            "bytes: workflows are nested too deep. Set the child's id with SetWorkflowID."
        )
    return derived


# -- running


class RunHere:
    """Run the workflow: in this thread, or as a task of its own on this event loop. The reply is how it ended."""

    __slots__ = ("run",)

    def __init__(self, run: Run) -> None:
        self.run = run

    def block(self) -> Ending[Any]:
        return drive(_as_value(execute(self.run)))

    async def wait(self) -> Ending[Any]:
        # A task of its own, so that cancelling the one that awaits the workflow does not stop the workflow.
        self.run.executor.spawn(self.run, asyncio.get_running_loop())
        return await self.run.ended.wait()


def execute(run: Run) -> Core[Ending[Any]]:
    """Run the workflow's function to its end and record it; returns how the workflow ended, as it is recorded."""
    executor = run.executor
    try:
        ending = yield from _run_to_outcome(run)
    except JournalClosed:
        executor.forget(run)
        run.ended.reject(shut_down_error(run.workflow_id))
        raise
    except BaseException as interruption:
        # Without an outcome (task cancelled, loop closed, Ctrl-C). If the process ends anyway, it does not start again.
        abandon(run, at_once=not isinstance(interruption, KeyboardInterrupt | SystemExit))
        raise
    executor.forget(run)
    run.ended.resolve(ending)
    return ending


def abandon(run: Run, *, at_once: bool) -> None:
    """The run will not come to an end: give its workflow back; whoever waits for it waits for whoever takes it up."""
    run.executor.forget(run)
    run.executor.give_back(run, at_once=at_once)
    _follow(run.executor, run.workflow_id, run.ended)


def run_in_background(run: Run) -> None:
    """Run the workflow in this thread; whoever waits learns its end from ``run.ended``."""
    try:
        drive(_as_value(execute(run)))
    except JournalClosed:
        pass
    except BaseException as error:
        _logger.warning("Workflow %s was interrupted by %r", run.workflow_id, error)


async def run_as_task(run: Run) -> None:
    """Run the workflow as the current task; whoever waits learns its end from ``run.ended``."""
    try:
        await drive_async(_as_value(execute(run)))
    except JournalClosed:
        pass
    except (KeyboardInterrupt, SystemExit):
        _logger.warning("Workflow %s was interrupted", run.workflow_id)
        if not run.executor.loop.is_running_here():
            # As from any task of the user's loop, it ends the loop.
            raise


def _as_value(core: Core[Ending[Any]]) -> Core[Ending[Ending[Any]]]:
    """Have the driver return how it ended instead of raising it."""
    ending = yield from core
    return Returned(ending)


def _run_to_outcome(run: Run) -> Core[Ending[Any]]:
    run.begin()
    while True:
        try:
            ending: Ending[Any] = yield UserCode(Context(run), run.function.function, run.args, run.kwargs)
            return (yield from record_outcome(run, ending))
        except RunFenced:
            return (yield from _adopt_outcome(run))
        except RunOutdated:
            _logger.warning("Workflow %s had steps recorded that this run did not know of; replaying", run.workflow_id)
            recorded = yield Offload(
                run.executor.threads.submit, lambda: run.executor.read_checkpoints(run.workflow_id)
            )
            run.begin(recorded)
        except WriteRefused as refusal:
            return (yield from _fail(run, refusal))
        except DBOSWorkflowCancelledError:
            return Raised(DBOSAwaitedWorkflowCancelledError(run.workflow_id))


def _adopt_outcome(run: Run) -> Core[Ending[Any]]:
    """Another run owns the workflow: this one changes nothing any more, and ends as that one does."""
    _logger.info("Workflow %s was taken over by another run; adopting its outcome", run.workflow_id)
    run.executor.disown(run)
    return (yield from wait_for_end(run.executor, run.workflow_id))


def record_outcome(run: Run, ending: Ending[Any]) -> Core[Ending[Any]]:
    """Record the workflow's outcome together with the checkpoints that are still held back.

    Returns:
        The ending as it is recorded: a result that cannot be stored makes the workflow fail.

    Raises:
        RunStopped, DBOSWorkflowCancelledError: It was not recorded.
    """
    if run.unsettled_children or run.deferred is not None:
        try:
            yield from run.barrier()
        except Exception as conflict:
            ending = Raised(conflict)
    ending, output, error, serialization = encode_ending(
        run.executor.codec, ending, lambda: f"The result of workflow {run.function.name} ({run.workflow_id!r})"
    )
    outcome = Outcome(ERROR if output is None else SUCCESS, output, error, serialization)
    ticket = run.executor.journal.submit(run.log, outcome=outcome)
    try:
        answer = yield ticket
    except Exception as refusal:
        raise WriteRefused(refusal) from refusal
    run.accept(answer)
    return ending


def _fail(run: Run, refusal: WriteRefused) -> Core[Ending[Any]]:
    """The database refuses something the run recorded, so what comes after it cannot be recorded either."""
    _logger.error("Workflow %s fails, as the database refused to record it: %s", run.workflow_id, refusal)
    run.log = RunLog(run.workflow_id, run.log.token)
    error = DBOSException(f"What workflow {run.workflow_id!r} recorded was refused by the database: {refusal}")
    try:
        return (yield from record_outcome(run, Raised(error)))
    except WriteRefused:
        return Raised(error)
    except RunFenced:
        return (yield from _adopt_outcome(run))
    except DBOSWorkflowCancelledError:
        return Raised(DBOSAwaitedWorkflowCancelledError(run.workflow_id))


# -- calling and waiting


def call_workflow(executor: Executor, call: Call) -> Core[Ending[Any]]:
    """Start the workflow, run it here, and return how it ended; or wait for the one that has the id already."""
    try:
        launched = yield from start(executor, call)
        if launched.run is not None:
            ending: Ending[Any] = yield RunHere(launched.run)
            return ending
        return (yield from wait_for_end(executor, launched.workflow_id, launched.ended))
    except JournalClosed:
        return Raised(shut_down_error(call.workflow_id))


def start_in_background(
    executor: Executor, call: Call, loop: asyncio.AbstractEventLoop | None
) -> Core[Ending[Launched]]:
    """Start the workflow, if its id is new, and have it run: on the loop, if it is a coroutine."""
    try:
        launched = yield from start(executor, call)
    except JournalClosed:
        return Raised(shut_down_error(call.workflow_id))
    if launched.run is not None:
        executor.spawn(launched.run, loop)
    return Returned(launched)


def shut_down_error(workflow_id: str) -> DBOSException:
    """What they get who wait for a workflow when the executor shuts down."""
    return DBOSException(f"DBOS was shut down before workflow {workflow_id!r} ended.")


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
    try:
        yield from parent.barrier()
    except BaseException:
        if run_here is not None:
            parent.executor.spawn(run_here.run)
        raise
    started_at_ms = parent.executor.clock.now_ms()
    ending: Ending[Any]
    if run_here is not None:
        ending = yield run_here
    else:
        ending = yield from wait_for_end(parent.executor, workflow_id, ended)
    return parent.checkpoint(function_id, GET_RESULT, ending, started_at_ms, workflow_id)


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
