"""The guide on queues and debouncing. A queue is declared once, so a program that runs again renames its queue."""

from __future__ import annotations

import ast
import threading
from collections import Counter
from typing import Any

import pytest

from dbos import DBOS, Queue, WorkflowStatus, error
from tests.guide.inventory import runs
from tests.support.apps import PATIENCE_S, Roadblock, eventually
from tests.support.guide import Program
from tests.support.processes import Spawner

fastapi = pytest.importorskip("fastapi")
testclient = pytest.importorskip("fastapi.testclient")

pytestmark = pytest.mark.usefixtures("app")


def workflows(name: str, count: int = 1, status: str = "SUCCESS") -> list[WorkflowStatus]:
    """So many workflows of this function, oldest first, when all of them have this status."""

    def found() -> list[WorkflowStatus]:
        its = DBOS.list_workflows(name=[name])
        return its if len(its) == count and all(one.status == status for one in its) else []

    return eventually(found, f"{count} of {name} are {status}")


class Crowd:
    """Whoever works at once: how many at most, in all and for each user."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._working: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.most_in_all = 0
        self.in_all = 0
        self.gate = Roadblock()

    def work(self, user: str = "") -> str:
        with self._lock:
            self._working[user] += 1
            self.in_all = self._working.total()
            self.most[user] = max(self.most[user], self._working[user])
            self.most_in_all = max(self.most_in_all, self.in_all)
        self.gate.stop()
        with self._lock:
            self._working[user] -= 1
        return user


@pytest.fixture
def crowd() -> Any:
    """Whoever still stands at its gate in the end is let go."""
    crowd = Crowd()
    yield crowd
    crowd.gate.open()


@runs(("debounce", 2))
def test_input_is_processed_when_the_user_has_stopped_submitting(program: Program) -> None:
    program.run()
    for user_input in ("e", "ed", "edit"):
        program["on_user_input_submit"]("ann", user_input)
    program["on_user_input_submit"]("bob", "b")
    ann, bob = workflows("process_input", 2, "ENQUEUED")
    assert ann.input == {"args": ("edit",), "kwargs": {}}
    assert bob.input == {"args": ("b",), "kwargs": {}}

    # Less than a minute, and a body. The first call joins the round that waits already.
    program.run(old_1="= 60", new_1="= 0.3", old_2="    ...\n", new_2="    return user_input\n")
    for user_input in ("edited", "edited once", "edited twice"):
        program["on_user_input_submit"]("ann", user_input)
    assert DBOS.get_result(ann.workflow_id) == "edited twice"
    program["on_user_input_submit"]("ann", "edited later")
    again = DBOS.list_workflows(name=["process_input"])[-1]
    assert again.workflow_id not in (ann.workflow_id, bob.workflow_id)
    assert DBOS.get_result(again.workflow_id) == "edited later"


@runs(("DBOS Queues", 2), ("DBOS Queues", 3))
def test_task_is_enqueued_and_its_handle_gives_its_result(program: Program) -> None:
    program.run(1)
    assert program["queue"].name == "example_queue"
    renamed = {"old": '"example_queue"', "new": '"another_queue"'}
    program.run(2, **renamed)
    assert program["handle"].get_result() is None
    (done,) = workflows("process_task")
    assert (done.queue_name, done.input) == ("another_queue", {"args": (...,), "kwargs": {}})


@runs(("Queue Example", 1))
def test_tasks_are_processed_concurrently_and_their_results_returned(program: Program) -> None:
    program.run()
    assert program["process_tasks"]([1, 2, 3]) == [None] * 3
    assert {one.queue_name for one in workflows("process_task", 3)} == {"example_queue"}

    together = threading.Barrier(3)
    program.names["together"] = together
    filled = "  together.wait(30); return task * 10\n"
    program.run(old_1="  ...\n", new_1=filled, old_2='"example_queue"', new_2='"example_queue, filled"')
    assert program["process_tasks"]([1, 2, 3]) == [10, 20, 30]


@runs(("Enqueueing from Another Application", 1))
def test_client_enqueues_what_a_worker_in_another_process_runs(
    database_url: str, program: Program, spawn: Spawner
) -> None:
    DBOS.destroy()
    worker = spawn(
        """
        import os, sys
        from dbos import DBOS, Queue

        queue = Queue("pipeline_queue")

        @DBOS.workflow()
        def data_pipeline(task):
            return {"task": task, "pid": os.getpid()}

        DBOS(config={"name": "pipeline", "system_database_url": sys.argv[1], "run_admin_server": False})
        DBOS.launch()
        print("launched", flush=True)
        sys.stdin.read()
        """,
        database_url,
    )
    worker.wait_for_line("^launched$")
    client = "import os\n\ntask = ['a', 'task']\n" + program.code() + "\nprint(result)\nclient.destroy()\n"
    result = spawn(client, env={"DBOS_SYSTEM_DATABASE_URL": database_url}).succeed()
    assert ast.literal_eval(result) == {"task": ["a", "task"], "pid": worker.pid}


@runs(("Worker Concurrency", 1))
def test_five_run_at_once_in_a_process(program: Program, crowd: Crowd) -> None:
    program.run()
    _fill(program["queue"], crowd, 5)


@runs(("Global Concurrency", 1))
def test_ten_run_at_once_in_all(program: Program, crowd: Crowd) -> None:
    program.run()
    _fill(program["queue"], crowd, 10)


def _fill(queue: Queue, crowd: Crowd, limit: int) -> None:
    @DBOS.workflow()
    def work() -> str:
        return crowd.work()

    handles = [queue.enqueue(work) for _ in range(limit + 3)]
    eventually(lambda: crowd.in_all == limit, f"{limit} run")
    assert Counter(one.status for one in DBOS.list_workflows()) == {"PENDING": limit, "ENQUEUED": 3}
    crowd.gate.open()
    assert [handle.get_result() for handle in handles] == [""] * (limit + 3)
    assert crowd.most_in_all == limit


@runs(("In-Order Processing", 1))
def test_events_are_processed_one_by_one_in_the_order_of_their_arrival(program: Program) -> None:
    events = [f"event-{number}" for number in range(8)]
    handled: list[str] = []
    alone = threading.Lock()

    def handle(event: str) -> None:
        assert alone.acquire(blocking=False), "two events at once"
        handled.append(event)
        alone.release()

    program.names["handle"] = handle
    filled = {"old_1": "    ...\n", "new_1": "    handle(event)\n"}
    for changes in ({}, {**filled, "old_2": '"in_order_queue"', "new_2": '"in_order_queue, filled"'}):
        program.run(**changes)
        server = fastapi.FastAPI()
        server.post("/events/{event}")(program["event_endpoint"])
        client = testclient.TestClient(server)
        for event in events:
            assert client.post(f"/events/{event}").status_code == 200
        done = workflows("<temp>.process_event", 2 * len(events) if changes else len(events))
        assert {one.queue_name for one in done} == {one.queue_name for one in done[:1]} | {program["queue"].name}
        assert [one.input for one in done[-len(events) :]] == [{"args": (event,), "kwargs": {}} for event in events]
    assert handled == events


@runs(("Rate Limiting", 1))
def test_no_more_start_in_a_period_than_the_limit_says(program: Program) -> None:
    @DBOS.workflow()
    def limited() -> None: ...

    def starts(queue: str) -> list[int]:
        found = DBOS.list_workflows(queue_name=queue, status=["SUCCESS"])
        return sorted(one.dequeued_at for one in found if one.dequeued_at is not None)

    program.run()
    for _ in range(53):
        program["queue"].enqueue(limited)
    eventually(lambda: len(starts("example_queue")) == 50, "50 have started")
    assert len(DBOS.list_queued_workflows(status="ENQUEUED")) == 3

    # A shorter period.
    program.run(old_1='"limit": 50, "period": 30', new_1='"limit": 4, "period": 0.3', old_2="example", new_2="fast")
    for _ in range(10):
        program["queue"].enqueue(limited)
    eventually(lambda: len(starts("fast_queue")) == 10, "all have started")
    times = starts("fast_queue")
    assert all(later - earlier >= 300 for earlier, later in zip(times, times[4:], strict=False))


@runs(("Setting Timeouts", 1))
def test_timeout_begins_with_the_start_and_cancels_the_children_too(program: Program) -> None:
    program.run()
    (done,) = workflows("example_workflow")
    assert (done.queue_name, done.workflow_timeout_ms) == ("example-queue", 10_000)
    assert done.dequeued_at is not None
    assert done.workflow_deadline_epoch_ms is not None
    assert done.workflow_deadline_epoch_ms >= done.dequeued_at + 10_000

    @DBOS.workflow()
    def child() -> None:
        DBOS.sleep(3600)

    # A shorter time, and a body that does not end.
    program.names["child"] = child
    program.run(
        old_1="Timeout(10)",
        new_1="Timeout(0.3)",
        old_2="    ...\n",
        new_2="    child()\n",
        old_3='"example-queue"',
        new_3='"example-queue, filled"',
    )
    (cancelled,) = workflows(child.__qualname__, status="CANCELLED")
    assert {one.status for one in DBOS.list_workflows(queue_name="example-queue, filled")} == {"CANCELLED"}
    assert cancelled.parent_workflow_id in {one.workflow_id for one in DBOS.list_workflows(name=["example_workflow"])}


@runs(("Partitioning Queues", 1))
def test_each_user_runs_one_task_at_a_time(program: Program, crowd: Crowd) -> None:
    program.names |= {"Task": str, "crowd": crowd}
    program.run()
    program["on_user_task_submission"]("ann", "a task")
    (done,) = workflows("process_task")
    assert (done.queue_name, done.queue_partition_key) == ("partitioned_queue", "ann")

    program.run(old_1="  ...\n", new_1="  crowd.work(task)\n", old_2="partitioned_queue", new_2="filled_queue")
    for user in ("ann", "ann", "bob", "bob"):
        program["on_user_task_submission"](user, user)
    eventually(lambda: crowd.in_all == 2, "both users run a task")
    assert len(DBOS.list_queued_workflows(status="ENQUEUED")) == 2
    crowd.gate.open()
    workflows("process_task", 5)
    assert crowd.most == {"ann": 1, "bob": 1}


@runs(("Partitioning Queues", 2))
def test_two_levels_of_queues_limit_each_user_and_all_together(program: Program, crowd: Crowd) -> None:
    program.names |= {"Task": str, "crowd": crowd}
    program.run()
    program["on_user_task_submission"]("ann", "a task")
    (managed,) = workflows("process_task")
    (manager,) = workflows("concurrency_manager")
    assert (managed.queue_name, managed.parent_workflow_id) == ("concurrency-queue", manager.workflow_id)
    assert (manager.queue_name, manager.queue_partition_key) == ("partitioned-queue", "ann")

    program.run(
        old_1="def process_task(task):\n    ...\n",
        new_1="def process_task(task):\n    return crowd.work(task)\n",
        old_2='"concurrency-queue"',
        new_2='"concurrency-queue, filled"',
        old_3='"partitioned-queue"',
        new_3='"partitioned-queue, filled"',
    )
    users = [f"user-{number}" for number in range(6)]
    for user in [*users, users[0]]:
        program["on_user_task_submission"](user, user)
    eventually(lambda: crowd.in_all == 5, "five run")
    crowd.gate.open()
    outputs = [one.output for one in workflows("concurrency_manager", 8)[1:]]
    assert outputs == [*users, users[0]]
    assert crowd.most_in_all == 5
    assert set(crowd.most.values()) == {1}


@runs(("Deduplication", 1))
def test_second_workflow_with_the_deduplication_id_is_refused_while_the_first_is_active(program: Program) -> None:
    roadblock = Roadblock()
    refused: list[error.DBOSQueueDeduplicatedError] = []

    @DBOS.workflow(name="example_workflow")
    def example_workflow(argument: Any) -> Any:
        roadblock.stop()
        return argument

    program.names |= {"example_workflow": example_workflow, "refused": refused}
    # The guide leaves the handling of the error to the reader; the inventory's repair appends it to `refused`.
    again = {"old": 'queue = Queue("example_queue")', "new": ""}
    program.run()
    handle = program["handle"]
    assert refused == []
    program.run(**again)
    roadblock.wait_until_reached()
    program.run(**again)
    assert program["handle"] is handle
    assert len(refused) == 2
    assert "my_dedup_id" in str(refused[0])
    assert "example_queue" in str(refused[0])
    roadblock.open()
    assert handle.get_result() is ...
    program.run(**again)
    assert program["handle"].get_result() is ...
    assert len(refused) == 2


@runs(("Priority", 1))
def test_urgent_workflow_starts_before_all_others_that_wait(program: Program) -> None:
    roadblock = Roadblock()
    started: list[Any] = []

    @DBOS.workflow()
    def task_workflow(task: Any) -> None:
        started.append(task)

    @DBOS.workflow()
    def first_workflow() -> None:
        started.append("first")

    @DBOS.workflow()
    def hold() -> None:
        roadblock.stop()

    program.names |= {"tasks": [1, 2, 3], "task_workflow": task_workflow, "first_workflow": first_workflow}
    program.run()
    eventually(lambda: len(started) == 4, "all have run")
    assert {(one.name, one.priority) for one in DBOS.list_workflows()} == {
        (task_workflow.__qualname__, 10),
        (first_workflow.__qualname__, 1),
    }

    # One at a time, behind one that holds the queue up: it has no priority, and goes first.
    started.clear()
    program.names["hold"] = hold
    program.run(
        old_1='"priority_queue", ',
        new_1='"priority_queue, held", concurrency=1, ',
        old_2="with SetEnqueueOptions(priority=10)",
        new_2="queue.enqueue(hold)\n\nwith SetEnqueueOptions(priority=10)",
    )
    roadblock.wait_until_reached()
    assert started == []
    roadblock.open()
    eventually(lambda: len(started) == 4, "all have run")
    assert started == ["first", 1, 2, 3]


@runs(("Explicit Queue Listening", 1))
def test_workers_run_what_waits_on_the_queues_that_they_listen_to(
    database_url: str, program: Program, spawn: Spawner
) -> None:
    """Two processes of one program; each enqueues on both queues."""
    DBOS.destroy()
    listening = program.code(
        old_1="worker_type = ... #",
        new_1="worker_type = sys.argv[1] #",
        old_2="config: DBOSConfig = ...",
        new_2="config: DBOSConfig = {'name': 'workers', 'system_database_url': sys.argv[2], 'run_admin_server': False}",
    )
    script = (
        "import sys\n\nfrom dbos import DBOS, DBOSConfig, Queue\n\n"
        "@DBOS.workflow()\ndef where():\n    return worker_type\n\n" + listening + "\n"
        "    print('launched', flush=True)\n"
        "    for _ in sys.stdin:\n"
        "        handles = [queue.enqueue(where) for queue in [cpu_queue, gpu_queue] * 5]\n"
        "        print('ran on', *[handle.get_result() for handle in handles], flush=True)\n"
    )
    workers = [spawn(script, kind, database_url) for kind in ("cpu", "gpu")]
    for worker in workers:
        worker.wait_for_line("^launched$", timeout=2 * PATIENCE_S)
        worker.write_line()
    for worker in workers:
        assert worker.wait_for_line("^ran on (.*)$", timeout=2 * PATIENCE_S)[1].split() == ["cpu", "gpu"] * 5
