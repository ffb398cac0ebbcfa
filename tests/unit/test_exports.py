"""The names that programs import and call: none goes away, and none comes by accident."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest

import dbos
from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions, WorkflowStatus, error

EXPORTS = """
    DBOSConfig DBOS DBOSClient DBOSConfiguredInstance DBOSContextEnsure DBOSContextSetAuth ScheduleInput
    ClientScheduleInput EnqueueOptions SetWorkflowID SetWorkflowTimeout SetEnqueueOptions StepInfo StepOptions
    KafkaMessage WorkflowHandle WorkflowHandleAsync WorkflowSchedule WorkflowStatus WorkflowStatusString Queue
    QueueRateLimit Debouncer DebouncerClient Serializer error run_dbos_database_migrations
"""
"""What programs of version 2 import from `dbos`."""

OWN = {"JSONSerializer", "WorkflowLogFilter"}
"""What is exported beyond that."""

TWINS = """
    sleep send recv set_event get_event get_all_events write_stream close_stream read_stream patch deprecate_patch
    start_workflow retrieve_workflow get_workflow_status get_result run_step list_workflows list_queued_workflows
    list_workflow_steps cancel_workflow resume_workflow fork_workflow delete_workflow delete_workflows create_schedule
    list_schedules get_schedule pause_schedule resume_schedule delete_schedule apply_schedules backfill_schedule
    trigger_schedule
"""
"""Methods of `DBOS` that have a twin which ends in `_async`."""

OTHERS = """
    workflow_id step_id step_status span tracer logger sql_session application_version executor_id authenticated_user
    assumed_role authenticated_roles set_authentication scheduled required_roles default_required_roles workflow step
    transaction dbos_class launch destroy listen_queues reset_system_database
"""

CLIENT_TWINS = """
    enqueue retrieve_workflow send get_event read_stream list_workflows list_queued_workflows list_workflow_steps
    cancel_workflow resume_workflow fork_workflow delete_workflow delete_workflows create_schedule list_schedules
    get_schedule pause_schedule resume_schedule delete_schedule apply_schedules backfill_schedule trigger_schedule
"""

ERRORS = """
    DBOSException DBOSQueueDeduplicatedError DBOSUnexpectedStepError DBOSWorkflowCancelledError
    DBOSAwaitedWorkflowCancelledError DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded MaxRecoveryAttemptsExceededError
    DBOSConflictingWorkflowError DBOSWorkflowConflictIDError DBOSConflictingRegistrationError DBOSInitializationError
    DBOSMaxStepRetriesExceeded DBOSNonExistentWorkflowError DBOSNotAuthorizedError DBOSWorkflowFunctionNotFoundError
"""

STATUS = """
    workflow_id status name class_name config_name authenticated_user assumed_role authenticated_roles input output
    error created_at updated_at queue_name executor_id app_version workflow_timeout_ms workflow_deadline_epoch_ms
    deduplication_id priority queue_partition_key forked_from recovery_attempts parent_workflow_id dequeued_at app_id
"""

CONFIG = """
    name enable_patching application_version executor_id system_database_url application_database_url
    sys_db_pool_size dbos_system_schema system_database_engine use_listen_notify conductor_key conductor_url enable_otlp
    otlp_traces_endpoints otlp_logs_endpoints otlp_attributes log_level run_admin_server admin_port serializer
    database_url console_log_level otlp_log_level max_executor_threads notification_listener_polling_interval_sec
    scheduler_polling_interval_sec
"""

ENQUEUEING = """
    workflow_name queue_name workflow_id app_version workflow_timeout deduplication_id priority queue_partition_key
    max_recovery_attempts authenticated_user authenticated_roles class_name instance_name
"""

MISSING = {
    "dbos": {"KafkaMessage"},
    "DBOS": set(),
    "DBOSClient": set(),
}
"""What is not there yet. A name is to be taken from here when it comes."""


def with_twins(names: str) -> set[str]:
    return {*names.split(), *(f"{name}_async" for name in names.split())}


def test_everything_that_programs_import_is_exported() -> None:
    assert set(EXPORTS.split()) - set(dbos.__all__) <= MISSING["dbos"]
    assert set(dbos.__all__) - set(EXPORTS.split()) == OWN
    for name in dbos.__all__:
        assert getattr(dbos, name) is not None


@pytest.mark.parametrize(
    ("cls", "names"),
    [(DBOS, with_twins(TWINS) | set(OTHERS.split())), (DBOSClient, with_twins(CLIENT_TWINS) | {"destroy"})],
    ids=["DBOS", "DBOSClient"],
)
def test_every_method_is_there_with_its_twin_and_says_what_it_does(cls: type, names: set[str]) -> None:
    there = set(dir(cls))
    assert names - there <= MISSING[cls.__name__]
    public = {name for name in there if not name.startswith("_")}
    undocumented = [name for name in public if not inspect.getdoc(inspect.getattr_static(cls, name))]
    assert undocumented == []


def test_exceptions_fields_and_keys_are_there() -> None:
    assert set(ERRORS.split()) <= set(error.__all__)
    assert {field.name for field in fields(WorkflowStatus)} >= set(STATUS.split())
    assert set(DBOSConfig.__annotations__) >= set(CONFIG.split())
    assert set(EnqueueOptions.__annotations__) >= set(ENQUEUEING.split())
