"""What waits for other versions of the application."""

from __future__ import annotations

from dbos.storage.versions import Waiting
from tests.verify.oracle.tables import Tables


class Versions(Tables):
    """Nothing here changes anything."""

    def find_other_versions(self, application_version: str) -> list[Waiting]:
        """What is enqueued without a version waits for any; what is delayed does not wait yet."""
        found: dict[str | None, Waiting] = {}
        for row in self.workflows.values():
            version = row["application_version"]
            waits = row["status"] == "ENQUEUED" and row["delay_until_epoch_ms"] is None and version is not None
            is_left = row["status"] == "PENDING" and self.is_orphan(row)
            if version == application_version or not (waits or is_left):
                continue
            waiting = found.setdefault(version, Waiting(version))
            waiting.enqueued += waits
            waiting.pending += is_left
        for waiting in found.values():
            alive = [lease for lease in self.leases.values() if lease["state"] == "LIVE"]
            waiting.executors = sum(lease["application_version"] == waiting.version for lease in alive)
        return sorted(found.values(), key=lambda waiting: waiting.version or "")
