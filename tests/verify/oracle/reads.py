"""What is read: workflows and steps as users see them, and what somebody waits for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dbos.model.values import RecordedOutcome
from dbos.storage.reads import StepRow, WorkflowFilter, WorkflowRow
from dbos.storage.waiting import EventQuery, MessageQuery, OutcomeQuery, Query, StreamPart, StreamQuery, Value
from tests.verify.oracle.tables import LIVE, Row, Tables

_STEP_COLUMNS = (
    "function_id function_name output error child_workflow_id started_at_epoch_ms completed_at_epoch_ms serialization"
)


class Reads(Tables):
    """Nothing here changes anything."""

    def read_now_ms(self) -> int:
        return self.now

    def read_workflows(self, wanted: WorkflowFilter) -> list[WorkflowRow]:
        rows = [row for row in self.workflows.values() if _is_wanted(row, wanted)]
        # Those of one millisecond are in the order of their beginning.
        rows.sort(key=lambda row: row["created_at"])
        if wanted.sort_desc:
            rows.reverse()
        rows = rows[wanted.offset or 0 :][: wanted.limit]
        return [_shown(row, wanted) for row in rows]

    def read_steps(self, workflow_id: str) -> list[StepRow]:
        rows = [row for (its, _), row in sorted(self.steps.items()) if its == workflow_id]
        return [StepRow(*(row[column] for column in _STEP_COLUMNS.split())) for row in rows]

    def read_events(self, workflow_id: str) -> dict[str, Value]:
        return {key: Value(*value) for (its, key), value in self.events.items() if its == workflow_id}

    def find(self, queries: Iterable[Query]) -> dict[Query, Any]:
        """Only what has arrived."""
        found: dict[Query, Any] = {}
        for query in queries:
            row = self.workflows.get(query.workflow_id)
            match query:
                case OutcomeQuery():
                    if row is None and query.must_exist:
                        found[query] = None
                    elif row is not None and row["status"] not in LIVE:
                        values = (row["output"], row["error"], row["outcome_serialization"])
                        found[query] = RecordedOutcome(query.workflow_id, row["status"], *values)
                case MessageQuery():
                    for message in self.messages:
                        if (message["destination_uuid"], message["topic"]) == (query.workflow_id, query.topic):
                            found[query] = Value(message["message"], message["serialization"], message["message_uuid"])
                            break
                case EventQuery():
                    if (query.workflow_id, query.key) in self.events:
                        found[query] = Value(*self.events[query.workflow_id, query.key])
                case StreamQuery():
                    entries = self.streams.get((query.workflow_id, query.key), [])[query.offset :][: query.count]
                    is_live = row is not None and row["status"] in LIVE
                    if entries or not is_live:
                        values = [Value(text, serialization) for text, serialization, _ in entries]
                        found[query] = StreamPart(values, row is not None, is_live)
        return found


def _is_wanted(row: Row, wanted: WorkflowFilter) -> bool:
    members: tuple[tuple[str, Sequence[str] | None], ...] = (
        ("workflow_uuid", wanted.workflow_ids),
        ("status", wanted.statuses),
        ("name", wanted.names),
        ("application_version", wanted.application_versions),
        ("executor_id", wanted.executor_ids),
        ("queue_name", wanted.queue_names),
        ("authenticated_user", wanted.users),
        ("forked_from", wanted.forked_from),
        ("parent_workflow_id", wanted.parents),
    )
    created = row["created_at"]
    return (
        all(values is None or row[column] in values for column, values in members)
        and (wanted.created_from_ms is None or created >= wanted.created_from_ms)
        and (wanted.created_to_ms is None or created <= wanted.created_to_ms)
        and (wanted.id_prefixes is None or row["workflow_uuid"].startswith(tuple(wanted.id_prefixes)))
        and (row["queue_name"] is not None or not wanted.queues_only)
    )


def _shown(row: Row, wanted: WorkflowFilter) -> WorkflowRow:
    hidden = set() if wanted.load_input else {"inputs"}
    if not wanted.load_output:
        hidden |= {"output", "error"}
    columns = {
        "workflow_id": "workflow_uuid",
        "timeout_ms": "workflow_timeout_ms",
        "deadline_ms": "workflow_deadline_epoch_ms",
        "started_at": "started_at_epoch_ms",
    }
    names = [columns.get(field, field) for field in WorkflowRow._fields]
    return WorkflowRow(*(None if name in hidden else row[name] for name in names))
