"""Managing schedules: by the application and by a client, blocking and awaited; and all that is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import text

from dbos import DBOS, DBOSClient, DBOSConfiguredInstance, DBOSContextSetAuth, SetWorkflowID
from dbos.error import DBOSException, DBOSNotAuthorizedError, DBOSSerializationError
from dbos.model.schedules import MAX_NAME_BYTES
from dbos.runtime import scheduling
from tests.support.apps import App, status_of, steps_of
from tests.support.schedules import BASE, EACH_SECOND, NEVER, by_name, definition, seconds
from tests.support.twins import Twins
from tests.verify.rows import query


@DBOS.workflow()
def report(scheduled: datetime, context: Any) -> Any:
    return scheduled, context


@DBOS.workflow()
async def report_async(scheduled: datetime, context: Any) -> Any:
    return scheduled, context


@DBOS.step()
def measure(scheduled: datetime, context: Any) -> Any:
    return scheduled, context


@DBOS.transaction()
def count_rows(scheduled: datetime, statement: str) -> Any:
    return DBOS.sql_session.execute(text(statement)).scalar_one()


@DBOS.required_roles(["manager"])
@DBOS.workflow()
def guarded(scheduled: datetime, context: Any) -> None: ...


@DBOS.dbos_class("Plant")
class Plant(DBOSConfiguredInstance):
    """Has methods that can be scheduled, and one that cannot."""

    @staticmethod
    @DBOS.workflow(name="plant-status")
    def status(scheduled: datetime, context: Any) -> Any:
        return context

    @classmethod
    @DBOS.workflow(name="plant-count")
    def count(cls, scheduled: datetime, context: Any) -> Any:
        return cls.__name__, context

    @DBOS.workflow(name="plant-check")
    def check(self, scheduled: datetime, context: Any) -> Any:
        return context

    @DBOS.workflow(name="plant-probe")
    def probe(self, scheduled: datetime) -> Any:
        """With ``self`` it takes two arguments, too."""


class Manager:
    """The methods under test, with functions named as each of the two kinds wants it."""

    def __init__(self, target: Any, *, is_client: bool) -> None:
        self.target = target
        self.is_client = is_client

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def create(self, name: str, workflow: Any = report, schedule: str = NEVER, context: Any = None) -> None:
        function = {"workflow_name": workflow.__qualname__} if self.is_client else {"workflow_fn": workflow}
        self.target.create_schedule(schedule_name=name, schedule=schedule, context=context, **function)

    def define(self, name: str, workflow: Any = report, schedule: str = NEVER, context: Any = None) -> Any:
        if self.is_client:
            return by_name(name, workflow.__qualname__, schedule, context)
        return definition(name, workflow, schedule, context)


@pytest.fixture(params=["application", "application-async", "client", "client-async"])
def manager(request: pytest.FixtureRequest) -> Iterator[Manager]:
    """The application or a client, called by its methods or by their twins: each on one kind of database."""
    kind, _, twins = request.param.partition("-")
    on_postgres = request.param in ("application", "client-async")
    app = App(request.getfixturevalue("postgres_url" if on_postgres else "sqlite_url"))
    app.launch()
    with DBOSClient(system_database_url=app.url) as client:
        target = DBOS if kind == "application" else client
        yield Manager(Twins(target) if twins else target, is_client=kind == "client")
    DBOS.destroy()


def names(schedules: list[Any]) -> list[str]:
    return [schedule["schedule_name"] for schedule in schedules]


# -- made, listed, changed


def test_schedule_is_listed_as_it_was_made(manager: Manager) -> None:
    manager.create("nightly", report, NEVER, {"region": "north"})
    schedule = manager.get_schedule("nightly")
    assert schedule == {
        "schedule_id": schedule["schedule_id"],
        "schedule_name": "nightly",
        "workflow_name": "report",
        "workflow_class_name": None,
        "schedule": NEVER,
        "status": "ACTIVE",
        "context": {"region": "north"},
    }
    assert manager.list_schedules() == [schedule]
    assert manager.get_schedule("unknown") is None


def test_schedules_are_filtered(manager: Manager) -> None:
    for name, workflow in (("a_1", report), ("a_2", report_async), ("a%3", report), ("b", report)):
        manager.create(name, workflow)
    manager.pause_schedule("a_2")
    assert names(manager.list_schedules()) == ["a%3", "a_1", "a_2", "b"]
    assert names(manager.list_schedules(status="PAUSED")) == ["a_2"]
    assert names(manager.list_schedules(status=["ACTIVE", "PAUSED"], workflow_name="report_async")) == ["a_2"]
    assert names(manager.list_schedules(workflow_name=["report", "report_async"], status="ACTIVE")) == [
        *("a%3", "a_1", "b")
    ]
    assert names(manager.list_schedules(schedule_name_prefix="a_")) == ["a_1", "a_2"]
    assert names(manager.list_schedules(schedule_name_prefix=["a%", "b"])) == ["a%3", "b"]
    assert names(manager.list_schedules(schedule_name_prefix="%")) == []
    assert names(manager.list_schedules(status=[])) == []


def test_second_schedule_of_a_name_is_refused(manager: Manager) -> None:
    manager.create("nightly", context=1)
    with pytest.raises(DBOSException, match=r"'nightly' exists already.*apply_schedules"):
        manager.create("nightly", context=1)
    assert manager.get_schedule("nightly")["context"] == 1


def test_paused_schedule_is_resumed(manager: Manager) -> None:
    manager.create("nightly")
    for method, status in (("pause", "PAUSED"), ("pause", "PAUSED"), ("resume", "ACTIVE"), ("resume", "ACTIVE")):
        getattr(manager, f"{method}_schedule")("nightly")
        assert manager.get_schedule("nightly")["status"] == status


def test_deleted_schedule_is_gone_and_its_name_is_free(manager: Manager) -> None:
    manager.create("nightly", context=1)
    manager.delete_schedule("nightly")
    assert manager.get_schedule("nightly") is None
    manager.create("nightly", context=2)
    assert manager.get_schedule("nightly")["context"] == 2


def test_what_does_not_exist_is_left_alone(manager: Manager) -> None:
    for method in ("pause", "resume", "delete"):
        assert getattr(manager, f"{method}_schedule")("unknown") is None


def test_what_does_not_exist_cannot_be_started(manager: Manager) -> None:
    with pytest.raises(DBOSException, match="no schedule named 'unknown'"):
        manager.trigger_schedule("unknown")
    with pytest.raises(DBOSException, match="no schedule named 'unknown'"):
        manager.backfill_schedule("unknown", BASE, seconds(10))


# -- applied


def test_applied_schedules_are_made_replaced_and_deleted(manager: Manager) -> None:
    for name in ("kept", "changed", "paused", "deleted", "other"):
        manager.create(name, context=1)
    manager.pause_schedule("paused")
    before = {each["schedule_name"]: each for each in manager.list_schedules()}
    manager.apply_schedules(
        [
            manager.define("kept", context=1),
            manager.define("changed", report_async, EACH_SECOND.replace("*", "59", 1), 2),
            manager.define("paused", context=1),
            manager.define("new", context=3),
        ],
        delete=["deleted", "unknown"],
    )
    after = {each["schedule_name"]: each for each in manager.list_schedules()}
    assert sorted(after) == ["changed", "kept", "new", "other", "paused"]
    assert after["kept"] == before["kept"]
    assert after["other"] == before["other"]
    assert (after["changed"]["workflow_name"], after["changed"]["context"]) == ("report_async", 2)
    assert after["changed"]["schedule_id"] != before["changed"]["schedule_id"]
    assert after["paused"]["status"] == "ACTIVE"
    manager.apply_schedules([])
    manager.apply_schedules([], ["new"])
    assert "new" not in names(manager.list_schedules())


def test_applied_schedules_need_no_context(manager: Manager) -> None:
    schedule = manager.define("nightly")
    del schedule["context"]
    manager.apply_schedules([schedule])
    assert manager.get_schedule("nightly")["context"] is None


def test_nothing_is_applied_if_one_is_wrong(manager: Manager) -> None:
    manager.create("nightly", context=1)
    right = manager.define("nightly", context=2)
    for wrong, error, words in (
        (manager.define("other", schedule="bogus"), DBOSException, "'other': .*'bogus' is invalid"),
        (manager.define("other", context=lambda: 1), DBOSSerializationError, "context of schedule 'other'"),
        (manager.define(""), ValueError, "must not be empty"),
        (right, ValueError, "'nightly' more than once"),
        ({**right, "schedule_name": "other", "when": "soon"}, ValueError, "has the keys"),
        ({"schedule_name": "other"}, ValueError, "has the keys"),
        ("other", TypeError, "is none"),
    ):
        with pytest.raises(error, match=words):
            manager.apply_schedules([right, wrong])
    with pytest.raises(ValueError, match="'nightly' more than once"):
        manager.apply_schedules([right], delete=["nightly"])
    with pytest.raises(TypeError, match="takes a list"):
        manager.apply_schedules(right)
    assert manager.get_schedule("nightly")["context"] == 1


# -- started apart from the times


def test_trigger_starts_the_workflow_now_also_of_a_paused_schedule(manager: Manager) -> None:
    manager.create("nightly", context="now")
    manager.pause_schedule("nightly")
    before = datetime.now(timezone.utc) - timedelta(milliseconds=1)
    handles = [manager.trigger_schedule("nightly") for _ in range(3)]
    ids = [handle.get_workflow_id() for handle in handles]
    assert len(set(ids)) == 3
    for workflow_id, handle in zip(ids, handles, strict=True):
        scheduled, context = handle.get_result()
        assert context == "now"
        assert before <= scheduled <= datetime.now(timezone.utc)
        assert scheduled.tzinfo is timezone.utc
        assert workflow_id == f"sched-nightly-trigger-{scheduled.isoformat()}"


def test_backfill_starts_the_times_between_both_left_out_and_each_once(manager: Manager) -> None:
    manager.create("nightly", schedule=EACH_SECOND, context="then")
    manager.pause_schedule("nightly")
    handles = manager.backfill_schedule("nightly", BASE, seconds(3))
    assert [handle.get_workflow_id() for handle in handles] == [
        "sched-nightly-2024-01-01T00:00:01+00:00",
        "sched-nightly-2024-01-01T00:00:02+00:00",
    ]
    assert [handle.get_result() for handle in handles] == [(seconds(1), "then"), (seconds(2), "then")]
    again = manager.backfill_schedule("nightly", seconds(0.5), seconds(3.5))
    assert len(again) == 3
    assert [handle.get_result()[0] for handle in again] == [seconds(1), seconds(2), seconds(3)]
    assert len(DBOS.list_workflows(workflow_id_prefix="sched-nightly")) == 3


def test_backfill_of_an_empty_range_starts_nothing(manager: Manager) -> None:
    manager.create("nightly", schedule=EACH_SECOND)
    manager.pause_schedule("nightly")
    for start, end in ((BASE, BASE), (BASE, seconds(1)), (seconds(10), BASE)):
        assert manager.backfill_schedule("nightly", start, end) == []


# -- refused, and odd


@pytest.mark.parametrize("expression", ["60 * * * *", "* * * * * * *", "", "@every 5s", "0 0 30 2 *", "bogus"])
def test_invalid_expressions_are_refused_and_named(manager: Manager, expression: str) -> None:
    with pytest.raises(DBOSException, match=r"Schedule 'nightly': The cron expression .* is invalid") as refusal:
        manager.create("nightly", schedule=expression)
    assert repr(expression) in str(refusal.value)
    assert manager.list_schedules() == []


def test_absurd_names_are_refused_or_kept(manager: Manager) -> None:
    for name, error in (
        ("", ValueError),
        ("a\x00b", ValueError),
        ("x" * (MAX_NAME_BYTES + 1), ValueError),
        (7, TypeError),
    ):
        with pytest.raises(error):
            manager.create(name)
    kept = ["x" * MAX_NAME_BYTES, " ", "a'b\"c; DROP TABLE", "été/雪\n"]
    for name in kept:
        manager.create(name)
        assert manager.get_schedule(name)["schedule_name"] == name
        assert manager.trigger_schedule(name).get_result()[1] is None
    assert sorted(names(manager.list_schedules())) == sorted(kept)


def test_context_that_cannot_be_stored_is_refused(manager: Manager) -> None:
    with pytest.raises(DBOSSerializationError, match="context of schedule 'nightly'"):
        manager.create("nightly", context=lambda: 1)
    assert manager.list_schedules() == []


def test_wrong_filters_and_times_are_refused(manager: Manager) -> None:
    manager.create("nightly")
    with pytest.raises(ValueError, match="no status 'RUNNING'"):
        manager.list_schedules(status="RUNNING")
    with pytest.raises(TypeError, match="workflow_name must be"):
        manager.list_schedules(workflow_name=7)
    with pytest.raises(TypeError, match="start must be a datetime"):
        manager.backfill_schedule("nightly", "2024-01-01", BASE)
    with pytest.raises(TypeError, match="must be a str"):
        manager.get_schedule(7)


def test_context_that_cannot_be_decoded_shows_as_its_stored_text(app: App) -> None:
    DBOS.create_schedule(schedule_name="nightly", workflow_fn=report, schedule=NEVER)
    query(app.url, "UPDATE {schema}workflow_schedules SET context = 'no pickle'")
    schedule = DBOS.get_schedule("nightly")
    assert schedule is not None
    assert schedule["context"] == "no pickle"
    with pytest.raises(DBOSSerializationError):
        DBOS.trigger_schedule("nightly")


def test_functions_that_cannot_be_scheduled_are_refused(sqlite_app: App) -> None:
    @DBOS.workflow()
    def short(scheduled: datetime) -> None: ...

    @DBOS.workflow()
    def long(scheduled: datetime, context: Any, more: Any) -> None: ...

    for function, error, words in (
        (len, DBOSException, "is not a workflow"),
        (lambda scheduled, context: None, DBOSException, "is not a workflow"),
        (Plant("one").check, DBOSException, "Plant.check is a method of instances"),
        (Plant.check, DBOSException, "plant-check is a method of instances"),
        (Plant.probe, DBOSException, "plant-probe is a method of instances"),
        (short, DBOSException, "short.*called with two arguments"),
        (long, DBOSException, "long.*called with two arguments"),
        ("report", TypeError, "is none"),
    ):
        wrong: Any = function
        with pytest.raises(error, match=words):
            DBOS.create_schedule(schedule_name="nightly", workflow_fn=wrong, schedule=NEVER)
        with pytest.raises(error, match=words):
            DBOS.apply_schedules([definition("nightly", wrong)])
    assert DBOS.list_schedules() == []


def test_steps_and_methods_of_classes_are_scheduled(app: App) -> None:
    DBOS.create_schedule(schedule_name="step", workflow_fn=measure, schedule=NEVER, context=1)
    DBOS.create_schedule(schedule_name="method", workflow_fn=Plant.status, schedule=NEVER, context=2)
    DBOS.create_schedule(schedule_name="class method", workflow_fn=Plant.count, schedule=NEVER, context=3)
    listed = [(each["workflow_name"], each["workflow_class_name"]) for each in DBOS.list_schedules()]
    assert listed == [("plant-count", "Plant"), ("plant-status", None), ("<temp>.measure", None)]
    handle: Any = DBOS.trigger_schedule("step")
    assert handle.get_result()[1] == 1
    assert steps_of(handle.workflow_id) == [(1, "measure")]
    assert DBOS.trigger_schedule("method").get_result() == 2  # type: ignore[func-returns-value]
    by_class: Any = DBOS.trigger_schedule("class method")
    assert by_class.get_result() == ("Plant", 3)
    assert by_class.get_status().class_name == "Plant"


def test_a_transaction_is_scheduled(app: App) -> None:
    DBOS.create_schedule(schedule_name="count", workflow_fn=count_rows, schedule=NEVER, context="SELECT 3")
    handle: Any = DBOS.trigger_schedule("count")
    assert handle.get_result() == 3


def test_what_a_schedule_starts_runs_for_nobody(app: App) -> None:
    DBOS.create_schedule(schedule_name="guarded", workflow_fn=guarded, schedule=NEVER)
    with DBOSContextSetAuth("ann", ["manager"]):
        triggered = DBOS.trigger_schedule("guarded")
    with pytest.raises(DBOSNotAuthorizedError, match=r"manager.*nobody is authenticated"):
        triggered.get_result()
    assert triggered.get_status().authenticated_user is None


def test_backfill_takes_times_without_a_zone_for_local(sqlite_app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        DBOS.create_schedule(schedule_name="hourly", workflow_fn=report, schedule="@hourly")
        # In this night, the clocks of New York go from 2 to 3.
        start, end = datetime(2024, 3, 10, 1, 30), datetime(2024, 3, 10, 4, 30)
        ids = [handle.workflow_id for handle in DBOS.backfill_schedule("hourly", start, end)]
        assert ids == ["sched-hourly-2024-03-10T07:00:00+00:00", "sched-hourly-2024-03-10T08:00:00+00:00"]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_backfill_has_a_limit_and_starts_nothing_beyond_it(sqlite_app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    DBOS.create_schedule(schedule_name="often", workflow_fn=report, schedule=EACH_SECOND)
    DBOS.pause_schedule("often")
    with pytest.raises(DBOSException, match=r"more than 100000 times.*shorter ranges"):
        DBOS.backfill_schedule("often", BASE, BASE.replace(year=9999))
    assert DBOS.list_workflows() == []
    monkeypatch.setattr(scheduling, "_BITE", 7)
    assert len(DBOS.backfill_schedule("often", BASE, seconds(21))) == 20
    assert len(DBOS.list_workflows()) == 20


# -- in workflows, steps and coroutines


def manage(results: list[Any]) -> None:
    """All that may be called from a workflow, and what may not."""
    DBOS.create_schedule(schedule_name="made", workflow_fn=report, schedule=NEVER, context=[1])
    results.append(DBOS.get_schedule("made"))
    DBOS.pause_schedule("made")
    results.append(DBOS.list_schedules(status="PAUSED"))
    DBOS.resume_schedule("made")
    DBOS.delete_schedule("made")
    results.append(DBOS.get_schedule("made"))
    calls: tuple[Callable[[], object], ...] = (
        lambda: DBOS.apply_schedules([]),
        lambda: DBOS.trigger_schedule("made"),
        lambda: DBOS.backfill_schedule("made", BASE, BASE),
    )
    for call in calls:
        with pytest.raises(DBOSException, match="cannot be called from a workflow"):
            call()


@DBOS.workflow()
def manage_all() -> list[Any]:
    results: list[Any] = []
    manage(results)
    return results


@DBOS.workflow()
async def manage_all_async() -> list[Any]:
    results: list[Any] = []
    manage(results)
    return results


STEPS = [
    "DBOS.createSchedule",
    "DBOS.getSchedule",
    "DBOS.pauseSchedule",
    "DBOS.listSchedules",
    "DBOS.resumeSchedule",
    "DBOS.deleteSchedule",
    "DBOS.getSchedule",
]


def check_results(results: list[Any]) -> None:
    made, paused, deleted = results
    assert (made["schedule_name"], made["status"], made["context"]) == ("made", "ACTIVE", [1])
    assert paused == [{**made, "status": "PAUSED"}]
    assert deleted is None


def test_calls_in_a_workflow_are_recorded_and_replayed(app: App) -> None:
    with SetWorkflowID("manager"):
        results = manage_all()
    check_results(results)
    assert steps_of("manager") == list(enumerate(STEPS, 1))
    fork = DBOS.fork_workflow("manager", len(STEPS) + 1)
    assert fork.get_result() == results
    assert steps_of(fork.workflow_id) == list(enumerate(STEPS, 1))


async def test_blocking_calls_are_allowed_in_coroutines(app: App) -> None:
    """Version 2 has no twins of some, so its programs call them where they are."""
    results: list[Any] = []
    DBOS.create_schedule(schedule_name="outside", workflow_fn=report, schedule=NEVER)
    DBOS.apply_schedules([definition("outside", report, NEVER, 2)])
    handle = await asyncio.to_thread(DBOS.trigger_schedule, "outside")
    assert (await asyncio.to_thread(handle.get_result))[1] == 2  # type: ignore[func-returns-value]
    DBOS.delete_schedule("outside")
    with SetWorkflowID("manager"):
        results = await manage_all_async()
    check_results(results)
    assert [name for _, name in await asyncio.to_thread(steps_of, "manager")] == STEPS


@DBOS.workflow()
async def manage_by_twins() -> list[str]:
    await DBOS.create_schedule_async(schedule_name="made", workflow_fn=report_async, schedule=NEVER)
    await DBOS.pause_schedule_async("made")
    await DBOS.resume_schedule_async("made")
    listed = await DBOS.list_schedules_async()
    await DBOS.delete_schedule_async("made")
    with pytest.raises(DBOSException, match="cannot be called from a workflow"):
        await DBOS.trigger_schedule_async("made")
    return names(listed)


async def test_twins_are_recorded_too(app: App) -> None:
    with SetWorkflowID("manager"):
        assert await manage_by_twins() == ["made"]
    assert [name for _, name in await asyncio.to_thread(steps_of, "manager")] == [
        *("DBOS.createSchedule", "DBOS.pauseSchedule", "DBOS.resumeSchedule", "DBOS.listSchedules"),
        "DBOS.deleteSchedule",
    ]


@DBOS.step()
def trigger_in_step() -> str:
    DBOS.create_schedule(schedule_name="made", workflow_fn=report, schedule=NEVER)
    DBOS.apply_schedules([definition("applied", report)], delete=["made"])
    return DBOS.trigger_schedule("applied").workflow_id


@DBOS.workflow()
def trigger_by_step() -> str:
    return trigger_in_step()


def test_all_may_be_called_from_a_step_and_nothing_is_recorded_apart(app: App) -> None:
    with SetWorkflowID("manager"):
        triggered = trigger_by_step()
    assert steps_of("manager") == [(1, "trigger_in_step")]
    assert names(DBOS.list_schedules()) == ["applied"]
    assert DBOS.retrieve_workflow(triggered).get_result()[1] is None
    assert status_of(triggered) == "SUCCESS"
