"""The published tables for SQLAlchemy, as ``dbos._schemas.system_database`` shows them.

To be used with the engine of ``dbos.compat.instance``, which finds the schema ``dbos`` on either database.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, MetaData, Table, Text

_NUMBERS = frozenset(
    {
        *("created_at", "updated_at", "recovery_attempts", "workflow_timeout_ms", "workflow_deadline_epoch_ms"),
        *("started_at_epoch_ms", "completed_at_epoch_ms", "created_at_epoch_ms", "priority", "function_id", "offset"),
    }
)
"""The columns that are numbers; all others are text."""

_METADATA = MetaData(schema="dbos")


def _table(name: str, columns: str) -> Table:
    types = {column: BigInteger if column in _NUMBERS else Text for column in columns.split()}
    return Table(name, _METADATA, *(Column(column, kind) for column, kind in types.items()))


class SystemSchema:
    """The tables of the system database."""

    metadata_obj = _METADATA

    workflow_status = _table(
        "workflow_status",
        "workflow_uuid status name class_name config_name authenticated_user assumed_role authenticated_roles inputs "
        "output error executor_id created_at updated_at application_version application_id recovery_attempts "
        "queue_name workflow_timeout_ms workflow_deadline_epoch_ms started_at_epoch_ms deduplication_id priority "
        "queue_partition_key forked_from parent_workflow_id owner_xid",
    )
    operation_outputs = _table(
        "operation_outputs",
        "workflow_uuid function_id function_name output error child_workflow_id started_at_epoch_ms "
        "completed_at_epoch_ms",
    )
    notifications = _table("notifications", "destination_uuid topic message created_at_epoch_ms message_uuid")
    workflow_events = _table("workflow_events", "workflow_uuid key value")
    workflow_events_history = _table("workflow_events_history", "workflow_uuid key function_id value")
    streams = _table("streams", "workflow_uuid key value offset function_id")
    workflow_schedules = _table(
        "workflow_schedules",
        "schedule_id schedule_name workflow_name workflow_class_name schedule status context",
    )
