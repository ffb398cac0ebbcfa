"""Stored schedules: one transaction for any number, and what changes when one is replaced."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from dbos.model.schedules import ACTIVE, PAUSED, Schedule
from dbos.storage import schedules
from dbos.storage.database import Database
from dbos.storage.errors import TransientStorageError
from dbos.storage.schedules import ScheduleFilter, read_schedules
from tests.storage.conftest import Opener
from tests.support.storage import change, sql
from tests.verify.gate import Moment


def schedule(name: str, **others: Any) -> Schedule:
    """A schedule; its id tells its name."""
    fields: dict[str, Any] = {
        "schedule_id": f"id of {name}",
        "name": name,
        "workflow_name": "work",
        "class_name": None,
        "cron": "* * * * *",
        "context": "the context",
        "serialization": "pickle",
    }
    return Schedule(**fields | others)


def mark(database: Database, name: str) -> int | None:
    """Until when fire times are settled."""
    rows = sql(database, "SELECT fired_until_epoch_ms FROM {schema}workflow_schedules WHERE schedule_name = :n", n=name)
    value: int | None = rows[0][0]
    return value


def set_mark(database: Database, value: int | None) -> None:
    change(database, "UPDATE {schema}workflow_schedules SET fired_until_epoch_ms = :value", value=value)


def all_of(database: Database) -> dict[str, Schedule]:
    return {row.name: row.schedule for row in read_schedules(database, ScheduleFilter())}


def test_a_name_is_given_once(database: Database) -> None:
    assert schedules.create(database, schedule("a"))
    assert not schedules.create(database, schedule("a", schedule_id="another"))
    assert all_of(database) == {"a": schedule("a")}


def test_one_whose_answer_was_lost_was_made(open_again: Opener) -> None:
    lost: list[str] = []

    def lose(operation: str, moment: Moment) -> None:
        if operation == "create_schedule" and moment == "after_commit" and not lost:
            lost.append(operation)
            raise TransientStorageError("made by the test")

    database = open_again(gate=lose)
    assert schedules.create(database, schedule("a"))
    assert lost
    assert all_of(database) == {"a": schedule("a")}


def test_what_stays_the_same_is_not_touched(database: Database) -> None:
    schedules.apply(database, [schedule("a")], [])
    set_mark(database, 5)
    schedules.apply(database, [schedule("a", schedule_id="another")], [])
    assert all_of(database)["a"].schedule_id == "id of a"
    assert mark(database, "a") == 5


@pytest.mark.parametrize(
    ("changes", "keeps_mark"),
    [
        ({"context": "another"}, True),
        ({"serialization": None}, True),
        ({"workflow_name": "another"}, True),
        ({"class_name": "Another"}, True),
        ({"cron": "0 * * * *"}, False),
    ],
)
def test_replaced_times_begin_anew_and_the_same_times_go_on(
    database: Database, changes: dict[str, Any], keeps_mark: bool
) -> None:
    schedules.apply(database, [schedule("a")], [])
    set_mark(database, 5)
    another = schedule("a", schedule_id="another", **changes)
    schedules.apply(database, [another], [])
    assert all_of(database) == {"a": another}
    assert (mark(database, "a") == 5) == keeps_mark


def test_resumed_times_begin_anew(database: Database) -> None:
    schedules.create(database, schedule("a"))
    set_mark(database, 5)
    schedules.set_status(database, "a", ACTIVE)
    assert mark(database, "a") == 5
    schedules.set_status(database, "a", PAUSED)
    assert mark(database, "a") == 5
    schedules.apply(database, [schedule("a", schedule_id="applied")], [])
    assert all_of(database)["a"].schedule_id == "applied"
    assert (mark(database, "a") or 0) > 1_700_000_000_000
    set_mark(database, 5)
    schedules.set_status(database, "a", PAUSED)
    schedules.set_status(database, "a", ACTIVE)
    assert (mark(database, "a") or 0) > 1_700_000_000_000


def test_what_is_missing_is_made_and_the_rest_told(database: Database) -> None:
    schedules.create(database, schedule("a", cron="0 * * * *"))
    standing = schedules.create_missing(database, [schedule("a"), schedule("b")])
    assert [row.schedule for row in standing] == [schedule("a", cron="0 * * * *")]
    assert sorted(all_of(database)) == ["a", "b"]


def test_a_thousand_are_applied_in_one_transaction_of_two_statements(open_again: Opener) -> None:
    begun: list[str] = []

    def count(operation: str, moment: Moment) -> None:
        if moment == "begin":
            begun.append(operation)

    database = open_again(gate=count)
    begun.clear()
    thousand = [schedule(f"s{number}") for number in range(1000)]
    statements: list[str] = []
    compiled = database.compiled
    database.compiled = lambda statement: statements.append(statement) or compiled(statement)  # type: ignore[func-returns-value, method-assign]
    schedules.apply(database, thousand, [f"s{number}" for number in range(1000, 2000)])
    assert begun == ["apply_schedules"]
    assert len(statements) == 2
    assert all_of(database) == {each.name: each for each in thousand}


def test_applications_at_once_do_not_lock_each_other_out(database: Database, threads: ThreadPoolExecutor) -> None:
    def apply(number: int) -> None:
        many = [schedule(f"s{n}", schedule_id=f"{number}-{n}", context=str(number)) for n in range(50)]
        schedules.apply(database, many if number % 2 else many[::-1], ["gone"])

    list(threads.map(apply, range(8)))
    contexts = {each.context for each in all_of(database).values()}
    assert len(contexts) == 1
    assert len(all_of(database)) == 50


def test_odd_names_and_contexts_are_stored_as_they_are(database: Database) -> None:
    odd = [
        schedule("a'b\"c\\"),
        schedule("été 雪\n\t"),
        schedule("%_"),
        replace(schedule("long"), context="x" * 100_000),
    ]
    schedules.apply(database, odd, [])
    assert all_of(database) == {each.name: each for each in odd}
    wanted = ScheduleFilter(name_prefixes=["%", "a'b\""])
    assert [row.name for row in read_schedules(database, wanted)] == ["%_", "a'b\"c\\"]
