"""Durable workflows in a library: functions that survive crashes, recorded in SQLite or Postgres."""

from dbos import error
from dbos.api.config import DBOSConfig
from dbos.api.dbos import DBOS
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos.api.scopes import SetWorkflowID
from dbos.api.status import StepInfo, WorkflowStatus
from dbos.api.workflow_methods import StepOptions
from dbos.model.status import WorkflowStatusString
from dbos.serialization.serializer import Serializer

__all__ = [
    "DBOS",
    "DBOSConfig",
    "Serializer",
    "SetWorkflowID",
    "StepInfo",
    "StepOptions",
    "WorkflowHandle",
    "WorkflowHandleAsync",
    "WorkflowStatus",
    "WorkflowStatusString",
    "error",
]
