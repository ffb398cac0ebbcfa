"""Starting a workflow: its row is recorded, or the workflow that has the id already is joined."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from dbos.model.authentication import NOBODY, Authentication
from dbos.model.status import PENDING
from dbos.model.values import AlreadyExists, Deduplicated, LeaseLost, StartAnswer, Started, WorkflowStart
from dbos.runtime.classes import NO_TARGET, Target, conflict_of
from dbos.runtime.context import SetTimeout
from dbos.runtime.drivers import Command, Core, Ending, Offload, Raised, Returned
from dbos.runtime.endings import shut_down_error, wait_for_end
from dbos.runtime.registry import WorkflowFunction
from dbos.runtime.run import Run
from dbos.runtime.running import RunHere
from dbos.serialization.codec import Codec, Encoded
from dbos.storage.errors import JournalClosed
from dbos.storage.promise import Promise

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor

_logger = logging.getLogger("dbos")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a workflow function.

    Attributes:
        function: What is called.
        workflow_id: The id of the workflow that it is.
        args: The arguments that are recorded.
        kwargs: The keyword arguments.
        timeout: What was set for it; ``None`` if nothing was.
        target: What a method is called on.
        authentication: Whom it is called for.
    """

    function: WorkflowFunction
    workflow_id: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    timeout: SetTimeout | None = None
    target: Target = NO_TARGET
    authentication: Authentication = NOBODY


@dataclass(frozen=True, slots=True)
class Launched:
    """A workflow that was asked for: ``run`` if this call began it and has to run it, and where its end will show."""

    workflow_id: str
    run: Run | None
    ended: Promise[Ending[Any]] | None


def start(executor: Executor, call: Call) -> Generator[Command, Any, Launched]:
    """Record a new workflow, or find the one that has the id already.

    Raises:
        DBOSConflictingWorkflowError: The id belongs to a workflow of another function, class or instance.
        DBOSSerializationError: The arguments cannot be stored.
    """
    inputs = encode_inputs(executor.codec, call)
    while True:
        run = executor.new_run(call)
        row = start_row(run, call, inputs)
        ticket = executor.journal.start(row)
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
            executor.begin_run(run)
            return Launched(call.workflow_id, run, run.ended)
        executor.forget(run)
        if isinstance(answer, Deduplicated):
            raise AssertionError("a workflow that is started at once has no deduplication id")
        if (conflict := conflict_of(answer, row)) is not None:
            raise conflict
        _warn_of_other_version(executor, call, answer)
        return join(executor, call.workflow_id, answer)


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


def _run_if_started(run: Run, ticket: Promise[StartAnswer]) -> None:
    try:
        is_started = isinstance(ticket.result(), Started)
    except BaseException:
        is_started = False
    if is_started:
        run.executor.begin_run(run)
        run.executor.spawn(run)
    else:
        run.executor.forget(run)


def join(executor: Executor, workflow_id: str, existing: AlreadyExists) -> Launched:
    """The workflow runs or ran already, here or elsewhere."""
    known = executor.find_token(existing.token)
    return Launched(workflow_id, None, None if known is None else known.ended)


def _warn_of_other_version(executor: Executor, call: Call, existing: AlreadyExists) -> None:
    if existing.status == PENDING and existing.application_version != executor.application_version:
        _logger.warning(
            "Workflow %s was started by application version %s and is not recovered by this one, %s; it ends when an "
            "executor of its version runs. Configure application_version to keep a version over changes of the code.",
            *(call.workflow_id, existing.application_version, executor.application_version),
        )


def observe_child(parent: Run, function_id: int, call: Call) -> None:
    """A workflow starts or enqueues another."""
    overseer, function = parent.executor.overseer, call.function
    if overseer is not None:
        overseer.called(parent, function_id, function.name, function.function, call.args, call.kwargs)


def encode_inputs(codec: Codec, call: Call) -> Encoded:
    """The call's arguments as they are stored."""
    value = {"args": call.args, "kwargs": dict(call.kwargs)}
    return codec.encode(value, lambda: f"The arguments of workflow {call.function.name} ({call.workflow_id!r})")


def start_row(run: Run, call: Call, inputs: Encoded, parent: Run | None = None) -> WorkflowStart:
    """The row of the workflow that the run begins with. It also sets the run's deadline.

    A timeout begins now. Without one of its own a child has its parent's deadline.
    """
    executor = run.executor
    timeout_s = None if call.timeout is None else call.timeout.seconds
    if timeout_s is not None:
        run.deadline_ms = executor.time.in_ms(timeout_s)
    elif call.timeout is None and parent is not None:
        run.deadline_ms = parent.deadline_ms
    return WorkflowStart(
        workflow_id=run.workflow_id,
        name=run.function.name,
        status=PENDING,
        inputs=inputs.text,
        serialization=inputs.format,
        token=run.log.token,
        lease_id=run.lease_id,
        executor_id=executor.executor_id,
        class_name=call.target.class_name,
        config_name=call.target.config_name,
        authentication=call.authentication,
        application_version=executor.application_version,
        application_id=executor.application_id,
        parent_workflow_id=None if parent is None else parent.workflow_id,
        timeout_ms=None if timeout_s is None else round(timeout_s * 1000),
        deadline_ms=run.deadline_ms,
    )
