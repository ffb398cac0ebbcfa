"""The timeline and the graph of the console: what is recorded becomes rows and bars, boxes and lines."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbos.edges.console.graph import drawn
from dbos.edges.console.shown import shown
from dbos.edges.console.timeline import Axis, Recorded, Row, axis_of, brief
from dbos.serialization.codec import Codec
from dbos.storage.family import Family, Relative
from dbos.storage.stored_values import StoredValue
from dbos.storage.timeline import TimelineStep

NOW = 1_700_000_000_000
CODEC = Codec()


def stored(value: Any) -> StoredValue:
    encoded = CODEC.encode(value, lambda: "The value")
    return StoredValue(encoded.text, len(encoded.text), encoded.format)


def step(number: int, name: str = "step", at: int = 0, took: int = 0, **others: Any) -> TimelineStep:
    """A step that began so many milliseconds from now, and took so many."""
    fields: dict[str, Any] = {"child_workflow_id": None, "output": None, "error": None, **others}
    return TimelineStep("w", number, name, started_at=NOW + at, completed_at=NOW + at + took, **fields)


def wait(number: int, at: int, until: int) -> TimelineStep:
    """The record of a wait that began, and is over at the latest, so many milliseconds from now."""
    return step(number, "DBOS.sleep", at, output=stored((NOW + until) / 1000))


def relative(workflow_id: str, **others: Any) -> Relative:
    fields: dict[str, Any] = {
        "name": "work",
        "status": "SUCCESS",
        "parent_workflow_id": None,
        "forked_from": None,
        "created_at": NOW,
        "started_at": None,
        "completed_at": NOW + 5,
        "updated_at": NOW + 5,
        "seq": 1,
    }
    return Relative(workflow_id, **{**fields, **others})


def rows(*steps: TimelineStep, ended_at: int | None = None, **options: Any) -> list[Row]:
    relatives = {one.workflow_id: one for one in options.pop("relatives", ())}
    recorded = Recorded(relatives, options.pop("steps", {}), options.pop("last", {}), {}, NOW)
    return recorded.rows(steps, ended_at=ended_at, **options)


# -- waits


def test_sleep_lasts_until_it_is_over() -> None:
    over, lasts = rows(step(1), wait(2, -900, -400), step(3, at=-400), wait(4, -100, 500))[1::2]
    assert (over.title, over.start, over.end, over.is_open) == ("sleep", NOW - 900, NOW - 400, False)
    assert (lasts.title, lasts.end, lasts.is_open, lasts.until) == ("sleep", None, True, NOW + 500)
    assert lasts.value is None, "when it is over is no value of anybody's"


def test_sleep_ends_with_its_workflow() -> None:
    (row,) = rows(wait(1, -900, 500), ended_at=NOW - 300)
    assert (row.end, row.is_open, row.took_ms) == (NOW - 300, False, 600)


@pytest.mark.parametrize("call", ["DBOS.recv", "DBOS.getEvent"])
def test_wait_with_a_timeout_is_one_row(call: str) -> None:
    first, ended, last = rows(step(1), step(2, call, -500, 100), wait(3, -500, 9000), step(4))
    assert (first.number, ended.number, last.number) == (1, 2, 4)
    assert (ended.kind, ended.took_ms, ended.until, ended.is_open) == ("wait", 100, NOW + 9000, False)
    # While it lasts, the call itself is not recorded.
    _, row = rows(step(1), wait(3, -500, 9000))
    assert (row.title, row.is_open, row.number) == ("wait for a message or an event", True, 3)


def test_wait_is_one_row_across_pages() -> None:
    steps = (step(99), step(100, "DBOS.recv"), wait(101, 0, 9000), step(102))
    (last,) = rows(*steps[:3], first=100, last=100)
    assert (last.number, last.until) == (100, NOW + 9000)
    assert [row.number for row in rows(*steps[1:], first=101, last=200)] == [102]


@pytest.mark.parametrize(
    "output", [None, stored("soon"), stored(float("nan")), stored(1e300), StoredValue(None, 10**6, "pickle")]
)
def test_wait_whose_end_cannot_be_read(output: StoredValue | None) -> None:
    (row,) = rows(step(1, "DBOS.sleep", output=output))
    assert (row.until, row.end, row.is_open) == (None, None, False)


# -- children


def test_children_lie_within_their_parents() -> None:
    child = relative("c", status="PENDING", completed_at=None)
    grandchild = relative("g", status="ERROR")
    steps = {
        "c": [step(1), step(2, "deeper", child_workflow_id="g")],
        "g": [step(1, "x", child_workflow_id="gone")],
    }
    (row,) = rows(
        step(1, "start", child_workflow_id="c"), relatives=[child, grandchild], steps=steps, last={"c": 12, "g": 1}
    )
    assert (row.kind, row.start, row.end, row.is_open, row.is_error) == ("child", NOW, None, True, False)
    assert (len(row.rows), row.more) == (2, 10)
    deeper = row.rows[1]
    assert (deeper.end, deeper.is_error, deeper.more) == (NOW + 5, True, 0)
    # Deleted meanwhile.
    assert (deeper.rows[0].kind, deeper.rows[0].child) == ("child", None)
    shallow = rows(step(1, child_workflow_id="c"), relatives=[child], steps=steps, depth=0)[0]
    assert shallow.rows == []


# -- bars

MOMENTS = st.none() | st.integers(0, 2**53)


@given(st.lists(st.builds(Row, st.just("step"), st.just("x"), start=MOMENTS, end=MOMENTS, is_open=st.booleans())))
def test_bars_lie_on_their_axis(some: list[Row]) -> None:
    axis = axis_of(some, NOW)
    for row in some:
        bar = axis.bar(row)
        if bar is not None:
            assert 0 <= bar.x <= bar.x + bar.width <= 100.01
            assert bar.width > 0
    assert len(axis.ticks) <= 7 or axis.end - axis.start > 10**11
    assert all(0 <= x <= 100 for x, _ in axis.ticks)


def test_axis_goes_from_the_first_to_the_last() -> None:
    some = rows(step(1, at=-1000, took=100), step(2, at=-500, took=300))
    axis = axis_of(some, NOW)
    assert (axis.start, axis.end) == (NOW - 1000, NOW - 200)
    first, second = map(axis.bar, some)
    assert first is not None
    assert second is not None
    assert (first.x, first.width, second.x) == (0, 12.5, 62.5)
    assert [text for _, text in axis.ticks] == ["0", "200 ms", "400 ms", "600 ms", "800 ms"]


def test_axis_of_what_goes_on_stands_still_for_a_while() -> None:
    """Else every look at the page would change all of it."""
    some = [Row("now", "running", start=NOW, is_open=True)]
    ends = [axis_of(some, NOW + elapsed).end - NOW for elapsed in range(0, 120_000, 2_000)]
    assert all(end > elapsed for end, elapsed in zip(ends, range(0, 120_000, 2_000), strict=True))
    assert len(set(ends)) < 35
    bar = axis_of(some, NOW + 50_000).bar(some[0])
    assert bar is not None
    assert (bar.x, bar.width) == (0, 100)


def test_what_has_no_times_has_no_bar() -> None:
    row = Row("step", "x")
    assert axis_of([row], NOW).bar(row) is None
    assert Axis(10, 20).bar(Row("step", "x", start=21, end=22)) is None
    assert Axis(NOW, NOW).ticks == [(0, "0")]
    assert (brief(0), brief(999), brief(1500)) == ("0 ms", "999 ms", "1.5 s")


# -- values


def test_long_values_are_cut_and_say_so() -> None:
    its = shown(stored(list(range(3000))))
    assert its is not None
    assert its.is_cut
    assert its.text is not None
    assert len(its.text) < its.chars
    assert its.preview.endswith("…")
    unread = shown(StoredValue(None, 12_345, "pickle"))
    assert unread is not None
    assert (unread.text, unread.preview, unread.is_cut) == (None, "12,345 characters", True)
    assert shown(None) is None
    short = shown(stored("a\n b"))
    assert short is not None
    assert (short.text, short.preview, short.is_cut) == ("a\n b", "a b", False)


# -- the graph


def family(*members: Relative) -> Family:
    return Family(
        members,
        Counter(one.parent_workflow_id for one in members if one.parent_workflow_id),
        Counter(one.forked_from for one in members if one.forked_from),
    )


IDS = st.sampled_from("abcdefgh")


@given(st.dictionaries(IDS, st.tuples(st.none() | IDS, st.none() | IDS), min_size=1))
def test_everybody_has_a_box_and_no_boxes_overlap(origins: dict[str, tuple[str | None, str | None]]) -> None:
    """Also where it goes round in circles, which nothing forbids to write."""
    members = [relative(one, parent_workflow_id=its[0], forked_from=its[1]) for one, its in origins.items()]
    graph = drawn(family(*members))
    assert sorted(node.workflow.workflow_id for node in graph.nodes) == sorted(origins)
    for one, other in combinations(graph.nodes, 2):
        assert abs(one.x - other.x) >= 220 or abs(one.y - other.y) >= 52
    for node in graph.nodes:
        assert node.x >= 0
        assert node.x + 220 <= graph.width
        assert node.y + 52 <= graph.height


def test_what_is_not_in_the_graph_is_counted() -> None:
    its = Family([relative("w"), relative("c", parent_workflow_id="w")], {"w": 12, "c": 1}, {"c": 2})
    graph = drawn(its)
    (root,) = graph.roots
    assert root.hidden == "11 more children"
    assert root.nodes[0].hidden == "1 more child, 2 more forks"
    assert graph.hidden_count == 14
    long = drawn(family(relative("x" * 50 + "-12", name="n" * 50))).roots[0]
    assert long.short_id.endswith("-12")
    assert len(long.short_id) == 28
    assert long.short_name.endswith("…")
