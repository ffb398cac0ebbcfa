"""Firing, in the database: a fire time is settled once, by whoever is first, and only of what fires."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dbos.model.schedules import PAUSED, run_id, to_datetime
from dbos.model.values import Place
from dbos.storage import schedules
from dbos.storage.database import Database
from dbos.storage.errors import TransientStorageError
from dbos.storage.fires import DECORATED, STORED, Fire, fire, note_decorated, read_active, read_active_ids
from dbos.storage.management import delete
from tests.storage.conftest import Opener
from tests.storage.test_schedules import mark, schedule, set_mark
from tests.support.storage import sql, start
from tests.verify.gate import Moment

NOON = 1_700_000_000_000
"""Some time in the past."""

both_kinds = pytest.mark.parametrize("kind", [STORED, DECORATED])


def fire_at(at_ms: int, kind: str = STORED, name: str = "a") -> Fire:
    """A fire time, and its workflow."""
    workflow = start(run_id(name, to_datetime(at_ms)), None, lease_id=None, status="ENQUEUED", place=Place("internal"))
    return Fire(kind, f"id of {name}" if kind == STORED else name, at_ms, workflow)


def add(database: Database, kind: str = STORED, name: str = "a", fired_until: int | None = NOON - 1) -> None:
    """A schedule whose fire times are settled until then."""
    if kind == STORED:
        schedules.create(database, schedule(name))
        set_mark(database, fired_until)
    else:
        note_decorated(database, [name])
        database.run(
            "test",
            lambda t: t.write("UPDATE {schema}decorated_schedules SET fired_until_epoch_ms = :at", {"at": fired_until}),
        )


def started(database: Database) -> list[str]:
    return sorted(row[0] for row in sql(database, "SELECT workflow_uuid FROM {schema}workflow_status"))


def id_at(at_ms: int, name: str = "a") -> str:
    return run_id(name, to_datetime(at_ms))


@both_kinds
def test_a_fire_time_is_settled_once(database: Database, kind: str) -> None:
    add(database, kind)
    assert fire(database, [fire_at(NOON, kind)]).has_started
    assert not fire(database, [fire_at(NOON, kind)]).has_started
    assert not fire(database, [fire_at(NOON - 1, kind)]).has_started
    assert fire(database, [fire_at(NOON + 1000, kind)]).has_started
    assert started(database) == [id_at(NOON), id_at(NOON + 1000)]


@both_kinds
def test_it_stays_settled_when_its_workflow_is_deleted(database: Database, kind: str) -> None:
    """Some executor may be late."""
    add(database, kind)
    fire(database, [fire_at(NOON, kind)])
    delete(database, [id_at(NOON)], with_descendants=False)
    assert not fire(database, [fire_at(NOON, kind)]).has_started
    assert started(database) == []


def test_nothing_fires_that_is_paused_deleted_or_replaced(database: Database) -> None:
    for name in ("paused", "deleted", "replaced", "active"):
        add(database, name=name)
    schedules.set_status(database, "paused", PAUSED)
    schedules.delete_schedule(database, "deleted")
    schedules.apply(database, [schedule("replaced", schedule_id="another", context="another")], [])
    fires = [fire_at(NOON, name=name) for name in ("paused", "deleted", "replaced", "active")]
    answer = fire(database, fires)
    assert answer.has_started
    assert answer.early == frozenset()
    assert started(database) == [id_at(NOON, "active")]


def test_several_times_of_several_schedules_are_settled_together(database: Database) -> None:
    for name in ("a", "b"):
        add(database, name=name)
    fire(database, [fire_at(NOON), fire_at(NOON + 1000), fire_at(NOON + 2000), fire_at(NOON, name="b")])
    assert len(started(database)) == 4
    assert (mark(database, "a"), mark(database, "b")) == (NOON + 2000, NOON)


@both_kinds
def test_what_is_early_by_the_databases_clock_is_told_and_not_settled(database: Database, kind: str) -> None:
    add(database, kind)
    far = fire_at(NOON + 100 * 365 * 86_400_000, kind)
    answer = fire(database, [fire_at(NOON, kind), far])
    assert answer.early == {far}
    assert started(database) == [id_at(NOON)]
    assert not fire(database, [far]).has_started


def test_a_schedule_of_an_older_client_fires(database: Database) -> None:
    add(database, fired_until=None)
    assert fire(database, [fire_at(NOON)]).has_started
    assert mark(database, "a") == NOON


def test_a_time_that_was_backfilled_is_settled_and_not_started_again(database: Database) -> None:
    add(database)
    fire(database, [fire_at(NOON)])
    set_mark(database, NOON - 1)
    before = sql(database, "SELECT * FROM {schema}workflow_status")
    fire(database, [fire_at(NOON)])
    assert sql(database, "SELECT * FROM {schema}workflow_status") == before
    assert mark(database, "a") == NOON


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
def test_a_fire_that_fails_once_happens_once(open_again: Opener, moment: Moment) -> None:
    """And it is told that workflows may have been started, though the second try starts none."""
    failed: list[str] = []

    def fail(operation: str, at: Moment) -> None:
        if operation == "fire" and at == moment and not failed:
            failed.append(operation)
            raise TransientStorageError("made by the test")

    database = open_again(gate=fail)
    add(database)
    assert fire(database, [fire_at(NOON)]).has_started
    assert failed
    assert started(database) == [id_at(NOON)]


@both_kinds
def test_executors_at_once_settle_each_time_once(open_again: Opener, threads: ThreadPoolExecutor, kind: str) -> None:
    databases = [open_again() for _ in range(4)]
    names = [f"s{number:02}" for number in range(10)]
    for name in names:
        add(databases[0], kind, name)

    def fire_all(database: Database) -> None:
        for at_ms in range(NOON, NOON + 5000, 1000):
            fires = [fire_at(at_ms, kind, name) for name in names]
            fire(database, fires if database is databases[0] else fires[::-1])

    list(threads.map(fire_all, databases))
    expected = [id_at(at_ms, name) for name in names for at_ms in range(NOON, NOON + 5000, 1000)]
    assert started(databases[0]) == sorted(expected)


def test_only_what_fires_is_read(database: Database) -> None:
    for name in ("a", "b"):
        add(database, name=name)
    schedules.set_status(database, "b", PAUSED)
    assert read_active_ids(database) == {"id of a"}
    assert [row.name for row in read_active(database, ["id of a", "id of b", "unknown"])] == ["a"]


def test_decorated_functions_are_noted_once(database: Database) -> None:
    add(database, DECORATED, "a")
    note_decorated(database, ["a", "b"])
    rows: list[Any] = sql(database, "SELECT schedule_id, fired_until_epoch_ms FROM {schema}decorated_schedules")
    assert dict(rows)["a"] == NOON - 1
    assert dict(rows)["b"] > NOON
