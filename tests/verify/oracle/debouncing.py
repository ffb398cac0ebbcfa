"""Rounds of debouncers."""

from __future__ import annotations

from dbos.model.values import AlreadyExists, Deduplicated, RunAnswer
from dbos.storage.debouncing import Caller, DebounceAnswer, Debounced, Round, RoundTaken
from tests.verify.oracle.journal import Journal, is_same
from tests.verify.oracle.management import INTERNAL
from tests.verify.oracle.tables import STEP_COLUMNS

FOR_EVER_MS = 1000 * 365 * 86400 * 1000


class Debouncing(Journal):
    """Workflows that wait for the end of their round."""

    def debounce(self, call: Round, caller: Caller | None) -> DebounceAnswer:
        if caller is None:
            return self._debounce(call)
        token, status = self.owner(caller.workflow_id)
        if token != caller.token:
            return RunAnswer(token, status)
        checkpoint = caller.checkpoint
        key = (caller.workflow_id, checkpoint.function_id)
        if key in self.steps:
            if self.steps[key]["owner_xid"] != caller.token:
                return RunAnswer(token, status, frozenset([checkpoint.function_id]))
            return Debounced(self.steps[key]["child_workflow_id"])
        answer = self._debounce(call)
        if isinstance(answer, Debounced):
            child = answer.workflow_id
        elif isinstance(answer, AlreadyExists) and is_same(answer, call.start):
            child = call.start.workflow_id
        else:
            return answer
        times = (checkpoint.started_at_ms, checkpoint.completed_at_ms)
        values = (*key, checkpoint.name, None, None, child, *times, None, caller.token)
        self.steps[key] = dict(zip(STEP_COLUMNS, values, strict=True))
        return answer

    def _debounce(self, call: Round) -> Debounced | AlreadyExists | RoundTaken:
        """It is put off until the period is over, or the time-out, whichever comes first."""
        start = call.start
        assert start.place is not None
        row = self.holder(INTERNAL, start.place.deduplication_id)
        is_round = row is not None and row["delay_until_epoch_ms"] is not None
        if row is not None and is_round and row["name"] == start.name and row["status"] == "ENQUEUED":
            row.update(
                inputs=start.inputs,
                serialization=start.serialization,
                updated_at=self.now,
                application_version=start.application_version or row["application_version"],
                delay_until_epoch_ms=min(row["delay_limit_epoch_ms"], self.now + call.period_ms),
            )
            return Debounced(row["workflow_uuid"])
        answer = self.insert_start(start)
        if isinstance(answer, AlreadyExists):
            return answer
        if isinstance(answer, Deduplicated):
            assert row is not None
            return RoundTaken(row["name"])
        timeout_ms = FOR_EVER_MS if call.timeout_ms is None else call.timeout_ms
        self.workflows[start.workflow_id].update(
            delay_until_epoch_ms=self.now + min(timeout_ms, call.period_ms),
            delay_limit_epoch_ms=self.now + timeout_ms,
            delayed_queue_name=call.queue,
            delayed_deduplication_id=call.deduplication_id,
        )
        return Debounced(start.workflow_id)
