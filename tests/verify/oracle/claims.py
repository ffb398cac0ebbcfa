"""Leases, claims of orphans, and what executors ask about their own."""

from __future__ import annotations

from collections.abc import Sequence

from dbos.model.serving import Serving
from dbos.model.values import ClaimedWorkflow, Lease, ProcessIdentity, RecordedStep
from dbos.storage.claims import Duties
from dbos.storage.leases import serving_text
from tests.verify.oracle.tables import LIVE, Row, Tables

DAY_MS = 24 * 3600 * 1000


class Claims(Tables):
    """Who is alive, and who runs what."""

    # -- leases

    def register_lease(self, lease: Lease) -> None:
        """A lease that stands already, as an earlier try's answer was lost, stays as it is."""
        for lease_id, row in list(self.leases.items()):
            if row["state"] == "DEAD" and row["renewed_at"] < self.now - DAY_MS:
                del self.leases[lease_id]
        process = lease.process
        row = {
            "lease_id": lease.lease_id,
            "executor_id": lease.executor_id,
            "application_version": lease.application_version,
            "state": "LIVE",
            "renewals": 0,
            "started_at": self.now,
            "renewed_at": self.now,
            "hostname": process.hostname,
            "pid": process.pid,
            "boot_id": process.boot_id,
            "pid_namespace": process.pid_namespace,
            "pid_started": process.pid_started,
            "serves": None,
        }
        self.leases.setdefault(lease.lease_id, row)

    def note_serving(self, lease_id: str, serving: Serving) -> None:
        if lease_id in self.leases:
            self.leases[lease_id]["serves"] = serving_text(serving)

    def renew_lease(self, lease_id: str) -> bool:
        if not self.is_alive(lease_id):
            return False
        self.leases[lease_id]["renewals"] += 1
        self.leases[lease_id]["renewed_at"] = self.now
        return True

    def read_live_leases(self, own: str) -> list[Lease]:
        return [_lease(row) for row in self.leases.values() if row["state"] == "LIVE" and row["lease_id"] != own]

    def bury_lease(self, lease: Lease) -> bool:
        """Only one that has not been renewed since."""
        row = self.leases.get(lease.lease_id)
        if row is None or row["state"] != "LIVE" or row["renewals"] != lease.renewals:
            return False
        row["state"] = "DEAD"
        return True

    def release_lease(self, lease_id: str) -> None:
        """What it claims is nobody's, and the attempt does not count."""
        for row in self._pending(lease_id):
            row.update(owner_xid=None, recovery_attempts=max(row["recovery_attempts"] - 1, 0))
        self.leases.pop(lease_id, None)

    # -- claims

    def has_orphans(self, application_version: str, names: Sequence[str], owners: Sequence[str]) -> bool:
        return bool(self._orphans(application_version, names, owners))

    def find_stranded(
        self, application_version: str, names: Sequence[str], owners: Sequence[str]
    ) -> list[tuple[str, str | None, str | None]]:
        """Those that nobody runs, and that these functions, classes and instances cannot run."""
        return list(
            {
                (row["name"], row["class_name"], row["config_name"])
                for row in self._left_alone(application_version)
                if not can_run(row, names, owners)
            }
        )

    def claim_orphans(
        self,
        nonce: str,
        lease_id: str,
        executor_id: str,
        application_version: str,
        names: Sequence[str],
        owners: Sequence[str],
        limit: int,
    ) -> list[ClaimedWorkflow]:
        """Under a live lease; asked again with the same nonce, what was claimed the first time."""
        if not self.is_alive(lease_id):
            return []
        claimed = [row for row in self._pending(lease_id) if row["owner_xid"] == f"{nonce}:{row['workflow_uuid']}"]
        if not claimed:
            claimed = self._orphans(application_version, names, owners)[:limit]
            for row in claimed:
                row.update(
                    owner_xid=f"{nonce}:{row['workflow_uuid']}",
                    lease_id=lease_id,
                    executor_id=executor_id,
                    recovery_attempts=row["recovery_attempts"] + 1,
                    updated_at=self.now,
                )
        return [claimed_workflow(row) for row in claimed]

    def release(self, workflow_id: str, token: str) -> None:
        self.release_all([(workflow_id, token)])

    def release_all(self, claims: Sequence[tuple[str, str]]) -> None:
        for workflow_id, token in claims:
            row = self.workflows.get(workflow_id)
            if row is not None and row["owner_xid"] == token and row["status"] in ("PENDING", "CANCELLED"):
                row["owner_xid"] = None

    def count_claims(self, lease_id: str) -> int:
        return len(self.read_claims(lease_id))

    def read_claims(self, lease_id: str) -> list[tuple[str, str]]:
        rows = self._pending(lease_id)
        return [(row["workflow_uuid"], row["owner_xid"]) for row in rows if row["owner_xid"] is not None]

    def read_owners(self, workflow_ids: Sequence[str]) -> dict[str, str | None]:
        return {row["workflow_uuid"]: row["owner_xid"] for row in self.of(workflow_ids)}

    def read_checkpoints(self, workflow_ids: Sequence[str]) -> dict[str, dict[int, RecordedStep]]:
        recorded: dict[str, dict[int, RecordedStep]] = {}
        for (workflow_id, number), row in self.steps.items():
            if workflow_id in workflow_ids:
                values = (row["function_name"], row["output"], row["error"], row["serialization"])
                step = RecordedStep(number, *values, row["child_workflow_id"])
                recorded.setdefault(workflow_id, {})[number] = step
        return recorded

    def read_duties(self, lease_id: str) -> Duties:
        live = [row for row in self.workflows.values() if row["status"] in LIVE]
        deadlines = [row["workflow_deadline_epoch_ms"] for row in live if row["workflow_deadline_epoch_ms"] is not None]
        delays = [
            row["delay_until_epoch_ms"]
            for row in live
            if row["delay_until_epoch_ms"] is not None and row["status"] == "ENQUEUED"
        ]
        return Duties(
            min(deadlines) - self.now if deadlines else None,
            min(delays) - self.now if delays else None,
            bool(self.read_stopping(lease_id)),
        )

    def read_stopping(self, lease_id: str) -> list[str]:
        return [
            row["owner_xid"]
            for row in self.workflows.values()
            if row["status"] == "CANCELLED" and row["owner_xid"] is not None and row["lease_id"] == lease_id
        ]

    def _pending(self, lease_id: str) -> list[Row]:
        return [row for row in self.workflows.values() if row["status"] == "PENDING" and row["lease_id"] == lease_id]

    def _orphans(self, application_version: str, names: Sequence[str], owners: Sequence[str]) -> list[Row]:
        return [
            row for row in self._left_alone(application_version) if can_run(row, names, owners) and self.is_in_time(row)
        ]

    def _left_alone(self, application_version: str) -> list[Row]:
        """What came from a queue goes back there, and is no orphan."""
        return [
            row
            for row in self.workflows.values()
            if row["status"] == "PENDING"
            and row["queue_name"] is None
            and row["application_version"] == application_version
            and self.is_orphan(row)
        ]


def can_run(row: Row, names: Sequence[str], owners: Sequence[str]) -> bool:
    """Whether a process that has these functions, and these classes and instances, can run the workflow."""
    owner = None if row["class_name"] is None else f"{row['class_name']}\x1f{row['config_name'] or ''}"
    return row["name"] in names and (owner is None or owner in owners)


def claimed_workflow(row: Row) -> ClaimedWorkflow:
    """What its claimer is told of a workflow."""
    columns = (
        *("workflow_uuid", "owner_xid", "name", "class_name", "config_name"),
        *("authenticated_user", "assumed_role", "authenticated_roles", "inputs", "serialization"),
    )
    values = [row[column] for column in columns]
    return ClaimedWorkflow(*values, row["recovery_attempts"], row["workflow_deadline_epoch_ms"])


def _lease(row: Row) -> Lease:
    process = ProcessIdentity(row["hostname"], row["pid"], row["boot_id"], row["pid_namespace"], row["pid_started"])
    return Lease(row["lease_id"], row["executor_id"], row["application_version"], process, row["renewals"])
