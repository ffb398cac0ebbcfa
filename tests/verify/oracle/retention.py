"""Deleting what has ended, and finding what began long ago."""

from __future__ import annotations

from dbos.storage.retention import NameFilter
from tests.verify.oracle.management import Management
from tests.verify.oracle.tables import LIVE, Row


class Retention(Management):
    """What goes by itself."""

    def find_bound(self, rows_kept: int) -> int | None:
        newest_first = list(reversed(self.workflows.values()))
        return newest_first[rows_kept]["created_at"] if rows_kept < len(newest_first) else None

    def delete_ended(
        self, before_ms: int, limit: int, names: NameFilter | None, bites: int
    ) -> list[tuple[list[str], int, bool]]:
        """So many bites of so many workflows; of each the ids that were deleted, when the last workflow that was looked
        at was created, and whether there may be more."""
        rows = [row for row in self.workflows.values() if row["created_at"] < before_ms]
        if names is not None:
            rows = [row for row in rows if (row["name"] in names.names) == names.is_only]
        answers: list[tuple[list[str], int, bool]] = []
        created_at = -1
        for first in range(0, bites * limit, limit):
            looked_at = rows[first : first + limit]
            ids = sorted(row["workflow_uuid"] for row in looked_at if self._may_go(row))
            self.delete(ids, with_descendants=False)
            created_at = looked_at[-1]["created_at"] if looked_at else created_at
            answers.append((ids, created_at, len(looked_at) == limit))
        return answers

    def _may_go(self, row: Row) -> bool:
        """A parent that is replayed asks for its child's outcome."""
        parent = self.workflows.get(row["parent_workflow_id"])
        return row["status"] not in LIVE and (parent is None or parent["status"] not in LIVE)

    def find_live_before(self, before_ms: int, limit: int) -> list[str]:
        rows = [row for row in self.workflows.values() if row["status"] in LIVE and row["created_at"] < before_ms]
        return [row["workflow_uuid"] for row in rows[:limit]]

    def vacuum(self) -> None:
        """Nothing that anybody sees."""
