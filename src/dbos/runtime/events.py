"""Events: values that a workflow publishes under keys, for anyone to read and to wait for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbos.model.values import Event, StepEffect
from dbos.runtime.drivers import Core, Ending, Wait
from dbos.runtime.gateway import Gateway
from dbos.runtime.looking import decoded, look
from dbos.runtime.publishing import publish, publish_from_step
from dbos.runtime.run import Run
from dbos.runtime.sleeping import record_wait, recorded_wait
from dbos.storage.waiting import EventQuery, Value, read_events

SET_EVENT = "DBOS.setEvent"
GET_EVENT = "DBOS.getEvent"


def set_event(run: Run, function_id: int, key: str, value: Any) -> Core[Ending[None]]:
    """Publish a value from a workflow."""
    return publish(run, function_id, SET_EVENT, lambda: _event(run, key, value))


def set_event_in_step(run: Run, step_id: int, key: str, value: Any) -> Core[Ending[None]]:
    """Publish a value from a step, whether the step succeeds or not."""
    return publish_from_step(run, StepEffect(step_id, _event(run, key, value)))


def _event(run: Run, key: str, value: Any) -> Event:
    encoded = run.executor.codec.encode(value, lambda: f"The event {key!r} of workflow {run.workflow_id!r}")
    return Event(key, encoded.text, encoded.format)


def await_event(gateway: Gateway, query: EventQuery, timeout_s: float) -> Core[Ending[Any]]:
    """The event's value, once it is there; ``None`` when the time is over."""
    if timeout_s == 0:
        return decoded(gateway, (yield from look(gateway, query)))
    until = gateway.clock.monotonic() + timeout_s
    # Watched before it is looked for, so that nothing falls in between.
    with gateway.waits.watching(query, looks_now=False) as arrival:
        value: Value | None = yield from look(gateway, query)
        if value is None:
            yield Wait((arrival,), until - gateway.clock.monotonic())
            value = arrival.result() if arrival.is_done else None
    return decoded(gateway, value)


def get_event(run: Run, function_id: int, wait_id: int, query: EventQuery, timeout_s: float) -> Core[Ending[Any]]:
    """As ``await_event``, in a workflow: what it returned is recorded, and how long it waits."""
    recorded = run.find_recorded(function_id, GET_EVENT)
    if recorded is not None:
        return run.replay(recorded)
    # What the workflow reads may answer to what it has recorded.
    yield from run.barrier()
    executor = run.executor
    started_at_ms, began = executor.clock.now_ms(), executor.time.moment_in(0.0)
    left_s = recorded_wait(run, wait_id)
    is_recorded = left_s is not None
    until = began + (timeout_s if left_s is None else left_s)
    with executor.waits.watching(query, looks_now=False) as arrival:
        value: Value | None = yield from look(executor, query)
        rest_s = executor.time.seconds_left(until)
        if value is None and rest_s > 0:
            if not is_recorded:
                record_wait(run, wait_id, rest_s)
            yield from run.wait(arrival, seconds=rest_s)
            value = arrival.result() if arrival.is_done else None
    output, serialization = (None, None) if value is None else (value.text, value.serialization)
    checkpoint = run.note(function_id, GET_EVENT, started_at_ms, output=output, serialization=serialization)
    executor.journal.hold(run.log, checkpoint)
    return decoded(executor, value)


def all_events(gateway: Gateway, workflow_id: str) -> Mapping[str, Any]:
    """The newest values of all events of the workflow, by key."""
    values = read_events(gateway.database, workflow_id)
    return {key: gateway.codec.decode(value.text, value.serialization) for key, value in values.items()}
