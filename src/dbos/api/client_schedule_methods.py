"""The part of ``DBOSClient`` that manages schedules."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime
from typing import Any

from dbos.api import client_schedules as own
from dbos.api import schedules as shared
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos.api.schedule_methods import handle_after, handles_after
from dbos.api.twins import HasGateway, client_awaited, client_blocking, gateway_of
from dbos.runtime.drivers import drive, drive_async


class ClientScheduleMethods:
    """The part of ``DBOSClient`` that manages schedules."""

    create_schedule = client_blocking(own.create_schedule, on_loop=True)
    create_schedule_async = client_awaited(own.create_schedule)
    apply_schedules = client_blocking(own.apply_schedules, on_loop=True)
    apply_schedules_async = client_awaited(own.apply_schedules)
    list_schedules = client_blocking(shared.list_schedules, on_loop=True)
    list_schedules_async = client_awaited(shared.list_schedules)
    get_schedule = client_blocking(shared.get_schedule, on_loop=True)
    get_schedule_async = client_awaited(shared.get_schedule)
    pause_schedule = client_blocking(shared.pause_schedule, on_loop=True)
    pause_schedule_async = client_awaited(shared.pause_schedule)
    resume_schedule = client_blocking(shared.resume_schedule, on_loop=True)
    resume_schedule_async = client_awaited(shared.resume_schedule)
    delete_schedule = client_blocking(shared.delete_schedule, on_loop=True)
    delete_schedule_async = client_awaited(shared.delete_schedule)

    def backfill_schedule(
        self: HasGateway, schedule_name: str, start: datetime, end: datetime
    ) -> list[WorkflowHandle[None]]:
        """Start the workflows of all fire times between the two. See ``DBOS.backfill_schedule``."""
        gateway = gateway_of(self)
        ids = drive(shared.backfill_core(gateway, schedule_name, start, end))
        return [WorkflowHandle(workflow_id, client=gateway) for workflow_id in ids]

    def backfill_schedule_async(
        self: HasGateway, schedule_name: str, start: datetime, end: datetime
    ) -> Coroutine[Any, Any, list[WorkflowHandleAsync[None]]]:
        """As ``backfill_schedule``."""
        gateway = gateway_of(self)
        return handles_after(drive_async(shared.backfill_core(gateway, schedule_name, start, end)), gateway)

    def trigger_schedule(self: HasGateway, schedule_name: str) -> WorkflowHandle[None]:
        """Start a schedule's workflow now. See ``DBOS.trigger_schedule``."""
        gateway = gateway_of(self)
        return WorkflowHandle(drive(shared.trigger_core(gateway, schedule_name)), client=gateway)

    def trigger_schedule_async(self: HasGateway, schedule_name: str) -> Coroutine[Any, Any, WorkflowHandleAsync[None]]:
        """As ``trigger_schedule``."""
        gateway = gateway_of(self)
        return handle_after(drive_async(shared.trigger_core(gateway, schedule_name)), gateway)
