"""What steps do to the world beside being recorded: messages, receipts, events, stream entries, on both databases.

An effect happens in the transaction that inserts its own checkpoint, or not at all. A batch of one run with one effect
is written otherwise than any other, so most tests run alone and in company.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from dbos.model.values import BatchAnswer, Checkpoint, Event, RunWrites, StreamEntry
from dbos.storage.database import Database
from dbos.storage.leases import register_lease
from dbos.storage.management import delete
from dbos.storage.opening import open_database
from tests.storage.conftest import Opener
from tests.support.effects import (
    doing,
    entry,
    event,
    event_history,
    events,
    in_step,
    inbox,
    leftovers,
    message,
    message_ids,
    receiving,
    sending,
    setting,
    stream,
    stream_with_steps,
    writing,
)
from tests.support.gates import CountingGate, FailingGate, PausingGate
from tests.support.obstacles import wait_for_obstacle
from tests.support.storage import (
    SUCCEEDED,
    Part,
    change,
    checkpoint,
    child,
    commit,
    commit_patiently,
    commit_start,
    lease,
    run,
    set_owner,
    set_status,
    sql,
    start,
    status,
    step_ids,
    workflow,
)

Commit = Callable[..., BatchAnswer]


@pytest.fixture
def database_url(emptied_url: str) -> str:
    """The tests share a database."""
    return emptied_url


@pytest.fixture(params=["alone", "in company"])
def commit_with(request: pytest.FixtureRequest, database: Database) -> Commit:
    """Commits parts as a batch; in company, together with a run that does a little of everything.

    There is a workflow `w`, which `token-1` owns, and a workflow `receiver`.
    """
    commit(database, start("w"), start("receiver", "token-r"), start("company", "token-c"))
    numbers = iter(range(1, 10_000, 10))

    def do_all(*parts: Part) -> BatchAnswer:
        if request.param == "alone":
            return commit(database, *parts)
        first = next(numbers)
        commit(database, message("company", message_id=f"company-{first}"))
        company = run(
            "company",
            checkpoint(first),
            sending(first + 1, "company"),
            setting(first + 3),
            writing(first + 4),
            sending(first + 5, "nobody"),
            token="token-c",
        )
        answer = commit(database, *parts, company)
        assert answer.runs[-1].undeliverable == {first + 5}
        return BatchAnswer(answer.starts, answer.runs[:-1], answer.messages)

    return do_all


@dataclass(frozen=True)
class Kind:
    """One kind of effect of the workflow `w`: how it is made, and what it leaves.

    `make` is given a function id and a text; `state` reads what the effects of this kind have done.
    """

    name: str
    make: Callable[[int, str], Checkpoint]
    state: Callable[[Database], Any]

    def __str__(self) -> str:
        return self.name


def _messages_left(database: Database) -> set[str]:
    return {one for one in message_ids(database) if one.startswith("given-")}


KINDS = (
    Kind("message", lambda fid, text: sending(fid, "receiver", text), lambda database: inbox(database, "receiver")),
    Kind("receipt", lambda fid, text: receiving(fid, f"given-{text}"), _messages_left),
    Kind(
        "event",
        setting,
        lambda database: (events(database, "w"), event_history(database, "w")),
    ),
    Kind("entry", writing, lambda database: stream_with_steps(database, "w")),
)

each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


@pytest.fixture
def given(database: Database, commit_with: Commit) -> None:
    """Messages `given-a`, `given-b` and `given-c` wait for `w`, to be received."""
    commit(database, *(message("w", text, message_id=f"given-{text}") for text in "abc"))


def only(answer: BatchAnswer) -> tuple[str | None, set[int], set[int]]:
    """Owner, foreign and undeliverable checkpoints that the one run of a batch is told."""
    (its_answer,) = answer.runs
    return its_answer.token, set(its_answer.foreign), set(its_answer.undeliverable)


OURS = ("token-1", set[int](), set[int]())
"""What a run is told of which everything was written."""


# -- with its own checkpoint, and once


@pytest.mark.usefixtures("given")
def test_effect_happens_with_its_checkpoint(database: Database, commit_with: Commit) -> None:
    assert only(commit_with(run("w", sending(1, "receiver", "a")))) == OURS
    assert only(commit_with(run("w", receiving(2, "given-a")))) == OURS
    assert only(commit_with(run("w", setting(3, "a")))) == OURS
    assert only(commit_with(run("w", writing(4, "a")))) == OURS
    assert step_ids(database, "w") == [1, 2, 3, 4]
    assert (inbox(database, "receiver"), inbox(database, "w")) == (["a"], ["b", "c"])
    assert (events(database, "w"), event_history(database, "w")) == ({"key": "a"}, [(3, "key", "a")])
    assert stream_with_steps(database, "w") == [("a", 4)]


def test_effects_are_stored_with_all_that_readers_need(database: Database, commit_with: Commit) -> None:
    commit_with(run("w", sending(1, "receiver", "text", topic="topic", message_id="id", serialization="one")))
    commit_with(run("w", doing(2, Event("key", "text", "two"))))
    commit_with(run("w", doing(3, StreamEntry("stream", "text", "three"))))
    ((*columns, created_at),) = sql(
        database,
        "SELECT message_uuid, topic, message, serialization, created_at_epoch_ms FROM {schema}notifications "
        "WHERE destination_uuid = 'receiver'",
    )
    assert (columns, created_at > 1_700_000_000_000) == (["id", "topic", "text", "one"], True)
    for table, format_ in (("workflow_events", "two"), ("workflow_events_history", "two"), ("streams", "three")):
        statement = f"SELECT value, serialization FROM {{schema}}{table} WHERE workflow_uuid = 'w'"
        assert sql(database, statement) == [("text", format_)], table


@each_kind
@pytest.mark.usefixtures("given")
def test_effect_whose_answer_was_lost_does_not_happen_again(
    database: Database, commit_with: Commit, kind: Kind
) -> None:
    """Also when later ones have happened meanwhile; and what is new in the batch happens."""
    first = run("w", kind.make(1, "a"))
    commit_with(first)
    commit_with(run("w", kind.make(2, "b")))
    before = kind.state(database)
    assert only(commit_with(first)) == OURS
    assert kind.state(database) == before
    assert only(commit_with(run("w", *first.checkpoints, kind.make(3, "c")))) == OURS
    after = kind.state(database)
    assert after != before
    assert only(commit_with(run("w", kind.make(3, "c")))) == OURS
    assert (kind.state(database), step_ids(database, "w")) == (after, [1, 2, 3])


def test_message_that_was_received_is_not_sent_again_by_a_late_try(database: Database, commit_with: Commit) -> None:
    sent = run("w", sending(1, "receiver", message_id="id"))
    commit_with(sent)
    commit(database, run("receiver", receiving(1, "id"), token="token-r"))
    assert only(commit_with(sent)) == OURS
    assert inbox(database, "receiver") == []


@each_kind
@pytest.mark.usefixtures("given")
def test_effect_of_a_fenced_run_does_not_happen(database: Database, commit_with: Commit, kind: Kind) -> None:
    before = kind.state(database)
    set_owner(database, "w", "token-2", "lease-1")
    assert only(commit_with(run("w", kind.make(1, "a"), outcome=SUCCEEDED))) == ("token-2", set(), set())
    assert (kind.state(database), step_ids(database, "w"), status(database, "w")) == (before, [], "PENDING")


@each_kind
@pytest.mark.usefixtures("given")
def test_effect_does_not_happen_if_another_run_had_recorded_its_step(
    database: Database, commit_with: Commit, kind: Kind
) -> None:
    commit(database, run("w", checkpoint(1, "theirs")))
    set_owner(database, "w", "token-2", "lease-1")
    before = kind.state(database)
    late = run("w", kind.make(1, "a"), token="token-2")
    assert only(commit_with(late)) == ("token-2", {1}, set())
    assert kind.state(database) == before
    assert only(commit_with(run("w", *late.checkpoints, kind.make(2, "b"), token="token-2"))) == (
        "token-2",
        {1},
        set(),
    )
    assert (kind.state(database) != before, step_ids(database, "w")) == (True, [1, 2])


@pytest.mark.parametrize("is_old_first", [True, False])
@each_kind
@pytest.mark.usefixtures("given")
def test_old_and_new_run_in_one_batch_only_the_new_ones_effects_happen(
    database: Database, commit_with: Commit, kind: Kind, is_old_first: bool
) -> None:
    """They number their steps alike. A process whose lease was lost for a while may take its own workflow up again."""
    set_owner(database, "w", "token-2", "lease-1")
    old, new = run("w", kind.make(1, "a"), kind.make(2, "b")), run("w", kind.make(1, "c"), token="token-2")
    answer = commit_with(*((old, new) if is_old_first else (new, old)))
    assert [one.token for one in answer.runs] == ["token-2", "token-2"]
    state = kind.state(database)
    expected = {
        "message": ["c"],
        "receipt": {"given-a", "given-b"},
        "event": ({"key": "c"}, [(1, "key", "c")]),
        "entry": [("c", 1)],
    }
    assert (state, step_ids(database, "w")) == (expected[kind.name], [1])


@each_kind
@pytest.mark.usefixtures("given")
def test_effect_of_a_cancelled_workflows_last_step_happens(database: Database, commit_with: Commit, kind: Kind) -> None:
    """It is recorded, so that resuming does not repeat it; then it must have happened."""
    before = kind.state(database)
    set_status(database, "w", "CANCELLED")
    (answer,) = commit_with(run("w", kind.make(1, "a"), outcome=SUCCEEDED)).runs
    assert (answer.token, answer.status, status(database, "w")) == ("token-1", "CANCELLED", "CANCELLED")
    assert (kind.state(database) != before, step_ids(database, "w")) == (True, [1])


def test_batch_that_fails_leaves_no_effect(database: Database, commit_with: Commit) -> None:
    commit(database, message("w", message_id="given"))
    everything = [sending(1, "receiver"), receiving(2, "given"), setting(3), writing(4)]
    with pytest.raises(Exception, match=r"out of range|too large"):
        commit_with(message("receiver"), run("w", *everything, checkpoint(2**70)))
    assert (inbox(database, "receiver"), inbox(database, "w"), step_ids(database, "w")) == ([], ["hello"], [])
    assert (events(database, "w"), event_history(database, "w"), stream(database, "w")) == ({}, [], [])
    assert "message_keys" not in leftovers(database, "receiver")


def test_batch_whose_answer_was_lost_can_be_committed_again(open_again: Opener, database: Database) -> None:
    """Of every kind, from several runs, from outside: nothing happens twice, and all are told the same."""
    commit(database, start("w"), start("v", "token-v"), start("receiver", "token-r"), message("w", message_id="given"))
    batch: list[Part] = [
        start("new", "token-n"),
        message("receiver", "from outside", key="key", lasts=True),
        message("new", "to the new one"),
        message("nobody"),
        run(
            "w",
            checkpoint(1),
            sending(2, "receiver", "from w"),
            receiving(3, "given"),
            setting(4),
            writing(5),
            sending(6, "nobody"),
            children=(child(1, "w-1"),),
            outcome=SUCCEEDED,
        ),
        run("v", sending(1, "receiver", "from v"), setting(2, "of v"), writing(3, "of v"), token="token-v"),
    ]

    def state() -> tuple[Any, ...]:
        return (
            *(inbox(database, workflow_id) for workflow_id in ("receiver", "new", "w")),
            [events(database, workflow_id) for workflow_id in ("w", "v")],
            [stream(database, workflow_id) for workflow_id in ("w", "v")],
            [step_ids(database, workflow_id) for workflow_id in ("w", "v")],
            len(sql(database, "SELECT 1 FROM {schema}message_keys")),
        )

    failing = open_again(gate=FailingGate("journal", "after_commit", ConnectionError("cut")))
    with pytest.raises(ConnectionError):
        commit(failing, *batch)
    first = state()
    assert (sorted(first[0]), *first[1:]) == (
        ["from outside", "from v", "from w"],
        ["to the new one"],
        [],
        [{"key": "value"}, {"key": "of v"}],
        [["entry"], ["of v"]],
        [[1, 2, 3, 4, 5], [1, 2, 3]],
        3,
    )
    answer = commit(failing, *batch)
    assert state() == first
    assert list(answer.messages) == [True, True, False]
    assert [one.undeliverable for one in answer.runs] == [{6}, set()]
    assert [one.foreign for one in answer.runs] == [set(), set()]


def test_write_that_waited_for_a_take_over_has_no_effect(open_again: Opener, threads: ThreadPoolExecutor) -> None:
    """It began before the new owner's commit, and must not happen after it."""
    gate, writing_gate = PausingGate("test", "before_commit"), CountingGate()
    successor, zombie, reader = open_again(gate=gate), open_again(gate=writing_gate), open_again()
    commit(reader, start("w", lease_id=None), start("receiver", "token-r", lease_id=None))
    taking_over = threads.submit(set_owner, successor, "w", "token-2", None)
    gate.wait_until_reached()
    late = run("w", sending(1, "receiver"), setting(2), writing(3), step_effects=(in_step(4, entry("in step")),))
    waiting = threads.submit(commit_patiently, zombie, late)
    wait_for_obstacle(reader, writing_gate, "journal")
    gate.go()
    taking_over.result(30)
    assert waiting.result(30).runs[0].token == "token-2"
    assert leftovers(reader, "w") == {"workflow_status": 1}
    assert inbox(reader, "receiver") == []


# -- messages


def test_message_to_a_workflow_that_does_not_exist_is_not_recorded(database: Database, commit_with: Commit) -> None:
    """The run is told, and what else it wrote stands; then it may record the failure."""
    assert only(commit_with(run("w", sending(1, "nobody")))) == ("token-1", set(), {1})
    assert step_ids(database, "w") == []
    writes = run("w", checkpoint(1), sending(2, "nobody"), sending(3, "receiver"), setting(4), sending(5, "no one"))
    for _ in range(2):
        assert only(commit_with(writes)) == ("token-1", set(), {2, 5})
        assert (step_ids(database, "w"), inbox(database, "receiver")) == ([1, 3, 4], ["hello"])
    assert (inbox(database, "nobody"), events(database, "w")) == ([], {"key": "value"})
    assert only(commit_with(run("w", checkpoint(2, None, error="no such workflow")))) == OURS
    assert step_ids(database, "w") == [1, 2, 3, 4]


def test_message_is_delivered_to_whoever_exists(database: Database, commit_with: Commit) -> None:
    """To the sender itself, to one that has ended, to one that starts in the same batch."""
    set_status(database, "receiver", "SUCCESS")
    writes = run("w", sending(1, "w"), sending(2, "receiver"), sending(3, "new"))
    assert only(commit_with(start("new", "token-n"), writes)) == OURS
    assert [inbox(database, workflow_id) for workflow_id in ("w", "receiver", "new")] == [["hello"]] * 3


def test_message_that_was_sent_stays_sent_when_its_receiver_is_deleted(database: Database, commit_with: Commit) -> None:
    """The answer was lost, and the receiver deleted before the next try: replay finds that it was sent, and so must
    the run be told.
    """
    sent = run("w", sending(1, "receiver"))
    commit_with(sent)
    delete(database, ["receiver"], with_descendants=False)
    assert only(commit_with(sent)) == OURS
    assert inbox(database, "receiver") == []


def test_step_of_another_run_is_foreign_also_if_the_message_could_not_be_delivered(
    database: Database, commit_with: Commit
) -> None:
    commit(database, run("w", checkpoint(1)))
    set_owner(database, "w", "token-2", "lease-1")
    writes = run("w", sending(1, "nobody"), sending(2, "nobody"), token="token-2")
    assert only(commit_with(writes)) == ("token-2", {1}, {2})


def test_undeliverable_message_of_an_old_run_does_not_hinder_the_new_one(
    database: Database, commit_with: Commit
) -> None:
    set_owner(database, "w", "token-2", "lease-1")
    answer = commit_with(run("w", sending(1, "nobody")), run("w", sending(1, "receiver"), token="token-2"))
    assert [(one.token, set(one.undeliverable)) for one in answer.runs] == [("token-2", set()), ("token-2", set())]
    assert (step_ids(database, "w"), inbox(database, "receiver")) == ([1], ["hello"])


def test_messages_arrive_in_the_order_in_which_they_were_sent(database: Database, commit_with: Commit) -> None:
    """Whether they travel alone or together, from outside or from workflows."""
    commit_with(*(message("receiver", f"{n}") for n in range(5)))
    commit_with(message("receiver", "5"))
    commit_with(run("w", sending(1, "receiver", "6")))
    commit_with(run("w", *(sending(n - 5, "receiver", f"{n}") for n in range(7, 40))))
    commit_with(message("receiver", "40"))
    assert inbox(database, "receiver") == [str(n) for n in range(41)]


def test_messages_of_several_senders_keep_each_ones_order(database: Database) -> None:
    commit(database, start("receiver", "token-r"), *(start(f"w{n}", f"token-{n}") for n in range(5)))
    senders = [
        run(f"w{n}", *(sending(step, "receiver", f"{n} {step}") for step in range(1, 21)), token=f"token-{n}")
        for n in range(5)
    ]
    commit(database, *senders)
    arrived = inbox(database, "receiver")
    for n in range(5):
        assert [text for text in arrived if text.startswith(f"{n} ")] == [f"{n} {step}" for step in range(1, 21)]


@pytest.mark.usefixtures("given")
def test_receipt_deletes_its_message_and_no_other(database: Database, commit_with: Commit) -> None:
    assert only(commit_with(run("w", receiving(1, "given-b")))) == OURS
    assert inbox(database, "w") == ["a", "c"]
    assert only(commit_with(run("w", receiving(2, "given-c"), receiving(3, "given-a")))) == OURS
    assert inbox(database, "w") == []


@pytest.mark.parametrize("how", ["it is gone", "it is taken twice"])
@pytest.mark.usefixtures("given")
def test_run_that_received_what_it_cannot_have_received_records_nothing(
    database: Database, commit_with: Commit, how: str
) -> None:
    """Whatever it did since is wrong: it is told to replay from what is recorded. Others are not hindered."""
    if how == "it is gone":
        change(database, "DELETE FROM {schema}notifications WHERE message_uuid = 'given-a'")
        receipts = [receiving(2, "given-a")]
    else:
        receipts = [receiving(2, "given-a"), receiving(3, "given-a")]
    before = _messages_left(database)
    wrong = run("w", checkpoint(1), *receipts, sending(4, "receiver"), setting(5), writing(6), outcome=SUCCEEDED)
    (answer,) = commit_with(wrong).runs
    assert (answer.token, answer.status, {1, 2} <= answer.foreign) == ("token-1", "PENDING", True)
    assert (step_ids(database, "w"), status(database, "w"), _messages_left(database)) == ([], "PENDING", before)
    assert (inbox(database, "receiver"), events(database, "w"), stream(database, "w")) == ([], {}, [])
    right = run("w", checkpoint(1), receiving(2, "given-b"), outcome=SUCCEEDED)
    for _ in range(2):
        assert only(commit_with(right)) == OURS
    assert (step_ids(database, "w"), status(database, "w")) == ([1, 2], "SUCCESS")


# -- events


def test_newest_value_of_an_event_holds_and_all_are_kept_by_step(database: Database, commit_with: Commit) -> None:
    """So that a fork gets what was set before its step."""
    commit_with(run("w", setting(1, "a"), setting(2, "other", "key 2"), setting(10, "c"), setting(11, "b")))
    assert events(database, "w") == {"key": "b", "key 2": "other"}
    commit_with(run("w", setting(12, "d")))
    assert events(database, "w") == {"key": "d", "key 2": "other"}
    kept = [(1, "key", "a"), (2, "key 2", "other"), (10, "key", "c"), (11, "key", "b"), (12, "key", "d")]
    assert event_history(database, "w") == kept


def test_events_of_many_workflows_do_not_mix(database: Database) -> None:
    numbers = range(100)
    commit(database, *(start(f"w{n}", f"token-{n}") for n in numbers))
    runs = [
        run(f"w{n}", *(setting(step, f"{n} {step}", f"key {step % 3}") for step in range(1, 7)), token=f"token-{n}")
        for n in numbers
    ]
    commit(database, *runs)
    for n in numbers:
        assert events(database, f"w{n}") == {"key 0": f"{n} 6", "key 1": f"{n} 4", "key 2": f"{n} 5"}


# -- streams


def test_stream_grows_by_one_entry_after_the_other(database: Database, commit_with: Commit) -> None:
    """Over batches, each stream for itself."""
    commit_with(run("w", writing(1, "0")))
    commit_with(run("w", writing(2, "1"), writing(3, "other", "b"), writing(9, "2"), writing(10, "3")))
    commit_with(run("w", writing(11, "4")))
    commit_with(run("w", writing(12, "more", "b"), writing(13, "first", "c")))
    assert stream_with_steps(database, "w") == [("0", 1), ("1", 2), ("2", 9), ("3", 10), ("4", 11)]
    assert (stream(database, "w", "b"), stream(database, "w", "c")) == (["other", "more"], ["first"])


def test_streams_of_many_workflows_do_not_mix(database: Database) -> None:
    numbers = range(50)
    commit(database, *(start(f"w{n}", f"token-{n}") for n in numbers))
    for first in (1, 11):
        steps = range(first, first + 10)
        commit(
            database,
            *(run(f"w{n}", *(writing(step, f"{n} {step}") for step in steps), token=f"token-{n}") for n in numbers),
        )
    for n in numbers:
        assert stream_with_steps(database, f"w{n}") == [(f"{n} {step}", step) for step in range(1, 21)]


# -- effects of the code inside steps


def test_what_a_step_publishes_happens_for_the_owner_before_the_step_is_recorded(
    database: Database, commit_with: Commit
) -> None:
    """Alone, together, beside recorded ones; kept by the step's function id."""
    assert only(commit_with(run("w", step_effects=(in_step(1, entry("0")),)))) == OURS
    assert only(commit_with(run("w", step_effects=(in_step(1, event(text="a")),)))) == OURS
    both = (in_step(2, entry("2")), in_step(2, event(text="c")), in_step(2, event(text="d")), in_step(3, entry("3")))
    assert only(commit_with(run("w", checkpoint(1), setting(4, "b"), writing(5, "1"), step_effects=both))) == OURS
    assert step_ids(database, "w") == [1, 4, 5]
    assert stream_with_steps(database, "w") == [("0", 1), ("1", 5), ("2", 2), ("3", 3)]
    assert events(database, "w") == {"key": "d"}
    assert event_history(database, "w") == [(1, "key", "a"), (2, "key", "d"), (4, "key", "b")]


def test_what_a_step_publishes_again_happens_again(database: Database, commit_with: Commit) -> None:
    """The step was tried again: the guide promises "at least once" and the order of writing."""
    for attempt in ("a", "b"):
        for part in (entry(f"{attempt}0"), entry(f"{attempt}1"), event(text=attempt)):
            assert only(commit_with(run("w", step_effects=(in_step(1, part),)))) == OURS
    assert stream(database, "w") == ["a0", "a1", "b0", "b1"]
    assert (events(database, "w"), event_history(database, "w")) == ({"key": "b"}, [(1, "key", "b")])


def test_what_the_step_of_a_fenced_run_publishes_does_not_happen(database: Database, commit_with: Commit) -> None:
    """Also when the new owner's run publishes the same step's in the same batch."""
    effects = (in_step(1, entry("old")), in_step(1, event(text="old")))
    set_owner(database, "w", "token-2", "lease-1")
    assert only(commit_with(run("w", step_effects=effects))) == ("token-2", set(), set())
    assert (stream(database, "w"), events(database, "w")) == ([], {})
    new = (in_step(1, entry("new")), in_step(1, event(text="new")))
    old_and_new = [run("w", step_effects=effects), run("w", token="token-2", step_effects=new)]
    for batch in (old_and_new, old_and_new[::-1]):
        assert [one.token for one in commit_with(*batch).runs] == ["token-2", "token-2"]
    assert (stream(database, "w"), events(database, "w")) == (["new", "new"], {"key": "new"})
    late_record = run("w", setting(1, "older"), writing(2, "older"))
    commit_with(late_record, run("w", token="token-2", step_effects=(in_step(1, event(text="newest")),)))
    assert (stream(database, "w"), events(database, "w"), step_ids(database, "w")) == (
        ["new", "new"],
        {"key": "newest"},
        [],
    )


def test_what_a_step_publishes_after_the_workflow_is_gone_does_not_happen(
    database: Database, commit_with: Commit
) -> None:
    delete(database, ["w"], with_descendants=False)
    (answer,) = commit_with(run("w", step_effects=(in_step(1, entry()), in_step(1, event())))).runs
    assert (answer.token, answer.status, leftovers(database, "w")) == (None, None, {})


def test_entry_from_a_step_survives_a_try_that_is_still_under_way(
    open_again: Opener, threads: ThreadPoolExecutor
) -> None:
    """The connection was lost after the server got the batch; the next try comes while the server still works on the
    first one, waits for it, and must not stumble over the offset that it took.
    """
    gate, second_gate = PausingGate("journal", "before_commit"), CountingGate()
    first, second, reader = open_again(gate=gate), open_again(gate=second_gate), open_again()
    commit_start(reader, start("w", lease_id=None))
    writes = run("w", step_effects=(in_step(1, entry()), in_step(1, event())))
    trying = threads.submit(commit, first, writes)
    gate.wait_until_reached()
    again = threads.submit(commit_patiently, second, writes)
    wait_for_obstacle(reader, second_gate, "journal")
    gate.go()
    assert only(trying.result(30)) == OURS
    assert only(again.result(30)) == OURS
    assert stream(reader, "w") in (["entry"], ["entry", "entry"])


# -- several kinds, sizes and characters


def test_all_kinds_of_many_runs_share_a_batch(database: Database) -> None:
    """Each for itself: every tenth is fenced, and every seventh sends a message to nobody."""
    numbers = range(300)
    commit(database, *(start(f"w{n}", f"token-{n}") for n in numbers))
    commit(database, *(message(f"w{n}", "given", message_id=f"given-{n}") for n in numbers))

    def writes(n: int) -> RunWrites:
        return run(
            f"w{n}",
            checkpoint(1),
            sending(2, "nobody" if n % 7 == 0 else f"w{(n + 1) % 300}", f"from {n}"),
            receiving(3, f"given-{n}"),
            setting(4, f"value {n}"),
            writing(5, f"entry {n}"),
            token="zombie" if n % 10 == 0 else f"token-{n}",
            outcome=SUCCEEDED,
            step_effects=(in_step(6, entry(f"late {n}")),) if n % 3 == 0 else (),
        )

    batch = [writes(n) for n in numbers]
    for _ in range(2):
        answers = commit(database, *batch).runs
        for n, answer in zip(numbers, answers, strict=True):
            is_lost = n % 7 == 0 and n % 10 != 0
            assert (answer.token, set(answer.undeliverable)) == (f"token-{n}", {2} if is_lost else set())
            change(database, "DELETE FROM {schema}streams WHERE value LIKE 'late%' AND \"offset\" > 1")
    for n in range(0, 300, 13):
        sender = (n - 1) % 300
        sent = [] if sender % 10 == 0 or sender % 7 == 0 else [f"from {sender}"]
        if n % 10 == 0:
            assert (inbox(database, f"w{n}"), events(database, f"w{n}")) == (["given", *sent], {})
            assert (stream(database, f"w{n}"), status(database, f"w{n}")) == ([], "PENDING")
            continue
        assert (inbox(database, f"w{n}"), events(database, f"w{n}")) == (sent, {"key": f"value {n}"})
        late = [f"late {n}"] if n % 3 == 0 else []
        assert (stream(database, f"w{n}"), status(database, f"w{n}")) == ([f"entry {n}", *late], "SUCCESS")


MANY: dict[str, Callable[[int], Checkpoint]] = {
    "messages": lambda n: sending(n, "receiver", str(n)),
    "entries": lambda n: writing(n, str(n)),
    "events": lambda n: setting(n, str(n), str(n % 50)),
}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def fresh_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Of a fresh one the planner knows nothing yet."""
    database = open_database(url=request.getfixturevalue(f"{request.param}_url"))
    register_lease(database, lease())
    yield database
    database.close()


@pytest.mark.parametrize("make", MANY.values(), ids=MANY)
def test_time_of_a_batch_grows_with_its_effects_and_not_with_their_square(
    fresh_database: Database, make: Callable[[int], Checkpoint]
) -> None:
    """As many as one commit of the journal takes."""
    database = fresh_database
    commit(database, start("receiver", "token-r"))

    def seconds(count: int) -> float:
        """The best of three, as other programs disturb."""
        took = []
        for number in range(3):
            workflow_id = f"{count}-{number}"
            commit(database, start(workflow_id, workflow_id))
            checkpoints = [make(n) for n in range(1, count + 1)]
            began = time.perf_counter()
            answer = commit(database, run(workflow_id, *checkpoints, token=workflow_id))
            took.append(time.perf_counter() - began)
            assert not answer.runs[0].undeliverable
            assert len(step_ids(database, workflow_id)) == count
        return min(took)

    few, many = seconds(400), seconds(4000)
    assert many < 40 * few, f"{few:.3f} s, {many:.3f} s"


TEXTS = (
    'it\'s "quoted" \\ \\n \\u0041',
    "100% %s :id ::text {schema} {now} $1 ANY_OF(:ids)",
    "línea\nzwei\r\n\tтри 四 🎉 \u202e\x01\x7f\u2028",
    "'; DROP TABLE notifications; --",
    " ",
    "",
)


def test_texts_of_effects_are_stored_as_they_are(database: Database, commit_with: Commit) -> None:
    """Values, topics, keys, ids."""
    for number, text in enumerate(TEXTS):
        fid = 10 * number
        receiver = f"receiver {number} {text}"
        commit(database, start(receiver, f"token {receiver}"))
        commit_with(run("w", sending(fid + 1, receiver, text, topic=text, message_id=f"{number} {text}")))
        commit_with(message(receiver, text, topic=text, key=f"key {text}", message_id=f"outside {number} {text}"))
        commit_with(run("w", setting(fid + 2, text, f"{number} {text}")))
        commit_with(run("w", writing(fid + 3, text, f"{number} {text}")))
        assert inbox(database, receiver, topic=text) == [text, text]
        assert (events(database, "w")[f"{number} {text}"], stream(database, "w", f"{number} {text}")) == (text, [text])
        commit_with(run(receiver, receiving(1, f"{number} {text}"), token=f"token {receiver}"))
        assert (inbox(database, receiver), f"outside {number} {text}" in message_ids(database)) == ([text], True)


def test_effects_of_five_megabytes_are_stored(database: Database, commit_with: Commit) -> None:
    long = "0123456789 äöü € 🎉 \\ \" '" * 200_000
    commit_with(run("w", sending(1, "receiver", long)))
    commit_with(run("w", setting(2, long)))
    commit_with(run("w", writing(3, long)))
    assert inbox(database, "receiver")[0] == events(database, "w")["key"] == stream(database, "w")[0] == long


def test_effects_ride_with_children_and_the_outcome(database: Database, commit_with: Commit) -> None:
    """A child that may not start is not recorded, and its siblings' effects are not hindered."""
    marks = [checkpoint(number, None, child_workflow_id=f"w-{number}") for number in (1, 2)]
    children = (child(1, "w-1"), child(2, "w-2", lease_id="dead"))
    writes = run("w", *marks, sending(3, "receiver"), setting(4), writing(5), children=children, outcome=SUCCEEDED)
    assert only(commit_with(writes)) == OURS
    assert (step_ids(database, "w"), status(database, "w-1"), workflow(database, "w-2")) == (
        [1, 3, 4, 5],
        "PENDING",
        None,
    )
    assert (inbox(database, "receiver"), stream(database, "w"), status(database, "w")) == (
        ["hello"],
        ["entry"],
        "SUCCESS",
    )
