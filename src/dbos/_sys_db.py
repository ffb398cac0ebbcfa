"""Alias for programs of version 2: the system database. See ``dbos.compat``."""

from dbos.api.status import StepInfo, WorkflowStatus
from dbos.compat.instance import SystemDatabase
from dbos.model.status import WorkflowStatusString

__all__ = ["StepInfo", "SystemDatabase", "WorkflowStatus", "WorkflowStatusString"]
