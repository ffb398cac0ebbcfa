"""What schedules cost: transactions, and what is imported."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from dbos import DBOS
from tests.support.apps import App, eventually
from tests.support.gates import CountingGate
from tests.support.processes import Spawner
from tests.support.schedules import BASE, EACH_SECOND, NEVER, definition, fires_of, seconds, wait_for_fires
from tests.support.waking import application


@DBOS.workflow()
def nothing(scheduled: datetime, context: Any) -> None: ...


@pytest.fixture
def gate(database_url: str) -> Iterator[CountingGate]:
    """What counts the transactions of a launched application."""
    gate = CountingGate()
    DBOS(config=App(database_url).config())
    application().gate = gate
    DBOS.launch()
    yield gate
    DBOS.destroy()


def test_managing_costs_one_transaction_each(gate: CountingGate) -> None:
    DBOS.create_schedule(schedule_name="one", workflow_fn=nothing, schedule=NEVER)
    DBOS.pause_schedule("one")
    DBOS.resume_schedule("one")
    DBOS.delete_schedule("one")
    DBOS.apply_schedules([definition(f"s{number}", nothing) for number in range(1000)], delete=["one"])
    counts = gate.counts("begin")
    assert {name: counts.get(name) for name in ("create_schedule", "set_schedule_status", "delete_schedule")} == {
        **{"create_schedule": 1, "set_schedule_status": 2, "delete_schedule": 1}
    }
    assert counts["apply_schedules"] == 1
    reads = gate.count("read_schedules", "begin")
    assert len(DBOS.list_schedules()) == 1000
    assert gate.count("read_schedules", "begin") == reads + 1


def test_what_is_due_together_is_fired_in_one_transaction(gate: CountingGate) -> None:
    names = [f"s{number}" for number in range(20)]
    DBOS.apply_schedules([definition(name, nothing, EACH_SECOND) for name in names])
    wait_for_fires(names[0], 2)
    DBOS.apply_schedules([], names)
    fired = len({fire for name in names for fire in fires_of(name)})
    assert gate.count("fire", "begin") <= fired + 1
    assert {len(fires_of(name)) for name in names} == {fired}


def test_backfilling_costs_one_transaction_for_a_thousand(gate: CountingGate) -> None:
    DBOS.create_schedule(schedule_name="often", workflow_fn=nothing, schedule=EACH_SECOND)
    DBOS.pause_schedule("often")
    assert len(DBOS.backfill_schedule("often", BASE, seconds(1001))) == 1000
    assert gate.count("backfill", "begin") == 1


def test_idle_schedules_cost_looks_only(gate: CountingGate) -> None:
    DBOS.apply_schedules([definition(f"s{number}", nothing) for number in range(100)])
    executor = application().executor
    assert executor is not None
    eventually(lambda: len(executor.schedules._stored) == 100, "they are known")
    known = gate.count("read_active", "begin")
    looks = gate.count("read_active_ids", "begin")
    gate.wait_for("read_active_ids", "begin", looks + 1)
    assert gate.count("read_active", "begin") == known
    assert gate.count("fire", "begin") == 0


def test_cron_is_imported_with_the_first_expression(spawn: Spawner, sqlite_url: str) -> None:
    program = f"""
        import sys
        from dbos import DBOS
        @DBOS.workflow()
        def task(scheduled, context): ...
        DBOS(config={{"name": "app", "system_database_url": {sqlite_url!r}, "run_admin_server": False}})
        DBOS.launch()
        DBOS.list_schedules()
        print("cronsim" in sys.modules)
        DBOS.create_schedule(schedule_name="x", workflow_fn=task, schedule="@daily")
        print("cronsim" in sys.modules)
        DBOS.destroy()
    """
    assert spawn(program).succeed().split() == ["False", "True"]
