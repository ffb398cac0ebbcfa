"""Waiting and talking: arguments are checked, and it is found out where the call comes from."""

from __future__ import annotations

from typing import Any

from dbos.api.instance import get_executor, recording_run, refuse_in_transaction
from dbos.api.reads import recorded_call
from dbos.api.scopes import take_next_id
from dbos.error import DBOSException
from dbos.model.limits import check_key, check_known_id, check_timeout
from dbos.runtime.context import CONTEXT
from dbos.runtime.drivers import Core, Ending
from dbos.runtime.events import all_events, await_event, get_event, set_event, set_event_in_step
from dbos.runtime.gateway import Gateway
from dbos.runtime.messages import new_message, receive, send, send_by_client, send_from_outside
from dbos.runtime.run import Run
from dbos.runtime.sleeping import pause, sleep
from dbos.runtime.streams import FIRST_ENTRIES, close_stream, write_stream, write_stream_in_step
from dbos.storage.waiting import EventQuery, StreamQuery


def sleep_core(seconds: float, caller: str) -> Core[Ending[None]]:
    seconds = check_timeout(seconds, "The time to sleep")
    context, is_recorded = recording_run()
    refuse_in_transaction(context, caller)
    if context.run is None:
        raise DBOSException(f"{caller} was called outside of a workflow, where nothing is durable. Use time.sleep.")
    if not is_recorded:
        return pause(seconds)
    return sleep(context.run, context.run.next_function_id(), seconds)


def send_core(destination_id: str, message: Any, topic: str | None, caller: str) -> Core[Ending[None]]:
    check_known_id(destination_id)
    if topic is not None:
        check_key(topic, "A topic")
    executor = get_executor(caller)
    context, is_recorded = recording_run()
    if context.run is not None and is_recorded:
        return send(context.run, context.run.next_function_id(), destination_id, message, topic)
    without = "this message is sent without an idempotency key"
    key = None if context.run is not None else take_next_id(context, without)
    return send_from_outside(executor.journal, new_message(executor.codec, None, destination_id, message, topic, key))


def client_send_core(
    client: Gateway, destination_id: str, message: Any, topic: str | None, key: str | None
) -> Core[Ending[None]]:
    check_known_id(destination_id)
    if topic is not None:
        check_key(topic, "A topic")
    if key is not None:
        check_key(key, "An idempotency key")
    return send_by_client(client, new_message(client.codec, None, destination_id, message, topic, key))


def recv_core(topic: str | None, timeout_s: float, caller: str) -> Core[Ending[Any]]:
    if topic is not None:
        check_key(topic, "A topic")
    timeout_s = check_timeout(timeout_s, "timeout_seconds")
    run = _workflow(caller)
    return receive(run, run.next_function_id(), run.next_function_id(), topic, timeout_s)


def get_event_core(workflow_id: str, key: str, timeout_s: float, caller: str) -> Core[Ending[Any]]:
    query, timeout_s = event_query(workflow_id, key, timeout_s)
    executor = get_executor(caller)
    context, is_recorded = recording_run()
    if context.run is not None and is_recorded:
        run = context.run
        return get_event(run, run.next_function_id(), run.next_function_id(), query, timeout_s)
    return await_event(executor, query, timeout_s)


def all_events_core(workflow_id: str, caller: str, client: Gateway | None = None) -> Core[Ending[dict[str, Any]]]:
    check_known_id(workflow_id)

    def read(gateway: Gateway) -> dict[str, Any]:
        return dict(all_events(gateway, workflow_id))

    return recorded_call("DBOS.get_events", caller, read, client)


def set_event_core(key: str, value: Any, caller: str) -> Core[Ending[None]]:
    check_key(key, "An event's key")
    run, step_id = _publisher(caller)
    if step_id is not None:
        return set_event_in_step(run, step_id, key, value)
    return set_event(run, run.next_function_id(), key, value)


def write_stream_core(key: str, value: Any, caller: str) -> Core[Ending[None]]:
    check_key(key, "A stream's key")
    run, step_id = _publisher(caller)
    if step_id is not None:
        return write_stream_in_step(run, step_id, key, value)
    return write_stream(run, run.next_function_id(), key, value)


def close_stream_core(key: str, caller: str) -> Core[Ending[None]]:
    check_key(key, "A stream's key")
    run, step_id = _publisher(caller)
    if step_id is not None:
        raise DBOSException(f"{caller} was called in a step, which may run again. Call it from the workflow itself.")
    return close_stream(run, run.next_function_id(), key)


def event_query(workflow_id: str, key: str, timeout_s: float) -> tuple[EventQuery, float]:
    """What to wait for, and how long, checked."""
    query = EventQuery(check_known_id(workflow_id), check_key(key, "An event's key"))
    return query, check_timeout(timeout_s, "timeout_seconds")


def stream_query(workflow_id: str, key: str) -> StreamQuery:
    """What to read, checked."""
    return StreamQuery(check_known_id(workflow_id), check_key(key, "A stream's key"), 0, FIRST_ENTRIES)


def reading_run() -> Run | None:
    """The workflow that reads, unless one of its steps does, which has waited for all that it may read."""
    context = CONTEXT.get()
    return context.run if context.step is None else None


def _publisher(caller: str) -> tuple[Run, int | None]:
    """The running workflow, and its step that runs, if one does."""
    context = CONTEXT.get()
    refuse_in_transaction(context, caller)
    if context.run is None:
        raise DBOSException(
            f"{caller} was called outside of a workflow. What it publishes belongs to a workflow: call it from one, or "
            "from one of its steps."
        )
    return context.run, None if context.step is None else context.step.step_id


def _workflow(caller: str) -> Run:
    context = CONTEXT.get()
    refuse_in_transaction(context, caller)
    if context.run is None or context.step is not None:
        where = "outside of a workflow" if context.run is None else "in a step"
        raise DBOSException(f"{caller} was called {where}. Only a workflow itself receives messages.")
    return context.run
