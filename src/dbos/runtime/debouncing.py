"""Debouncing: calls of a workflow that put each other off, until one of them starts it."""

from __future__ import annotations

from dbos.error import DBOSException
from dbos.model.values import AlreadyExists, RunAnswer
from dbos.runtime.classes import conflict_of
from dbos.runtime.drivers import Core, Ending, Offload, Raised, Returned
from dbos.runtime.gateway import Gateway
from dbos.runtime.run import Run
from dbos.storage.debouncing import Caller, DebounceAnswer, Round, RoundTaken, debounce

DEBOUNCE = "DBOS.debounce"


def debounce_outside(gateway: Gateway, call: Round) -> Core[Ending[str]]:
    """Make the call; returns the id of the round's workflow."""
    answer = yield Offload(gateway.threads.submit, lambda: debounce(gateway.database, call))
    return _answered(gateway, call, answer)


def debounce_in_workflow(run: Run, function_id: int, call: Round) -> Core[Ending[str]]:
    """Make the call from a workflow, once: it is recorded in the transaction that makes it."""
    recorded = run.find_recorded(function_id, DEBOUNCE)
    if recorded is not None:
        if recorded.child_workflow_id is None:
            return run.replay(recorded)
        return Returned(recorded.child_workflow_id)
    executor = run.executor
    yield from run.barrier()
    started_at_ms = executor.clock.now_ms()
    checkpoint = run.note(function_id, DEBOUNCE, started_at_ms)
    caller = Caller(run.workflow_id, run.log.token, checkpoint)
    answer = yield Offload(executor.threads.submit, lambda: debounce(executor.database, call, caller))
    if isinstance(answer, RunAnswer):
        run.log.foreign |= answer.foreign
        run.accept(answer)
    ending = _answered(executor, call, answer)
    return run.checkpoint(function_id, DEBOUNCE, ending, started_at_ms) if isinstance(ending, Raised) else ending


def _answered(gateway: Gateway, call: Round, answer: DebounceAnswer) -> Ending[str]:
    start = call.start
    assert not isinstance(answer, RunAnswer), "the run may go on, and nothing was done"
    if isinstance(answer, RoundTaken):
        return Raised(
            DBOSException(
                f"The debounced workflow {start.name!r} with this key cannot be told from a workflow {answer.name!r} "
                "that waits: both have the same deduplication id. Use another key."
            )
        )
    if isinstance(answer, AlreadyExists):
        conflict = conflict_of(answer, start)
        return Returned(start.workflow_id) if conflict is None else Raised(conflict)
    period_ms = call.period_ms if call.timeout_ms is None else min(call.period_ms, call.timeout_ms)
    gateway.delayed(answer.workflow_id, period_ms / 1000)
    return Returned(answer.workflow_id)
