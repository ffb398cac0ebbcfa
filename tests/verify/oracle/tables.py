"""The tables of the oracle."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]

_WORKFLOW = (
    "workflow_uuid status name class_name config_name authenticated_user assumed_role authenticated_roles inputs "
    "output error executor_id created_at updated_at application_version application_id recovery_attempts queue_name "
    "workflow_timeout_ms workflow_deadline_epoch_ms started_at_epoch_ms deduplication_id priority "
    "queue_partition_key forked_from parent_workflow_id owner_xid lease_id serialization outcome_serialization "
    "completed_at parked_until parked_on delay_until_epoch_ms delay_limit_epoch_ms delayed_queue_name "
    "delayed_deduplication_id"
)
WORKFLOW_COLUMNS = _WORKFLOW.split()

_STEP = (
    "workflow_uuid function_id function_name output error child_workflow_id started_at_epoch_ms "
    "completed_at_epoch_ms serialization owner_xid"
)
STEP_COLUMNS = _STEP.split()

_TRANSACTION = (
    "workflow_uuid function_id function_name output error serialization txn_id txn_snapshot executor_id created_at"
)
TRANSACTION_COLUMNS = _TRANSACTION.split()

LIVE = ("PENDING", "ENQUEUED")


class Tables:
    """What stands in the tables, and what time it is.

    Attributes:
        now: The database's clock, in milliseconds.
        workflows: By id, in the order of their beginning.
        steps: By workflow id and function id.
        messages: In the order of sending.
        message_keys: When the keys of messages expire, by destination and key.
        events: Value and format by workflow id and key.
        history: Value and format by workflow id, key and function id.
        streams: Value, format and function id of the entries, by workflow id and key.
        leases: By lease id.
        starts: Of queues with a rate, by token.
        schedules: The stored ones, by name.
        decorated: Until when the fire times of decorated functions are settled, by name.
        transactions: Their records, by workflow id and function id.
        orders: What the application's own transactions wrote.
    """

    def __init__(self, now: int) -> None:
        self.now = now
        self.workflows: dict[str, Row] = {}
        self.steps: dict[tuple[str, int], Row] = {}
        self.messages: list[Row] = []
        self.message_keys: dict[tuple[str, str], int | None] = {}
        self.events: dict[tuple[str, str], tuple[str, str]] = {}
        self.history: dict[tuple[str, str, int], tuple[str, str]] = {}
        self.streams: dict[tuple[str, str], list[tuple[str, str, int]]] = {}
        self.leases: dict[str, Row] = {}
        self.starts: dict[str, Row] = {}
        self.schedules: dict[str, Row] = {}
        self.decorated: dict[str, int] = {}
        self.transactions: dict[tuple[str, int], Row] = {}
        self.orders: list[str] = []

    def new_workflow(self, **columns: Any) -> Row:
        """Insert the row of a workflow."""
        row = dict.fromkeys(WORKFLOW_COLUMNS)
        row.update(priority=0, recovery_attempts=0, created_at=self.now, updated_at=self.now)
        row.update(columns)
        self.workflows[row["workflow_uuid"]] = row
        return row

    def is_alive(self, lease_id: str | None) -> bool:
        """Whether the lease is."""
        return lease_id in self.leases and self.leases[lease_id]["state"] == "LIVE"

    def is_orphan(self, row: Row) -> bool:
        """Whether nobody runs the workflow, if it is pending."""
        return row["owner_xid"] is None or not self.is_alive(row["lease_id"])

    def is_in_time(self, row: Row) -> bool:
        """Whether its deadline has not passed."""
        deadline = row["workflow_deadline_epoch_ms"]
        return deadline is None or deadline > self.now

    def of(self, ids: Iterable[str]) -> list[Row]:
        """Those of the workflows that exist, each once, in the order of their beginning."""
        wanted = set(ids)
        return [row for id, row in self.workflows.items() if id in wanted]

    def holder(self, queue: str | None, deduplication_id: str | None) -> Row | None:
        """The workflow that holds the deduplication id on the queue."""
        if queue is None or deduplication_id is None:
            return None
        holders = [
            row
            for row in self.workflows.values()
            if row["queue_name"] == queue and row["deduplication_id"] == deduplication_id
        ]
        assert len(holders) <= 1, f"two workflows hold one deduplication id: {holders}"
        return holders[0] if holders else None

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        """All tables: workflows and messages in the order of their beginning, the others sorted."""
        entries = [
            (*key, offset, *entry)
            for key, its_entries in self.streams.items()
            for offset, entry in enumerate(its_entries)
        ]
        return {
            "workflow_status": [tuple(row.values()) for row in self.workflows.values()],
            "notifications": [tuple(row.values()) for row in self.messages],
            "operation_outputs": in_order(tuple(row.values()) for row in self.steps.values()),
            "message_keys": in_order((*key, expires) for key, expires in self.message_keys.items()),
            "workflow_events": in_order((*key, *value) for key, value in self.events.items()),
            "workflow_events_history": in_order((*key, *value) for key, value in self.history.items()),
            "streams": in_order(entries),
            "executors": in_order(tuple(row.values()) for row in self.leases.values()),
            "queue_starts": in_order(tuple(row.values()) for row in self.starts.values()),
            "workflow_schedules": in_order(tuple(row.values()) for row in self.schedules.values()),
            "decorated_schedules": in_order((name, "ACTIVE", until) for name, until in self.decorated.items()),
            "transaction_outputs": in_order(tuple(row.values()) for row in self.transactions.values()),
            "orders_of_the_test": in_order((order,) for order in self.orders),
        }


def in_order(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows in an order that does not depend on a database."""
    return sorted(rows, key=repr)
