"""What workflows publish, events and stream entries: recorded once from a workflow, as it comes from a step."""

from __future__ import annotations

from collections.abc import Callable

from dbos.error import DBOSSerializationError
from dbos.model.values import Event, StepEffect, StreamEntry
from dbos.runtime.drivers import Core, Ending, Raised, Returned
from dbos.runtime.run import Run, WriteRefused


def publish(
    run: Run, function_id: int, name: str, make_effect: Callable[[], Event | StreamEntry]
) -> Core[Ending[None]]:
    """Publish from a workflow: it is recorded as a step, and held back no longer than others would notice."""
    recorded = run.find_recorded(function_id, name)
    if recorded is not None:
        return run.replay(recorded)
    run.check()
    started_at_ms = run.executor.clock.now_ms()
    try:
        effect = make_effect()
    except DBOSSerializationError as refusal:
        return run.checkpoint(function_id, name, Raised(refusal), started_at_ms)
    run.executor.journal.hold(run.log, run.note(function_id, name, started_at_ms, effect=effect), is_urgent=True)
    return Returned(None)
    yield


def publish_from_step(run: Run, effect: StepEffect) -> Core[Ending[None]]:
    """Publish from inside a step: durable when this returns, and not recorded, so that a step tried again repeats it.

    A cancelled workflow's step may finish its work.
    """
    ticket = run.executor.journal.submit(run.log, step_effects=[effect])
    try:
        answer = yield ticket
    except Exception as error:
        raise WriteRefused(error) from error
    run.accept(answer, is_cancellable=False)
    return Returned(None)
