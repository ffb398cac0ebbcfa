"""What durability costs: the number of transactions, counted, for each way of running workflows.

Time stands still for the journal, so that its timer flushes nothing in between, and the lease is not renewed: every
transaction that is counted is one that the workflows needed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID
from tests.support.clock import ManualClock
from tests.support.gates import CountingGate

WAIT_S = 30.0


class Counter:
    """A launched application whose transactions are counted."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.gate = CountingGate()
        self.launch()

    def launch(self) -> None:
        """Launch, and wait until the look for interrupted workflows is over."""
        self.gate = CountingGate()
        DBOS(config={"name": "app", "system_database_url": self.url, "application_version": "test"})
        application = DBOS._application
        assert application is not None
        application.clock = ManualClock()
        application.gate = self.gate
        application.renew_interval_s = 3600.0
        DBOS.launch()
        self.gate.wait_for("find_orphans", "after_commit", 1)

    def transactions(self, work: Callable[[], Any]) -> dict[str, int]:
        """The transactions that began while `work` ran, by operation."""
        before = self.gate.counts("begin")
        work()
        after = self.gate.counts("begin")
        return {
            operation: count - before.get(operation, 0)
            for operation, count in after.items()
            if count != before.get(operation, 0)
        }


@pytest.fixture
def counter(database_url: str) -> Iterator[Counter]:
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
    assert counter.transactions(lambda: asyncio.run(sequence_async(steps))) == expected  # type: ignore[arg-type]


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


@pytest.mark.parametrize("steps_before", [0, 1])
@pytest.mark.parametrize("steps_in_child", [0, 1, 3])
def test_a_child_that_is_called_costs_two_commits_more_than_its_steps(
    counter: Counter, steps_before: int, steps_in_child: int
) -> None:
    """The parent's start; the child's, with the parent's steps before; the child's steps; the parent's outcome."""
    expected = {"journal": 3 + max(steps_in_child, 1)}
    assert counter.transactions(lambda: parent(steps_before, steps_in_child)) == expected
    assert counter.transactions(lambda: asyncio.run(parent_async(steps_before, steps_in_child))) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_gathered_steps_are_flushed_together(counter: Counter, steps: int) -> None:
    """All that were running when the first ended travel with the outcome."""
    assert counter.transactions(lambda: asyncio.run(gathering(steps, True))) == {"journal": 2}  # type: ignore[arg-type]


def test_a_finished_workflow_called_again_costs_one_commit_and_one_read(counter: Counter) -> None:
    def call() -> None:
        with SetWorkflowID("w"):
            sequence(5)

    assert counter.transactions(call) == {"journal": 6}
    assert counter.transactions(call) == {"journal": 1, "read_outcomes": 1}


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
