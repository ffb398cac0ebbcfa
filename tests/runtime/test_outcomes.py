"""The watch for outcomes of workflows that run elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from dbos.model.values import RecordedOutcome
from dbos.runtime.drivers import Ending, Returned
from dbos.runtime.outcomes import FORGET_AFTER_S, OutcomeWatch
from tests.support.apps import eventually
from tests.support.clock import ManualClock


class Rows:
    """What the database holds, and what was asked for."""

    def __init__(self) -> None:
        self.ended: dict[str, RecordedOutcome] = {}
        self.asked: list[set[str]] = []

    def read(self, ids: Iterable[str]) -> dict[str, RecordedOutcome]:
        self.asked.append(set(ids))
        return {workflow_id: self.ended[workflow_id] for workflow_id in ids if workflow_id in self.ended}


def decode(outcome: RecordedOutcome) -> Ending[str | None]:
    return Returned(outcome.output)


def test_watch_that_nobody_waits_for_is_dropped_and_the_others_are_kept() -> None:
    rows, clock = Rows(), ManualClock()
    watch = OutcomeWatch(rows.read, decode, clock)

    def asked_for(*ids: str) -> bool:
        clock.advance(0.01)
        return rows.asked[-1:] == [set(ids)]

    try:
        waited_for, given_up = watch.watch("waited for", 0.001), watch.watch("given up", 0.001)
        arrived: list[object] = []
        waited_for.then(lambda: arrived.append(waited_for.result()))
        eventually(lambda: asked_for("waited for", "given up"), "both are looked for")
        clock.advance(FORGET_AFTER_S)
        eventually(lambda: asked_for("waited for"), "the one that nobody waits for is dropped")
        rows.ended["waited for"] = RecordedOutcome("waited for", "SUCCESS", "result", None, None)
        eventually(lambda: asked_for("waited for") and arrived == [Returned("result")], "the other arrives")
        assert not given_up.is_done
    finally:
        watch.stop()
