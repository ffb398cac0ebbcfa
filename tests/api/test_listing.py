"""Listing workflows and their steps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from dbos import DBOS, SetWorkflowID
from tests.support.apps import App, Roadblock


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
def listed(app: App) -> Iterator[App]:
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
        ({"end_time": 17}, "end_time is 17"),
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
    assert (broken.input, broken.output) == ("garbage", "garbage")
    (failed,) = DBOS.list_workflows(workflow_ids=["e"])
    assert failed.error == "mess"  # type: ignore[comparison-overlap]
    assert DBOS.list_workflow_steps("a1")[0]["output"] == "junk"
    with pytest.raises(Exception, match="cannot be deserialized"):
        DBOS.get_result("a1")
    with pytest.raises(Exception, match="cannot be deserialized"):
        DBOS.get_result("e")


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
