"""Flow control: order, concurrency, priorities, rate limits and partitions, held in one process."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from dbos import DBOS, Queue, SetEnqueueOptions, WorkflowHandle
from tests.support.apps import eventually, status_of
from tests.support.queues import Jobs, QueueApp, enqueue_job, job, job_async, new_jobs, recorded, unpolled

MAX_PRIORITY = 2**31 - 1


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    with new_jobs() as jobs:
        yield jobs


@pytest.fixture
def timed_app(database_url: str) -> Iterator[QueueApp]:
    """An application that does not poll; limits that open with time do so by timers."""
    application = QueueApp(database_url)
    application.launch()
    yield application
    DBOS.destroy()


@pytest.fixture
def app(database_url: str) -> Iterator[QueueApp]:
    """An application that is woken only by what it does itself."""
    application = QueueApp(database_url)
    application.has_time = False
    application.launch()
    yield application
    DBOS.destroy()


def let_go_one_by_one(jobs: Jobs, count: int) -> None:
    """Let the oldest running job end, again and again, until so many have ended."""
    for ended in range(1, count + 1):
        eventually(lambda: jobs.running, "a job runs")
        jobs.let_go(jobs.running[0])
        jobs.wait_ended(ended)


def start_times_ms(ids: list[str]) -> list[int]:
    """When the workflows were started, by the clock of the database, in order."""
    return sorted(recorded(workflow_id).dequeued_at or 0 for workflow_id in ids)


def assert_window(times_ms: list[int], limit: int, period_ms: int) -> None:
    """In no period as long as this more than so many started."""
    assert all(later - earlier >= period_ms for earlier, later in zip(times_ms, times_ms[limit:], strict=False)), (
        times_ms
    )


# -- order


@pytest.mark.parametrize("limit", ["concurrency", "worker_concurrency"])
def test_workflows_of_a_queue_that_runs_one_at_a_time_start_in_the_order_of_their_enqueueing(
    app: QueueApp, jobs: Jobs, limit: str
) -> None:
    """From wherever they were enqueued, sync and async."""
    queue = unpolled("q", **{limit: 1})

    @DBOS.workflow()
    def parent(names: list[str]) -> None:
        for name in names:
            queue.enqueue(job, name)

    jobs.hold()
    handles = [queue.enqueue(job, "first")]
    jobs.wait_running("first")
    handles += [queue.enqueue(job if number % 2 else job_async, f"a{number}") for number in range(5)]
    parent(["b0", "b1", "b2", "b3", "b4"])
    handles += [queue.enqueue(job, "last")]
    jobs.let_go()
    for handle in handles:
        handle.get_result()
    expected = ["first", *(f"a{number}" for number in range(5)), *(f"b{number}" for number in range(5)), "last"]
    assert jobs.started == expected
    assert jobs.peak() == 1


def test_priority_decides_then_age(app: QueueApp, jobs: Jobs) -> None:
    """Those without a priority go before all that have one."""
    queue = unpolled("q", concurrency=1, priority_enabled=True)
    jobs.hold()
    handles = [queue.enqueue(job, "first")]
    jobs.wait_running("first")
    priorities = [5, None, 1, MAX_PRIORITY, 5, 3, None, 1, MAX_PRIORITY - 1]
    for number, priority in enumerate(priorities):
        with SetEnqueueOptions(priority=priority):
            handles.append(queue.enqueue(job, f"{number}"))
    assert [handle.get_status().priority for handle in handles[1:]] == [priority or 0 for priority in priorities]
    jobs.let_go()
    for handle in handles:
        handle.get_result()
    assert jobs.started == ["first", "1", "6", "2", "7", "5", "0", "4", "8", "3"]


# -- concurrency


@pytest.mark.parametrize(
    ("rules", "limit"),
    [
        ({"concurrency": 3}, 3),
        ({"worker_concurrency": 3}, 3),
        ({"concurrency": 4, "worker_concurrency": 2}, 2),
        ({"concurrency": 3, "worker_concurrency": 3, "limiter": {"limit": 1000, "period": 1}}, 3),
    ],
)
def test_as_many_run_at_once_as_the_limits_allow_and_never_more(
    app: QueueApp, jobs: Jobs, rules: dict[str, Any], limit: int
) -> None:
    """Whoever ends makes room for the next one at once."""
    queue = unpolled("q", **rules)

    @DBOS.workflow()
    def parent() -> None:
        for number in range(8):
            queue.enqueue(job_async if number % 2 else job, f"child{number}")

    jobs.hold()
    parent()
    for number in range(4):
        enqueue_job(queue, f"job{number}")
    jobs.wait_started(limit)
    let_go_one_by_one(jobs, 12)
    assert len(jobs.started) == 12
    assert jobs.peak() == limit


def test_limits_are_reached_and_held_while_work_streams_through(app: QueueApp, jobs: Jobs) -> None:
    queue = unpolled("q", concurrency=4)

    @DBOS.workflow()
    def parent(count: int) -> None:
        for number in range(count):
            queue.enqueue(job, f"{number}")

    jobs.hold()
    parent(100)
    jobs.wait_started(4)
    jobs.let_go()
    jobs.wait_ended(100)
    assert jobs.peak() == 4


def test_limits_of_one_queue_do_not_concern_another(app: QueueApp, jobs: Jobs) -> None:
    queues = [unpolled(f"q{number}", concurrency=1) for number in range(3)]
    jobs.hold()
    for number, queue in enumerate(queues):
        enqueue_job(queue, f"{number}a")
        enqueue_job(queue, f"{number}b")
    jobs.wait_running("0a", "1a", "2a")
    jobs.let_go("1a")
    jobs.wait_running("0a", "1b", "2a")
    assert [status_of(name) for name in ("0b", "2b")] == ["ENQUEUED"] * 2


def test_queue_without_limits_runs_any_number_at_once(timed_app: QueueApp, jobs: Jobs) -> None:
    queue = unpolled("q")

    @DBOS.workflow()
    def parent() -> None:
        for number in range(250):
            queue.enqueue(job_async, f"{number}")

    jobs.hold()
    parent()
    jobs.wait_started(250)
    assert jobs.peak() == 250


def test_ended_in_every_way_makes_room(app: QueueApp, jobs: Jobs) -> None:
    """Success, error, cancelled while running, arguments that do not fit."""
    queue = unpolled("q", concurrency=1)

    @DBOS.workflow()
    def failing(name: str) -> None:
        raise ZeroDivisionError(name)

    jobs.hold()
    enqueue_job(queue, "first")
    jobs.wait_running("first")
    unfit: Any = ("too", "many")
    bad: list[WorkflowHandle[Any]] = [queue.enqueue(failing, "bad"), queue.enqueue(job, *unfit)]
    enqueue_job(queue, "cancelled")
    last = enqueue_job(queue, "last")
    jobs.let_go("first")
    jobs.wait_running("cancelled")
    DBOS.cancel_workflow("cancelled")
    jobs.let_go()
    assert last.get_result() == "last done"
    assert [handle.get_status().status for handle in bad] == ["ERROR"] * 2
    assert jobs.started == ["first", "cancelled", "last"]


# -- rate limits


@pytest.mark.parametrize(
    "others",
    [{}, {"worker_concurrency": 20}, {"concurrency": 20}, {"concurrency": 20, "worker_concurrency": 20}],
    ids=str,
)
def test_no_period_holds_more_starts_than_the_limit(timed_app: QueueApp, jobs: Jobs, others: dict[str, Any]) -> None:
    """The rest starts when it opens, also if nothing ends meanwhile."""
    queue = unpolled("q", limiter={"limit": 3, "period": 0.25}, **others)

    @DBOS.workflow()
    def parent() -> list[str]:
        return [queue.enqueue(job, f"{number}").workflow_id for number in range(8)]

    jobs.hold()
    ids = parent()
    jobs.wait_started(8)
    assert jobs.peak() == 8, "a rate limit says nothing of how many run"
    assert_window(start_times_ms(ids), 3, 250)


def test_limit_of_starts_may_be_larger_than_what_is_claimed_at_once(timed_app: QueueApp, jobs: Jobs) -> None:
    queue, other = unpolled("q", limiter={"limit": 150, "period": 3600}), unpolled("other")

    @DBOS.workflow()
    def parent() -> None:
        for number in range(170):
            queue.enqueue(job_async, f"{number}")

    jobs.hold()
    parent()
    jobs.wait_started(150)
    jobs.let_go()
    jobs.wait_ended(150)
    assert enqueue_job(other, "other").get_result() == "other done"
    assert enqueue_job(queue, "late").get_status().status == "ENQUEUED"
    assert jobs.started[150:] == ["other"]
    assert len(DBOS.list_workflows(status="ENQUEUED")) == 21


def test_limit_of_starts_holds_for_work_that_ends_at_once(timed_app: QueueApp, jobs: Jobs) -> None:
    """Those that ended count, and so do those that were enqueued one by one."""
    queue = unpolled("q", limiter={"limit": 2, "period": 0.2})
    handles = [queue.enqueue(job, f"{number}") for number in range(6)]
    for handle in handles:
        handle.get_result()
    assert_window(start_times_ms([handle.workflow_id for handle in handles]), 2, 200)


def test_started_workflow_gives_no_start_back(timed_app: QueueApp, jobs: Jobs) -> None:
    """Neither cancelled nor deleted, nor after a restart: it has started."""
    queue = unpolled("q", limiter={"limit": 3, "period": 1.0})
    jobs.hold()
    for name in ("cancelled", "deleted", "ended"):
        enqueue_job(queue, name)
    jobs.wait_running("cancelled", "deleted", "ended")
    started = start_times_ms(["cancelled", "deleted", "ended"])
    late = enqueue_job(queue, "late")
    DBOS.cancel_workflow("cancelled")
    jobs.let_go("cancelled", "deleted", "ended")
    jobs.wait_ended(3)
    DBOS.delete_workflow("deleted")
    assert late.get_status().status == "ENQUEUED"
    timed_app.relaunch()
    jobs.let_go()
    late = DBOS.retrieve_workflow("late")
    assert late.get_result() == "late done"
    assert_window([*started, *start_times_ms(["late"])], 3, 1000)


def test_cancelled_before_its_start_uses_up_no_start(timed_app: QueueApp, jobs: Jobs) -> None:
    queue = unpolled("q", concurrency=1, limiter={"limit": 2, "period": 3600})
    jobs.hold()
    for name in ("first", "second", "third"):
        enqueue_job(queue, name)
    jobs.wait_running("first")
    DBOS.cancel_workflow("second")
    jobs.let_go()
    jobs.wait_started(2)
    assert jobs.started == ["first", "third"]


def test_rate_limit_holds_for_each_partition(timed_app: QueueApp, jobs: Jobs) -> None:
    queue = unpolled("q", partition_queue=True, limiter={"limit": 2, "period": 0.3})
    ids: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    jobs.hold()
    for number in range(4):
        for key, its_ids in ids.items():
            with SetEnqueueOptions(queue_partition_key=key):
                its_ids.append(enqueue_job(queue, f"{key}{number}").workflow_id)
    assert {name[0] for name in jobs.wait_started(6)} == set(ids)
    jobs.wait_started(12)
    for its_ids in ids.values():
        assert_window(start_times_ms(its_ids), 2, 300)
    firsts = sorted(time for its_ids in ids.values() for time in start_times_ms(its_ids)[:2])
    seconds = [start_times_ms(its_ids)[2] for its_ids in ids.values()]
    assert firsts[-1] <= min(seconds), "no partition waits for another one's limit"


# -- partitions


def in_partition(queue: Queue, key: str, name: str) -> WorkflowHandle[str]:
    with SetEnqueueOptions(queue_partition_key=key):
        return enqueue_job(queue, name)


@pytest.mark.parametrize(("rules", "limit"), [({"concurrency": 1}, 1), ({"worker_concurrency": 2}, 2)])
def test_partitions_run_side_by_side_each_within_the_limits(
    app: QueueApp, jobs: Jobs, rules: dict[str, int], limit: int
) -> None:
    """In each of them first in, first out."""
    queue = unpolled("q", partition_queue=True, **rules)
    jobs.hold()
    for key in "abc":
        for number in range(5):
            in_partition(queue, key, f"{key}{number}")
    jobs.wait_started(3 * limit)
    assert sorted(jobs.running) == sorted(f"{key}{number}" for key in "abc" for number in range(limit))
    for number in range(5):
        # One partition after the other moves on, whatever the others do.
        for key in random.Random(number).sample("abc", 3):
            jobs.wait_running(f"{key}{number}")
            jobs.let_go(f"{key}{number}")
    jobs.wait_ended(15)
    assert [jobs.peak(key) for key in "abc"] == [limit] * 3
    if limit == 1:
        for key in "abc":
            assert [name for name in jobs.started if name[0] == key] == [f"{key}{number}" for number in range(5)]


@pytest.mark.parametrize("rules", [{}, {"concurrency": 1}, {"concurrency": 7, "worker_concurrency": 7}], ids=str)
def test_any_number_of_partitions_runs_at_once(app: QueueApp, jobs: Jobs, rules: dict[str, int]) -> None:
    """Also more than are looked at together."""
    queue = unpolled("q", partition_queue=True, **rules)

    @DBOS.workflow()
    def parent(keys: list[str]) -> None:
        for key in keys:
            with SetEnqueueOptions(queue_partition_key=key):
                queue.enqueue(job_async, key)

    jobs.hold()
    keys = [f"user {number}" for number in range(60)]
    parent(keys)
    assert set(jobs.wait_started(60)) == set(keys)
    assert jobs.peak() == 60


def test_long_backlog_of_a_partition_does_not_hold_up_the_others(app: QueueApp, jobs: Jobs) -> None:
    """Whichever key comes first."""
    queue = unpolled("q", partition_queue=True, worker_concurrency=1)

    @DBOS.workflow()
    def parent() -> None:
        for number in range(150):
            with SetEnqueueOptions(queue_partition_key="m"):
                queue.enqueue(job_async, f"m{number}")

    jobs.hold()
    parent()
    jobs.wait_running("m0")
    for key in "az":
        in_partition(queue, key, key)
    jobs.wait_running("m0", "a", "z")
    assert sorted(jobs.started) == ["a", "m0", "z"]


def test_two_levels_of_queues_hold_both_limits(app: QueueApp, jobs: Jobs) -> None:
    """As the guide has it: one at a time for each user, two for all of them."""
    concurrency_queue = unpolled("concurrency-queue", concurrency=2)
    partitioned_queue = unpolled("partitioned-queue", partition_queue=True, concurrency=1)

    @DBOS.workflow()
    def concurrency_manager(name: str) -> str:
        return concurrency_queue.enqueue(job, name).get_result()

    def submit(user: str, name: str) -> WorkflowHandle[str]:
        with SetEnqueueOptions(queue_partition_key=user):
            return partitioned_queue.enqueue(concurrency_manager, name)

    jobs.hold()
    handles = [submit(user, f"{user}{number}") for user in ("ann", "bob", "cy") for number in range(3)]
    jobs.wait_started(2)
    let_go_one_by_one(jobs, 9)
    results = [handle.get_result() for handle in handles]
    assert results == [f"{user}{number} done" for user in ("ann", "bob", "cy") for number in range(3)]
    assert jobs.peak() == 2
    for user in ("ann", "bob", "cy"):
        assert jobs.peak(user) == 1
        assert [name for name in jobs.started if name.startswith(user)] == [f"{user}{number}" for number in range(3)]
