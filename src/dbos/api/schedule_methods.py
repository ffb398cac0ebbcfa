"""The part of ``DBOS`` that manages schedules."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, TypeVar

from dbos.api import application_schedules as own
from dbos.api import schedules as shared
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos.api.twins import awaited, blocking
from dbos.runtime.cron import Cron
from dbos.runtime.drivers import drive, drive_async
from dbos.runtime.gateway import Gateway
from dbos.runtime.registry import SCHEDULES

F = TypeVar("F", bound=Callable[[datetime, datetime], Any])


class ScheduleMethods:
    """Schedules: workflows that are started at the times of a cron expression."""

    create_schedule = staticmethod(blocking(own.create_schedule, on_loop=True))
    create_schedule_async = staticmethod(awaited(own.create_schedule))
    apply_schedules = staticmethod(blocking(own.apply_schedules, on_loop=True))
    apply_schedules_async = staticmethod(awaited(own.apply_schedules))
    list_schedules = staticmethod(blocking(shared.list_schedules, on_loop=True))
    list_schedules_async = staticmethod(awaited(shared.list_schedules))
    get_schedule = staticmethod(blocking(shared.get_schedule, on_loop=True))
    get_schedule_async = staticmethod(awaited(shared.get_schedule))
    pause_schedule = staticmethod(blocking(shared.pause_schedule, on_loop=True))
    pause_schedule_async = staticmethod(awaited(shared.pause_schedule))
    resume_schedule = staticmethod(blocking(shared.resume_schedule, on_loop=True))
    resume_schedule_async = staticmethod(awaited(shared.resume_schedule))
    delete_schedule = staticmethod(blocking(shared.delete_schedule, on_loop=True))
    delete_schedule_async = staticmethod(awaited(shared.delete_schedule))

    @classmethod
    def backfill_schedule(cls, schedule_name: str, start: datetime, end: datetime) -> list[WorkflowHandle[None]]:
        """Start the workflows of all the schedule's fire times between the two, both left out.

        They have the ids that firing gives them, so those that were started before are not started again. It works for
        paused schedules too, and cannot be called from a workflow.

        Args:
            schedule_name: The schedule.
            start: The begin; without a zone it is local time.
            end: The end, likewise.

        Returns:
            The handles of all of them, also of those that were there.

        Raises:
            DBOSException: There is no such schedule, or there are more than 100 000 times.
        """
        return [
            WorkflowHandle(workflow_id) for workflow_id in drive(shared.backfill_core(None, schedule_name, start, end))
        ]

    @classmethod
    def backfill_schedule_async(
        cls, schedule_name: str, start: datetime, end: datetime
    ) -> Coroutine[Any, Any, list[WorkflowHandleAsync[None]]]:
        """As ``backfill_schedule``."""
        return handles_after(drive_async(shared.backfill_core(None, schedule_name, start, end)))

    @classmethod
    def trigger_schedule(cls, schedule_name: str) -> WorkflowHandle[None]:
        """Start the schedule's workflow now, with the present time. It works for paused schedules too.

        It cannot be called from a workflow.

        Raises:
            DBOSException: There is no such schedule.
        """
        return WorkflowHandle(drive(shared.trigger_core(None, schedule_name)))

    @classmethod
    def trigger_schedule_async(cls, schedule_name: str) -> Coroutine[Any, Any, WorkflowHandleAsync[None]]:
        """As ``trigger_schedule``."""
        return handle_after(drive_async(shared.trigger_core(None, schedule_name)))

    @staticmethod
    def scheduled(cron: str) -> Callable[[F], F]:
        """Run a workflow at the times of a cron expression, while executors run that have this decorator.

        It is the older way: the schedule is not stored, so it cannot be listed, paused or backfilled. The workflow is
        called with the scheduled time and the actual one, both in UTC.

        Args:
            cron: A cron expression; see ``create_schedule``.

        Raises:
            DBOSException: The expression is invalid.
        """
        expression = Cron(cron).expression

        def decorate(function: F) -> F:
            # What is in a static method or a class method.
            SCHEDULES.decorated.append((getattr(function, "__func__", function), expression))
            return function

        return decorate


async def handle_after(
    workflow_id: Coroutine[Any, Any, str], client: Gateway | None = None
) -> WorkflowHandleAsync[None]:
    """The handle of the workflow that was started."""
    return WorkflowHandleAsync(await workflow_id, client=client)


async def handles_after(
    ids: Coroutine[Any, Any, list[str]], client: Gateway | None = None
) -> list[WorkflowHandleAsync[None]]:
    """The handles of the workflows that were started."""
    return [WorkflowHandleAsync(workflow_id, client=client) for workflow_id in await ids]
