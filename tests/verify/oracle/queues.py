"""Queues: what is claimed within the limits, and what goes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dbos.model.queues import QueueRules
from dbos.model.values import ClaimedWorkflow
from dbos.storage.queues import Claim, Claimant
from tests.verify.oracle.claims import can_run, claimed_workflow
from tests.verify.oracle.management import INTERNAL
from tests.verify.oracle.tables import Row, Tables


class Queues(Tables):
    """What waits on queues."""

    def claim_enqueued(
        self, rules: QueueRules, claimant: Claimant, nonce: str, rooms: Mapping[str | None, int]
    ) -> Claim:
        """By priority and age, within the limits, which hold for each partition."""
        claimed: list[ClaimedWorkflow] = []
        opens_in_ms: int | None = None
        for partition, asked in rooms.items():
            room = asked
            if rules.concurrency is not None:
                room = min(room, rules.concurrency - len(self._running(rules, partition)))
            left, its_opening = self._left_of_rate(rules, partition)
            rows = self._claim(rules, claimant, nonce, partition, min(room, left))
            if rules.rate is not None:
                if len(rows) >= left:
                    opens_in_ms = its_opening if opens_in_ms is None else min(opens_in_ms, its_opening)
                for row in rows:
                    self.starts[row.token] = {
                        "token": row.token,
                        "workflow_uuid": row.workflow_id,
                        "queue_name": rules.name,
                        "partition_key": partition or "",
                        "period_ms": rules.rate.period_ms,
                        "claimed_at": self.now,
                        "started_at": None,
                    }
            claimed.extend(rows)
        return Claim(claimed, opens_in_ms)

    def _left_of_rate(self, rules: QueueRules, partition: str | None) -> tuple[int, int]:
        """How many may start now; and if it is all of them, when the next may. A start counts until a period after its
        function was called; when there is no room, those of which nobody will tell count from now on."""
        if rules.rate is None:
            return 10**9, 0
        period = rules.rate.period_ms
        place = (rules.name, partition or "")
        for token, start in list(self.starts.items()):
            is_over = start["started_at"] is not None and start["started_at"] <= self.now - period
            if (start["queue_name"], start["partition_key"]) == place and is_over:
                del self.starts[token]
        starts = [start for start in self.starts.values() if (start["queue_name"], start["partition_key"]) == place]
        times = [start["started_at"] or start["claimed_at"] for start in starts]
        if len(starts) >= rules.rate.limit:
            self._note_lost_starts()
        opening = max(min(times) + period - self.now, 1) if times else period
        return rules.rate.limit - len(starts), opening

    def _note_lost_starts(self) -> None:
        for start in self.starts.values():
            row = self.workflows.get(start["workflow_uuid"])
            is_running = (
                row is not None
                and row["owner_xid"] == start["token"]
                and row["status"] == "PENDING"
                and self.is_alive(row["lease_id"])
            )
            if start["started_at"] is None and not is_running:
                start["started_at"] = self.now

    def _running(self, rules: QueueRules, partition: str | None) -> list[Row]:
        return [
            row
            for row in self.workflows.values()
            if row["status"] == "PENDING" and row["queue_name"] == rules.name and _is_in(row, rules, partition)
        ]

    def _claim(
        self, rules: QueueRules, claimant: Claimant, nonce: str, partition: str | None, room: int
    ) -> list[ClaimedWorkflow]:
        if not self.is_alive(claimant.lease_id):
            return []
        waiting = [
            row
            for row in self.workflows.values()
            if _waits(row)
            and row["queue_name"] == rules.name
            and row["application_version"] in (None, claimant.application_version)
            and can_run(row, claimant.names, claimant.owners)
            and self.is_in_time(row)
            and _is_in(row, rules, partition)
        ]
        waiting.sort(key=lambda row: row["priority"])
        return [self._start_here(row, claimant, nonce) for row in waiting[: max(room, 0)]]

    def _start_here(self, row: Row, claimant: Claimant, nonce: str) -> ClaimedWorkflow:
        is_fresh = row["started_at_epoch_ms"] is None and row["queue_name"] != INTERNAL
        timeout, deadline = row["workflow_timeout_ms"], row["workflow_deadline_epoch_ms"]
        row.update(
            status="PENDING",
            owner_xid=f"{nonce}:{row['workflow_uuid']}",
            lease_id=claimant.lease_id,
            executor_id=claimant.executor_id,
            application_version=row["application_version"] or claimant.application_version,
            recovery_attempts=row["recovery_attempts"] + 1,
            started_at_epoch_ms=self.now,
            updated_at=self.now,
            workflow_deadline_epoch_ms=self.now + timeout if deadline is None and timeout is not None else deadline,
        )
        return replace(
            claimed_workflow(row),
            queue=row["queue_name"],
            partition_key=row["queue_partition_key"],
            is_fresh=is_fresh,
        )

    def find_partitions(self, rules: QueueRules) -> list[str | None]:
        """Those that hold work, and may run more."""
        keys = {row["queue_partition_key"] or "" for row in self._waiting_on(rules.name)}
        most = 10**9 if rules.concurrency is None else rules.concurrency
        partitioned = replace(rules, is_partitioned=True)
        return [key or None for key in sorted(keys) if len(self._running(partitioned, key)) < most]

    def find_waiting(
        self, queues: Sequence[str], application_version: str, names: Sequence[str], owners: Sequence[str]
    ) -> list[str]:
        return [
            queue
            for queue in queues
            if any(
                row["application_version"] in (None, application_version) and can_run(row, names, owners)
                for row in self._waiting_on(queue)
            )
        ]

    def find_queues(self) -> list[str]:
        return sorted({row["queue_name"] for row in self.workflows.values() if _waits(row)})

    def find_unknown_functions(
        self, queues: Sequence[str], claimant: Claimant
    ) -> list[tuple[str, str, str | None, str | None]]:
        return [
            (queue, *function)
            for queue in queues
            for version in (claimant.application_version, None)
            for function in {
                (row["name"], row["class_name"], row["config_name"])
                for row in self._waiting_on(queue)
                if row["application_version"] == version and not can_run(row, claimant.names, claimant.owners)
            }
        ]

    def note_starts(self, tokens: Sequence[str]) -> None:
        for token in tokens:
            start = self.starts.get(token)
            if start is not None and start["started_at"] is None:
                start["started_at"] = self.now

    def forget_starts(self) -> int:
        self._note_lost_starts()
        over = [
            token
            for token, start in self.starts.items()
            if start["started_at"] is not None and start["started_at"] <= self.now - start["period_ms"]
        ]
        for token in over:
            del self.starts[token]
        return len(over)

    def put_back(self, application_version: str) -> dict[str, str]:
        """What nobody runs any more waits again, at its old place."""
        rows = [
            row
            for row in self.workflows.values()
            if row["status"] == "PENDING"
            and row["queue_name"] is not None
            and row["application_version"] == application_version
            and self.is_orphan(row)
        ]
        self.note_starts([row["owner_xid"] for row in rows])
        for row in rows:
            row.update(status="ENQUEUED", owner_xid=None, lease_id=None, updated_at=self.now)
        return {row["workflow_uuid"]: row["queue_name"] for row in rows}

    def release_delayed(self) -> int:
        """What is due goes to its queue, if its deduplication id is free there: of several the one that began first."""
        due = [
            row
            for row in self.workflows.values()
            if row["status"] == "ENQUEUED"
            and row["delay_until_epoch_ms"] is not None
            and row["delay_until_epoch_ms"] <= self.now
        ]
        taken: set[tuple[str, str]] = set()
        released: list[Row] = []
        for row in due:
            place = (row["delayed_queue_name"], row["delayed_deduplication_id"])
            if None not in place and place in taken:
                continue
            taken.add(place)
            if self.holder(*place) is None:
                released.append(row)
        for row in released:
            row.update(
                queue_name=row["delayed_queue_name"] or row["queue_name"],
                deduplication_id=row["delayed_deduplication_id"],
                updated_at=self.now,
            )
            for column in ("until_epoch_ms", "limit_epoch_ms"):
                row[f"delay_{column}"] = None
            row["delayed_queue_name"] = row["delayed_deduplication_id"] = None
        return len(released)

    def _waiting_on(self, queue: str) -> list[Row]:
        return [row for row in self.workflows.values() if _waits(row) and row["queue_name"] == queue]


def _waits(row: Row) -> bool:
    return row["status"] == "ENQUEUED" and row["delay_until_epoch_ms"] is None


def _is_in(row: Row, rules: QueueRules, partition: str | None) -> bool:
    return not rules.is_partitioned or (row["queue_partition_key"] or "") == (partition or "")
