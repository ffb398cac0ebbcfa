"""What the type checkers must accept and refuse of schedules. Never run; see `public_api`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from typing_extensions import assert_type

from dbos import (
    DBOS,
    ClientScheduleInput,
    DBOSClient,
    ScheduleInput,
    WorkflowHandle,
    WorkflowHandleAsync,
    WorkflowSchedule,
)


@DBOS.workflow()
def task(scheduled: datetime, context: Any) -> int:
    return 1


@DBOS.workflow()
async def task_async(scheduled: datetime, context: dict[str, int]) -> None: ...


@DBOS.workflow()
def short(scheduled: datetime) -> None: ...


@DBOS.workflow()
def wrong(scheduled: str, context: Any) -> None: ...


@DBOS.scheduled("* * * * *")
@DBOS.workflow()
def decorated(scheduled: datetime, actual: datetime) -> str:
    return ""


DBOS.scheduled("* * * * *")(short)  # type: ignore[type-var]


def managing(start: datetime) -> None:
    DBOS.create_schedule(schedule_name="a", workflow_fn=task, schedule="* * * * *")
    DBOS.create_schedule(schedule_name="a", workflow_fn=task_async, schedule="* * * * *", context={"a": 1})
    DBOS.create_schedule(schedule_name="a", workflow_fn=short, schedule="* * * * *")  # type: ignore[arg-type]
    DBOS.create_schedule(schedule_name="a", workflow_fn=wrong, schedule="* * * * *")  # type: ignore[arg-type]
    DBOS.create_schedule("a", task, "* * * * *")  # type: ignore[call-arg]
    given: ScheduleInput = {"schedule_name": "a", "workflow_fn": task, "schedule": "* * * * *", "context": 1}
    DBOS.apply_schedules([given, {"schedule_name": "b", "workflow_fn": task, "schedule": "@daily"}], delete=["c"])
    DBOS.apply_schedules([{"schedule_name": "a"}])  # type: ignore[typeddict-item]
    assert_type(DBOS.get_schedule("a"), WorkflowSchedule | None)
    schedules = DBOS.list_schedules(status="ACTIVE", workflow_name=["task"], schedule_name_prefix="a")
    assert_type(schedules, list[WorkflowSchedule])
    assert_type(schedules[0]["schedule_name"], str)
    assert_type(schedules[0]["workflow_class_name"], str | None)
    DBOS.pause_schedule("a")
    DBOS.resume_schedule("a")
    DBOS.delete_schedule("a")
    assert_type(DBOS.trigger_schedule("a"), WorkflowHandle[None])
    assert_type(DBOS.backfill_schedule("a", start, start), list[WorkflowHandle[None]])
    DBOS.backfill_schedule("a", "2024-01-01", start)  # type: ignore[arg-type]
    assert_type(decorated(start, start), str)


async def managing_in_coroutines(start: datetime) -> None:
    await DBOS.create_schedule_async(schedule_name="a", workflow_fn=task, schedule="* * * * *")
    await DBOS.apply_schedules_async([], ["a"])
    assert_type(await DBOS.get_schedule_async("a"), WorkflowSchedule | None)
    assert_type(await DBOS.list_schedules_async(), list[WorkflowSchedule])
    assert_type(await DBOS.trigger_schedule_async("a"), WorkflowHandleAsync[None])
    assert_type(await DBOS.backfill_schedule_async("a", start, start), list[WorkflowHandleAsync[None]])


async def managing_by_a_client(client: DBOSClient, start: datetime) -> None:
    client.create_schedule(schedule_name="a", workflow_name="task", schedule="* * * * *", workflow_class_name="C")
    given: ClientScheduleInput = {"schedule_name": "a", "workflow_name": "task", "schedule": "* * * * *"}
    client.apply_schedules([given], delete=["b"])
    assert_type(client.get_schedule("a"), WorkflowSchedule | None)
    assert_type(client.list_schedules(), list[WorkflowSchedule])
    assert_type(client.trigger_schedule("a"), WorkflowHandle[None])
    assert_type(await client.trigger_schedule_async("a"), WorkflowHandleAsync[None])
    assert_type(client.backfill_schedule("a", start, start), list[WorkflowHandle[None]])
    assert_type(await client.get_schedule_async("a"), WorkflowSchedule | None)
    client.create_schedule(schedule_name="a", workflow_fn=task, schedule="* * * * *")  # type: ignore[call-arg]
