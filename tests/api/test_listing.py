"""Listing workflows and their steps."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, fields
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from dbos import DBOS, SetWorkflowID, WorkflowHandle, WorkflowStatus
from tests.support.apps import App, Roadblock
from tests.verify.rows import query


@DBOS.step(name="add")
def add(a: int, b: int) -> int:
    return a + b


@DBOS.step(name="fail")
def fail() -> None:
    raise ValueError("recorded", 1)


@DBOS.workflow(name="listing.adder")
def adder(a: int, *, b: int = 1) -> int:
    return add(a, b)


@DBOS.workflow(name="listing.failer")
def failer() -> None:
    fail()


@DBOS.workflow(name="listing.parent")
def parent() -> int:
    return adder(1, b=2)


@pytest.fixture
def listed(app: App) -> App:
    """Workflows a1, b%1, b_1, e, and p with its child p-1; another executor and version for a2."""
    for id in ("a1", "b%1", "b_1"):
        with SetWorkflowID(id):
            adder(1)
    with SetWorkflowID("e"), pytest.raises(ValueError, match="recorded"):
        failer()
    with SetWorkflowID("p"):
        parent()
    app.relaunch(executor_id="second", application_version="v2")
    with SetWorkflowID("a2"):
        adder(2, b=2)
    return app


def ids(**filters: Any) -> list[str]:
    return [status.workflow_id for status in DBOS.list_workflows(**filters)]


def test_filters(listed: App) -> None:
    everything = ["a1", "b%1", "b_1", "e", "p", "p-1", "a2"]
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({}, everything),
        ({"workflow_ids": ["e", "a1", "nobody"]}, ["a1", "e"]),
        ({"workflow_ids": []}, []),
        ({"status": "ERROR"}, ["e"]),
        ({"status": ["ERROR", "SUCCESS"]}, everything),
        ({"status": "PENDING"}, []),
        ({"name": "listing.failer"}, ["e"]),
        ({"name": ["listing.failer", "listing.parent", "nobody"]}, ["e", "p"]),
        ({"name": "LISTING.FAILER"}, []),
        ({"app_version": "v2"}, ["a2"]),
        ({"app_version": ["test", "v2"]}, everything),
        ({"executor_id": "second"}, ["a2"]),
        ({"executor_id": ["local"]}, everything[:-1]),
        ({"parent_workflow_id": "p"}, ["p-1"]),
        ({"parent_workflow_id": ["p", "e"]}, ["p-1"]),
        ({"forked_from": "a1"}, []),
        ({"queue_name": "q"}, []),
        ({"user": "somebody"}, []),
        ({"workflow_id_prefix": "b%"}, ["b%1"]),
        ({"workflow_id_prefix": "b_"}, ["b_1"]),
        ({"workflow_id_prefix": ["b_", "p", *map(str, range(498))]}, ["b_1", "p", "p-1"]),
        ({"workflow_id_prefix": "p"}, ["p", "p-1"]),
        ({"workflow_id_prefix": "P"}, []),
        ({"workflow_id_prefix": ""}, everything),
        ({"sort_desc": True}, everything[::-1]),
        ({"limit": 2}, everything[:2]),
        ({"limit": 0}, []),
        ({"limit": 100}, everything),
        ({"offset": 5}, everything[5:]),
        ({"offset": 100}, []),
        ({"limit": 2, "offset": 1}, everything[1:3]),
        ({"limit": 2, "offset": 1, "sort_desc": True}, everything[::-1][1:3]),
        ({"status": "SUCCESS", "name": "listing.adder", "workflow_id_prefix": "a"}, ["a1", "a2"]),
        ({"status": "ERROR", "name": "listing.adder"}, []),
    ]
    for filters, expected in cases:
        assert ids(**filters) == expected, filters
    assert asyncio.run(async_ids(status="ERROR")) == ["e"]


async def async_ids(**filters: Any) -> list[str]:
    return [status.workflow_id for status in await DBOS.list_workflows_async(**filters)]


def test_times_with_and_without_an_offset(listed: App) -> None:
    """Both ends are inclusive; without an offset it is local time; a Z is UTC."""
    (status,) = DBOS.list_workflows(workflow_ids=["e"])
    assert status.created_at is not None
    at = datetime.fromtimestamp(status.created_at / 1000, timezone.utc)
    before, after = at - timedelta(milliseconds=1), at + timedelta(milliseconds=1)

    def forms(time: datetime) -> list[str]:
        return [
            time.isoformat(timespec="milliseconds"),
            time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            time.astimezone(timezone(timedelta(hours=-7))).isoformat(timespec="milliseconds"),
            time.astimezone().replace(tzinfo=None).isoformat(timespec="milliseconds"),
            time.astimezone().replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds"),
        ]

    for exact, earlier, later in zip(forms(at), forms(before), forms(after), strict=True):
        assert ids(name="listing.failer", start_time=exact, end_time=exact) == ["e"], exact
        assert ids(name="listing.failer", start_time=earlier, end_time=later) == ["e"], exact
        assert ids(name="listing.failer", start_time=later) == [], later
        assert ids(name="listing.failer", end_time=earlier) == [], earlier


@pytest.mark.parametrize(
    ("filters", "match"),
    [
        ({"status": "DONE"}, "no status 'DONE'.*PENDING"),
        ({"status": ["SUCCESS", "done"]}, "no status 'done'"),
        ({"start_time": "yesterday"}, "start_time is 'yesterday', which is no RFC 3339 time"),
        ({"end_time": "2030-13-01T00:00:00Z"}, "end_time is '2030-13-01"),
        ({"start_time": ""}, "start_time is ''"),
        ({"workflow_id_prefix": ["a"] * 501}, "workflow_id_prefix has 501 prefixes, of at most 500"),
        ({"end_time": 17}, "end_time must be a str.*not int"),
        ({"limit": -1}, "limit is -1"),
        ({"offset": -1}, "offset is -1"),
        ({"limit": "ten"}, "limit"),
        ({"offset": 1.5}, "offset"),
        ({"workflow_ids": "a1"}, "workflow_ids"),
        ({"workflow_id_prefix": 5}, "workflow_id_prefix"),
        ({"name": 5}, "name"),
        ({"workflow_ids": [1]}, "workflow_ids"),
    ],
)
def test_filters_that_make_no_sense_are_refused_by_name(sqlite_app: App, filters: dict[str, Any], match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        DBOS.list_workflows(**filters)


@pytest.mark.parametrize("value", ["a\x00b", "\ud800"])
def test_values_that_no_database_stores_are_refused_by_name_alike_on_both(app: App, value: str) -> None:
    filters: dict[str, Any] = {"name": value, "workflow_id_prefix": value, "workflow_ids": [value], "user": [value]}
    for name, one in filters.items():
        with pytest.raises(ValueError, match=name):
            DBOS.list_workflows(**{name: one})
    for call in (DBOS.get_workflow_status, DBOS.list_workflow_steps, DBOS.retrieve_workflow):
        with pytest.raises(ValueError, match="workflow_id"):
            call(value)


def test_values_are_loaded_only_when_asked_for(listed: App) -> None:
    (full,) = DBOS.list_workflows(workflow_ids=["a2"])
    assert (full.input, full.output, full.error) == ({"args": (2,), "kwargs": {"b": 2}}, 4, None)
    (no_input,) = DBOS.list_workflows(workflow_ids=["a2"], load_input=False)
    assert (no_input.input, no_input.output) == (None, 4)
    (failed,) = DBOS.list_workflows(workflow_ids=["e"])
    assert isinstance(failed.error, ValueError)
    assert (failed.error.args, failed.output) == (("recorded", 1), None)
    for id in ("a2", "e"):
        (no_output,) = DBOS.list_workflows(workflow_ids=[id], load_output=False)
        assert (no_output.output, no_output.error) == (None, None)
        assert no_output.input is not None


def test_running_workflows_and_their_steps_are_listed_as_they_are(app: App) -> None:
    """What the workflow has recorded shows, also what it is still holding back."""
    roadblock = Roadblock()

    @DBOS.workflow()
    def workflow() -> None:
        add(1, 1)
        roadblock.stop()

    with SetWorkflowID("w"):
        handle = DBOS.start_workflow(workflow)
    roadblock.wait_until_reached()
    assert ids(status="PENDING") == ["w"]
    (step,) = DBOS.list_workflow_steps("w")
    assert (step["function_id"], step["function_name"], step["output"]) == (1, "add", 2)
    roadblock.open()
    handle.get_result()
    assert ids(status="PENDING") == []


def test_steps_have_the_documented_shape(listed: App) -> None:
    (step,) = DBOS.list_workflow_steps("a1")
    times = step.pop("started_at_epoch_ms"), step.pop("completed_at_epoch_ms")  # type: ignore[misc]
    assert step == {"function_id": 1, "function_name": "add", "output": 2, "error": None, "child_workflow_id": None}
    assert all(isinstance(time, int) for time in times)
    (failed,) = DBOS.list_workflow_steps("e")
    assert isinstance(failed["error"], ValueError)
    assert (failed["output"], failed["error"].args) == (None, ("recorded", 1))
    started, awaited = DBOS.list_workflow_steps("p")
    assert (started["function_name"], started["child_workflow_id"]) == ("listing.adder", "p-1")
    assert (awaited["function_name"], awaited["child_workflow_id"]) == ("DBOS.getResult", "p-1")
    assert awaited["output"] == 3
    assert DBOS.list_workflow_steps("nobody") == []


def test_values_that_cannot_be_decoded_show_as_their_stored_text(listed: App) -> None:
    """And never break a listing; who asks for the result gets an error that says so."""
    schema = "dbos." if listed.url.startswith("postgresql") else ""
    engine = create_engine(listed.url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for column in ("inputs", "output"):
            connection.execute(
                text(f"UPDATE {schema}workflow_status SET {column} = 'garbage' WHERE workflow_uuid = 'a1'")
            )
        connection.execute(text(f"UPDATE {schema}operation_outputs SET output = 'junk' WHERE workflow_uuid = 'a1'"))
        connection.execute(text(f"UPDATE {schema}workflow_status SET error = 'mess' WHERE workflow_uuid = 'e'"))
    engine.dispose()
    assert len(DBOS.list_workflows()) == 7
    (broken,) = DBOS.list_workflows(workflow_ids=["a1"])
    assert [broken.input, broken.output] == ["garbage", "garbage"]
    (failed,) = DBOS.list_workflows(workflow_ids=["e"])
    assert failed.error == "mess"  # type: ignore[comparison-overlap]
    assert DBOS.list_workflow_steps("a1")[0]["output"] == "junk"
    with pytest.raises(Exception, match="cannot be deserialized"):
        DBOS.get_result("a1")
    with pytest.raises(Exception, match="cannot be deserialized"):
        DBOS.get_result("e")


def test_status_of_a_workflow_that_ran_has_all_fields(listed: App) -> None:
    handle: WorkflowHandle[int] = DBOS.retrieve_workflow("a2")
    status = handle.get_status()
    times = status.created_at, status.updated_at
    assert asdict(status) == {
        "workflow_id": "a2",
        "status": "SUCCESS",
        "name": "listing.adder",
        "class_name": None,
        "config_name": None,
        "authenticated_user": None,
        "assumed_role": None,
        "authenticated_roles": None,
        "input": {"args": (2,), "kwargs": {"b": 2}},
        "output": 4,
        "error": None,
        "created_at": times[0],
        "updated_at": times[1],
        "queue_name": None,
        "executor_id": "second",
        "app_version": "v2",
        "workflow_timeout_ms": None,
        "workflow_deadline_epoch_ms": None,
        "deduplication_id": None,
        "priority": 0,
        "queue_partition_key": None,
        "forked_from": None,
        "recovery_attempts": 1,
        "parent_workflow_id": None,
        "dequeued_at": None,
        "app_id": status.app_id,
    }
    assert isinstance(times[0], int)
    assert isinstance(times[1], int)
    assert times[0] <= times[1]
    (child,) = DBOS.list_workflows(workflow_ids=["p-1"])
    assert child.parent_workflow_id == "p"


FULL: dict[str, tuple[str, str, Any]] = {
    "status": ("status", "'ENQUEUED'", "ENQUEUED"),
    "class_name": ("class_name", "'Class'", "Class"),
    "config_name": ("config_name", "'config'", "config"),
    "authenticated_user": ("authenticated_user", "'ann'", "ann"),
    "assumed_role": ("assumed_role", "'admin'", "admin"),
    "authenticated_roles": ("authenticated_roles", '\'["admin", "user"]\'', ["admin", "user"]),
    "output": ("output", "NULL", None),
    "created_at": ("created_at", "1700000000001", 1700000000001),
    "updated_at": ("updated_at", "1700000000002", 1700000000002),
    "queue_name": ("queue_name", "'queue'", "queue"),
    "executor_id": ("executor_id", "NULL", None),
    "app_version": ("application_version", "'v3'", "v3"),
    "workflow_timeout_ms": ("workflow_timeout_ms", "1500", 1500),
    "workflow_deadline_epoch_ms": ("workflow_deadline_epoch_ms", "4700000000003", 4700000000003),
    "deduplication_id": ("deduplication_id", "'once'", "once"),
    "priority": ("priority", "2147483647", 2147483647),
    "queue_partition_key": ("queue_partition_key", "'key'", "key"),
    "forked_from": ("forked_from", "'e'", "e"),
    "recovery_attempts": ("recovery_attempts", "0", 0),
    "parent_workflow_id": ("parent_workflow_id", "'p'", "p"),
    "dequeued_at": ("started_at_epoch_ms", "1700000000004", 1700000000004),
    "app_id": ("application_id", "'app'", "app"),
}
"""A field of the status: its column, a value as SQL, and as Python."""


def test_status_shows_every_column(listed: App) -> None:
    """Alike in each call that gives a status."""
    changes = ", ".join(f"{column} = {literal}" for column, literal, _ in FULL.values())
    query(listed.url, f"UPDATE {{schema}}workflow_status SET {changes} WHERE workflow_uuid = 'a1'")
    status = DBOS.get_workflow_status("a1")
    assert status is not None
    assert {name: getattr(status, name) for name in FULL} == {name: value for name, (_, _, value) in FULL.items()}
    rest = {field.name for field in fields(WorkflowStatus)} - set(FULL)
    assert {name: getattr(status, name) for name in rest} == {
        "workflow_id": "a1",
        "name": "listing.adder",
        "input": {"args": (1,), "kwargs": {}},
        "error": None,
    }
    handle: WorkflowHandle[int] = DBOS.retrieve_workflow("a1")
    for other in (
        handle.get_status(),
        *DBOS.list_workflows(workflow_ids=["a1"]),
        *DBOS.list_queued_workflows(),
        *asyncio.run(DBOS.list_queued_workflows_async(queue_name="queue")),
        asyncio.run(DBOS.get_workflow_status_async("a1")),
    ):
        assert other == status
    assert len(DBOS.list_queued_workflows()) == 1


@pytest.mark.parametrize("roles", ["not JSON", "[", "", "7", '"admin"', "null"])
def test_roles_that_cannot_be_decoded_never_break_a_listing(app: App, roles: str) -> None:
    adder(1)
    query(app.url, f"UPDATE {{schema}}workflow_status SET authenticated_roles = '{roles}'")
    assert [status.status for status in DBOS.list_workflows()] == ["SUCCESS"]


def test_rows_of_older_writers_are_listed(app: App) -> None:
    """With nothing but what a row must have."""
    query(
        app.url,
        "INSERT INTO {schema}workflow_status (workflow_uuid, status, created_at, updated_at) "
        "VALUES ('old', 'CANCELLED', 1, 2)",
    )
    (status,) = DBOS.list_workflows()
    assert (status.workflow_id, status.status, status.name, status.input) == ("old", "CANCELLED", "", None)
    assert (status.created_at, status.updated_at, status.priority, status.recovery_attempts) == (1, 2, 0, 0)
    query(app.url, "INSERT INTO {schema}operation_outputs (workflow_uuid, function_id) VALUES ('old', 1)")
    (step,) = DBOS.list_workflow_steps("old")
    assert step == {
        "function_id": 1,
        "function_name": "",
        "output": None,
        "error": None,
        "child_workflow_id": None,
        "started_at_epoch_ms": None,
        "completed_at_epoch_ms": None,
    }


def test_listing_inside_a_workflow_is_recorded_as_a_step(app: App) -> None:
    @DBOS.workflow()
    def workflow() -> tuple[int, list[str]]:
        add(1, 1)
        steps = DBOS.list_workflow_steps("w")
        return len(DBOS.list_workflows()), [step["function_name"] for step in steps]

    with SetWorkflowID("w"):
        assert workflow() == (1, ["add"])
    names = [step["function_name"] for step in DBOS.list_workflow_steps("w")]
    assert names == ["add", "DBOS.listWorkflowSteps", "DBOS.listWorkflows"]
