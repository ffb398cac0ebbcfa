"""Debouncing as the older library does it: a workflow that receives the calls of a round, and starts what they call.

Here a round is a delayed row. This finishes the rounds that an adopted database holds, and those that clients of the
older library begin; its name, its steps and its messages are that library's.
"""

from __future__ import annotations

import math
from typing import Any

from dbos.api.instance import get_executor
from dbos.api.messaging_methods import MessagingMethods
from dbos.api.workflow_methods import WorkflowMethods
from dbos.model.names import OLDER_DEBOUNCER
from dbos.model.queues import INTERNAL_QUEUE
from dbos.model.values import Place
from dbos.runtime.context import CONTEXT, SetTimeout
from dbos.runtime.drivers import drive_async
from dbos.runtime.enqueueing import QueuedCall, enqueue_child
from dbos.runtime.registry import REGISTRY, WorkflowFunction
from dbos.runtime.starting import Call

_TOPIC = "DEBOUNCER_TOPIC"


def register_older_debouncer() -> None:
    """Let this process run the older library's rounds."""
    REGISTRY.add_temporary(_FUNCTION)


async def _debounce(
    period_s: float, context: dict[str, Any], options: dict[str, Any], *args: Any, **kwargs: Any
) -> None:
    """Wait until no further call comes within the period, and start the workflow with the last one's arguments.

    Args:
        period_s: The first call's period.
        context: The id, version, deduplication id, priority and timeout of the workflow.
        options: Its name and queue, and after how many seconds the round is over in any case.
        *args: The first call's arguments.
        **kwargs: The first call's keyword arguments.
    """
    timeout_s = options.get("debounce_timeout_sec")
    deadline: float = await _record(
        "get_debounce_deadline_epoch_sec", lambda: math.inf if timeout_s is None else _now() + timeout_s
    )
    while await _record("get_time", _now) < deadline:
        left_s = deadline - await _record("get_time", _now)
        call = await MessagingMethods.recv_async(_TOPIC, max(0.0, min(period_s, left_s)))
        if call is None:
            break
        args, kwargs, period_s = call["inputs"]["args"], call["inputs"]["kwargs"], call["debounce_period_sec"]
        # Its caller waits for that.
        await MessagingMethods.set_event_async(call["message_id"], call["message_id"])
    await _start(context, options, args, kwargs)


async def _start(context: dict[str, Any], options: dict[str, Any], args: Any, kwargs: Any) -> None:
    run = CONTEXT.get().run
    assert run is not None, "it is a workflow"
    timeout_s = context.get("workflow_timeout_sec")
    # By name only: it may be a function of another process.
    function = WorkflowFunction(options["workflow_name"], _debounce, is_async=True)
    timeout = None if timeout_s is None else SetTimeout(timeout_s)
    call = Call(function, context["workflow_id"], tuple(args), kwargs, timeout)
    place = Place(
        options.get("queue_name") or INTERNAL_QUEUE, context.get("deduplication_id"), context.get("priority") or 0
    )
    await drive_async(enqueue_child(run, run.next_function_id(), QueuedCall(call, place, context.get("app_version"))))


async def _record(name: str, function: Any) -> float:
    async def step() -> float:
        return float(function())

    return await WorkflowMethods.run_step_async({"name": name}, step)


def _now() -> float:
    return get_executor("A debouncer").time.in_ms(0) / 1000


_FUNCTION = WorkflowFunction(OLDER_DEBOUNCER, _debounce, is_async=True, is_temporary=True)
