"""The journal, with a store that the test directs and time by hand."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from dbos.model import limits
from dbos.model.values import Batch, BatchAnswer, Effect, Receipt, RunAnswer, Started
from dbos.storage import journal as journal_module
from dbos.storage.errors import JournalClosed, TransientStorageError
from dbos.storage.held_up import HeldUp
from dbos.storage.journal import Journal
from dbos.storage.tickets import AnyTicket, RunLog
from tests.support.clock import ManualClock
from tests.support.effects import doing, entry, event, in_step, message, setting, writing
from tests.support.storage import FAILED, SUCCEEDED, checkpoint, child, start
from tests.support.stores import WAIT_S, ScriptedStore, checkpoints_of
from tests.support.waiting import wait_until

HOLD_BACK_S = 0.002
SHORT_S = 0.2
"""For how long a test watches that something does not happen which must wait for the test."""


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def journal(store: ScriptedStore, clock: ManualClock) -> Iterator[Journal]:
    """A journal on the scripted store. Its time stands still, so that nothing held is flushed by itself."""
    journal = Journal(store, clock, HOLD_BACK_S)
    yield journal
    store.go()
    journal.close()


@pytest.fixture
def threads(store: ScriptedStore) -> Iterator[ThreadPoolExecutor]:
    """Threads beside the test's; whatever stands still is let go before they are awaited."""
    with ThreadPoolExecutor(4) as executor:
        yield executor
        store.go()


def log(workflow_id: str = "w") -> RunLog:
    """A run of the workflow."""
    return RunLog(workflow_id, f"token of {workflow_id}")


def answer(workflow_id: str = "w") -> RunAnswer:
    """What the owner of a run is told."""
    return RunAnswer(f"token of {workflow_id}", "PENDING")


@contextmanager
def gathering(journal: Journal, store: ScriptedStore) -> Iterator[None]:
    """Meanwhile a commit is under way, so that all that is submitted gathers for the next."""
    store.stop_at_next_commit()
    journal.submit(log("plug"))
    journal.kick()
    store.wait_until_stopped()
    yield
    store.go()


# -- who commits


def test_a_lone_writer_commits_in_its_own_thread(journal: Journal, store: ScriptedStore) -> None:
    """Without any other thread, and without waiting for company."""
    before = threading.enumerate()
    assert journal.start(start("w")).block() == Started()
    assert journal.submit(log()).block() == answer()
    assert journal.submit(log(), outcome=SUCCEEDED).block() == answer()
    assert store.threads == [threading.current_thread()] * 3
    assert threading.enumerate() == before
    assert (store.started(), store.outcomes("w")) == (["w"], ["SUCCESS"])


def test_a_hundred_concurrent_writers_share_two_commits(journal: Journal, store: ScriptedStore) -> None:
    """While the first commit is under way, all others gather for the second."""
    store.stop_at_next_commit()
    submitted = threading.Semaphore(0)

    def write(number: int) -> RunAnswer:
        ticket = journal.submit(log(f"w{number}"), outcome=SUCCEEDED)
        submitted.release()
        return ticket.block()

    with ThreadPoolExecutor(100) as threads:
        writing = [threads.submit(write, number) for number in range(100)]
        store.wait_until_stopped()
        for _ in range(100):
            assert submitted.acquire(timeout=WAIT_S)
        store.go()
        assert [future.result(WAIT_S) for future in writing] == [answer(f"w{number}") for number in range(100)]
    assert len(store.batches) == 2
    assert all(store.outcomes(f"w{number}") == ["SUCCESS"] for number in range(100))


def test_every_write_of_many_threads_and_loops_is_committed_once_and_in_order(
    journal: Journal, store: ScriptedStore, clock: ManualClock
) -> None:
    rounds = 30

    def write(number: int) -> None:
        one = log(f"sync-{number}")
        for n in range(rounds):
            journal.hold(one, checkpoint(2 * n))
            journal.hold(one, checkpoint(2 * n + 1))
            journal.submit(one).block()
            clock.advance(HOLD_BACK_S / 2)

    async def write_async(number: int) -> None:
        one = log(f"async-{number}")
        for n in range(rounds):
            journal.hold(one, checkpoint(2 * n))
            journal.hold(one, checkpoint(2 * n + 1))
            await journal.submit(one).wait()

    async def write_all_async(group: int) -> None:
        await asyncio.gather(*(write_async(10 * group + number) for number in range(10)))

    with ThreadPoolExecutor(12) as threads:
        futures = [threads.submit(write, number) for number in range(10)]
        futures += [threads.submit(asyncio.run, write_all_async(group)) for group in range(2)]
        for future in futures:
            future.result(60)
    everything = list(range(2 * rounds))
    for kind, count in (("sync", 10), ("async", 20)):
        for number in range(count):
            assert store.checkpoints(f"{kind}-{number}") == everything


def test_a_start_does_not_wait_for_the_commit_under_way(store: ScriptedStore) -> None:
    """Where the database commits several transactions at once, its own thread commits it."""
    store.parallel_commits = 1
    journal = Journal(store, ManualClock(), HOLD_BACK_S)
    with gathering(journal, store):
        assert journal.start(start("new")).block() == Started()
        assert store.threads[-1] is threading.current_thread()
        assert (store.started(), len(store.batches)) == (["new"], 1)
        waiting = journal.submit(log(), outcome=SUCCEEDED)
    assert waiting.block() == answer()
    journal.close()


def test_a_start_interrupted_beside_the_leader_is_committed_by_it(store: ScriptedStore) -> None:
    store.parallel_commits = 1
    journal = Journal(store, ManualClock(), HOLD_BACK_S)
    with gathering(journal, store):
        store.failures = [KeyboardInterrupt()]
        ticket = journal.start(start("new"))
        with pytest.raises(KeyboardInterrupt):
            ticket.block()
    assert (ticket.block(), store.started()) == (Started(), ["new"])
    journal.close()


# -- what is held back


def test_held_checkpoints_travel_with_the_next_submission(
    journal: Journal, store: ScriptedStore, clock: ManualClock
) -> None:
    one = log()
    journal.hold(one, checkpoint(1))
    journal.hold(one, checkpoint(2))
    clock.wait_for_reads(5)
    assert store.batches == []
    journal.submit(one, children=[child(2, "w-2")], outcome=SUCCEEDED).block()
    (batch,) = store.batches
    (run,) = batch.runs
    assert [c.function_id for c in run.checkpoints] == [1, 2]
    assert ([c.start.workflow_id for c in run.children], run.outcome) == (["w-2"], SUCCEEDED)


def test_what_others_hold_stays_held(journal: Journal, store: ScriptedStore) -> None:
    one, other = log("one"), log("other")
    journal.hold(one, checkpoint(1))
    journal.hold(other, checkpoint(1))
    journal.submit(one).block()
    assert (store.checkpoints("one"), store.checkpoints("other")) == ([1], [])


def test_what_is_held_too_long_is_flushed_and_not_before(
    journal: Journal, store: ScriptedStore, clock: ManualClock
) -> None:
    early, late = log("early"), log("late")
    journal.hold(early, checkpoint(1))
    clock.wait_for_reads(5)
    clock.advance(HOLD_BACK_S / 2)
    journal.hold(late, checkpoint(1))
    journal.hold(early, checkpoint(2))
    clock.wait_for_reads(5)
    assert store.batches == [], "it is not time yet"
    clock.advance(HOLD_BACK_S * 0.6)
    store.wait_for_batches(1)
    clock.wait_for_reads(5)
    assert (store.checkpoints("early"), store.checkpoints("late")) == ([1, 2], []), "each for itself"
    clock.advance(HOLD_BACK_S)
    store.wait_for_batches(2)
    assert store.checkpoints("late") == [1]
    journal.submit(early, outcome=SUCCEEDED).block()
    assert store.checkpoints("early") == [1, 2], "what was flushed is not written again"


def test_the_timer_wakes_up_again_after_a_pause(journal: Journal, store: ScriptedStore, clock: ManualClock) -> None:
    """Nothing held for a while: the writer's thread sleeps, until there is something again."""
    for number in (1, 2, 3):
        journal.hold(log(f"w{number}"), checkpoint(1))
        clock.advance(HOLD_BACK_S)
        store.wait_for_batches(number)
        wait_until(lambda: not journal._writer_looks, "the writer's thread sleeps")


def test_what_is_held_while_somebody_commits_is_flushed_in_time(
    journal: Journal, store: ScriptedStore, clock: ManualClock, threads: ThreadPoolExecutor
) -> None:
    """Whoever commits looks at what is pending only; the writer's thread sleeps, and must be woken all the same."""
    journal.hold(log("before"), checkpoint(1))
    clock.advance(HOLD_BACK_S)
    store.wait_for_batches(1)
    wait_until(lambda: not journal._writer_looks, "the writer's thread sleeps")
    store.stop_at_next_commit()
    committing = threads.submit(journal.start(start("new")).block)
    store.wait_until_stopped()
    journal.hold(log("held"), checkpoint(1))
    store.go()
    assert committing.result(WAIT_S) == Started()
    clock.advance(HOLD_BACK_S)
    store.wait_for_batches(3)
    assert store.checkpoints("held") == [1]
    journal.hold(log("later"), checkpoint(1))
    clock.advance(HOLD_BACK_S)
    store.wait_for_batches(4)
    assert store.checkpoints("later") == [1]


def test_a_barrier_has_something_to_wait_for_until_all_is_durable(journal: Journal, store: ScriptedStore) -> None:
    one = log()
    assert journal.barrier(one) is None, "nothing was recorded yet"
    journal.hold(one, checkpoint(1))
    store.stop_at_next_commit()
    ticket = journal.barrier(one)
    assert ticket is not None
    assert journal.barrier(one) is ticket, "it is still under way"
    store.go()
    assert ticket.block() == answer()
    assert (journal.barrier(one), store.checkpoints("w")) == (None, [1])


def test_a_flush_makes_durable_what_all_hold(journal: Journal, store: ScriptedStore) -> None:
    logs = [log(f"w{number}") for number in range(5)]
    for one in logs:
        journal.hold(one, checkpoint(1))
    pending = journal.submit(log("pending"), outcome=SUCCEEDED)
    journal.flush()
    assert pending.is_done
    assert [store.checkpoints(one.workflow_id) for one in logs] == [[1]] * 5
    batches = len(store.batches)
    journal.flush()
    assert len(store.batches) == batches, "there was nothing left"


@pytest.mark.parametrize("finish", [Journal.flush, Journal.close])
def test_flush_and_close_wait_for_what_is_under_way(
    journal: Journal, store: ScriptedStore, finish: Callable[[Journal], None]
) -> None:
    """Another thread's commit has begun and not ended: what it holds was recorded, and is not durable yet."""
    store.stop_at_next_commit()
    with ThreadPoolExecutor(2) as threads:
        ticket = journal.submit(log(), outcome=SUCCEEDED)
        leading = threads.submit(ticket.block)
        store.wait_until_stopped()
        durable_at_end: list[bool] = []
        finished = threading.Event()

        def finish_it() -> None:
            finish(journal)
            durable_at_end.append(ticket.is_done)
            finished.set()

        finishing = threads.submit(finish_it)
        finished.wait(SHORT_S)
        store.go()
        leading.result(WAIT_S)
        finishing.result(WAIT_S)
    assert durable_at_end == [True]


# -- what others may be waiting for


def test_what_is_urgent_is_committed_while_its_run_goes_on(journal: Journal, store: ScriptedStore) -> None:
    """Time stands still, and the run submits nothing: the writer's thread does, again and again."""
    one = log()
    for number in (1, 2, 3):
        journal.hold(one, setting(number), is_urgent=True)
        store.wait_for_batches(number)
        wait_until(lambda: not journal._writer_looks, "the writer's thread sleeps")
    assert store.checkpoints("w") == [1, 2, 3]
    assert threading.current_thread() not in store.threads
    assert journal.barrier(one) is None


def test_what_is_urgent_takes_along_what_its_run_held_before_and_nothing_of_others(
    journal: Journal, store: ScriptedStore, clock: ManualClock
) -> None:
    one, other = log("one"), log("other")
    journal.hold(other, checkpoint(1))
    journal.hold(one, checkpoint(1))
    journal.hold(one, setting(2), is_urgent=True)
    store.wait_for_batches(1)
    clock.wait_for_reads(5)
    assert (store.checkpoints("one"), store.checkpoints("other"), len(store.batches)) == ([1, 2], [], 1)


def test_what_is_urgent_travels_with_what_its_run_submits_meanwhile(journal: Journal, store: ScriptedStore) -> None:
    """In one batch and in order, although the writer's thread and the run submit parts of it."""
    one = log()
    with gathering(journal, store):
        for number in range(1, 100):
            journal.hold(one, setting(number), is_urgent=True)
        outcome = journal.submit(one, outcome=SUCCEEDED)
    outcome.block()
    _, batch = store.batches
    assert [c.function_id for c in checkpoints_of(batch, "w")] == list(range(1, 100))
    assert store.outcomes("w") == ["SUCCESS"]


def test_many_urgent_ones_in_a_row_share_commits(journal: Journal, store: ScriptedStore) -> None:
    """While one is committed, the others gather."""
    one = log()
    store.stop_at_next_commit()
    journal.hold(one, writing(0), is_urgent=True)
    store.wait_until_stopped()
    for number in range(1, 1000):
        journal.hold(one, writing(number), is_urgent=True)
    store.go()
    ticket = journal.barrier(one)
    if ticket is not None:
        ticket.block()
    wait_until(lambda: len(store.checkpoints("w")) == 1000, "all are committed")
    assert (store.checkpoints("w"), len(store.batches)) == (list(range(1000)), 2)


def test_what_is_urgent_is_committed_while_another_thread_leads_no_more(
    journal: Journal, store: ScriptedStore, threads: ThreadPoolExecutor
) -> None:
    """It came while that one committed, who looks at what is pending only."""
    store.stop_at_next_commit()
    committing = threads.submit(journal.start(start("new")).block)
    store.wait_until_stopped()
    journal.hold(log(), setting(1), is_urgent=True)
    store.go()
    assert committing.result(WAIT_S) == Started()
    wait_until(lambda: store.checkpoints("w") == [1], "it is committed")


def test_what_was_submitted_by_its_run_is_urgent_no_more(
    journal: Journal, store: ScriptedStore, clock: ManualClock
) -> None:
    """What the run holds afterwards stays held."""
    one = log()
    with gathering(journal, store):
        journal.hold(one, setting(1), is_urgent=True)
        submitted = journal.submit(one)
    submitted.block()
    wait_until(lambda: not journal._writer_looks, "the writer's thread sleeps")
    journal.hold(one, checkpoint(2))
    clock.wait_for_reads(5)
    assert store.checkpoints("w") == [1]


# -- messages from outside


def test_message_from_outside_is_committed_by_its_sender(journal: Journal, store: ScriptedStore) -> None:
    """Who is told whether its destination exists."""
    store.unknown = frozenset({"nobody"})
    before = threading.enumerate()
    assert journal.send(message("w", "hello")).block() is True
    assert journal.send(message("nobody", "lost")).block() is False
    assert store.threads == [threading.current_thread()] * 2
    assert (store.sent(), threading.enumerate()) == (["hello", "lost"], before)


def test_messages_and_starts_are_answered_each_for_itself(journal: Journal, store: ScriptedStore) -> None:
    store.unknown = frozenset({"nobody"})
    with gathering(journal, store):
        tickets: list[AnyTicket] = [
            journal.send(message("w", "1")),
            journal.start(start("w")),
            journal.send(message("nobody", "2")),
            journal.submit(log(), outcome=SUCCEEDED),
            journal.start(start("v")),
            journal.send(message("v", "3")),
        ]
    assert [ticket.block() for ticket in tickets] == [True, Started(), False, answer(), Started(), True]
    assert (store.sent(), store.started(), len(store.batches)) == (["1", "2", "3"], ["w", "v"], 2)


def test_message_does_not_wait_for_the_commit_under_way(store: ScriptedStore) -> None:
    """Where the database commits several transactions at once, its own thread commits it."""
    store.parallel_commits = 1
    journal = Journal(store, ManualClock(), HOLD_BACK_S)
    with gathering(journal, store):
        assert journal.send(message("w", "hello")).block()
        assert store.threads[-1] is threading.current_thread()
        assert (store.sent(), len(store.batches)) == (["hello"], 1)
    journal.close()


def test_message_interrupted_beside_the_leader_is_committed_by_it(store: ScriptedStore) -> None:
    store.parallel_commits = 1
    journal = Journal(store, ManualClock(), HOLD_BACK_S)
    with gathering(journal, store):
        store.failures = [KeyboardInterrupt()]
        ticket = journal.send(message("w", "hello"))
        with pytest.raises(KeyboardInterrupt):
            ticket.block()
    assert (ticket.block(), store.sent()) == (True, ["hello"])
    journal.close()


def test_message_that_is_refused_hinders_no_other(journal: Journal, store: ScriptedStore) -> None:
    store.refuses = lambda batch: any(one.text == "bad" for one in batch.messages)
    tickets = [journal.send(message("w", text)) for text in ("1", "bad", "2")]
    submitted = journal.submit(log(), outcome=SUCCEEDED)
    assert (tickets[0].block(), tickets[2].block(), submitted.block()) == (True, True, answer())
    with pytest.raises(ValueError, match="for good"):
        tickets[1].block()
    assert store.sent() == ["1", "2"]


async def test_messages_of_an_event_loop_share_a_commit(journal: Journal, store: ScriptedStore) -> None:
    store.stop_at_next_commit()
    first = asyncio.ensure_future(journal.send(message("w", "first")).wait())
    await asyncio.to_thread(store.wait_until_stopped)
    together = asyncio.gather(*(journal.send(message("w", str(number))).wait() for number in range(50)))
    await asyncio.sleep(0)
    store.go()
    assert await together == [True] * 50
    assert await first is True
    assert (len(store.batches), store.sent()) == (2, ["first", *map(str, range(50))])
    assert threading.current_thread() not in store.threads


# -- what the code of steps publishes


def test_what_a_step_publishes_travels_with_what_its_run_held(journal: Journal, store: ScriptedStore) -> None:
    one = log()
    effects = [in_step(2, entry("a")), in_step(2, event(text="b"))]
    journal.hold(one, checkpoint(1))
    assert journal.submit(one, step_effects=effects).block() == answer()
    with gathering(journal, store):
        first = journal.submit(one, step_effects=[in_step(3, entry("c"))])
        journal.hold(one, checkpoint(2))
        second = journal.submit(one, step_effects=[in_step(3, entry("d"))])
    assert (first.block(), second.block()) == (answer(), answer())
    written = [run for batch in store.batches for run in batch.runs if run.workflow_id == "w"]
    assert [run.step_effects for run in written] == [effects, [in_step(3, entry("c")), in_step(3, entry("d"))]]
    assert store.checkpoints("w") == [1, 2]


# -- who is told of commits


class Told:
    """Remembers what the journal tells of its commits."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.answers: list[BatchAnswer] = []

    def __call__(self, batch: Batch, answer: BatchAnswer) -> None:
        self.batches.append(batch)
        self.answers.append(answer)


def test_every_commit_is_told_once_with_its_answer(store: ScriptedStore) -> None:
    """Also one that was tried again, or committed beside the leader; before its writer goes on."""
    told = Told()
    store.parallel_commits = 1
    journal = Journal(store, ManualClock(), HOLD_BACK_S, told)
    store.failures = [TransientStorageError("locked"), TransientStorageError("cut"), None]
    journal.submit(log(), outcome=SUCCEEDED).block()
    assert (told.batches, told.answers) == (store.batches, [BatchAnswer([], [answer()], [])])
    with gathering(journal, store):
        journal.send(message("w")).block()
        assert told.batches == store.batches
        submitted = journal.submit(log("other"), outcome=SUCCEEDED)
    submitted.block()
    journal.close()
    assert told.batches == store.batches


def test_commits_run_by_run_are_told_each_and_what_was_refused_is_not(store: ScriptedStore) -> None:
    told = Told()
    journal = Journal(store, ManualClock(), HOLD_BACK_S, told)
    store.refuses = lambda batch: bool(checkpoints_of(batch, "guilty"))
    with gathering(journal, store):
        bad = journal.submit(log("guilty"), checkpoint=checkpoint(1))
        good, sent = journal.submit(log("innocent"), outcome=SUCCEEDED), journal.send(message("w"))
    assert (good.block(), sent.block()) == (answer("innocent"), True)
    with pytest.raises(ValueError, match="for good"):
        bad.block()
    journal.close()
    assert told.batches == store.batches
    assert "guilty" not in {run.workflow_id for batch in told.batches for run in batch.runs}


# -- what runs learn


def test_run_remembers_that_it_may_not_go_on(journal: Journal, store: ScriptedStore) -> None:
    """Whichever of its tickets was told so."""
    one = log()
    assert (journal.submit(one).block(), one.refusal) == (answer(), None)
    store.status = "CANCELLED"
    cancelled = journal.submit(one).block()
    assert cancelled.status == "CANCELLED"
    assert one.refusal == cancelled


def test_barrier_may_be_asked_for_while_the_last_ticket_is_settled(journal: Journal, store: ScriptedStore) -> None:
    """By another thread, at any moment."""

    class ShyLog(RunLog):
        """Its last ticket is gone when it is asked for again, as if it had been settled just then."""

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if name == "last":
                self.last = None
            return value

    one = ShyLog("w", "token of w")
    store.stop_at_next_commit()
    ticket = journal.submit(one, outcome=SUCCEEDED)
    assert journal.barrier(one) in (ticket, None)
    store.go()
    assert ticket.block() == answer()


# -- failures


def test_a_failure_that_may_pass_is_tried_again(journal: Journal, store: ScriptedStore) -> None:
    store.failures = [TransientStorageError("locked"), TransientStorageError("cut"), None]
    ticket = journal.submit(log(), outcome=SUCCEEDED)
    starting = journal.start(start("new"))
    assert (ticket.block(), starting.block()) == (answer(), Started())
    assert (len(store.threads), len(store.batches)) == (3, 1)


def test_a_final_failure_is_that_of_the_guilty_run_alone(journal: Journal, store: ScriptedStore) -> None:
    """The batch is tried again run by run; and what the run writes later is refused too, with the same error."""
    guilty, innocent, other = log("guilty"), log("innocent"), log("other")
    store.refuses = lambda batch: any(c.output == "bad" for c in checkpoints_of(batch, "guilty"))
    with gathering(journal, store):
        journal.hold(guilty, checkpoint(1))
        journal.hold(guilty, checkpoint(2, "bad"))
        bad = journal.submit(guilty)
        journal.hold(innocent, checkpoint(1))
        tickets = [
            journal.submit(innocent),
            journal.submit(other, outcome=SUCCEEDED),
            journal.submit(innocent, outcome=FAILED),
        ]
        starting = journal.start(start("new"))
        later = journal.submit(guilty, outcome=SUCCEEDED)
    with pytest.raises(ValueError, match="for good"):
        bad.block()
    assert [ticket.block() for ticket in tickets] == [answer("innocent"), answer("other"), answer("innocent")]
    assert starting.block() == Started()
    with pytest.raises(ValueError, match="for good"):
        later.block()
    with pytest.raises(ValueError, match="for good"):
        journal.submit(guilty, outcome=SUCCEEDED).block()
    assert (store.checkpoints("guilty"), store.outcomes("guilty")) == ([], []), (
        "never an outcome without its checkpoint"
    )
    assert (store.checkpoints("innocent"), store.outcomes("innocent")) == ([1], ["ERROR"])
    assert store.started() == ["new"]
    fresh = log("guilty")
    assert journal.submit(fresh, outcome=FAILED).block() == answer("guilty"), "a new log of the run begins anew"


def test_an_outcome_is_refused_whose_checkpoint_is_refused_meanwhile(journal: Journal, store: ScriptedStore) -> None:
    """It was submitted before the refusal, and would be committed after it."""
    one = log()
    store.refuses = lambda batch: bool(checkpoints_of(batch, "w"))
    journal.hold(one, checkpoint(1))
    store.stop_at_next_commit()
    assert journal.barrier(one) is not None
    journal.kick()
    store.wait_until_stopped()
    outcome = journal.submit(one, outcome=SUCCEEDED)
    innocent = journal.submit(log("innocent"), outcome=SUCCEEDED)
    store.go()
    assert innocent.block() == answer("innocent")
    with pytest.raises(ValueError, match="for good"):
        outcome.block()
    assert store.outcomes("w") == []


def test_a_start_that_is_refused_hinders_no_other(journal: Journal, store: ScriptedStore) -> None:
    store.refuses = lambda batch: any(one.workflow_id == "bad" for one in batch.starts)
    tickets = [journal.start(start(workflow_id)) for workflow_id in ("w1", "bad", "w2")]
    assert (tickets[0].block(), tickets[2].block()) == (Started(), Started())
    with pytest.raises(ValueError, match="for good"):
        tickets[1].block()
    assert store.started() == ["w1", "w2"]


def test_an_interrupted_leader_strands_nobody(journal: Journal, store: ScriptedStore) -> None:
    """Ctrl-C while it commits for all: it is interrupted, and its whole batch is committed by another."""
    store.stop_at_next_commit()
    store.failures = [KeyboardInterrupt()]
    with ThreadPoolExecutor(3) as threads:
        mine, in_my_batch = journal.submit(log("mine"), outcome=SUCCEEDED), journal.submit(log("early"))
        leading = threads.submit(mine.block)
        store.wait_until_stopped()
        late = journal.submit(log("late"), outcome=SUCCEEDED)
        waiting = [threads.submit(ticket.block) for ticket in (in_my_batch, late)]
        store.go()
        with pytest.raises(KeyboardInterrupt):
            leading.result(WAIT_S)
        assert [future.result(WAIT_S) for future in waiting] == [answer("early"), answer("late")]
    assert mine.block() == answer("mine")
    assert (store.outcomes("mine"), store.outcomes("late")) == (["SUCCESS"], ["SUCCESS"])


def test_an_interrupted_follower_does_not_swallow_the_wake_up_of_another(
    journal: Journal, store: ScriptedStore, threads: ThreadPoolExecutor
) -> None:
    """Ctrl-C while it waits for the commit of another thread: it will not lead next, somebody else must."""
    store.stop_at_next_commit()
    leading = threads.submit(journal.start(start("leader")).block)
    store.wait_until_stopped()
    mine, other = journal.start(start("mine")), journal.start(start("other"))

    def interrupt() -> None:
        wait_until(lambda: mine._sleepers, "the main thread waits")
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # type: ignore[arg-type]

    interrupting = threads.submit(interrupt)
    with pytest.raises(KeyboardInterrupt):
        mine.block()
    interrupting.result(WAIT_S)
    waiting = threads.submit(other.block)
    wait_until(lambda: other._sleepers, "the other thread waits")
    threading.Event().wait(SHORT_S)
    wait_until(lambda: not journal._writer_looks, "the writer's thread, if it was called, sleeps again")
    store.go()
    assert leading.result(WAIT_S) == waiting.result(WAIT_S) == Started()
    wait_until(lambda: mine.is_done, "the interrupted one's start is committed as well")
    assert sorted(store.started()) == ["leader", "mine", "other"]


def test_an_interrupted_lone_writer_finds_its_write_done(journal: Journal, store: ScriptedStore) -> None:
    """Nobody else waits, and still its batch is tried again."""
    store.failures = [KeyboardInterrupt()]
    ticket = journal.submit(log(), outcome=SUCCEEDED)
    with pytest.raises(KeyboardInterrupt):
        ticket.block()
    store.wait_for_batches(1)
    assert (ticket.block(), store.outcomes("w")) == (answer(), ["SUCCESS"])


def test_an_interruption_between_run_by_run_tries_loses_and_repeats_nothing(
    journal: Journal, store: ScriptedStore
) -> None:
    logs = [log(f"w{number}") for number in range(3)]
    tickets = [journal.submit(one, outcome=SUCCEEDED) for one in logs]
    store.failures = [ValueError("the batch"), None, KeyboardInterrupt()]
    with ThreadPoolExecutor(1) as threads, pytest.raises(KeyboardInterrupt):
        threads.submit(tickets[2].block).result(WAIT_S)
    assert [ticket.block() for ticket in tickets] == [answer(f"w{number}") for number in range(3)]
    assert [store.outcomes(f"w{number}") for number in range(3)] == [["SUCCESS"]] * 3


# -- order and size


def test_what_a_run_submits_stays_in_order_in_one_transaction(journal: Journal, store: ScriptedStore) -> None:
    one, other = log("one"), log("other")
    with gathering(journal, store):
        journal.hold(one, checkpoint(1))
        journal.submit(one)
        journal.hold(other, checkpoint(1))
        journal.hold(one, checkpoint(2))
        journal.submit(one, children=[child(2, "one-2")])
        journal.submit(other)
        journal.hold(one, checkpoint(3))
        last = journal.submit(one, outcome=SUCCEEDED)
    last.block()
    _, batch = store.batches
    assert [run.workflow_id for run in batch.runs] == ["one", "other"]
    run = batch.runs[0]
    assert ([c.function_id for c in run.checkpoints], len(run.children), run.outcome) == ([1, 2, 3], 1, SUCCEEDED)


def test_foreign_checkpoints_are_remembered(journal: Journal, store: ScriptedStore) -> None:
    one = log()
    store.foreign = frozenset({2})
    assert journal.submit(one).block().foreign == {2}
    store.foreign = frozenset({3})
    journal.submit(one).block()
    assert one.foreign == {2, 3}


def test_a_batch_takes_no_more_writes_than_its_limit(journal: Journal, store: ScriptedStore) -> None:
    third = limits.MAX_BATCH_WRITES // 3
    tickets: list[AnyTicket] = []
    with gathering(journal, store):
        for number in range(7):
            one = log(f"w{number}")
            for n in range(third - 1):
                journal.hold(one, checkpoint(n))
            tickets.append(journal.submit(one))
    assert [ticket.block() for ticket in tickets] == [answer(f"w{number}") for number in range(7)]
    held = [[run.workflow_id for run in batch.runs] for batch in store.batches]
    assert held == [["plug"], ["w0", "w1", "w2"], ["w3", "w4", "w5"], ["w6"]]


def test_a_batch_takes_no_more_characters_than_its_limit(journal: Journal, store: ScriptedStore) -> None:
    """Unless its first write alone is longer, which is then alone."""
    half, huge = "x" * (limits.MAX_BATCH_CHARS // 2), "x" * (limits.MAX_BATCH_CHARS + 1)
    outputs = {"w0": half, "w1": half, "w2": "small", "w3": huge, "w4": "small"}
    tickets: list[AnyTicket] = []
    with gathering(journal, store):
        for workflow_id, output in outputs.items():
            one = log(workflow_id)
            journal.hold(one, checkpoint(1, output))
            tickets.append(journal.submit(one))
        tickets.append(journal.submit(log("w5"), children=[child(1, "child", inputs=huge)]))
        starting = journal.start(start("new", inputs=half))
    for ticket in tickets:
        ticket.block()
    starting.block()
    held = [[run.workflow_id for run in batch.runs] for batch in store.batches]
    assert held == [["plug"], ["w0", "w1"], ["w2"], ["w3"], ["w4"], ["w5"], []]
    assert store.started() == ["new"]


def test_values_of_effects_count_as_characters(journal: Journal, store: ScriptedStore) -> None:
    half = "x" * (limits.MAX_BATCH_CHARS // 2 + 1)
    effects: list[Effect] = [message("v", half), event(text=half), entry(half), Receipt("id")]
    tickets: list[AnyTicket] = []
    with gathering(journal, store):
        for number, effect in enumerate(effects):
            tickets.append(journal.submit(log(f"w{number}"), checkpoint=doing(1, effect)))
        tickets.append(journal.submit(log("w4"), step_effects=[in_step(1, entry(half))]))
        tickets.append(journal.send(message("v", half)))
        tickets.append(journal.send(message("v", "small")))
    for ticket in tickets:
        ticket.block()
    held = [([run.workflow_id for run in batch.runs], len(batch.messages)) for batch in store.batches]
    assert held == [(["plug"], 0), (["w0"], 0), (["w1"], 0), (["w2", "w3"], 0), (["w4"], 0), ([], 2)]


def test_effects_of_steps_count_as_writes(journal: Journal, store: ScriptedStore) -> None:
    most = [in_step(1, entry()) for _ in range(limits.MAX_BATCH_WRITES - 1)]
    with gathering(journal, store):
        tickets = [journal.submit(log(f"w{number}"), step_effects=most) for number in range(2)]
    for ticket in tickets:
        ticket.block()
    assert [[run.workflow_id for run in batch.runs] for batch in store.batches] == [["plug"], ["w0"], ["w1"]]


# -- event loops


async def test_an_event_loop_is_woken_once_for_a_batch(
    journal: Journal, store: ScriptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And never commits itself."""
    loop = asyncio.get_running_loop()
    wakings: list[object] = []
    call_soon = loop.call_soon_threadsafe

    def count(*arguments: object, **others: object) -> asyncio.Handle:
        wakings.append(arguments[0])
        return call_soon(*arguments, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    store.stop_at_next_commit()
    first = asyncio.ensure_future(journal.submit(log("first")).wait())
    await asyncio.sleep(0)
    await asyncio.to_thread(store.wait_until_stopped)
    tickets = [journal.submit(log(f"w{number}"), outcome=SUCCEEDED) for number in range(50)]
    starts = [journal.start(start(f"s{number}")) for number in range(50)]
    together = asyncio.gather(*(ticket.wait() for ticket in tickets), *(ticket.wait() for ticket in starts))
    await asyncio.sleep(0)  # all of them wait
    wakings.clear()
    store.go()
    assert await together == [answer(f"w{number}") for number in range(50)] + [Started()] * 50
    assert await first == answer("first")
    assert len(store.batches) == 2
    assert len(wakings) == 2, "one for each batch"
    assert threading.current_thread() not in store.threads


async def test_a_task_cancelled_while_it_waits_leaves_its_write_to_the_journal(
    journal: Journal, store: ScriptedStore
) -> None:
    store.stop_at_next_commit()
    ticket = journal.submit(log(), outcome=SUCCEEDED)
    waiting = asyncio.ensure_future(ticket.wait())
    await asyncio.to_thread(store.wait_until_stopped)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    store.go()
    assert (await ticket.wait(), store.outcomes("w")) == (answer(), ["SUCCESS"])


def test_a_loop_that_was_closed_does_not_hinder_the_others(journal: Journal, store: ScriptedStore) -> None:
    store.stop_at_next_commit()
    gone, alive = journal.submit(log("gone"), outcome=SUCCEEDED), journal.submit(log("alive"), outcome=SUCCEEDED)

    async def wait_in_vain() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(gone.wait(), 0)
        waiting = asyncio.ensure_future(gone.wait())
        await asyncio.sleep(0)
        await asyncio.to_thread(store.wait_until_stopped)
        assert not waiting.done()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(wait_in_vain())
    loop.run_until_complete(loop.shutdown_default_executor())
    pending = asyncio.all_tasks(loop)
    loop.close()
    store.go()
    assert (alive.block(), gone.block()) == (answer("alive"), answer("gone"))
    for task in pending:
        task._log_destroy_pending = False  # type: ignore[attr-defined]


# -- closing


def test_closing_makes_durable_what_was_recorded_and_refuses_the_rest(journal: Journal, store: ScriptedStore) -> None:
    one, other = log("one"), log("other")
    journal.hold(one, checkpoint(1))
    journal.submit(other, outcome=SUCCEEDED)
    journal.close()
    assert (store.checkpoints("one"), store.outcomes("other")) == ([1], ["SUCCESS"])
    batches = len(store.batches)
    for write in (
        lambda: journal.hold(one, checkpoint(2)),
        lambda: journal.submit(one),
        lambda: journal.submit(log("new"), outcome=SUCCEEDED),
        lambda: journal.start(start("new")),
        lambda: journal.send(message("w")),
        lambda: journal.submit(one, step_effects=[in_step(1, entry())]),
    ):
        with pytest.raises(JournalClosed):
            write()
    assert journal.barrier(one) is None, "nothing is left to wait for"
    assert len(store.batches) == batches
    journal.close()
    assert "dbos-journal" not in {thread.name for thread in threading.enumerate()}


def test_closing_does_not_wait_for_ever_for_a_database_that_is_away(
    journal: Journal, store: ScriptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_FIRST_RETRY_S", 0.0001)
    store.failures = [TransientStorageError("away") for _ in range(1000)]
    one = log()
    journal.hold(one, checkpoint(1))
    ticket = journal.barrier(one)
    assert ticket is not None
    journal.close()
    with pytest.raises(JournalClosed):
        ticket.block()
    assert store.batches == []


def test_nobody_may_catch_the_closing_by_accident() -> None:
    assert not issubclass(JournalClosed, Exception)


# -- runs whose rows somebody keeps locked


def test_run_that_is_held_up_holds_up_no_other_and_stays_in_order(
    journal: Journal, store: ScriptedStore, threads: ThreadPoolExecutor
) -> None:
    """It waits for a lock that somebody else holds; what others submit, in its batch or later, is committed."""
    store.locked = {"locked"}
    locked, other = log("locked"), log("other")
    with gathering(journal, store):
        first = journal.submit(locked, checkpoint=checkpoint(1))
        beside = journal.submit(other, checkpoint=checkpoint(1))
        flushing = threads.submit(journal.flush)
    assert threads.submit(beside.block).result(WAIT_S) == answer("other")
    waiting = threads.submit(first.block)
    second = journal.submit(locked, checkpoint=checkpoint(2))
    for number in range(2, 10):
        assert threads.submit(journal.submit(other, checkpoint=checkpoint(number)).block).result(WAIT_S)
    flushing.result(WAIT_S)
    journal.flush()
    assert not first.is_done
    assert not second.is_done
    assert store.checkpoints("locked") == []

    store.locked = set()
    assert waiting.result(WAIT_S) == answer("locked")
    assert threads.submit(second.block).result(WAIT_S) == answer("locked")
    last = journal.submit(locked, outcome=SUCCEEDED)
    assert threads.submit(last.block).result(WAIT_S) == answer("locked")
    assert store.checkpoints("locked") == [1, 2]
    assert store.checkpoints("other") == list(range(1, 10))


def test_closed_journal_refuses_what_is_held_up(
    journal: Journal, store: ScriptedStore, threads: ThreadPoolExecutor
) -> None:
    store.locked = {"locked"}
    ticket = journal.submit(log("locked"), checkpoint=checkpoint(1))
    waiting = threads.submit(ticket.block)
    wait_until(lambda: any(thread.name == "dbos-held-up" for thread in threading.enumerate()), "it is set aside")
    journal.close()
    with pytest.raises(JournalClosed):
        waiting.result(WAIT_S)
    wait_until(lambda: all(thread.name != "dbos-held-up" for thread in threading.enumerate()), "its thread has ended")


def test_run_that_is_held_up_while_no_thread_can_be_started_is_not_lost(
    journal: Journal, store: ScriptedStore, threads: ThreadPoolExecutor
) -> None:
    """It is tried again with the others, as if there were no better way."""

    def add(held_up: HeldUp, tickets: Any) -> None:
        raise RuntimeError("can't start new thread")

    store.locked = {"locked"}
    store.on_try = lambda: store.locked.clear() if len(store.threads) == 3 else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HeldUp, "add", add)
        ticket = journal.submit(log("locked"), checkpoint=checkpoint(1))
        assert threads.submit(ticket.block).result(WAIT_S) == answer("locked")
    assert store.checkpoints("locked") == [1]
