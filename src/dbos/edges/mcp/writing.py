"""The tools that change something. Each docstring is what agents are told of its tool."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dbos.api.instance import new_workflow_id
from dbos.edges.mcp import answers
from dbos.edges.mcp.reading import Reading, WorkflowId, workflow_of
from dbos.error import DBOSException, DBOSSerializationError
from dbos.model.limits import check_key, check_workflow_id
from dbos.model.schedules import ACTIVE, PAUSED
from dbos.model.status import LIVE
from dbos.runtime import scheduling
from dbos.runtime.gateway import Gateway
from dbos.runtime.management import cancel_workflow, fork_workflow, resume_workflow
from dbos.serialization.plain import read_plain

ScheduleName = Annotated[str, Field(description="The schedule's name.")]


class Writing:
    """What can be done to the workflows and schedules of one system database."""

    def __init__(self, gateway: Gateway, reading: Reading) -> None:
        self._gateway = gateway
        self._reading = reading

    def cancel_workflow(self, workflow_id: WorkflowId) -> answers.Changed:
        """Cancel a workflow: it stops before its next step, and from any wait. One that has ended is left as it is."""
        before = self._reading.row(workflow_id)
        cancel_workflow(self._gateway, workflow_id)
        return self._changed(workflow_id, None if before.status in LIVE else "It had ended, and is left as it was.")

    def resume_workflow(self, workflow_id: WorkflowId) -> answers.Changed:
        """Have a workflow that was cancelled or given up run on after its last recorded step, or one that is enqueued
        start past its queue. A running application does that. One that has succeeded or failed is left as it is."""
        self._reading.row(workflow_id)
        resume_workflow(self._gateway, workflow_id)
        row = self._reading.row(workflow_id)
        remark = "It has ended, and is left as it was: fork it." if row.status in ("SUCCESS", "ERROR") else None
        return self._changed(workflow_id, remark)

    def fork_workflow(
        self,
        workflow_id: WorkflowId,
        start_step: Annotated[
            int, Field(ge=1, lt=2**31, description="The first step to run again; those before it are copied.")
        ] = 1,
        forked_workflow_id: Annotated[
            str, Field(description="The copy's id, which makes the call safe to repeat. Empty: a random one.")
        ] = "",
        application_version: Annotated[str, Field(description="The version that is to run it. Empty: any.")] = "",
    ) -> answers.Changed:
        """Start a copy of a workflow from one of its steps on: its code runs again, with all that it does to the
        outside. A running application does that. The original is left as it is."""
        self._reading.row(workflow_id)
        new_id = check_workflow_id(forked_workflow_id) if forked_workflow_id else new_workflow_id()
        if application_version:
            check_key(application_version, "The application version")
        fork_workflow(
            self._gateway,
            workflow_id,
            new_id=new_id,
            start_step=start_step,
            application_version=application_version or None,
            timeout_s=None,
        )
        return self._changed(new_id, f"It is a copy of {workflow_id!r} from step {start_step} on.")

    def trigger_schedule(self, schedule_name: ScheduleName) -> answers.Changed:
        """Start a schedule's workflow now, whether it is paused or not. A running application runs it."""
        self._reading.schedule(schedule_name)
        try:
            workflow_id = scheduling.trigger_schedule(self._gateway, schedule_name, read_plain)
        except DBOSSerializationError as error:
            raise DBOSException(
                f"Schedule {schedule_name!r} cannot be triggered from here, where nothing is unpickled. "
                f"{error.message[:200]}. Call DBOS.trigger_schedule in the application."
            ) from error
        return self._changed(workflow_id, None)

    def pause_schedule(self, schedule_name: ScheduleName) -> answers.ScheduleChanged:
        """Have a schedule fire no more until it is resumed. What it has started goes on."""
        return self._set_status(schedule_name, PAUSED)

    def resume_schedule(self, schedule_name: ScheduleName) -> answers.ScheduleChanged:
        """Have a paused schedule fire again from now on. The times at which it was paused are left out."""
        return self._set_status(schedule_name, ACTIVE)

    def _changed(self, workflow_id: str, remark: str | None) -> answers.Changed:
        return answers.Changed(workflow=workflow_of(self._reading.row(workflow_id)), remark=remark)

    def _set_status(self, name: str, status: str) -> answers.ScheduleChanged:
        self._reading.schedule(name)
        scheduling.set_status(self._gateway, name, status)
        return answers.ScheduleChanged(schedule=self._reading.schedule(name))
