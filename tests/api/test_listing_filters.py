"""Every filter of the listings, alone and together, against a model of what they mean."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from dbos import DBOS, WorkflowStatus, WorkflowStatusString
from tests.support.apps import App
from tests.verify.rows import query

Filters = dict[str, Any]

EPOCH = datetime(2030, 1, 1, tzinfo=timezone.utc)

STATUSES = [status.value for status in WorkflowStatusString]


@dataclass(frozen=True)
class Listed:
    """A row as the tests insert it; its fields are named as the filters."""

    workflow_id: str
    status: str
    name: str
    app_version: str | None
    forked_from: str | None
    parent_workflow_id: str | None
    user: str | None
    queue_name: str | None
    executor_id: str | None
    created_at: int


COLUMNS = (
    "workflow_uuid, status, name, application_version, forked_from, parent_workflow_id, authenticated_user, "
    "queue_name, executor_id, created_at, updated_at"
)

IDS = [
    "a",
    "A",
    "a-1",
    "a_1",
    "a%1",
    "a\\1",
    "ab",
    "b",
    "b'1",
    "a\U0010ffff",
    "a\U0010ffffx",
    "é",
    "ée",
    "\ud7ffz",
    "z",
]
"""Ids that an order of strings, a wildcard or a quote may mix up."""


def make_rows() -> list[Listed]:
    """All statuses, on queues and off, at a few times, so that some are equal."""
    choose = random.Random(5).choice
    ids = IDS + [f"{choose(IDS)}-{number}" for number in range(45)]
    return [
        Listed(
            workflow_id=id,
            status=STATUSES[number % 6],
            name=choose(["one", "One", "two.<locals>.two"]),
            app_version=choose(["v1", "v2", None]),
            forked_from=choose(["a", "b", None, None]),
            parent_workflow_id=choose(["a", "p", None, None]),
            user=choose(["ann", "bob", None]),
            queue_name=choose(["q1", "q2", None]),
            executor_id=choose(["e1", "e2", None]),
            created_at=int(EPOCH.timestamp() * 1000) + choose(range(12)) * 250,
        )
        for number, id in enumerate(ids)
    ]


def insert(app: App, rows: Sequence[Listed]) -> None:
    """Put the rows into the table, as an older client might have."""

    def literal(value: str | int | None) -> str:
        if value is None:
            return "NULL"
        return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"

    values = ", ".join(f"({', '.join(map(literal, (*astuple(row), row.created_at)))})" for row in rows)
    query(app.url, f"INSERT INTO {{schema}}workflow_status ({COLUMNS}) VALUES {values}")


@pytest.fixture
def rows(app: App) -> list[Listed]:
    """Rows, inserted, in the order in which they are to be listed."""
    rows = make_rows()
    insert(app, rows)
    # Python sorts stably: of one time, in the order of insertion.
    return sorted(rows, key=lambda row: row.created_at)


def at(milliseconds: int, form: Callable[[datetime], str] = datetime.isoformat) -> str:
    """The time so long after the first rows' as a text."""
    return form(EPOCH + timedelta(milliseconds=milliseconds))


VALUES: dict[str, list[Any]] = {
    "workflow_ids": [["a", "z", "nobody", "a-1", "é", "b'1"], [], {"a", "z"}],
    "status": ["PENDING", ["ENQUEUED", "SUCCESS", "ERROR"], WorkflowStatusString.CANCELLED, ["ENQUEUED", "ERROR"], []],
    "start_time": [at(750), at(2000, lambda time: time.strftime("%Y-%m-%dT%H:%M:%SZ"))],
    "end_time": [at(1750), at(1000, lambda time: time.astimezone().replace(tzinfo=None).isoformat())],
    "name": ["one", ["One", "two.<locals>.two"], []],
    "app_version": ["v1", ["v1", "v2"]],
    "forked_from": ["a", ["a", "b"]],
    "parent_workflow_id": ["p", ["a", "p"]],
    "user": ["ann", ["ann", "bob"]],
    "queue_name": ["q1", ["q1", "q2"]],
    "executor_id": ["e1", ["e1", "e2"]],
    "workflow_id_prefix": ["a", "a%", "é"],
    "limit": [3, 0],
    "offset": [2, 1000],
    "sort_desc": [True, False],
}

OPTIONS: list[tuple[str, Any]] = [(name, value) for name, values in VALUES.items() for value in values]


def expected(rows: Sequence[Listed], filters: Filters, is_queued: bool = False) -> list[str]:
    """The ids of the rows that the filters ask for, in order."""

    def is_wanted(row: Listed) -> bool:
        created_at = EPOCH + timedelta(milliseconds=row.created_at - int(EPOCH.timestamp() * 1000))
        for name, value in filters.items():
            if name == "workflow_ids":
                is_met = row.workflow_id in value
            elif name == "workflow_id_prefix":
                is_met = row.workflow_id.startswith(tuple([value] if isinstance(value, str) else value))
            elif name == "start_time":
                is_met = created_at >= datetime.fromisoformat(value.replace("Z", "+00:00")).astimezone()
            elif name == "end_time":
                is_met = created_at <= datetime.fromisoformat(value.replace("Z", "+00:00")).astimezone()
            elif name in ("limit", "offset", "sort_desc"):
                is_met = True
            else:
                is_met = getattr(row, name) in ([value] if isinstance(value, str) else value)
            if not is_met:
                return False
        if is_queued and "status" not in filters and row.status not in ("ENQUEUED", "PENDING"):
            return False
        return not is_queued or row.queue_name is not None

    wanted = [row.workflow_id for row in rows if is_wanted(row)]
    if filters.get("sort_desc"):
        wanted.reverse()
    wanted = wanted[filters.get("offset", 0) :]
    return wanted[: filters.get("limit", len(wanted))]


def ids(listed: Sequence[WorkflowStatus]) -> list[str]:
    return [status.workflow_id for status in listed]


def combinations() -> Iterator[Filters]:
    """Each filter alone, each with each other, and many of them together."""
    yield {}
    for count in (1, 2):
        for options in itertools.combinations(OPTIONS, count):
            if len(dict(options)) == count:
                yield dict(options)
    some = random.Random(7)
    for _ in range(100):
        yield dict(some.sample(OPTIONS, some.randint(3, 6)))


def test_filters_alone_and_together_mean_what_they_say(app: App, rows: list[Listed]) -> None:
    found = 0
    for filters in combinations():
        answer = ids(DBOS.list_workflows(**filters, load_input=False, load_output=False))
        assert answer == expected(rows, filters), filters
        found += len(answer)
    assert found > 1000, "the filters find something"


def test_filters_of_queued_workflows_mean_the_same(app: App, rows: list[Listed]) -> None:
    """Those that wait or run, and have a queue; with a status asked for, those of that status that have a queue."""
    found = 0
    for filters in combinations():
        answer = ids(DBOS.list_queued_workflows(**filters, load_input=False, load_output=False))
        assert answer == expected(rows, filters, is_queued=True), filters
        found += len(answer)
    assert found > 300, "the filters find something"
    assert {status.status for status in DBOS.list_queued_workflows()} == {"ENQUEUED", "PENDING"}
    assert {status.status for status in DBOS.list_queued_workflows(status="SUCCESS")} == {"SUCCESS"}


def test_queues_only_lists_what_is_queued(app: App, rows: list[Listed]) -> None:
    cases: list[Filters] = [{}, {"status": "PENDING"}, {"queue_name": "q1"}, {"limit": 2, "offset": 1}, {"user": "ann"}]
    for filters in cases:
        queued = DBOS.list_workflows(queues_only=True, **filters)
        assert queued == DBOS.list_queued_workflows(**filters), filters
        assert ids(queued) == expected(rows, filters, is_queued=True)
        assert DBOS.list_workflows(queues_only=False, **filters) == DBOS.list_workflows(**filters)


async def test_async_twins_take_the_same_filters(app: App) -> None:
    await asyncio.to_thread(insert, app, make_rows())
    rows = sorted(make_rows(), key=lambda row: row.created_at)
    for filters in (dict([option]) for option in OPTIONS):
        assert ids(await DBOS.list_workflows_async(**filters)) == expected(rows, filters), filters
        queued = ids(await DBOS.list_queued_workflows_async(**filters))
        assert queued == expected(rows, filters, is_queued=True), filters
    assert ids(await DBOS.list_workflows_async(queues_only=True)) == expected(rows, {}, is_queued=True)


def test_prefixes_are_literal_whatever_the_order_of_strings(app: App, rows: list[Listed]) -> None:
    """Upper and lower case, wildcards, the last of all characters, a character before the surrogates; several."""
    prefixes: list[str | list[str]] = [prefix for id in IDS for prefix in (id, id[:1], id + "-")]
    prefixes += ["", "\U0010ffff", "nobody", ["a-", "é"], ["a", "ab"], ["", "z"], []]
    for prefix in prefixes:
        filters: Filters = {"workflow_id_prefix": prefix}
        assert ids(DBOS.list_workflows(**filters)) == expected(rows, filters), prefix


def test_pages_make_the_whole(app: App, rows: list[Listed]) -> None:
    """Each workflow is on one page, also of those that were created in the same millisecond."""
    everything = ids(DBOS.list_workflows())
    assert everything == [row.workflow_id for row in rows]
    for size in (1, 7, 60, 61):
        for sort_desc in (False, True):
            pages = [
                ids(DBOS.list_workflows(limit=size, offset=offset, sort_desc=sort_desc))
                for offset in range(0, len(rows), size)
            ]
            assert [id for page in pages for id in page] == everything[:: -1 if sort_desc else 1]


def test_thousands_of_ids_are_no_trouble(app: App, rows: list[Listed]) -> None:
    many = [f"nobody-{number}" for number in range(40_000)]
    assert set(ids(DBOS.list_workflows(workflow_ids=[*many, "a", "z"]))) == {"a", "z"}


@pytest.mark.parametrize(
    ("time", "is_before"),
    [
        ("0001-01-01T00:00:00Z", True),
        ("0001-01-01T00:00:00", True),
        ("0001-01-01T00:00:00+14:00", True),
        ("1969-12-31T23:59:59.999Z", True),
        ("2029-12-31t23:59:59z", True),
        ("2029-12-31 23:59:59+00:00", True),
        ("2029-12-31T23:59:59.999999Z", True),
        ("2030-01-01T13:59:59+14:00", True),
        ("2029-06-30", True),
        ("9999-12-31T23:59:59.999999-14:00", False),
        ("9999-12-31T23:59:59", False),
    ],
)
def test_times_of_all_forms_and_ages(app: App, time: str, is_before: bool) -> None:
    """From the first to the last that there are."""
    insert(app, make_rows())
    count = len(make_rows())
    assert len(DBOS.list_workflows(start_time=time)) == (count if is_before else 0)
    assert len(DBOS.list_workflows(end_time=time)) == (0 if is_before else count)


def test_times_may_be_datetimes(app: App, rows: list[Listed]) -> None:
    """With and without a zone; without one they are local, as texts are."""
    time = EPOCH + timedelta(milliseconds=1000)
    wanted = expected(rows, {"start_time": at(1000)})
    for one in (time, time.astimezone(timezone(timedelta(hours=-5))), time.astimezone().replace(tzinfo=None)):
        filters: Filters = {"start_time": one}
        assert ids(DBOS.list_workflows(**filters)) == wanted


def test_both_times_are_inclusive_to_the_millisecond(app: App, rows: list[Listed]) -> None:
    for offset, count in ((0, sum(row.created_at == rows[0].created_at for row in rows)), (1, 0), (-1, 0)):
        time = at(rows[0].created_at - int(EPOCH.timestamp() * 1000) + offset)
        assert len(DBOS.list_workflows(start_time=time, end_time=time)) == count


BAD: list[tuple[Filters, type[Exception], str]] = [
    ({"status": "DONE"}, ValueError, "no status 'DONE'"),
    ({"status": "pending"}, ValueError, "no status 'pending'"),
    ({"status": ["PENDING", ""]}, ValueError, "no status ''"),
    ({"status": 1}, TypeError, "status"),
    ({"status": [None]}, TypeError, "status"),
    ({"start_time": "yesterday"}, ValueError, "start_time is 'yesterday'"),
    ({"start_time": "2030-02-30T00:00:00Z"}, ValueError, "start_time is '2030-02-30"),
    ({"start_time": "2030-01-01T25:00:00Z"}, ValueError, "start_time is '2030-01-01T25"),
    ({"start_time": "2030-01-01T00:00:00+99:00"}, ValueError, "start_time is '2030-01-01"),
    ({"start_time": "99999-01-01T00:00:00Z"}, ValueError, "start_time is '99999-01-01"),
    ({"end_time": "1893456000000"}, ValueError, "end_time is '1893456000000'"),
    ({"end_time": ""}, ValueError, "end_time is ''"),
    ({"end_time": 1893456000}, TypeError, "end_time must be a str"),
    ({"start_time": EPOCH.date()}, TypeError, "start_time must be a str"),
    ({"start_time": [at(0)]}, TypeError, "start_time must be a str"),
    ({"limit": -1}, ValueError, "limit is -1"),
    ({"limit": 2**63}, ValueError, "limit is 9223372036854775808"),
    ({"limit": "10"}, TypeError, "limit"),
    ({"limit": 1.0}, TypeError, "limit"),
    ({"limit": True}, TypeError, "limit"),
    ({"offset": -5}, ValueError, "offset is -5"),
    ({"offset": "1"}, TypeError, "offset"),
    ({"workflow_ids": "a"}, TypeError, "workflow_ids"),
    ({"workflow_ids": 5}, TypeError, "workflow_ids"),
    ({"workflow_ids": ["a", None]}, TypeError, "workflow_ids"),
    ({"workflow_id_prefix": b"a"}, TypeError, "workflow_id_prefix"),
    ({"workflow_id_prefix": ["a", 5]}, TypeError, "workflow_id_prefix"),
    ({"workflow_id_prefix": "\ud800"}, ValueError, "workflow_id_prefix"),
    *(
        ({name: value}, TypeError, name)
        for name in ("name", "app_version", "forked_from", "parent_workflow_id", "user", "queue_name", "executor_id")
        for value in (5, {"a": "b"}, [5], b"a")
    ),
    *(
        ({name: "a\x00"}, ValueError, name)
        for name in ("name", "app_version", "forked_from", "parent_workflow_id", "user", "queue_name", "executor_id")
    ),
]


def test_filters_that_make_no_sense_are_refused_by_name(sqlite_app: App) -> None:
    """Alike by all listings."""
    for filters, kind, match in BAD:
        for listing in (DBOS.list_workflows, DBOS.list_queued_workflows):
            with pytest.raises(kind, match=match):
                listing(**filters)
        for listing_async in (DBOS.list_workflows_async, DBOS.list_queued_workflows_async):
            with pytest.raises(kind, match=match):
                asyncio.run(awaited(listing_async, filters))
    with pytest.raises(TypeError, match="queues_only"):
        DBOS.list_queued_workflows(queues_only=True)  # type: ignore[call-arg]


async def awaited(listing: Callable[..., Any], filters: Filters) -> Any:
    return await listing(**filters)
