"""What can be waited for is found as soon as it is there, for any number of waits at once; and who is told of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from dbos.model.limits import NO_TOPIC
from dbos.model.values import RecordedOutcome
from dbos.storage import waiting
from dbos.storage.database import Database
from dbos.storage.gate import Moment
from dbos.storage.management import cancel, delete
from dbos.storage.waiting import (
    MAX_ENTRIES,
    EventQuery,
    MessageQuery,
    OutcomeQuery,
    Query,
    StreamPart,
    StreamQuery,
    Value,
    find,
    hint,
    published,
    read_events,
    receivers,
)
from tests.storage.conftest import Opener
from tests.support.effects import entry, event, in_step, message, receiving, sending, setting, writing
from tests.support.gates import CountingGate, PausingGate
from tests.support.storage import (
    FAILED,
    SUCCEEDED,
    Part,
    batch_of,
    change,
    checkpoint,
    commit,
    run,
    set_status,
    start,
)


@pytest.fixture
def database_url(emptied_url: str) -> str:
    """The tests share a database."""
    return emptied_url


NASTY = ['it\'s "quoted" \\', "100% %s :id {schema}", "ключ 🎉\n\t\u2028", " ", "[1, null]"]


def texts(part: StreamPart) -> list[str]:
    """The entries of a part of a stream."""
    return [value.text for value in part.entries]


# -- messages


def test_oldest_message_on_the_topic_is_found(database: Database) -> None:
    commit(database, start("w"), start("v", "token-v"))
    on_topic, without, late = MessageQuery("w", "topic"), MessageQuery("w", NO_TOPIC), MessageQuery("v", NO_TOPIC)
    assert find(database, [on_topic, without, late]) == {}
    commit(database, message("w", "1", message_id="m1"), message("w", "2", topic="topic", message_id="m2"))
    commit(database, message("w", "3", topic="topic", message_id="m3"), message("w", "4", message_id="m4"))
    assert find(database, [on_topic, without, late]) == {
        on_topic: Value("2", "pickle", "m2"),
        without: Value("1", "pickle", "m1"),
    }
    commit(database, run("w", receiving(1, "m2"), receiving(2, "m1"), receiving(3, "m4")))
    assert find(database, [late, without, on_topic]) == {on_topic: Value("3", "pickle", "m3")}


def test_message_is_found_whatever_its_topic_and_receiver_are_called(database: Database) -> None:
    ids = [f"w {text}" for text in NASTY]
    commit(database, *(start(workflow_id, f"token {workflow_id}") for workflow_id in ids))
    commit(database, *(message(workflow_id, topic, topic=topic) for workflow_id in ids for topic in NASTY))
    queries = [MessageQuery(workflow_id, topic) for workflow_id in ids for topic in NASTY]
    found = find(database, queries)
    assert {query: value.text for query, value in found.items()} == {query: query.topic for query in queries}


# -- events


def test_newest_value_of_an_event_is_found(database: Database) -> None:
    commit(database, start("w"))
    queries = [EventQuery("w", "a"), EventQuery("w", "b"), EventQuery("nobody", "a")]
    assert find(database, queries) == {}
    commit(database, run("w", setting(1, "1", "a"), setting(2, "2", "a"), setting(3, "3", "c")))
    assert find(database, queries) == {queries[0]: Value("2", "pickle")}
    commit(database, run("w", setting(4, "4", "a"), setting(5, "5", "b")))
    assert find(database, queries) == {queries[0]: Value("4", "pickle"), queries[1]: Value("5", "pickle")}


def test_all_events_of_a_workflow_are_read_at_once(database: Database) -> None:
    commit(database, start("w"), start("v", "token-v"))
    assert read_events(database, "w") == {}
    commit(database, run("w", *(setting(number, text, text) for number, text in enumerate(NASTY, 1))))
    commit(database, run("v", setting(1, "other", NASTY[0]), token="token-v"))
    assert read_events(database, "w") == {text: Value(text, "pickle") for text in NASTY}
    assert read_events(database, "nobody") == {}


# -- ends of workflows


def test_end_of_a_workflow_is_found_with_its_outcome(database: Database) -> None:
    ids = ["good", "bad", "cancelled", "given up", "enqueued", "pending"]
    commit(database, *(start(workflow_id, f"token {workflow_id}") for workflow_id in ids))
    commit(database, run("good", token="token good", outcome=SUCCEEDED), run("bad", token="token bad", outcome=FAILED))
    cancel(database, ["cancelled"])
    set_status(database, "given up", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
    set_status(database, "enqueued", "ENQUEUED")
    found = find(database, [OutcomeQuery(workflow_id) for workflow_id in ids])
    assert list(found.values()) == [
        RecordedOutcome("good", "SUCCESS", "the result", None, "pickle"),
        RecordedOutcome("bad", "ERROR", None, "the error", "pickle"),
        RecordedOutcome("cancelled", "CANCELLED", None, None, None),
        RecordedOutcome("given up", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", None, None, None),
    ]


def test_workflow_that_is_not_there_is_waited_for_unless_it_must_exist(database: Database) -> None:
    anyhow, existing = OutcomeQuery("w"), OutcomeQuery("w", must_exist=True)
    assert find(database, [anyhow, existing]) == {existing: None}
    commit(database, start("w"))
    assert find(database, [anyhow, existing]) == {}
    commit(database, run("w", outcome=SUCCEEDED))
    outcome = RecordedOutcome("w", "SUCCESS", "the result", None, "pickle")
    assert find(database, [anyhow, existing]) == {anyhow: outcome, existing: outcome}


# -- streams


def test_entries_of_a_stream_are_found_from_the_readers_offset_on(database: Database) -> None:
    """Several readers of one stream, each where it is; other streams do not count."""
    commit(database, start("w"), start("v", "token-v"))
    readers = [StreamQuery("w", "stream", offset) for offset in range(4)]
    others = [StreamQuery("w", "other", 0), StreamQuery("v", "stream", 0)]
    assert find(database, [*readers, *others]) == {}
    commit(database, run("w", *(writing(number, f"{number}") for number in (1, 2, 3))))
    found = find(database, [*readers, *others])
    assert {query: texts(part) for query, part in found.items()} == {
        readers[0]: ["1", "2", "3"],
        readers[1]: ["2", "3"],
        readers[2]: ["3"],
    }
    assert {(part.exists, part.is_live) for part in found.values()} == {(True, True)}


def test_stream_of_a_workflow_that_ended_is_over_when_it_was_read(database: Database) -> None:
    commit(database, start("w"))
    commit(database, run("w", writing(1, "1"), outcome=SUCCEEDED))
    first, rest, never = StreamQuery("w", "stream", 0), StreamQuery("w", "stream", 1), StreamQuery("w", "never", 0)
    found = find(database, [first, rest, never])
    assert texts(found[first]) == ["1"]
    assert found[rest] == found[never] == StreamPart((), exists=True, is_live=False)


def test_stream_of_a_workflow_that_is_not_there_is_told_so(database: Database) -> None:
    query = StreamQuery("nobody", "stream", 0)
    assert find(database, [query]) == {query: StreamPart((), exists=False, is_live=False)}


@pytest.mark.parametrize("state", ["PENDING", "ENQUEUED"])
def test_stream_of_a_live_workflow_is_waited_for(database: Database, state: str) -> None:
    commit(database, start("w"))
    set_status(database, "w", state)
    assert find(database, [StreamQuery("w", "stream", 0)]) == {}


def test_long_stream_is_found_in_parts(database: Database) -> None:
    """Of each reader's no more than the limit at once, in order, without gaps."""
    count = 2 * MAX_ENTRIES + 10
    commit(database, start("w"))
    commit(database, run("w", *(writing(number + 1, str(number)) for number in range(count)), outcome=SUCCEEDED))
    offsets = (0, MAX_ENTRIES, 2 * MAX_ENTRIES, 5)
    found = find(database, [StreamQuery("w", "stream", offset) for offset in offsets])
    for query, part in found.items():
        assert isinstance(query, StreamQuery)
        end = min(query.offset + MAX_ENTRIES, count)
        assert texts(part) == [str(number) for number in range(query.offset, end)]
    assert len(found) == 4


def test_entry_written_between_the_two_questions_is_not_lost(open_again: Opener, database: Database) -> None:
    """A reader asks for the status, then the last entry and the outcome come together, then it asks for entries: it
    must not take the stream for over before it has read them. The questions are two transactions.
    """
    commit(database, start("w"))
    gate = _Meanwhile("find_entries", lambda: commit(database, run("w", writing(1, "last"), outcome=SUCCEEDED)))
    query = StreamQuery("w", "stream", 0)
    part = find(open_again(gate=gate), [query])[query]
    assert gate.has_happened
    assert texts(part) == ["last"]
    rest = StreamQuery("w", "stream", 1)
    assert find(database, [rest]) == {rest: StreamPart((), exists=True, is_live=False)}


class _Meanwhile:
    """A gate that has something happen at the begin of an operation, once."""

    def __init__(self, operation: str, work: Callable[[], object]) -> None:
        self._operation = operation
        self._work = work
        self.has_happened = False

    def __call__(self, operation: str, moment: Moment) -> None:
        if operation == self._operation and moment == "begin" and not self.has_happened:
            self.has_happened = True
            self._work()


# -- many at once


def test_all_kinds_of_waits_are_asked_for_at_once(database: Database, open_again: Opener) -> None:
    """With one statement for each kind, and two for streams, however many there are."""
    numbers = range(1000)
    commit(database, *(start(f"w{n}", f"token-{n}") for n in numbers))
    commit(
        database,
        *(message(f"w{n}", f"message {n}", topic="topic") for n in numbers if n % 2),
        *(
            run(f"w{n}", setting(1, f"event {n}"), writing(2, f"entry {n}"), token=f"token-{n}", outcome=SUCCEEDED)
            for n in numbers
            if n % 3 == 0
        ),
    )
    queries: list[Query] = []
    for n in numbers:
        queries += [
            MessageQuery(f"w{n}", "topic"),
            EventQuery(f"w{n}", "key"),
            StreamQuery(f"w{n}", "stream", 0),
            OutcomeQuery(f"w{n}"),
        ]
    gate = CountingGate()
    asking = open_again(gate=gate)
    before = gate.counts("begin")
    found = find(asking, queries)
    asked = Counter(gate.counts("begin")) - Counter(before)
    assert (sum(asked.values()), set(asked.values())) == (5, {1})
    assert len(found) == 500 + 3 * 334
    for n in numbers:
        text = f"message {n}" if n % 2 else None
        value = found.get(MessageQuery(f"w{n}", "topic"))
        assert (value and value.text) == text
        has_ended = n % 3 == 0
        value = found.get(EventQuery(f"w{n}", "key"))
        assert (value and value.text) == (f"event {n}" if has_ended else None)
        part = found.get(StreamQuery(f"w{n}", "stream", 0))
        assert (part and texts(part)) == ([f"entry {n}"] if has_ended else None)
        assert (OutcomeQuery(f"w{n}") in found) == has_ended


def test_nothing_asked_nothing_found(database: Database) -> None:
    assert find(database, []) == {}


def test_waits_look_while_others_write(open_again: Opener, database: Database, threads: ThreadPoolExecutor) -> None:
    """A look is no obstacle to writers, nor they to it: on SQLite a write lock is held meanwhile."""
    commit(database, start("w"))
    gate = PausingGate("journal", "before_commit")
    writer = open_again(gate=gate)
    writing_it = threads.submit(commit, writer, run("w", setting(1, "1")))
    gate.wait_until_reached()
    query = EventQuery("w", "key")
    assert find(database, [query, OutcomeQuery("w"), StreamQuery("w", "stream", 0), MessageQuery("w", "t")]) == {}
    gate.go()
    writing_it.result(30)
    assert find(database, [query]) == {query: Value("1", "pickle")}


# -- hints


def test_hints_are_short_and_tell_kinds_and_workflows_apart() -> None:
    ids = [f"w{number}" for number in range(2000)] + ["x" * 2048, *NASTY]
    hints = [hint(kind, workflow_id) for kind in ("outcome", "message", "event", "stream") for workflow_id in ids]
    assert len(set(hints)) == len(hints)
    assert {len(one) for one in hints} == {12}
    assert not [one for one in hints if not one.isalnum()], "they are joined by commas, and marked by signs"
    assert hint("event", "w1") == hint("event", "w1")


def hints_of(*parts: Part) -> set[str]:
    """The hints of what a batch has done."""
    batch = batch_of(*parts)
    return published(batch) | {hint("message", workflow_id) for workflow_id in receivers(batch)}


@pytest.mark.parametrize(
    ("query", "part"),
    [
        (MessageQuery("w", "topic"), message("w", topic="topic")),
        (MessageQuery("w", "topic"), run("v", checkpoint(1), sending(2, "w", topic="topic"))),
        (EventQuery("w", "key"), run("w", setting(1))),
        (EventQuery("w", "key"), run("w", step_effects=(in_step(1, event()),))),
        (StreamQuery("w", "stream", 7), run("w", writing(1))),
        (StreamQuery("w", "stream", 7), run("w", checkpoint(1), step_effects=(in_step(1, entry()),))),
    ],
    ids=["message", "message from a workflow", "event", "event from a step", "entry", "entry from a step"],
)
def test_whoever_waits_for_it_is_hinted_at_what_happened(query: Query, part: Part) -> None:
    assert hints_of(part) == {query.hints[0]}


def test_all_that_a_batch_did_is_hinted_at() -> None:
    writes = run(
        "w", *(writing(number) for number in range(1, 100)), setting(100), sending(101, "u"), receiving(102, "")
    )
    parts: list[Part] = [message("w"), message("v"), writes, run("v", setting(1, key="another"))]
    kinds = (("message", "w"), ("message", "v"), ("message", "u"), ("event", "w"), ("event", "v"), ("stream", "w"))
    assert hints_of(*parts) == {hint(kind, workflow_id) for kind, workflow_id in kinds}


def test_nobody_is_hinted_at_what_nobody_can_wait_for() -> None:
    """Checkpoints, starts, receipts; and ends of workflows are told to those only who ask."""
    assert hints_of(start("w"), run("w", checkpoint(1), receiving(2, "m"), outcome=SUCCEEDED)) == set()


def test_ends_of_workflows_are_what_others_have_to_ask_for() -> None:
    """A stream ends with its workflow."""
    outcome = hint("outcome", "w")
    assert OutcomeQuery("w").interests == OutcomeQuery("w", must_exist=True).hints == (outcome,)
    stream = StreamQuery("w", "stream", 0)
    assert (stream.interests, set(stream.hints)) == ((outcome,), {outcome, hint("stream", "w")})
    assert MessageQuery("w", "topic").interests == EventQuery("w", "key").interests == ()


def test_deleted_workflow_is_found_gone(database: Database) -> None:
    commit(database, start("w"))
    commit(database, message("w"), run("w", setting(1), writing(2)))
    delete(database, ["w"], with_descendants=False)
    stream, must = StreamQuery("w", "stream", 0), OutcomeQuery("w", must_exist=True)
    queries: list[Query] = [stream, must, OutcomeQuery("w"), MessageQuery("w", NO_TOPIC), EventQuery("w", "key")]
    assert find(database, queries) == {stream: StreamPart((), exists=False, is_live=False), must: None}
    assert read_events(database, "w") == {}


def test_row_of_an_older_library_is_found(database: Database) -> None:
    """Its format column is NULL."""
    commit(database, start("w"))
    change(
        database,
        "INSERT INTO {schema}notifications (message_uuid, destination_uuid, topic, message, created_at_epoch_ms) "
        "VALUES ('old', 'w', :topic, 'text', 0)",
        topic=NO_TOPIC,
    )
    query = MessageQuery("w", NO_TOPIC)
    assert waiting.find(database, [query]) == {query: Value("text", None, "old")}
