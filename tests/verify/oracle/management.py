"""Cancel, resume, fork, delete."""

from __future__ import annotations

from collections.abc import Sequence

from dbos.storage.management import Forked, IdTaken, NoSuchWorkflow, Owned
from tests.verify.oracle.tables import LIVE, Row, Tables

INTERNAL = "_dbos_internal_queue"


class Management(Tables):
    """What users do to workflows."""

    def cancel(self, workflow_ids: Sequence[str]) -> list[Owned]:
        return self._cancel([row for row in self.of(workflow_ids) if row["status"] in LIVE])

    def cancel_overdue(self) -> list[Owned]:
        live = [row for row in self.workflows.values() if row["status"] in LIVE]
        return self._cancel([row for row in live if not self.is_in_time(row)])

    def _cancel(self, rows: list[Row]) -> list[Owned]:
        """The token stays: the step in flight is still recorded."""
        for row in rows:
            row.update(status="CANCELLED", deduplication_id=None, updated_at=self.now, completed_at=self.now)
        return [Owned(row["workflow_uuid"], row["owner_xid"]) for row in rows]

    def resume(self, workflow_id: str) -> bool:
        """What was cancelled or given up, and what waits somewhere, goes to the internal queue, as new but for its
        steps; a timeout that had begun to run is gone."""
        row = self.workflows.get(workflow_id)
        if row is None:
            return False
        waits_elsewhere = row["queue_name"] != INTERNAL or row["delay_until_epoch_ms"] is not None
        is_stopped = row["status"] in ("CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
        if is_stopped or (row["status"] == "ENQUEUED" and waits_elsewhere):
            if row["workflow_deadline_epoch_ms"] is not None:
                row["workflow_timeout_ms"] = None
            row.update(status="ENQUEUED", queue_name=INTERNAL, recovery_attempts=0, updated_at=self.now)
            for column in ("owner_xid", "lease_id", "workflow_deadline_epoch_ms", "delay_until_epoch_ms"):
                row[column] = None
            for column in ("deduplication_id", "queue_partition_key", "started_at_epoch_ms", "completed_at"):
                row[column] = None
        return True

    def fork(
        self, workflow_id: str, new_id: str, start_step: int, application_version: str | None, timeout_ms: int | None
    ) -> Forked | NoSuchWorkflow | IdTaken:
        source = self.workflows.get(workflow_id)
        if source is None:
            return NoSuchWorkflow()
        if new_id in self.workflows:
            return Forked() if self.workflows[new_id]["forked_from"] == workflow_id else IdTaken()
        copied = ("name", "class_name", "config_name", "authenticated_user", "assumed_role", "authenticated_roles")
        columns = {column: source[column] for column in (*copied, "inputs", "serialization", "application_id")}
        self.new_workflow(
            workflow_uuid=new_id,
            status="ENQUEUED",
            queue_name=INTERNAL,
            forked_from=workflow_id,
            application_version=application_version,
            workflow_timeout_ms=timeout_ms,
            **columns,
        )
        self._copy(workflow_id, new_id, start_step)
        return Forked()

    def _copy(self, workflow_id: str, new_id: str, start_step: int) -> None:
        """Everything as it was before the step began."""
        for (its, number), step in list(self.steps.items()):
            if its == workflow_id and number < start_step:
                self.steps[new_id, number] = {**step, "workflow_uuid": new_id, "owner_xid": None}
        for (its, key, number), value in sorted(self.history.items()):
            if its == workflow_id and number < start_step:
                self.history[new_id, key, number] = value
                self.events[new_id, key] = value
        for (its, key), entries in list(self.streams.items()):
            kept = [entry for entry in entries if entry[2] < start_step]
            if its == workflow_id and kept:
                self.streams[new_id, key] = kept

    def delete(self, workflow_ids: Sequence[str], with_descendants: bool) -> list[Owned]:
        ids = set(workflow_ids)
        while with_descendants:
            # Of those that are there: the children of one that is gone stay.
            children = {
                id for id, row in self.workflows.items() if row["parent_workflow_id"] in ids & set(self.workflows)
            }
            if children <= ids:
                break
            ids |= children
        deleted = [Owned(row["workflow_uuid"], row["owner_xid"]) for row in self.of(ids)]
        self.workflows = {id: row for id, row in self.workflows.items() if id not in ids}
        self.steps = {key: step for key, step in self.steps.items() if key[0] not in ids}
        self.messages = [message for message in self.messages if message["destination_uuid"] not in ids]
        self.message_keys = {key: expires for key, expires in self.message_keys.items() if key[0] not in ids}
        self.events = {key: value for key, value in self.events.items() if key[0] not in ids}
        self.history = {key: value for key, value in self.history.items() if key[0] not in ids}
        self.streams = {key: entries for key, entries in self.streams.items() if key[0] not in ids}
        self.transactions = {key: record for key, record in self.transactions.items() if key[0] not in ids}
        return deleted
