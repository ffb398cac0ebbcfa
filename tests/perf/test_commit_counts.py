"""What durability costs: the number of transactions, counted, for each way of running workflows.

Time stands still for the journal, so that its timer flushes nothing in between, and the lease is not renewed: every
transaction that is counted is one that the workflows needed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from dbos import (
    DBOS,
    DBOSClient,
    DBOSConfiguredInstance,
    DBOSContextSetAuth,
    Debouncer,
    EnqueueOptions,
    Queue,
    SetEnqueueOptions,
    SetWorkflowID,
    WorkflowHandle,
)
from dbos.error import DBOSAwaitedWorkflowCancelledError
from dbos.runtime.executor import Executor
from dbos.storage.gate import Moment
from tests.support.apps import eventually
from tests.support.clock import ManualClock
from tests.support.gates import CountingGate
from tests.support.looks import HOUSEKEEPING

WAIT_S = 30.0

LOOKS_FOR_WORK = {
    *("find_waiting", "find_left_behind", "find_queues", "find_unknown_functions", "find_other_versions"),
    "find_stranded",
}

BY_ITSELF = (
    (HOUSEKEEPING - {"release"})
    | {"read_duties", "read_stopping", "read_owners", "forget_expired_keys"}
    | LOOKS_FOR_WORK
)
"""What an application does now and then, whoever does whatever."""


class Counter:
    """A launched application whose transactions are counted, but for what it does by itself."""

    def __init__(self, url: str, **config: Any) -> None:
        self.url = url
        self._config = config
        self.is_postgres = url.startswith("postgresql")
        self.gate = CountingGate()
        self.launch()

    def launch(self) -> None:
        """Launch, and wait until the look for interrupted workflows is over, and hints arrive."""
        self.gate = CountingGate()
        DBOS(
            config={
                "name": "app",
                "system_database_url": self.url,
                "application_version": "test",
                **self._config,
                "enable_patching": True,
            }
        )
        application = DBOS._application
        assert application is not None
        application.clock = ManualClock()
        application.gate = self.gate
        application.renew_interval_s = 3600.0
        DBOS.launch()
        self.gate.wait_for("find_orphans", "after_commit", 1)
        executor = application.executor
        assert executor is not None
        eventually(lambda: executor.hints.is_live, "hints arrive")

    def transactions(self, work: Callable[[], Any]) -> dict[str, int]:
        """The transactions that began while `work` ran, by operation."""
        before = self.gate.counts("begin")
        work()
        after = self.gate.counts("begin")
        return {
            operation: count - before.get(operation, 0)
            for operation, count in after.items()
            if count != before.get(operation, 0) and operation not in BY_ITSELF
        }


@pytest.fixture
def counter(database_url: str, no_other_queues: None) -> Iterator[Counter]:
    yield Counter(database_url)
    DBOS.destroy()


# -- the workflows


@DBOS.step()
def step(number: int) -> int:
    return number


@DBOS.step()
async def step_async(number: int) -> int:
    await asyncio.sleep(0)
    return number


@DBOS.workflow()
def sequence(steps: int) -> int:
    return sum(step(number) for number in range(steps))


@DBOS.workflow()
async def sequence_async(steps: int) -> int:
    return sum([await step_async(number) for number in range(steps)])


@DBOS.workflow()
def patched(steps: int) -> list[int]:
    return [step(number) for number in range(steps) if DBOS.patch("before each")] if DBOS.patch("first") else []


@DBOS.workflow()
async def patched_async(steps: int) -> None:
    for number in range(steps):
        if await DBOS.patch_async("before each") and await DBOS.deprecate_patch_async("and none"):
            await step_async(number)
    await DBOS.patch_async("last")


@DBOS.step()
def failing_step() -> None:
    raise ValueError("wrong")


@DBOS.workflow()
def failing_sequence() -> None:
    step(1)
    failing_step()


@DBOS.workflow()
def parent(steps_before: int, steps_in_child: int) -> int:
    for number in range(steps_before):
        step(number)
    return sequence(steps_in_child)


@DBOS.workflow()
async def parent_async(steps_before: int, steps_in_child: int) -> int:
    for number in range(steps_before):
        await step_async(number)
    return await sequence_async(steps_in_child)


@DBOS.workflow()
async def gathering(steps: int, together: bool) -> int:
    """Steps that all begin before the first one ends, or one after the other."""
    running = 0
    all_run = asyncio.Event()

    async def meet(number: int) -> int:
        nonlocal running
        running += 1
        if running == steps:
            all_run.set()
        if together:
            await all_run.wait()
        return number

    return sum(await asyncio.gather(*(DBOS.run_step_async({"name": "meet"}, meet, n) for n in range(steps))))


# -- the counts


@pytest.mark.parametrize("steps", [0, 1, 5, 20])
def test_sequential_steps_cost_one_commit_each_and_one_more(counter: Counter, steps: int) -> None:
    """The start; every step but the last one, made durable before the next; the last step with the outcome."""
    expected = {"journal": max(steps, 1) + 1}
    assert counter.transactions(lambda: sequence(steps)) == expected
    assert counter.transactions(lambda: asyncio.run(sequence_async(steps))) == expected


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_only_a_patch_before_the_first_step_costs_a_commit(counter: Counter, steps: int) -> None:
    """It is durable before the step begins. The markers of all others travel with the checkpoint before them."""
    assert counter.transactions(lambda: patched(steps)) == {"journal": steps + 2}
    assert counter.transactions(lambda: asyncio.run(patched_async(steps))) == {"journal": steps + 2}


def test_a_failing_workflow_costs_no_more(counter: Counter) -> None:
    def fail() -> None:
        with pytest.raises(ValueError, match="wrong"):
            failing_sequence()

    assert counter.transactions(fail) == {"journal": 3}


def test_a_workflow_started_in_the_background_costs_the_same(counter: Counter) -> None:
    """And its result costs nothing where it ran."""
    assert counter.transactions(lambda: DBOS.start_workflow(sequence, 5).get_result()) == {"journal": 6}

    async def start() -> None:
        handle = await DBOS.start_workflow_async(sequence_async, 5)
        assert await handle.get_result() == 10

    assert counter.transactions(lambda: asyncio.run(start())) == {"journal": 6}


def test_a_method_costs_what_a_function_does_and_so_does_a_user(counter: Counter) -> None:
    @DBOS.dbos_class("Counted")
    @DBOS.default_required_roles(["clerk"])
    class Counted(DBOSConfiguredInstance):
        @DBOS.workflow(name="Counted.run")
        def run(self, steps: int) -> int:
            return sum(self.step(number) for number in range(steps))

        @DBOS.step(name="Counted.step")
        def step(self, number: int) -> int:
            return number

    counted = Counted("one")
    with DBOSContextSetAuth("ann", ["clerk"]):
        assert counter.transactions(lambda: counted.run(5)) == {"journal": 6}
        assert counter.transactions(lambda: DBOS.start_workflow(counted.run, 5).get_result()) == {"journal": 6}


@pytest.mark.parametrize("steps_before", [0, 1])
@pytest.mark.parametrize("steps_in_child", [0, 1, 3])
def test_a_child_that_is_called_costs_two_commits_more_than_its_steps(
    counter: Counter, steps_before: int, steps_in_child: int
) -> None:
    """The parent's start; the child's, with the parent's steps before; the child's steps; the parent's outcome."""
    expected = {"journal": 3 + max(steps_in_child, 1)}
    assert counter.transactions(lambda: parent(steps_before, steps_in_child)) == expected
    assert counter.transactions(lambda: asyncio.run(parent_async(steps_before, steps_in_child))) == expected


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_gathered_steps_are_flushed_together(counter: Counter, steps: int) -> None:
    """All that were running when the first ended travel with the outcome."""
    assert counter.transactions(lambda: asyncio.run(gathering(steps, True))) == {"journal": 2}


def test_a_finished_workflow_called_again_costs_one_commit_and_one_read(counter: Counter) -> None:
    def call() -> None:
        with SetWorkflowID("w"):
            sequence(5)

    assert counter.transactions(call) == {"journal": 6}
    assert counter.transactions(call) == {"journal": 1, "find_outcomes": 1}


def test_a_hundred_concurrent_coroutines_share_their_commits(counter: Counter) -> None:
    """600 writes, of which each must be durable before the next one of its workflow."""

    async def run_all() -> None:
        assert await asyncio.gather(*(sequence_async(5) for _ in range(100))) == [10] * 100

    assert counter.transactions(lambda: asyncio.run(run_all()))["journal"] <= 20


def test_a_hundred_concurrent_threads_share_their_commits(counter: Counter) -> None:
    """All workflows are in their first step when they are let go: 500 writes are to come."""
    here, go = threading.Semaphore(0), threading.Event()

    @DBOS.step()
    def meet() -> None:
        here.release()
        assert go.wait(WAIT_S)

    @DBOS.workflow()
    def work() -> None:
        meet()
        for number in range(4):
            step(number)

    handles = [DBOS.start_workflow(work) for _ in range(100)]
    for _ in handles:
        assert here.acquire(timeout=WAIT_S)

    def finish() -> None:
        go.set()
        for handle in handles:
            handle.get_result()

    assert counter.transactions(finish)["journal"] <= 50


def test_a_recovered_workflow_loads_its_checkpoints_in_one_read(counter: Counter) -> None:
    """And answers all its steps from memory, whatever their number."""
    reached, go = threading.Event(), threading.Event()

    @DBOS.step()
    def last() -> None:
        reached.set()
        assert go.wait(WAIT_S)

    @DBOS.workflow()
    def work() -> int:
        total = sum(step(number) for number in range(20))
        last()
        return total

    handle = DBOS.start_workflow(work)
    assert reached.wait(WAIT_S)
    DBOS.destroy()
    go.set()
    counter.launch()
    counter.gate.wait_for("journal", "after_commit", 1)
    assert DBOS.retrieve_workflow(handle.workflow_id).get_result() == 190
    counts = counter.gate.counts("begin")
    assert (counts["claim_orphans"], counts["read_checkpoints"], counts["journal"]) == (1, 1, 1)


# -- talking, waiting, managing


@DBOS.workflow()
def sending(destination_id: str, messages: int) -> None:
    """A step, the messages, a step."""
    step(1)
    for number in range(messages):
        DBOS.send(destination_id, number)
    step(2)


@DBOS.workflow()
async def sending_together(destination_ids: list[str]) -> None:
    await asyncio.gather(*(DBOS.send_async(destination_id, "hello") for destination_id in destination_ids))


@DBOS.step()
def sending_step(destination_id: str) -> None:
    DBOS.send(destination_id, "hello")


@DBOS.workflow()
def sending_from_a_step(destination_id: str) -> None:
    sending_step(destination_id)


@DBOS.workflow()
def receiving(messages: int, timeout_s: float) -> list[object]:
    return [DBOS.recv("topic", timeout_s) for _ in range(messages)]


@DBOS.workflow()
async def receiving_async(messages: int, timeout_s: float) -> list[object]:
    return [await DBOS.recv_async("topic", timeout_s) for _ in range(messages)]


@DBOS.workflow()
def publishing(events: int, entries: int) -> None:
    for number in range(events):
        DBOS.set_event(f"key {number}", number)
    for number in range(entries):
        DBOS.write_stream("stream", number)


@DBOS.workflow()
async def publishing_async(events: int, entries: int) -> None:
    for number in range(events):
        await DBOS.set_event_async(f"key {number}", number)
    for number in range(entries):
        await DBOS.write_stream_async("stream", number)


@DBOS.workflow()
def asking(workflow_id: str, key: str, timeout_s: float) -> object:
    return DBOS.get_event(workflow_id, key, timeout_s)


@DBOS.workflow()
def sleeping_for_a_while(seconds: float) -> None:
    step(1)
    DBOS.sleep(seconds)
    step(2)


@pytest.fixture
def receiver(counter: Counter) -> str:
    """The id of a workflow that messages can be sent to."""
    with SetWorkflowID("receiver"):
        sequence(1)
    return "receiver"


def started(function: Callable[..., Any], workflow_id: str, *args: Any) -> WorkflowHandle[Any]:
    """Start the workflow under this id."""
    with SetWorkflowID(workflow_id):
        return DBOS.start_workflow(function, *args)


def held_up(counter: Counter, operation: str, work: Callable[[], Any]) -> None:
    """Do the work, and wait until it has looked for what is not there yet."""
    before = counter.gate.count(operation)
    work()
    counter.gate.wait_for(operation, "after_commit", before + 1)


@pytest.mark.parametrize("messages", [1, 5])
def test_sending_costs_one_commit_that_takes_the_steps_before_along(
    counter: Counter, receiver: str, messages: int
) -> None:
    """The start; the first step with the first message; the other messages; the last step with the outcome."""
    assert counter.transactions(lambda: sending(receiver, messages)) == {"journal": 2 + messages}


def test_sending_from_outside_costs_one_commit(counter: Counter, receiver: str) -> None:
    """With a key or without, from a step too."""
    assert counter.transactions(lambda: DBOS.send(receiver, "hello")) == {"journal": 1}

    def send_with_key() -> None:
        with SetWorkflowID("key"):
            DBOS.send(receiver, "hello")

    assert counter.transactions(send_with_key) == {"journal": 1}
    assert counter.transactions(lambda: sending_from_a_step(receiver)) == {"journal": 3}


def test_a_hundred_messages_at_once_share_their_commits(counter: Counter, receiver: str) -> None:
    async def send_all() -> None:
        await asyncio.gather(*(DBOS.send_async(receiver, number) for number in range(100)))

    assert counter.transactions(lambda: asyncio.run(send_all()))["journal"] <= 10
    together = counter.transactions(lambda: asyncio.run(sending_together([receiver] * 100)))
    assert together["journal"] <= 12


@pytest.mark.parametrize("messages", [1, 5])
def test_receiving_what_is_there_costs_one_read_and_one_commit(counter: Counter, messages: int) -> None:
    """The start; each receipt, the last one with the outcome. Each look is after the receipt before it is durable."""
    reached, go = threading.Event(), threading.Event()

    @DBOS.workflow()
    def receiving_later() -> list[object]:
        reached.set()
        assert go.wait(WAIT_S)
        return [DBOS.recv("topic", 60) for _ in range(messages)]

    handle = DBOS.start_workflow(receiving_later)
    assert reached.wait(WAIT_S)
    for number in range(messages):
        DBOS.send(handle.workflow_id, number, "topic")

    def receive() -> None:
        go.set()
        assert handle.get_result() == list(range(messages))

    assert counter.transactions(receive) == {"journal": messages, "find_messages": messages}


@pytest.mark.parametrize("function", [receiving, receiving_async])
def test_receiving_what_comes_costs_no_more_commits(counter: Counter, function: Callable[..., Any]) -> None:
    """How long it waits is recorded with what it received. It looks when it begins, and when it is woken."""
    handles: list[WorkflowHandle[Any]] = []
    held_up(counter, "find_messages", lambda: handles.append(started(function, "w", 1, 600)))

    def receive() -> None:
        DBOS.send("w", "hello", "topic")
        assert handles[0].get_result() == ["hello"]

    cost = counter.transactions(receive)
    assert cost.pop("journal") == 2, "the message, and the outcome"
    assert set(cost) <= {"find_messages"}
    if counter.is_postgres:
        assert cost.get("find_messages", 0) <= 2, "when the message came, and maybe when the first hint came"


def test_looking_for_a_message_once_costs_one_read(counter: Counter) -> None:
    assert counter.transactions(lambda: receiving(1, 0)) == {"journal": 2, "find_messages": 1}


def test_looking_for_a_message_once_leaves_no_look_behind(counter: Counter) -> None:
    """Nobody waits for it, so nobody looks for it when something is written. Likewise for an event."""
    receiving(1, 0)
    asking("nobody", "key", 0)
    assert counter.transactions(lambda: [sequence(1) for _ in range(100)]) == {"journal": 200}


@pytest.mark.parametrize("function", [publishing, publishing_async])
def test_publishing_costs_no_commit_of_its_own(counter: Counter, function: Callable[..., Any]) -> None:
    """What is published is committed while the workflow goes on, as much of it together as there is."""

    def run(events: int, entries: int) -> int:
        cost = counter.transactions(lambda: DBOS.start_workflow(function, events, entries).get_result())
        assert set(cost) == {"journal"}
        return cost["journal"]

    assert run(1, 0) <= 3
    assert run(0, 1) <= 3
    assert run(0, 100) <= 30
    assert run(100, 100) <= 60


def test_reading_what_was_published_costs_one_read(counter: Counter) -> None:
    with SetWorkflowID("w"):
        publishing(3, 100)
    assert counter.transactions(lambda: DBOS.get_event("w", "key 1")) == {"find_events": 1}
    assert counter.transactions(lambda: DBOS.get_all_events("w")) == {"read_events": 1}
    assert counter.transactions(lambda: asking("w", "key 1", 60)) == {"journal": 2, "find_events": 1}
    cost = counter.transactions(lambda: list(DBOS.read_stream("w", "stream")))
    assert set(cost) == {"find_streams", "find_entries"}
    assert max(cost.values()) <= 3, "the first few, the others, and that there are no more"


def test_an_event_that_comes_costs_one_look_more(counter: Counter) -> None:
    handles: list[WorkflowHandle[Any]] = []
    held_up(counter, "find_events", lambda: handles.append(started(asking, "asker", "w", "key 0", 600)))

    def answer() -> None:
        started(publishing, "w", 1, 0).get_result()
        assert handles[0].get_result() == 0

    cost = counter.transactions(answer)
    assert cost.pop("journal") <= 4, "the other's start and outcome, maybe its event, and the asker's outcome"
    assert set(cost) <= {"find_events"}
    if counter.is_postgres:
        assert cost.get("find_events", 0) <= 2, "when the event came, and maybe when the first hint came"


def test_sleeping_costs_one_commit_that_takes_the_steps_before_along(counter: Counter) -> None:
    """The start; the step with the sleep; the last step with the outcome."""
    assert counter.transactions(lambda: sleeping_for_a_while(0)) == {"journal": 3}


def test_cancelling_costs_one_commit_and_one_for_all_that_stop(counter: Counter) -> None:
    """However many stop at once, their claims are released together."""
    handle = started(sleeping_for_a_while, "w", 600)
    counter.gate.wait_for("journal", "after_commit", 2)

    def cancel() -> None:
        DBOS.cancel_workflow("w")
        with pytest.raises(DBOSAwaitedWorkflowCancelledError):
            handle.get_result()
        counter.gate.wait_for("release", "after_commit", 1)

    cost = counter.transactions(cancel)
    cost.pop("find_outcomes", None)
    assert cost == {"cancel": 1, "release": 1}
    assert counter.transactions(lambda: DBOS.cancel_workflow("w")) == {"cancel": 1}
    assert counter.transactions(lambda: DBOS.cancel_workflow("nobody")) == {"cancel": 1}


def test_resuming_and_forking_cost_a_claim_and_one_read_of_all_steps(counter: Counter) -> None:
    """Whatever their number: they are answered from memory. The outcome is one commit."""
    with SetWorkflowID("w"):
        sequence(20)

    def fork() -> None:
        assert DBOS.fork_workflow("w", 21).get_result() == 190

    cost = counter.transactions(fork)
    assert cost.pop("find_outcomes", 0) <= 3
    assert cost == {"fork": 1, "claim_enqueued": 1, "read_checkpoints": 1, "journal": 1}

    reached, go = threading.Event(), threading.Event()

    @DBOS.step()
    def last() -> None:
        reached.set()
        assert go.wait(WAIT_S)

    @DBOS.workflow()
    def work() -> int:
        total = sum(step(number) for number in range(20))
        last()
        return total

    handle = started(work, "v")
    assert reached.wait(WAIT_S)
    DBOS.cancel_workflow("v")
    go.set()
    counter.gate.wait_for("release", "after_commit", 1)
    cost = counter.transactions(lambda: DBOS.resume_workflow("v").get_result())
    assert cost.pop("find_outcomes", 0) <= 3
    assert cost == {"resume": 1, "claim_enqueued": 1, "read_checkpoints": 1, "journal": 1}
    assert handle.get_result() == 190


def test_deleting_costs_one_commit(counter: Counter) -> None:
    with SetWorkflowID("w"):
        publishing(10, 10)
    assert counter.transactions(lambda: DBOS.delete_workflow("w", delete_children=True)) == {"delete": 1}


def test_waiting_costs_others_nothing(counter: Counter) -> None:
    """Who waits is not looked for when somebody else records steps; where the file tells only that it has changed, the
    looks are few and take all who wait together.
    """
    for number in range(50):
        held_up(counter, "find_messages", lambda: started(receiving, f"w{number}", 1, 600))  # noqa: B023
    cost = counter.transactions(lambda: [sequence(5) for _ in range(20)])
    assert cost.pop("journal") == 120
    if counter.is_postgres:
        assert cost == {}
    else:
        assert cost.get("find_messages", 0) <= 60


# -- queues


@DBOS.workflow()
def enqueueing(queue: Queue, count: int) -> int:
    """Its children are for another version, and wait."""
    with SetEnqueueOptions(app_version="other"):
        return len([queue.enqueue(sequence, 1) for _ in range(count)])


@DBOS.workflow()
def enqueueing_and_waiting(queue: Queue, count: int) -> int:
    handles = [queue.enqueue(sequence, 2) for _ in range(count)]
    return sum(handle.get_result() for handle in handles)


def enqueue_for_others(queue: Queue) -> None:
    with SetEnqueueOptions(app_version="other"):
        queue.enqueue(sequence, 1)


def but_claims(cost: dict[str, int], most: int) -> dict[str, int]:
    """The transactions without the claims, which are not more than that."""
    claims = cost.pop("claim_enqueued", 0)
    assert claims <= most, claims
    cost.pop("find_outcomes", None)
    return cost


def test_enqueueing_costs_one_commit_and_running_what_is_enqueued_a_claim_and_its_steps(counter: Counter) -> None:
    """From outside; a claim that finds nothing may be one more."""
    queue = Queue("counted")
    assert but_claims(counter.transactions(lambda: enqueue_for_others(queue)), 1) == {"journal": 1}
    for steps in (0, 1, 3):
        cost = counter.transactions(lambda: queue.enqueue(sequence, steps).get_result())  # noqa: B023
        assert cost.get("claim_enqueued")
        assert but_claims(cost, 2) == {"journal": 1 + max(steps, 1)}


def test_children_that_are_enqueued_together_share_their_commits(counter: Counter) -> None:
    """A thousand, in a few commits; those that run here share theirs too."""
    queue = Queue("counted")
    cost = counter.transactions(lambda: enqueueing(queue, 1000))
    cost.pop("claim_enqueued", None)
    assert set(cost) == {"journal"}
    assert cost["journal"] <= 30
    cost = counter.transactions(lambda: enqueueing_and_waiting(queue, 200))
    assert cost["claim_enqueued"] <= 60
    assert cost["journal"] <= 120


@pytest.mark.parametrize("limits", [{}, {"concurrency": 100}, {"limiter": {"limit": 100, "period": 3600}}])
def test_a_hundred_that_wait_are_claimed_at_once(counter: Counter, limits: dict[str, Any]) -> None:
    """In one transaction, and their arguments with them; none has checkpoints to be read."""
    DBOS.destroy()
    queue = Queue("counted", **limits)
    with DBOSClient(system_database_url=counter.url) as client:
        options: EnqueueOptions = {"queue_name": queue.name, "workflow_name": sequence.__qualname__}
        handles = [client.enqueue({**options, "workflow_id": f"w{number}"}, 1) for number in range(100)]
    assert len(handles) == 100
    claimed: list[int] = []
    counter.launch()
    for number in range(100):
        DBOS.retrieve_workflow(f"w{number}").get_result()
        claimed.append(counter.gate.count("claim_enqueued"))
    assert claimed[0] <= 5
    assert counter.gate.count("read_checkpoints", "begin") == 0


def test_a_debounced_call_costs_one_commit(counter: Counter) -> None:
    """Whether it begins the round or puts it off; of a workflow too, which records it in the same one."""
    debouncer = Debouncer.create(sequence, queue=Queue("counted"))
    for _ in range(2):
        assert counter.transactions(lambda: debouncer.debounce("key", 3600, 1)) == {"debounce": 1}

    @DBOS.workflow()
    def calling() -> None:
        for number in range(3):
            debouncer.debounce("key", 3600, number)

    cost = counter.transactions(calling)
    assert cost.pop("debounce") == 3
    assert cost["journal"] <= 3, "the start and the outcome, and maybe a look whether it may go on"


# -- transactions


@DBOS.transaction()
def transaction(number: int) -> int:
    DBOS.sql_session.execute(text("SELECT 1"))
    return number


@DBOS.transaction()
def failing_transaction() -> None:
    raise ValueError("wrong")


@DBOS.workflow()
def transactions(count: int, with_steps: bool) -> int:
    total = 0
    for number in range(count):
        total += transaction(number)
        if with_steps:
            step(number)
    return total


@pytest.mark.parametrize("count", [1, 5])
def test_a_transaction_in_the_system_database_costs_one_commit(counter: Counter, count: int) -> None:
    """Its own; beside it the workflow's start and its outcome, and for each step one before the next transaction."""
    assert counter.transactions(lambda: transactions(count, False)) == {"journal": 2, "transaction": count}
    assert counter.transactions(lambda: transactions(count, True)) == {"journal": count + 1, "transaction": count}
    assert counter.transactions(lambda: transaction(1)) == {"journal": 2, "transaction": 1}


def test_a_transaction_that_raises_costs_one_commit(counter: Counter) -> None:
    """That of its record; what it did is rolled back."""

    def fail() -> None:
        with pytest.raises(ValueError, match="wrong"):
            failing_transaction()

    before = counter.gate.count("transaction")
    assert counter.transactions(fail) == {"journal": 2, "transaction": 2}
    assert counter.gate.count("transaction") - before == 1


def test_a_transaction_in_a_database_of_its_own_costs_one_commit_in_each(database_url: str, tmp_path: Path) -> None:
    """The checkpoint travels with what comes next, as that of a step does; and a look whether it is recorded."""
    counter = Counter(database_url, application_database_url=f"sqlite:///{tmp_path}/application.sqlite")
    expected = {"journal": 6, "transaction": 5, "read_transactions": 5}
    assert counter.transactions(lambda: transactions(5, False)) == expected
    DBOS.destroy()


class RoundTrips:
    """A gate that counts what the driver waits for from a transaction's begin to its commit, in this thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: list[int] = []
        self._is_open = False
        self._thread = threading.get_ident()
        wait = psycopg.Connection.wait

        def counted(connection: Any, *arguments: Any, **options: Any) -> Any:
            if self._is_open and threading.get_ident() == self._thread:
                self.counts[-1] += 1
            return wait(connection, *arguments, **options)

        monkeypatch.setattr(psycopg.Connection, "wait", counted)

    def __call__(self, operation: str, moment: Moment) -> None:
        if operation == "transaction" and moment != "before_commit":
            self._is_open = moment == "begin"
            self.counts.extend([0] * self._is_open)


def test_a_transaction_takes_four_round_trips(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin, the application's statement, the record with its guard and its checkpoint, commit."""
    counter = Counter(postgres_url)
    transactions(3, False)
    database = running().application.store.database
    database._gate = trips = RoundTrips(monkeypatch)
    transactions(2, False)
    DBOS.destroy()
    assert (counter.is_postgres, trips.counts) == (True, [4, 4])


def running() -> Executor:
    """The launched executor."""
    assert DBOS._application is not None
    executor = DBOS._application.executor
    assert executor is not None
    return executor
