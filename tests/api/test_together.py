"""Methods, roles, transactions, schedules and JSON in one program: what each keeps, it keeps beside the others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from sqlalchemy import text

from dbos import DBOS, DBOSConfiguredInstance, DBOSContextSetAuth, JSONSerializer, Queue, SetWorkflowID
from tests.support.apps import PATIENCE_S, Roadblock, interrupt_at
from tests.support.schedules import EACH_SECOND
from tests.support.transactions import TransactionApp

GREET = "INSERT INTO greetings (name, note) VALUES (:name, :note)"
AT_NOON = datetime(2030, 1, 31, 12, tzinfo=timezone.utc)

queue = Queue("together")
roadblock = Roadblock()
calls: SimpleQueue[Any] = SimpleQueue()


@DBOS.dbos_class("Desk")
@DBOS.default_required_roles(["clerk"])
class Desk(DBOSConfiguredInstance):
    @DBOS.workflow(name="desk-serve")
    def serve(self, names: list[str]) -> list[Any]:
        served: list[Any] = [self.greet(names[0])]
        self.pause()
        return [*served, self.greet(names[1]), self.config_name, DBOS.assumed_role]

    @DBOS.transaction(name="desk-greet")
    def greet(self, name: str) -> tuple[str, Decimal, datetime]:
        DBOS.sql_session.execute(text(GREET), {"name": name, "note": f"{self.config_name}, {DBOS.assumed_role}"})
        return name, Decimal("1.50"), AT_NOON

    @DBOS.step(name="desk-pause")
    def pause(self) -> None:
        roadblock.stop()

    @classmethod
    @DBOS.required_roles([])
    @DBOS.workflow(name="desk-close")
    def close(cls, scheduled: datetime, context: Any) -> None:
        calls.put((cls.__name__, scheduled.tzinfo, context))


north = Desk("north")


@pytest.fixture(params=[False, True], ids=["one database", "two databases"])
def app(database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[TransactionApp]:
    """Launched with JSON as the serializer, and with pickle when it is launched again: rows name their format.

    Transactions run in the system database, or in one of their own.
    """
    roadblock.__init__()  # type: ignore[misc]
    while not calls.empty():
        calls.get()
    application = TransactionApp(database_url, f"sqlite:///{tmp_path / 'own.sqlite'}" if request.param else None)
    application.launch(serializer=JSONSerializer())
    yield application
    DBOS.destroy()


@pytest.mark.parametrize("is_enqueued", [False, True], ids=["called", "enqueued"])
def test_interrupted_and_forked_methods_keep_role_instance_and_committed_work(
    app: TransactionApp, is_enqueued: bool
) -> None:
    with DBOSContextSetAuth("ann", ["guest", "clerk"]), SetWorkflowID("w"):
        if is_enqueued:
            queue.enqueue(north.serve, ["one", "two"])
        else:
            DBOS.start_workflow(north.serve, ["one", "two"])
    interrupt_at(roadblock, app)
    outcome = [("one", Decimal("1.50"), AT_NOON), ("two", Decimal("1.50"), AT_NOON), "north", "clerk"]
    assert DBOS.get_result("w") == outcome
    note = "north, clerk"
    assert app.greetings() == [("one", note), ("two", note)]

    forked = DBOS.fork_workflow("w", 3)
    assert forked.get_result() == outcome
    assert app.greetings() == [("one", note), ("two", note), ("two", note)]
    status = forked.get_status()
    assert (status.class_name, status.config_name, status.assumed_role) == ("Desk", "north", "clerk")


def test_schedule_of_a_class_method_has_its_context_after_a_restart(app: TransactionApp) -> None:
    context = {"at": AT_NOON, "of": ("north", Decimal("2.50"))}
    DBOS.create_schedule(schedule_name="closing", workflow_fn=Desk.close, schedule=EACH_SECOND, context=context)
    app.relaunch()
    assert calls.get(timeout=PATIENCE_S) == ("Desk", timezone.utc, context)
