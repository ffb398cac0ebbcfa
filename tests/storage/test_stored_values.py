"""What a workflow's page reads: in pages, along keys, and no value that is longer than it shows."""

from __future__ import annotations

from typing import Any

import pytest

from dbos.model.values import Receipt
from dbos.storage.database import Database
from dbos.storage.family import MAX_ANCESTORS, read_family, read_relatives
from dbos.storage.management import fork
from dbos.storage.published import (
    count_messages,
    read_entries,
    read_event_page,
    read_last_offset,
    read_messages,
    read_received,
    read_set_events,
    read_streams,
)
from dbos.storage.stored_values import Source, StoredValue, read_value
from dbos.storage.timeline import (
    read_details,
    read_failed,
    read_first_steps,
    read_last_numbers,
    read_step_span,
    read_timeline,
)
from tests.support.effects import entry, event, in_step, message, setting, writing
from tests.support.storage import (
    FAILED,
    SUCCEEDED,
    change,
    checkpoint,
    child,
    commit,
    run,
    set_status,
    start,
)

MANY = 1_000_000


@pytest.fixture
def database_url(emptied_url: str) -> str:
    """The tests share a database."""
    return emptied_url


def numbers(steps: Any) -> list[int]:
    return [step.function_id for step in steps]


# -- the workflow and its steps


def test_details_tell_values_owner_and_time(database: Database) -> None:
    commit(database, start("one"), run("one", outcome=SUCCEEDED))
    details = read_details(database, "one", max_chars=MANY)
    assert details is not None
    assert details.input == StoredValue("the inputs", 10, "pickle")
    assert (details.output, details.error) == (StoredValue("the result", 10, "pickle"), None)
    assert (details.lease_id, details.is_owned, details.delayed_until) == ("lease-1", True, None)
    assert details.completed_at is not None
    assert details.completed_at <= details.now
    commit(database, start("two"), run("two", outcome=FAILED))
    failed = read_details(database, "two", max_chars=MANY)
    assert failed is not None
    assert (failed.output, failed.error) == (None, StoredValue("the error", 9, "pickle"))
    assert read_details(database, "nobody", max_chars=MANY) is None


def test_long_values_are_not_read(database: Database) -> None:
    commit(database, start("one", inputs="x" * 101), run("one", checkpoint(1, "x" * 101), checkpoint(2, "x" * 100)))
    details = read_details(database, "one", max_chars=100)
    assert details is not None
    assert details.input == StoredValue(None, 101, "pickle")
    first, second = read_timeline(database, "one", 1, 9, max_chars=100)
    assert (first.output, second.output) == (StoredValue(None, 101, "pickle"), StoredValue("x" * 100, 100, "pickle"))
    assert read_value(database, Source.STEP_OUTPUT, "one", number=1, max_chars=101) == ("x" * 101, 101, "pickle")


def test_steps_are_read_by_ranges_of_numbers(database: Database) -> None:
    commit(database, start("one"), run("one", *(checkpoint(number) for number in range(1, 30) if number != 5)))
    assert read_step_span(database, "one") == (1, 29)
    assert numbers(read_timeline(database, "one", 4, 7, max_chars=9)) == [4, 6, 7]
    assert numbers(read_timeline(database, "one", 28, 2**31, max_chars=9)) == [28, 29]
    assert read_timeline(database, "one", 30, 40, max_chars=9) == []
    assert read_step_span(database, "nobody") is None


def test_step_tells_times_child_and_error(database: Database) -> None:
    commit(
        database,
        start("one"),
        run(
            "one",
            checkpoint(1, None, error="boom", started_at_ms=5, completed_at_ms=7),
            checkpoint(2, None, child_workflow_id="little"),
            children=(child(2, "little"),),
        ),
    )
    failed, started = read_timeline(database, "one", 1, 2, max_chars=MANY)
    assert (failed.started_at, failed.completed_at, failed.output) == (5, 7, None)
    assert failed.error == StoredValue("boom", 4, "pickle")
    assert (started.child_workflow_id, started.output, started.error) == ("little", None, None)


def test_failed_steps_are_found(database: Database) -> None:
    errors = {number: None if number % 3 else "boom" for number in range(1, 14)}
    commit(database, start("one"), run("one", *(checkpoint(n, None, error=error) for n, error in errors.items())))
    assert read_failed(database, "one", after=0, limit=9) == [12, 9, 6, 3]
    assert read_failed(database, "one", after=5, limit=2) == [12, 9]
    assert read_failed(database, "one", after=12, limit=2) == read_failed(database, "no", after=0, limit=2) == []


def test_first_steps_of_several_workflows(database: Database) -> None:
    commit(database, start("a"), start("b", "token-b"), start("c", "token-c"))
    commit(
        database,
        run("a", *map(checkpoint, range(1, 9))),
        run("b", *map(checkpoint, range(1, 3)), token="token-b"),
    )
    steps = read_first_steps(database, ["a", "b", "c", "nobody"], 3, limit=100, max_chars=MANY)
    assert {workflow_id: numbers(its) for workflow_id, its in steps.items()} == {"a": [1, 2, 3], "b": [1, 2]}
    assert sum(map(len, read_first_steps(database, ["a", "b"], 3, limit=4, max_chars=MANY).values())) == 4
    assert read_last_numbers(database, ["a", "b", "c"]) == {"a": 8, "b": 2}
    assert read_first_steps(database, [], 3, limit=4, max_chars=MANY) == read_last_numbers(database, []) == {}


# -- one value


def test_every_value_can_be_read_by_itself(database: Database) -> None:
    commit(database, start("one"), message("one", "the message", message_id="m"))
    commit(
        database,
        run(
            "one",
            checkpoint(1, "the output"),
            checkpoint(2, None, error="the step's error"),
            setting(3, "old", "key"),
            setting(4, "new", "key"),
            writing(5, "entry 0", "stream"),
            outcome=FAILED,
        ),
    )

    def text(source: Source, **place: Any) -> str | None:
        value = read_value(database, source, "one", max_chars=MANY, **place)
        return None if value is None else value.text

    assert text(Source.INPUT) == "the inputs"
    assert text(Source.OUTPUT) is None
    assert text(Source.ERROR) == "the error"
    assert text(Source.STEP_OUTPUT, number=1) == "the output"
    assert text(Source.STEP_ERROR, number=1) is None
    assert text(Source.STEP_ERROR, number=2) == "the step's error"
    assert text(Source.EVENT, key="key") == "new"
    assert text(Source.EVENT_OF_STEP, key="key", number=3) == "old"
    assert text(Source.MESSAGE, key="m") == "the message"
    assert text(Source.STREAM_ENTRY, key="stream", number=0) == "entry 0"
    assert text(Source.STREAM_ENTRY, key="stream", number=1) is None
    assert read_value(database, Source.MESSAGE, "two", key="m", max_chars=MANY) is None


# -- events, messages, streams


def test_events_come_with_their_past(database: Database) -> None:
    commit(database, start("one"))
    commit(database, run("one", setting(1, "1", "a"), setting(2, "2", "a"), setting(3, "3", "a"), setting(4, "x", "")))
    empty, a = read_event_page(database, "one", limit=9, past_limit=2, max_chars=MANY)
    assert (empty.key, empty.times_set, empty.set_by, list(empty.past)) == ("", 1, 4, [])
    assert (a.key, a.value.text, a.times_set, a.set_by) == ("a", "3", 3, 3)
    assert [(past.function_id, past.value.text) for past in a.past] == [(3, "3"), (2, "2")]
    assert [one.key for one in read_event_page(database, "one", limit=1, past_limit=0, max_chars=9)] == [""]
    assert [one.key for one in read_event_page(database, "one", after="", limit=9, past_limit=0, max_chars=9)] == ["a"]
    assert read_event_page(database, "one", after="a", limit=9, past_limit=0, max_chars=9) == []


def test_steps_tell_which_events_they_set(database: Database) -> None:
    commit(database, start("one"))
    commit(database, run("one", setting(1, "1", "a"), setting(2, "2", "b"), setting(3, "3", "a")))
    commit(database, run("one", checkpoint(4), step_effects=(in_step(4, event("a")), in_step(4, event("b")))))
    assert read_set_events(database, "one", ["a", "b"], 2, 4, limit=9) == {2: ["b"], 3: ["a"], 4: ["a", "b"]}
    assert read_set_events(database, "one", ["b"], 1, 3, limit=9) == {2: ["b"]}
    assert read_set_events(database, "one", [], 1, 3, limit=9) == {}


def test_messages_wait_and_are_received(database: Database) -> None:
    commit(database, start("one"), *(message("one", f"{n}", topic=f"topic {n % 2}") for n in range(4)))
    waiting = read_messages(database, "one", limit=3, max_chars=MANY)
    assert [(one.topic, one.value.text) for one in waiting] == [("topic 0", "0"), ("topic 0", "2"), ("topic 1", "1")]
    assert (count_messages(database, "one", 100), count_messages(database, "one", 2)) == (4, 2)
    taken = [
        checkpoint(number, f"taken {number}", name="DBOS.recv", effect=Receipt(one.message_id))
        for number, one in enumerate(waiting, 1)
    ]
    nothing_came = checkpoint(4, None, name="DBOS.recv")
    commit(database, run("one", *taken, nothing_came, checkpoint(5)))
    assert [one.value.text for one in read_messages(database, "one", limit=9, max_chars=MANY)] == ["3"]
    received = read_received(database, "one", limit=2, max_chars=MANY)
    assert [(one.function_id, one.value.text) for one in received] == [(3, "taken 3"), (2, "taken 2")]
    assert [one.function_id for one in read_received(database, "one", after=2, limit=9, max_chars=9)] == [3]


def test_streams_are_read_by_ranges_of_offsets(database: Database) -> None:
    commit(database, start("one"))
    commit(database, run("one", *(writing(n, f"{n}", f"stream {n % 3}") for n in range(1, 12))))
    streams = read_streams(database, "one", 9)
    assert [(one.key, one.last_offset) for one in streams] == [("stream 0", 2), ("stream 1", 3), ("stream 2", 3)]
    assert [one.key for one in read_streams(database, "one", 2)] == ["stream 0", "stream 1"]
    assert read_streams(database, "nobody", 9) == []
    entries = read_entries(database, "one", "stream 1", 1, 2, max_chars=MANY)
    assert [(one.offset, one.value.text, one.function_id) for one in entries] == [(1, "4", 4), (2, "7", 7)]
    commit(database, run("one", checkpoint(12), step_effects=(in_step(12, entry("late", "stream 1")),)))
    assert read_streams(database, "one", 9)[1].last_offset == read_last_offset(database, "one", "stream 1") == 4
    assert read_last_offset(database, "one", "nothing") is None


# -- families


def set_parent(database: Database, workflow_id: str, parent: str) -> None:
    statement = "UPDATE {schema}workflow_status SET parent_workflow_id = :parent WHERE workflow_uuid = :id"
    assert change(database, statement, id=workflow_id, parent=parent) == 1


def commit_family(database: Database) -> None:
    """grandparent > parent > me, sibling; me > child > grandchild; fork of me > fork-child."""
    names = ("grandparent", "parent", "me", "sibling", "child", "grandchild", "fork-child", "stranger")
    for name in names:
        commit(database, start(name, None))
    fork(database, workflow_id="me", new_id="fork", start_step=1, application_version=None, timeout_ms=None)
    for one, parent in (
        ("parent", "grandparent"),
        ("me", "parent"),
        ("sibling", "parent"),
        ("child", "me"),
        ("grandchild", "child"),
        ("fork-child", "fork"),
    ):
        set_parent(database, one, parent)


def members(database: Database, workflow_id: str, limit: int = 200) -> set[str]:
    family = read_family(database, workflow_id, limit)
    assert family is not None
    return {one.workflow_id for one in family.members}


def test_family_has_ancestors_descendants_and_forks(database: Database) -> None:
    commit_family(database)
    family = read_family(database, "me", 200)
    assert family is not None
    everybody = {"grandparent", "parent", "me", "sibling", "child", "grandchild", "fork", "fork-child"}
    assert {one.workflow_id for one in family.members} == everybody == members(database, "fork-child")
    assert family.children == {"grandparent": 1, "parent": 2, "me": 1, "child": 1, "fork": 1}
    assert family.forks == {"me": 1}
    by_id = {one.workflow_id: one for one in family.members}
    assert (by_id["fork"].origin_id, by_id["fork"].forked_from) == ("me", "me")
    assert read_family(database, "nobody", 200) is None


def test_family_is_bounded_and_the_nearest_come_first(database: Database) -> None:
    commit_family(database)
    assert members(database, "me", 5) == {"me", "parent", "grandparent", "child", "fork"}
    assert members(database, "me", 1) == {"me"}
    commit(database, *(start(f"many-{number:03}", None) for number in range(300)))
    change(
        database, "UPDATE {schema}workflow_status SET parent_workflow_id = 'sibling' WHERE workflow_uuid LIKE 'many-%'"
    )
    family = read_family(database, "sibling", 50)
    assert family is not None
    assert len(family.members) == 50
    assert family.children["sibling"] == 300


def test_family_that_goes_round_in_circles_comes_to_an_end(database: Database) -> None:
    """No workflow is its own ancestor, but anybody may write to the table."""
    commit(database, start("a", None), start("b", None))
    set_parent(database, "a", "b")
    set_parent(database, "b", "a")
    assert members(database, "a") == {"a", "b"}
    commit(database, *(start(f"generation-{n}", None) for n in range(2 * MAX_ANCESTORS)))
    for n in range(1, 2 * MAX_ANCESTORS):
        set_parent(database, f"generation-{n}", f"generation-{n - 1}")
    found = members(database, f"generation-{2 * MAX_ANCESTORS - 1}")
    assert len(found) == MAX_ANCESTORS + 1


def test_relatives_tell_when_they_ended(database: Database) -> None:
    commit(database, start("live"), start("done", "token-2"))
    commit(database, run("done", outcome=SUCCEEDED, token="token-2"))
    found = read_relatives(database, ["live", "done", "nobody"])
    assert set(found) == {"live", "done"}
    assert found["live"].ended_at is None
    assert found["done"].ended_at == found["done"].completed_at
    # As an older library leaves it.
    change(
        database, "UPDATE {schema}workflow_status SET completed_at = NULL, updated_at = 7 WHERE workflow_uuid = 'done'"
    )
    assert read_relatives(database, ["done"])["done"].ended_at == 7
    set_status(database, "done", "PENDING")
    assert read_relatives(database, ["done"])["done"].ended_at is None
    assert read_relatives(database, []) == {}
