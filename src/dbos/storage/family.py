"""The families of workflows: parents, children, and what was forked from what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dbos.model.status import LIVE
from dbos.storage.database import Database, Transaction

MAX_ANCESTORS = 20

_COLUMNS = (
    "workflow_uuid, name, status, parent_workflow_id, forked_from, created_at, started_at_epoch_ms, completed_at, "
    "updated_at, seq"
)

_READ = f"SELECT {_COLUMNS} FROM {{schema}}workflow_status WHERE workflow_uuid ANY_OF(:ids)"

# Not in order, as that would mean to sort all children of a parent that has hundreds of thousands.
_READ_CHILDREN = (
    f"SELECT {_COLUMNS} FROM {{schema}}workflow_status "
    "WHERE parent_workflow_id IS NOT NULL AND parent_workflow_id ANY_OF(:ids) LIMIT :limit"
)
_READ_FORKS = (
    f"SELECT {_COLUMNS} FROM {{schema}}workflow_status "
    "WHERE forked_from IS NOT NULL AND forked_from ANY_OF(:ids) LIMIT :limit"
)

_COUNT_CHILDREN = """
SELECT parent_workflow_id, count(*) FROM {schema}workflow_status
WHERE parent_workflow_id IS NOT NULL AND parent_workflow_id ANY_OF(:ids) GROUP BY parent_workflow_id"""

_COUNT_FORKS = """
SELECT forked_from, count(*) FROM {schema}workflow_status
WHERE forked_from IS NOT NULL AND forked_from ANY_OF(:ids) GROUP BY forked_from"""


class Relative(NamedTuple):
    """A workflow, as far as others see it. Times are epoch milliseconds."""

    workflow_id: str
    name: str | None
    status: str
    parent_workflow_id: str | None
    forked_from: str | None
    created_at: int
    started_at: int | None
    """When it was taken from its queue."""
    completed_at: int | None
    updated_at: int
    seq: int | None

    @property
    def origin_id(self) -> str | None:
        """The workflow that it comes from: its parent, else the one that it was forked from."""
        return self.parent_workflow_id or self.forked_from

    @property
    def ended_at(self) -> int | None:
        """When it ended; older libraries do not record it apart."""
        if self.status in LIVE:
            return None
        return self.updated_at if self.completed_at is None else self.completed_at


@dataclass(frozen=True, slots=True)
class Family:
    """A workflow with those that it comes from and those that come from it.

    Attributes:
        members: The oldest first.
        children: How many children each has, whether they are among the members or not.
        forks: How many workflows were forked from each.
    """

    members: Sequence[Relative]
    children: Mapping[str, int]
    forks: Mapping[str, int]


def read_relatives(database: Database, workflow_ids: Sequence[str]) -> dict[str, Relative]:
    """Those of the workflows that there are, by id."""
    if not workflow_ids:
        return {}
    rows = database.run("read_relatives", lambda t: t.rows(_READ, {"ids": list(workflow_ids)}), "read")
    return {row[0]: Relative._make(row) for row in rows}


def read_family(database: Database, workflow_id: str, limit: int) -> Family | None:
    """The workflow's family: at most ``limit`` members, its ancestors first, then its descendants, then theirs.

    Returns:
        ``None`` if there is no such workflow.
    """

    def work(transaction: Transaction) -> Family | None:
        line = _line(transaction, workflow_id)
        if not line:
            return None
        members = {one.workflow_id: one for one in line[:limit]}
        for ancestor in line:
            _add_descendants(transaction, ancestor.workflow_id, members, limit)
        ids = {"ids": list(members)}
        return Family(
            sorted(members.values(), key=lambda one: (one.created_at, one.seq or 0)),
            {row[0]: int(row[1]) for row in transaction.rows(_COUNT_CHILDREN, ids)},
            {row[0]: int(row[1]) for row in transaction.rows(_COUNT_FORKS, ids)},
        )

    return database.run("read_family", work, "read")


def _line(transaction: Transaction, workflow_id: str) -> list[Relative]:
    """The workflow, the one that it comes from, and so on."""
    line: list[Relative] = []
    seen: set[str] = set()
    next_id: str | None = workflow_id
    while next_id is not None and next_id not in seen and len(line) <= MAX_ANCESTORS:
        seen.add(next_id)
        rows = transaction.rows(_READ, {"ids": [next_id]})
        line.extend(Relative._make(row) for row in rows)
        next_id = line[-1].origin_id if rows else None
    return line


def _add_descendants(transaction: Transaction, workflow_id: str, members: dict[str, Relative], limit: int) -> None:
    """Add what comes from the workflow, generation by generation."""
    generation = [workflow_id]
    seen = set(generation)
    while generation and len(members) < limit:
        # Those that are members already may be among the first ones found.
        parameters = {"ids": generation, "limit": limit}
        found = [
            Relative._make(row)
            for statement in (_READ_CHILDREN, _READ_FORKS)
            for row in transaction.rows(statement, parameters)
        ]
        found.sort(key=lambda one: (one.created_at, one.seq or 0))
        for one in found:
            if len(members) < limit:
                members.setdefault(one.workflow_id, one)
        generation = [one.workflow_id for one in found if one.workflow_id not in seen]
        seen.update(generation)
