"""What tells why workflows do not move."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from dbos.model.values import ProcessIdentity
from dbos.storage.diagnosis import ExecutorRow, LastStep, LoadRow, QueueRow, StalledRow, StartsRow, VersionRow
from dbos.storage.leases import read_serving
from tests.verify.oracle.tables import LIVE, Row, Tables

_STALLED = (
    "workflow_uuid status name application_version queue_name queue_partition_key lease_id owner_xid "
    "recovery_attempts created_at updated_at delay_until_epoch_ms workflow_deadline_epoch_ms"
)


class Diagnosis(Tables):
    """Nothing here changes anything."""

    def read_executors(self) -> list[ExecutorRow]:
        return [
            ExecutorRow(
                lease["lease_id"],
                lease["executor_id"],
                lease["application_version"],
                lease["state"],
                self.now - lease["renewed_at"],
                lease["started_at"],
                ProcessIdentity(
                    *(lease[name] for name in ("hostname", "pid", "boot_id", "pid_namespace", "pid_started"))
                ),
                sum(
                    row["status"] == "PENDING" and row["lease_id"] == lease["lease_id"] and row["owner_xid"] is not None
                    for row in self.workflows.values()
                ),
                (lease["renewed_at"] - lease["started_at"]) // lease["renewals"] if lease["renewals"] else 0,
                read_serving(lease["serves"]),
            )
            for lease in self.leases.values()
        ]

    def read_queues(self) -> list[QueueRow]:
        found: list[QueueRow] = []
        queued = [{**row, "queue": _goal(row)} for row in self._live() if row["queue_name"] is not None]
        for (queue, version), rows in _grouped(queued, "queue", "application_version").items():
            running = [row for row in rows if row["status"] == "PENDING"]
            delayed = [row for row in rows if _is_delayed(row)]
            waiting = [row for row in rows if row not in running and row not in delayed]
            # Of equals, both give the first.
            heads = [min(waiting, key=_priority), max(waiting, key=_priority)] if waiting else []
            oldest_ms = self.now - min(row["updated_at"] for row in heads) if heads else None
            found.append(QueueRow(queue, version, len(waiting), len(delayed), len(running), oldest_ms))
        return found

    def read_load(self) -> list[LoadRow]:
        live = [{**row, "is_delayed": row["delay_until_epoch_ms"] is not None} for row in self._live()]
        return [
            LoadRow(*key, len(rows), self.now - min(row["updated_at"] for row in rows))
            for key, rows in _grouped(live, "name", "status", "queue_name", "is_delayed").items()
        ]

    def read_progress(self) -> int:
        ended = sum(row["completed_at"] is not None for row in self.workflows.values())
        return len(self.steps) + len(self.workflows) + ended

    def read_versions(self) -> list[VersionRow]:
        found: list[VersionRow] = []
        for (version,), rows in _grouped(self._live(), "application_version").items():
            enqueued = sum(row["status"] == "ENQUEUED" for row in rows)
            found.append(VersionRow(version, enqueued, len(rows) - enqueued))
        return found

    def read_starts(self) -> list[StartsRow]:
        counting = [
            start
            for start in self.starts.values()
            if start["started_at"] is None or start["started_at"] > self.now - start["period_ms"]
        ]
        return [
            StartsRow(queue, partition, len(starts), max(start["period_ms"] for start in starts))
            for (queue, partition), starts in _grouped(counting, "queue_name", "partition_key").items()
        ]

    def read_stalled(
        self, *, quiet_ms: int, examples: int, limit: int, ids: Sequence[str] | None = None
    ) -> list[StalledRow]:
        """Of those that are alike the first ones."""
        rows = [row for row in self._live() if row["updated_at"] <= self.now - quiet_ms]
        if ids is not None:
            rows = self.of(ids)
        alike: dict[Hashable, list[str]] = {}
        found: list[StalledRow] = []
        for row in rows:
            kind = (*(row[name] for name in _STALLED.split()[1:7]), row["owner_xid"] is None)
            alike.setdefault((*kind, row["delay_until_epoch_ms"] is None), []).append(row["workflow_uuid"])
        for row in rows:
            (its,) = [its for its in alike.values() if row["workflow_uuid"] in its]
            place = its.index(row["workflow_uuid"]) + 1
            if place <= examples:
                found.append(self._stalled(row, place, len(its)))
        return found[:limit]

    def _stalled(self, row: Row, place: int, alike: int) -> StalledRow:
        values = {name: row[name] for name in _STALLED.split()}
        values["owner_xid"] = row["owner_xid"] is not None
        values["updated_at"] = self.now - row["updated_at"]
        for name in ("delay_until_epoch_ms", "workflow_deadline_epoch_ms"):
            values[name] = None if row[name] is None else row[name] - self.now
        return StalledRow(*values.values(), place, alike)

    def read_last_steps(self, ids: Sequence[str]) -> dict[str, LastStep]:
        last: dict[str, LastStep] = {}
        for (workflow_id, number), step in sorted(self.steps.items()):
            if workflow_id in ids:
                completed = step["completed_at_epoch_ms"]
                last[workflow_id] = LastStep(
                    workflow_id,
                    number,
                    step["function_name"],
                    step["output"],
                    step["serialization"],
                    None if completed is None else self.now - completed,
                    (workflow_id, number - 1) in self.steps,
                )
        return last

    def read_live_children(self, ids: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
        children: dict[str, list[tuple[str, str]]] = {}
        for row in self._live():
            if row["parent_workflow_id"] in ids:
                children.setdefault(row["parent_workflow_id"], []).append((row["workflow_uuid"], row["status"]))
        return children

    def read_unreceived(self, ids: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
        to_them = [message for message in self.messages if message["destination_uuid"] in ids]
        waiting: dict[str, list[tuple[str, int]]] = {}
        for (destination, topic), messages in sorted(_grouped(to_them, "destination_uuid", "topic").items()):
            waiting.setdefault(destination, []).append((topic, len(messages)))
        return waiting

    def _live(self) -> list[Row]:
        return [row for row in self.workflows.values() if row["status"] in LIVE]


def _is_delayed(row: Row) -> bool:
    return row["status"] == "ENQUEUED" and row["delay_until_epoch_ms"] is not None


def _goal(row: Row) -> str:
    """The queue that it is on, or goes to when its delay is over."""
    return str((row["delayed_queue_name"] if _is_delayed(row) else None) or row["queue_name"])


def _priority(row: Row) -> int:
    return int(row["priority"])


def _grouped(rows: Iterable[Row], *columns: str) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in columns), []).append(row)
    return groups
