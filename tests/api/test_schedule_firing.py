"""Firing: each time once and on time, over changes, restarts and any number of processes."""

from __future__ import annotations

import itertools
import logging
import re
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from dbos import DBOS, DBOSClient, DBOSConfig
from dbos.error import DBOSException
from dbos.model.schedules import to_ms
from dbos.storage.postgres import PostgresDatabase
from dbos.storage.sqlite import SqliteDatabase
from tests.support import ledger
from tests.support.apps import App, eventually
from tests.support.processes import ROOT, Spawner
from tests.support.schedules import (
    EACH_SECOND,
    NEVER,
    by_name,
    definition,
    fires_of,
    moments,
    wait_for_fires,
)
from tests.support.waking import application
from tests.verify.rows import query

PEER = ROOT / "tests/api/programs/schedule_peer.py"

SECOND = timedelta(seconds=1)

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize(
    "database_url", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)
"""Firing takes real seconds. What differs by the database is in the tests of the storage layer, on both."""


class Calls:
    """The calls of scheduled functions, as they come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.all: list[tuple[str, datetime, Any, datetime]] = []
        """Which function was called with which arguments, and when."""

    def note(self, name: str, scheduled: datetime, second: Any) -> None:
        with self._changed:
            self.all.append((name, scheduled, second, datetime.now(timezone.utc)))
            self._changed.notify_all()

    def wait(self, count: int, name: str = "tick", second: Any = ...) -> list[tuple[datetime, Any, datetime]]:
        """Wait for so many calls of a function, maybe with this second argument; the scheduled time first."""

        def those() -> list[tuple[datetime, Any, datetime]]:
            return [call[1:] for call in self.all if call[0] == name and second in (..., call[2])]

        with self._changed:
            assert self._changed.wait_for(lambda: len(those()) >= count, 30), f"no {count} calls: {self.all}"
            return those()


calls = Calls()


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.__init__()  # type: ignore[misc]


@DBOS.workflow()
def tick(scheduled: datetime, context: Any) -> str:
    calls.note("tick", scheduled, context)
    return DBOS.workflow_id or ""


@DBOS.workflow()
async def tock(scheduled: datetime, context: Any) -> None:
    calls.note("tock", scheduled, context)


def create(name: str, workflow: Any = tick, schedule: str = EACH_SECOND, context: Any = None) -> None:
    DBOS.create_schedule(schedule_name=name, workflow_fn=workflow, schedule=schedule, context=context)


def are_consecutive(times: list[datetime]) -> bool:
    return all(later - earlier == SECOND for earlier, later in itertools.pairwise(times))


# -- in one process


def test_each_second_fires_once_and_not_early(app: App) -> None:
    create("sync", tick, context={"a": 1})
    create("async", tock)
    ticks, tocks = calls.wait(3), calls.wait(3, "tock")
    for fired in (ticks, tocks):
        scheduled = [call[0] for call in fired]
        assert are_consecutive(scheduled)
        assert all(time.tzinfo is timezone.utc and time.microsecond == 0 for time in scheduled)
        assert all(timedelta() <= called - time < SECOND for time, _, called in fired)
    assert [call[1] for call in ticks] == [{"a": 1}] * len(ticks)
    (first,) = DBOS.list_workflows(workflow_ids=[f"sched-sync-{ticks[0][0].isoformat()}"])
    assert (first.name, first.queue_name, first.app_version) == ("tick", "_dbos_internal_queue", "test")
    assert first.input == {"args": (ticks[0][0], {"a": 1}), "kwargs": {}}
    assert DBOS.get_result(first.workflow_id) == first.workflow_id


@on_sqlite
def test_minutes_fire_at_their_begin_only(app: App) -> None:
    """The next minute's time is set for the next second."""
    now = datetime.now(timezone.utc) + timedelta(seconds=2)
    create("minutely", schedule=f"{now.second} {now.minute} {now.hour} * * *")
    (call,) = calls.wait(1)
    assert call[0] == now.replace(microsecond=0)
    create("secondly", tock)
    calls.wait(2, "tock")
    assert len(fires_of("minutely")) == 1


@on_postgres
def test_paused_schedule_fires_no_more_and_leaves_out_what_it_missed(app: App) -> None:
    create("paused", context="p")
    create("clock", tock)
    calls.wait(1, second="p")
    DBOS.pause_schedule("paused")
    paused_at = datetime.now(timezone.utc)
    calls.wait(len(calls.wait(0, "tock")) + 2, "tock")
    assert all(fired <= paused_at for fired in moments(fires_of("paused")))
    resumed_at = datetime.now(timezone.utc)
    DBOS.resume_schedule("paused")
    eventually(lambda: [fired for fired in moments(fires_of("paused")) if fired > resumed_at], "it fires again")
    assert not [fired for fired in moments(fires_of("paused")) if paused_at < fired < resumed_at - SECOND / 10]


@on_sqlite
def test_deleted_schedule_fires_no_more(app: App) -> None:
    create("deleted", context="d")
    create("clock", tock)
    calls.wait(1, second="d")
    DBOS.delete_schedule("deleted")
    count = len(fires_of("deleted"))
    calls.wait(len(calls.wait(0, "tock")) + 2, "tock")
    assert len(fires_of("deleted")) == count


@on_postgres
def test_replaced_schedule_fires_as_it_is_now_and_loses_no_time(app: App) -> None:
    create("replaced", context=1)
    calls.wait(1, second=1)
    DBOS.apply_schedules([definition("replaced", tick, EACH_SECOND, 2)])
    calls.wait(2, second=2)
    assert are_consecutive(moments(fires_of("replaced")))
    contexts = [call[1] for call in calls.wait(0)]
    assert contexts == sorted(contexts)
    DBOS.apply_schedules([definition("replaced", tock, EACH_SECOND, 3)])
    calls.wait(1, "tock", 3)


@pytest.mark.parametrize("drops_hints", [False, True])
def test_changes_of_a_client_are_noticed_in_time(database_url: str, drops_hints: bool) -> None:
    """Also where no hint arrives."""
    app = App(database_url)
    DBOS(config=app.config())
    application().drops_hints = drops_hints
    DBOS.launch()
    try:
        with DBOSClient(system_database_url=database_url) as client:
            client.create_schedule(schedule_name="clients", workflow_name="tick", schedule=EACH_SECOND, context=1)
            created_at = datetime.now(timezone.utc)
            ((_, _, called), *_) = calls.wait(1)
            assert called - created_at < timedelta(seconds=3 + 1)
            client.apply_schedules([by_name("clients", "tock", EACH_SECOND)])
            calls.wait(1, "tock")
            client.pause_schedule("clients")
            count = len(fires_of("clients"))
            create("clock", tick, context="clock")
            calls.wait(2, second="clock")
            assert len(fires_of("clients")) == count
    finally:
        DBOS.destroy()


def test_times_at_which_nothing_ran_are_not_made_up(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute, by the database's clock."""
    create("missed")
    calls.wait(1)
    DBOS.destroy()
    destroyed_at = datetime.now(timezone.utc)
    for kind in (SqliteDatabase, PostgresDatabase):
        monkeypatch.setattr(kind, "clock_expression", f"({kind.clock_expression} + 60000)")
    launched_at = datetime.now(timezone.utc) + 60 * SECOND
    app.launch()
    eventually(lambda: [fired for fired in moments(fires_of("missed")) if fired > launched_at], "it fires again")
    assert [fired for fired in moments(fires_of("missed")) if destroyed_at < fired < launched_at] == []
    for handle in DBOS.backfill_schedule("missed", launched_at - 3 * SECOND, launched_at):
        handle.get_result()
    assert len([fired for fired in moments(fires_of("missed")) if destroyed_at < fired < launched_at]) == 3


@on_postgres
def test_workflow_of_any_version_that_knows_the_function_runs(app: App) -> None:
    create("versions")
    calls.wait(1)
    app.relaunch(application_version="next")
    eventually(lambda: DBOS.list_workflows(app_version="next", name="tick"), "the next version fires")


@on_sqlite
def test_a_fire_time_that_was_backfilled_is_not_fired_again(app: App) -> None:
    now = datetime.now(timezone.utc)
    create("future", context="f")
    DBOS.backfill_schedule("future", now + SECOND, now + 4 * SECOND)
    wait_for_fires("future", 3)
    create("clock", tock)
    calls.wait(4, "tock")
    scheduled = [call[0] for call in calls.wait(0, second="f")]
    assert max(Counter(scheduled).values()) == 1


# -- what cannot be fired


@on_sqlite
def test_schedule_of_an_unknown_function_is_left_to_others_and_reported_once(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    with DBOSClient(system_database_url=app.url) as client:
        client.create_schedule(schedule_name="unknown", workflow_name="nowhere", schedule=EACH_SECOND)
    create("clock", context="clock")
    calls.wait(3)
    assert fires_of("unknown") == []
    reports = [record.message for record in caplog.records if "'unknown'" in record.message]
    assert len(reports) == 1
    assert "'nowhere' is not registered in this process" in reports[0]


@on_sqlite
@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("schedule", "every day", "as it is stored, never fires: The cron expression 'every day' is invalid"),
        ("context", "no pickle", "cannot be deserialized"),
    ],
)
def test_schedule_that_cannot_be_understood_is_reported_once_and_hinders_no_other(
    app: App, caplog: pytest.LogCaptureFixture, column: str, value: str, words: str
) -> None:
    create("odd")
    DBOS.pause_schedule("odd")
    query(app.url, f"UPDATE {{schema}}workflow_schedules SET {column} = '{value}', status = 'ACTIVE'")
    create("clock", context="clock")
    calls.wait(3, second="clock")
    reports = [record.message for record in caplog.records if "'odd'" in record.message]
    assert len(reports) == 1
    assert words in reports[0]


def test_what_an_older_client_stores_is_fired(app: App) -> None:
    """It knows neither the format's name nor until when fire times are settled."""
    query(
        app.url,
        "INSERT INTO {schema}workflow_schedules (schedule_id, schedule_name, workflow_name, schedule, status, context) "
        "VALUES ('some id', 'older', 'tick', '* * * * * *', 'ACTIVE', 'gAROLg==')",
    )
    assert [call[1] for call in calls.wait(2)][:2] == [None, None]
    assert are_consecutive(moments(wait_for_fires("older", 2)))


# -- before the launch


def test_schedule_that_is_made_before_the_launch_is_stored_then(database_url: str) -> None:
    create("early", context=[1])
    create("early", context=[1])
    with pytest.raises(DBOSException, match="'early' exists already"):
        create("early", context=[2])
    app = App(database_url)
    for _ in range(2):
        app.launch()
        assert [each["context"] for each in DBOS.list_schedules()] == [[1]]
        calls.wait(len(calls.all) + 1)
        with pytest.raises(DBOSException, match="'early' exists already"):
            create("early", context=[1])
        DBOS.destroy()
    app.launch()
    DBOS.delete_schedule("early")
    DBOS.destroy(destroy_registry=False)
    app.launch()
    assert len(DBOS.list_schedules()) == 1
    DBOS.destroy()


def test_stored_schedule_that_is_declared_otherwise_stays_and_is_reported(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(database_url)
    app.launch()
    create("same", schedule=NEVER, context={"b": 1, "a": 2})
    create("other", schedule=NEVER)
    DBOS.destroy()
    create("same", schedule=NEVER, context={"a": 2, "b": 1})
    create("other", schedule="0 0 28 2 *")
    create("new", schedule=NEVER)
    app.launch()
    assert {each["schedule_name"]: each["schedule"] for each in DBOS.list_schedules()} == {
        **{"same": NEVER, "other": NEVER, "new": NEVER}
    }
    reports = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(reports) == 1
    assert re.search(r"'other' is stored with another definition.*0 0 28 2 .*DBOS.apply_schedules", reports[0])
    DBOS.destroy()


def test_all_but_making_schedules_needs_a_launch(unlaunched: Path) -> None:
    uses: list[Callable[[], object]] = [
        lambda: DBOS.list_schedules(),
        lambda: DBOS.get_schedule("x"),
        lambda: DBOS.pause_schedule("x"),
        lambda: DBOS.trigger_schedule("x"),
        lambda: DBOS.apply_schedules([definition("x", tick)]),
    ]
    for use in uses:
        with pytest.raises(DBOSException, match=r"DBOS.launch\(\)"):
            use()


# -- the older decorator


def test_decorated_functions_run_with_the_scheduled_and_the_actual_time(database_url: str) -> None:
    @DBOS.scheduled(EACH_SECOND)
    @DBOS.workflow(name="above")
    def above(scheduled: datetime, actual: datetime) -> None:
        calls.note("above", scheduled, actual)

    @DBOS.workflow(name="below")
    @DBOS.scheduled(EACH_SECOND)
    async def below(scheduled: datetime, actual: datetime) -> None:
        calls.note("below", scheduled, actual)

    @DBOS.scheduled(NEVER)
    @DBOS.scheduled("*/2 * * * * *")
    @DBOS.workflow(name="twice")
    def twice(scheduled: datetime, actual: datetime) -> None:
        calls.note("twice", scheduled, actual)

    app = App(database_url)
    app.launch()
    try:
        for name in ("above", "below"):
            fired = calls.wait(3, name)
            assert are_consecutive([call[0] for call in fired])
            assert all(timedelta() <= actual - scheduled < SECOND for scheduled, actual, _ in fired)
            assert all(actual.tzinfo is timezone.utc for _, actual, _ in fired)
            assert fires_of(name)[0] == fired[0][0].isoformat()
        assert all(call[0].second % 2 == 0 for call in calls.wait(1, "twice"))
        assert DBOS.list_schedules() == []
        app.relaunch()
        calls.wait(len(calls.wait(0, "above")) + 1, "above")
        assert max(Counter(call[0] for call in calls.wait(0, "above")).values()) == 1
    finally:
        DBOS.destroy()


def test_methods_of_classes_are_decorated_and_those_of_instances_are_refused(sqlite_url: str) -> None:
    @DBOS.dbos_class("Decorated")
    class Decorated:
        @staticmethod
        @DBOS.scheduled(EACH_SECOND)
        @DBOS.workflow(name="decorated-static")
        def static(scheduled: datetime, actual: datetime) -> None:
            calls.note("static", scheduled, actual)

        @DBOS.scheduled(EACH_SECOND)
        @classmethod
        @DBOS.workflow(name="decorated-class")
        def of_class(cls, scheduled: datetime, actual: datetime) -> None:
            calls.note(cls.__name__, scheduled, actual)

    app = App(sqlite_url)
    app.launch()
    calls.wait(1, "static")
    calls.wait(1, "Decorated")
    DBOS.create_schedule(schedule_name="stored", workflow_fn=Decorated.of_class, schedule=EACH_SECOND, context=1)
    calls.wait(1, "Decorated", 1)
    DBOS.destroy()

    @DBOS.dbos_class("Refused")
    class Refused:
        @DBOS.scheduled(EACH_SECOND)
        @DBOS.workflow(name="decorated-instance")
        def of_instance(self, scheduled: datetime, actual: datetime) -> None: ...

    with pytest.raises(DBOSException, match="decorated-instance is a method of instances"):
        app.launch()
    DBOS.destroy()


def test_deactivated_process_fires_no_more(sqlite_url: str, tmp_path: Path, spawn: Spawner) -> None:
    path = tmp_path / "ledger"
    app = App(sqlite_url)
    app.launch()
    create("tick")
    calls.wait(1)
    executor = application().executor
    assert executor is not None
    executor.deactivate()
    count = len(fires_of("tick"))
    start_peers(spawn, sqlite_url, path, 1, "tick")
    eventually(lambda: len(runs_of(path, "tick")) >= 2, "another process fires")
    DBOS.destroy()
    assert len(calls.all) <= count


def test_wrong_decorations_are_refused(sqlite_url: str) -> None:
    with pytest.raises(DBOSException, match="'often' is invalid"):
        DBOS.scheduled("often")

    @DBOS.scheduled(EACH_SECOND)
    def plain(scheduled: datetime, actual: datetime) -> None: ...

    with pytest.raises(DBOSException, match="plain is not a workflow"):
        App(sqlite_url).launch()
    DBOS.destroy()


# -- several processes


def start_peers(spawn: Spawner, url: str, path: Path, count: int, *functions: str) -> list[Any]:
    peers = [spawn(PEER, url, path, "1", *functions) for _ in range(count)]
    for peer in peers:
        peer.wait_for_line("launched")
    return peers


def runs_of(path: Path, kind: str) -> list[datetime]:
    return moments([entry["scheduled"] for entry in ledger.read(path) if entry["kind"] == kind])


def test_processes_fire_each_time_once_though_some_are_killed(
    database_url: str, tmp_path: Path, spawn: Spawner
) -> None:
    path = tmp_path / "ledger"
    first, second, third = start_peers(spawn, database_url, path, 3, "tick", "tock", "old")
    with DBOSClient(system_database_url=database_url) as client:
        for name in ("tick", "tock"):
            client.create_schedule(schedule_name=name, workflow_name=name, schedule=EACH_SECOND)
        eventually(lambda: len(runs_of(path, "tick")) >= 2, "it fires")
        first.kill()
        count = len(runs_of(path, "tick"))
        eventually(lambda: len(runs_of(path, "tick")) >= count + 2, "the others fire")
        second.kill()
        eventually(lambda: len(runs_of(path, "tick")) >= count + 4, "the last one fires")
        third.write_line("destroy")
        third.succeed()
        for kind in ("tick", "tock", "old"):
            runs = Counter(runs_of(path, kind))
            assert are_consecutive(sorted(runs)), kind
            workflows = {workflow.workflow_id: workflow for workflow in client.list_workflows(name=kind)}
            assert workflows.keys() == {f"sched-{kind}-{time.isoformat()}" for time in runs}
            for time, count in runs.items():
                # What was running when its process was killed, or handed it back, runs again.
                assert count <= (workflows[f"sched-{kind}-{time.isoformat()}"].recovery_attempts or 0) + 1
            assert sum(count > 1 for count in runs.values()) <= 6, kind


def test_process_that_does_not_know_the_function_leaves_it_to_the_others(
    postgres_url: str, tmp_path: Path, spawn: Spawner
) -> None:
    path = tmp_path / "ledger"
    start_peers(spawn, postgres_url, path, 1, "old")
    start_peers(spawn, postgres_url, path, 1, "tick")
    with DBOSClient(system_database_url=postgres_url) as client:
        client.create_schedule(schedule_name="tick", workflow_name="tick", schedule=EACH_SECOND)
        eventually(lambda: len(runs_of(path, "tick")) >= 3, "it fires")
    assert are_consecutive(runs_of(path, "tick"))


# -- clocks


def set_database_clock(ahead_ms: int) -> None:
    """Let the database's clock be ahead, for this process."""
    executor = application().executor
    assert executor is not None
    database: Any = executor.database
    real = type(database).clock_expression
    database.clock_expression = f"({real} + {ahead_ms})"
    database._compiled.clear()
    executor.time.refresh()


def test_times_that_pass_in_a_short_stop_are_made_good_and_in_a_long_one_left_out(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    create("daily", schedule="59 59 23 * * *")
    executor = application().executor
    assert executor is not None
    eventually(lambda: executor.schedules._stored, "it is known")
    now = datetime.now(timezone.utc)
    due = now.replace(hour=23, minute=59, second=59, microsecond=0)
    set_database_clock(to_ms(due) - to_ms(now) + 60_000)
    executor.schedules._serve.run_soon()
    assert wait_for_fires("daily", 1) == [due.isoformat()]
    set_database_clock(to_ms(due) - to_ms(now) + 3 * 86_400_000 + 600_000)
    executor.schedules._serve.run_soon()
    eventually(lambda: "Those times are left out" in caplog.text, "it is reported")
    assert "'daily' could not fire for more than 5 minutes" in caplog.text
    assert (due + timedelta(days=1)).isoformat() in caplog.text
    assert fires_of("daily") == [due.isoformat()]


@on_sqlite
def test_clock_that_is_set_back_fires_nothing_early_or_twice(app: App) -> None:
    create("set-back")
    calls.wait(1)
    executor = application().executor
    assert executor is not None
    database: Any = executor.database
    database.clock_expression = f"({type(database).clock_expression} - 1500)"
    database._compiled.clear()
    count = len(calls.wait(2)) + 2
    fired = calls.wait(count)
    assert are_consecutive([call[0] for call in fired])
    assert fired[-1][2] - fired[-1][0] >= timedelta(seconds=1.5)


def test_settings_of_the_interval_are_used(sqlite_url: str) -> None:
    config: DBOSConfig = App(sqlite_url).config(scheduler_polling_interval_sec=0.05)
    DBOS(config=config)
    DBOS.launch()
    executor = application().executor
    assert executor is not None
    assert executor.schedules._poll_interval_s == 0.05
    DBOS.destroy()
