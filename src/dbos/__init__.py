"""Durable workflows in a library: functions that survive crashes, recorded in SQLite or Postgres."""

from dbos import error
from dbos.api.application_schedules import ScheduleInput
from dbos.api.authentication import DBOSContextEnsure, DBOSContextSetAuth
from dbos.api.classes import DBOSConfiguredInstance
from dbos.api.client import DBOSClient
from dbos.api.client_queues import EnqueueOptions
from dbos.api.client_schedules import ClientScheduleInput
from dbos.api.config import DBOSConfig
from dbos.api.dbos import DBOS
from dbos.api.debouncer import Debouncer, DebouncerClient
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos.api.log_records import WorkflowLogFilter
from dbos.api.provisioning import run_dbos_database_migrations
from dbos.api.queues import Queue, QueueRateLimit, SetEnqueueOptions
from dbos.api.schedules import WorkflowSchedule
from dbos.api.scopes import SetWorkflowID, SetWorkflowTimeout
from dbos.api.status import StepInfo, WorkflowStatus
from dbos.api.workflow_methods import StepOptions
from dbos.model.status import WorkflowStatusString
from dbos.serialization.serializer import JSONSerializer, Serializer

__all__ = [
    "DBOS",
    "ClientScheduleInput",
    "DBOSClient",
    "DBOSConfig",
    "DBOSConfiguredInstance",
    "DBOSContextEnsure",
    "DBOSContextSetAuth",
    "Debouncer",
    "DebouncerClient",
    "EnqueueOptions",
    "JSONSerializer",
    "Queue",
    "QueueRateLimit",
    "ScheduleInput",
    "Serializer",
    "SetEnqueueOptions",
    "SetWorkflowID",
    "SetWorkflowTimeout",
    "StepInfo",
    "StepOptions",
    "WorkflowHandle",
    "WorkflowHandleAsync",
    "WorkflowLogFilter",
    "WorkflowSchedule",
    "WorkflowStatus",
    "WorkflowStatusString",
    "error",
    "run_dbos_database_migrations",
]
