"""What the type checkers must know of the testing kit."""

from __future__ import annotations

from datetime import datetime, timedelta

from typing_extensions import assert_type

from dbos import DBOS, DBOSClient
from dbos.testing import App, CrashTest, Replay, SessionDatabase, VirtualClock, assert_replays, replay


@DBOS.workflow()
def work(number: int) -> str:
    return str(number)


def pay(client: DBOSClient, workflow_id: str) -> None:
    client.send(workflow_id, "paid")


def clocks(app: App) -> None:
    assert_type(app.freeze(datetime(2026, 1, 1)), VirtualClock)
    clock = app.clock
    assert clock is not None
    clock.advance(timedelta(days=1))
    clock.advance(1.5, patience_s=3)
    assert_type(clock.now(), datetime)
    assert_type(clock.advance_to_next(), bool)


def crashes(database: SessionDatabase) -> None:
    app = App(database, {"executor_id": "mine"}, VirtualClock(datetime(2026, 1, 1)))
    test = CrashTest(app, alongside=pay, workflow_id="one")
    test.assert_survives(work, 1)
    assert_type(test.crashes, int)


def replays() -> None:
    assert_type(replay("export.jsonl"), list[Replay])
    assert_replays({"workflow_status": {}})
