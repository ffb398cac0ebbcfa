"""Running a workflow: its function is called until it ends, and how it ended is recorded, or it is given back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from dbos.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSException,
    DBOSNonExistentWorkflowError,
    DBOSWorkflowCancelledError,
)
from dbos.model.status import CANCELLED, ERROR, SUCCESS
from dbos.model.values import Outcome
from dbos.runtime.context import Context
from dbos.runtime.drivers import Core, Ending, Offload, Raised, Returned, WorkflowCode, drive
from dbos.runtime.endings import follow, shut_down_error, wait_for_end
from dbos.runtime.run import Run, RunFenced, RunOutdated, WorkflowDeleted, WriteRefused, encode_ending
from dbos.storage.errors import JournalClosed
from dbos.storage.tickets import RunLog

_logger = logging.getLogger("dbos")


class RunHere:
    """Run the workflow: in this thread, or as a task of its own on this event loop. The reply is how it ended."""

    __slots__ = ("run",)

    def __init__(self, run: Run) -> None:
        self.run = run

    def block(self) -> Ending[Any]:
        return drive(execute(self.run))

    async def wait(self) -> Ending[Any]:
        # A task of its own, so that cancelling the one that awaits the workflow does not stop the workflow.
        self.run.executor.spawn(self.run, asyncio.get_running_loop())
        return await self.run.ended.wait()


def execute(run: Run) -> Core[Ending[Ending[Any]]]:
    """Run the workflow's function to its end and record it; returns how the workflow ended, as it is recorded."""
    tracing = run.executor.tracing
    return _execute(run) if tracing is None else tracing.workflow(run, _execute(run))


def _execute(run: Run) -> Core[Ending[Ending[Any]]]:
    executor = run.executor
    run.begin()
    try:
        while True:
            try:
                ending: Ending[Any]
                try:
                    code = WorkflowCode(Context(run), run.function.function, run.args, run.kwargs)
                    ending = Returned((yield code))
                except Exception as error:
                    ending = Raised(error)
                ending = yield from record_outcome(run, ending)
                break
            except RunOutdated:
                run = yield from _begin_anew(run)
            except (RunFenced, WorkflowDeleted, WriteRefused, DBOSWorkflowCancelledError) as stop:
                ending = yield from _stop(run, stop)
                break
    except JournalClosed:
        executor.forget(run)
        run.ended.reject(shut_down_error(run.workflow_id))
        raise
    except GeneratorExit:
        # The garbage collector closes a coroutine whose loop was closed: in some thread, which may hold any lock.
        executor.left_behind.append(run)
        raise
    except BaseException as interruption:
        # Without an outcome (task cancelled, loop closed, Ctrl-C). If the process ends anyway, it does not start again.
        abandon(run, at_once=not isinstance(interruption, KeyboardInterrupt | SystemExit))
        raise
    run.is_over = True
    executor.forget(run)
    run.ended.resolve(ending)
    return Returned(ending)


def abandon(run: Run, *, at_once: bool) -> None:
    """The run will not come to an end: give its workflow back; whoever waits for it waits for whoever takes it up."""
    run.executor.forget(run)
    run.executor.give_back(run, at_once=at_once)
    follow(run.executor, run.workflow_id, run.ended)


def run_in_background(run: Run) -> None:
    """Run the workflow in this thread; whoever waits learns its end from ``run.ended``."""
    try:
        drive(execute(run))
    except JournalClosed:
        pass
    except BaseException as error:
        _logger.warning("Workflow %s was interrupted by %r", run.workflow_id, error)


def _begin_anew(run: Run) -> Core[Run]:
    _logger.warning("Workflow %s had steps recorded that this run did not know of; replaying", run.workflow_id)
    recorded = yield Offload(run.executor.threads.submit, lambda: run.executor.read_checkpoints([run.workflow_id]))
    anew = run.begun_anew(recorded.get(run.workflow_id, {}))
    run.executor.replace(run, anew)
    anew.begin()
    return anew


def _stop(run: Run, stop: RunFenced | WorkflowDeleted | WriteRefused | DBOSWorkflowCancelledError) -> Core[Ending[Any]]:
    """The run may not go on; returns how the workflow ends without it."""
    if isinstance(stop, WriteRefused):
        return (yield from _fail(run, stop))
    if isinstance(stop, WorkflowDeleted):
        return Raised(DBOSNonExistentWorkflowError(run.workflow_id))
    if isinstance(stop, DBOSWorkflowCancelledError):
        # The step that was in flight counts, and is recorded before the claim is gone.
        ticket = run.executor.journal.barrier(run.log)
        if ticket is not None:
            with contextlib.suppress(Exception):
                yield ticket
        run.executor.duties.release(run.workflow_id, run.log.token)
        for observer in run.executor.observers:
            observer.workflow_ended(run, CANCELLED, None)
        return Raised(DBOSAwaitedWorkflowCancelledError(run.workflow_id))
    # Another run owns the workflow: this one changes nothing any more, and ends as that one does.
    _logger.info("Workflow %s was taken over by another run; adopting its outcome", run.workflow_id)
    run.executor.disown(run)
    run.vacate()
    return (yield from wait_for_end(run.executor, run.workflow_id, must_exist=True))


def record_outcome(run: Run, ending: Ending[Any]) -> Core[Ending[Any]]:
    """Record the workflow's outcome together with the checkpoints that are still held back.

    Returns:
        The ending as it is recorded: a result that cannot be stored makes the workflow fail.

    Raises:
        RunStopped, DBOSWorkflowCancelledError: It was not recorded.
    """
    overseer = run.executor.overseer
    is_apart = overseer is not None and overseer.separates_end
    if run.unsettled_children or run.log.has_unsettled_starts or run.deferred is not None or is_apart:
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
    for observer in run.executor.observers:
        observer.workflow_ended(run, outcome.status, ending.error if isinstance(ending, Raised) else None)
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
    except (RunFenced, WorkflowDeleted, DBOSWorkflowCancelledError) as stop:
        return (yield from _stop(run, stop))
