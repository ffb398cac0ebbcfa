"""Random operations of retention and of transactions, and questions why something does not move."""

from __future__ import annotations

from typing import Any

from dbos.model.values import Checkpoint
from dbos.storage.retention import NameFilter
from tests.differential.draws import FORMATS, NAMES, VERSIONS, Draws
from tests.differential.operations import Operation
from tests.verify.oracle.tables import LIVE, Row


class UpkeepDraws(Draws):
    """Draws what keeps the tables small, and what applications write in their own transactions."""

    # -- retention

    def _moment(self) -> int:
        """Of which some workflows are older, or none, or all."""
        moments = [row["created_at"] for row in self.oracle.workflows.values()]
        return self._one(*moments, self.oracle.now) + self._one(0, 0, 1)

    def _children_of_live(self) -> list[Row]:
        rows = self.oracle.workflows
        live = {workflow_id for workflow_id, row in rows.items() if row["status"] in LIVE}
        return [row for row in rows.values() if row["parent_workflow_id"] in live]

    def _delete_ended(self) -> Operation:
        """Often there is one that its parent keeps, and it is looked at."""
        children = [row for row in self._children_of_live() if row["status"] not in LIVE]
        if children and self._is(60):
            before_ms = self._one(*children)["created_at"] + 1
            return Operation("delete_ended", {"before_ms": before_ms, "limit": 5, "names": None, "bites": 4})
        names = self._one(None, NameFilter(self._one(NAMES, NAMES[:1], ()), self._one(True, False)))
        return Operation(
            "delete_ended",
            {
                "before_ms": self._moment(),
                "limit": self._one(1, 2, 5, 100),
                "names": names,
                "bites": self._one(1, 2, 4),
            },
        )

    def _look_for_old(self) -> Operation:
        if self._is(50):
            return Operation("find_bound", {"rows_kept": self._one(0, 1, 5, 20, 1000)})
        return Operation("find_live_before", {"before_ms": self._moment(), "limit": self._one(1, 3, 100)})

    def _vacuum(self) -> Operation:
        return Operation("vacuum", {})

    # -- transactions

    def _record_transaction(self) -> Operation:
        owned = [id for id, row in self.oracle.workflows.items() if row["owner_xid"] is not None]
        workflow_id = self._one(*owned) if owned and self._is(60) else self._id()
        last = max((number for its, number in self.oracle.steps if its == workflow_id), default=0)
        texts = self._one((self._new("output"), None), (None, self._new("error")))
        times = (self.oracle.now - 5, self.oracle.now)
        # Sometimes what stands: as a transaction, as a checkpoint, or as both.
        standing = [number for its, number in self.oracle.transactions if its == workflow_id]
        number = max(self._one(last + 1, last + 1, last, *standing[-1:]), 1)
        arguments = {
            "has_guard": self._is(75),
            "isolation_level": self._one("SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED"),
            "order": self._new("order"),
            "workflow_id": workflow_id,
            "token": self._token_of(workflow_id),
            "checkpoint": Checkpoint(number, "pay", *texts, self._one(*FORMATS), None, *times),
            "fails": self._is(10),
        }
        return Operation("transactions_begin", arguments)

    def _transactions(self) -> Operation:
        if self._is(4):
            return Operation("transactions_delete_all", {})
        workflow_id, function_id = self._one((self._id(), 1), *self.oracle.transactions)
        ids = {"workflow_ids": [workflow_id, *self._ids()]}
        return self._one(
            Operation("transactions_read", ids),
            Operation("transactions_read", {"workflow_ids": self._ids()}),
            Operation("transactions_look", {"workflow_id": workflow_id, "function_id": function_id}),
            Operation("transactions_delete", {"workflow_ids": self._ids()}),
        )

    # -- what does not move

    def _find_other_versions(self) -> Operation:
        return Operation("find_other_versions", {"application_version": self._one(*VERSIONS, "3")})

    def _diagnose(self) -> Operation:
        name = self._one("read_executors", "read_load", "read_progress", "read_queues", "read_versions", "read_starts")
        if self._is(35):
            return Operation(name, {})
        if self._is(50):
            name = self._one("read_last_steps", "read_live_children", "read_unreceived")
            interesting = [row["parent_workflow_id"] for row in self.oracle.workflows.values()]
            interesting += [workflow_id for workflow_id, _ in self.oracle.steps]
            known = [workflow_id for workflow_id in interesting if workflow_id is not None]
            return Operation(name, {"ids": [*self._ids(), *(self._one(*known) for _ in known[:2])]})
        wanted = {
            "quiet_ms": self._one(0, 50, 1000, 100_000_000),
            "examples": self._one(1, 2, 100),
            "ids": self._one(None, None, self._ids()),
        }
        return Operation("read_stalled", {**wanted, "limit": self._limit(wanted)})

    def _limit(self, wanted: dict[str, Any]) -> int:
        """One that cuts between two moments: of one moment each database has its own order of ids."""
        times = [row.created_at for row in self.oracle.read_stalled(**wanted, limit=1000)]
        return self._one(1000, *(n for n in range(1, len(times)) if times[n - 1] < times[n]))
