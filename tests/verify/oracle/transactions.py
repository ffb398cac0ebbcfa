"""The application's transactions, and their records."""

from __future__ import annotations

from collections.abc import Sequence

from dbos.model.values import Checkpoint, RecordedStep, RunAnswer
from dbos.storage.transactions import AlreadyRecorded, NotOwned, RecordAnswer, Recorded
from tests.verify.oracle.journal import Journal
from tests.verify.oracle.tables import STEP_COLUMNS, TRANSACTION_COLUMNS, Row


class Transactions(Journal):
    """The methods of ``TransactionStore``, each behind its prefix."""

    def transactions_begin(
        self,
        *,
        has_guard: bool,
        isolation_level: str,
        order: str,
        workflow_id: str,
        token: str,
        checkpoint: Checkpoint,
        fails: bool,
    ) -> RecordAnswer | None:
        """What the application writes stays if all of it is recorded: at any isolation level."""
        if fails:
            return None
        guard = RunAnswer(*self.owner(workflow_id)) if has_guard else None
        if guard is not None and (guard.token != token or guard.status not in ("PENDING", "CANCELLED")):
            return NotOwned(guard)
        key = (workflow_id, checkpoint.function_id)
        if key in self.transactions or (has_guard and key in self.steps):
            return AlreadyRecorded()
        recorded = (*key, checkpoint.name, checkpoint.output, checkpoint.error, checkpoint.serialization)
        values = (*recorded, "", "", None, self.now)
        self.transactions[key] = dict(zip(TRANSACTION_COLUMNS, values, strict=True))
        if has_guard:
            times = (checkpoint.started_at_ms, checkpoint.completed_at_ms)
            values = (*recorded[:-1], None, *times, checkpoint.serialization, token)
            self.steps[key] = dict(zip(STEP_COLUMNS, values, strict=True))
        self.orders.append(order)
        return Recorded(guard)

    def transactions_read(self, workflow_ids: Sequence[str]) -> dict[str, dict[int, RecordedStep]]:
        read: dict[str, dict[int, RecordedStep]] = {}
        for (workflow_id, function_id), row in self.transactions.items():
            if workflow_id in workflow_ids:
                read.setdefault(workflow_id, {})[function_id] = _step(row)
        return read

    def transactions_look(self, workflow_id: str, function_id: int) -> RecordedStep | None:
        row = self.transactions.get((workflow_id, function_id))
        return None if row is None else _step(row)

    def transactions_delete(self, workflow_ids: Sequence[str]) -> None:
        self.transactions = {key: row for key, row in self.transactions.items() if key[0] not in workflow_ids}

    def transactions_delete_all(self) -> None:
        self.transactions = {}


def _step(row: Row) -> RecordedStep:
    columns = ("function_id", "function_name", "output", "error", "serialization")
    return RecordedStep(*(row[column] for column in columns), child_workflow_id=None, is_checkpoint=False)
