"""Queues refuse what makes no sense: with the documented error, and without a trace."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from dbos import DBOS, Queue, SetEnqueueOptions, SetWorkflowID, error
from tests.support.apps import App, Roadblock, interrupt_at, steps_of
from tests.support.queues import Jobs, QueueApp, all_ids, enqueue_job, job, job_async, new_jobs, recorded, unpolled

Kind = type[Exception] | tuple[type[Exception], ...]

NAN, INFINITY = float("nan"), float("inf")
MAX_PRIORITY = 2**31 - 1

BAD_TEXTS: list[tuple[Any, Kind]] = [
    ("", ValueError),
    ("nul\x00", ValueError),
    ("surrogate\ud800", ValueError),
    ("long" * 1000, ValueError),
    (1, TypeError),
    (b"bytes", TypeError),
    (["list"], TypeError),
]
BAD_COUNTS: list[tuple[Any, Kind]] = [
    (0, ValueError),
    (-1, ValueError),
    (2**31, ValueError),
    (1.5, TypeError),
    ("3", TypeError),
    (True, TypeError),
    ([3], TypeError),
]
BAD_SECONDS: list[tuple[Any, Kind]] = [
    (0, ValueError),
    (-0.5, ValueError),
    (NAN, ValueError),
    (INFINITY, ValueError),
    ("1", TypeError),
    (True, TypeError),
]
BAD_RULES: list[tuple[str, Any, Kind]] = [
    *(("name", value, kind) for value, kind in [*BAD_TEXTS, (None, TypeError)]),
    ("name", "_dbos_internal_queue", ValueError),
    *(("concurrency", value, kind) for value, kind in BAD_COUNTS),
    *(("worker_concurrency", value, kind) for value, kind in BAD_COUNTS),
    *(("polling_interval_sec", value, kind) for value, kind in [*BAD_SECONDS, (None, TypeError)]),
    *(("limiter", {"limit": value, "period": 1}, kind) for value, kind in [*BAD_COUNTS, (None, TypeError)]),
    *(("limiter", {"limit": 1, "period": value}, kind) for value, kind in [*BAD_SECONDS, (None, TypeError)]),
    *(
        ("limiter", value, (TypeError, ValueError))
        for value in ({}, {"limit": 1}, {"period": 1}, {"limit": 1, "period": 1, "max": 2}, [1, 1], 5, "5/s")
    ),
    *((flag, value, TypeError) for flag in ("priority_enabled", "partition_queue") for value in ("no", 1, None)),
]


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    with new_jobs() as jobs:
        yield jobs


@pytest.fixture
def app(database_url: str) -> Iterator[QueueApp]:
    application = QueueApp(database_url)
    application.launch()
    yield application
    DBOS.destroy()


@DBOS.step()
def step() -> str:
    return "step"


# -- declarations


@pytest.mark.parametrize(("argument", "value", "kind"), BAD_RULES)
def test_declaration_that_makes_no_sense_is_refused(argument: str, value: Any, kind: Kind) -> None:
    """By an error that names what is wrong; the name stays free."""
    with pytest.raises(kind, match=f"(?i){argument}"):
        Queue(**cast("Any", {"name": "refused", argument: value}))
    Queue("refused")


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"worker_concurrency of queue 'q' is 3.* concurrency, 2"):
        Queue("q", 2, worker_concurrency=3)
    Queue("q", 3, worker_concurrency=3)


def test_name_is_declared_once() -> None:
    """The first declaration holds."""
    first = Queue("twice", concurrency=1)
    with pytest.raises(error.DBOSException, match="'twice'"):
        Queue("twice", concurrency=1)
    Queue("twice ")
    assert first.concurrency == 1


def test_queue_needs_a_name_and_names_for_what_follows_the_limiter() -> None:
    with pytest.raises(TypeError):
        Queue()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Queue("q", 2, None, 1)  # type: ignore[call-arg]


def test_queue_tells_what_was_declared() -> None:
    plain = Queue("plain")
    assert (plain.name, plain.concurrency, plain.limiter, plain.worker_concurrency) == ("plain", None, None, None)
    assert (plain.priority_enabled, plain.partition_queue, plain.polling_interval_sec) == (False, False, 1.0)
    full = Queue(
        "ein Name: 队列 / 1",
        5,
        {"limit": 50, "period": 0.5},
        worker_concurrency=5,
        priority_enabled=True,
        partition_queue=True,
        polling_interval_sec=3,
    )
    assert (full.name, full.concurrency, full.limiter) == ("ein Name: 队列 / 1", 5, {"limit": 50, "period": 0.5})
    assert (full.worker_concurrency, full.priority_enabled, full.partition_queue) == (5, True, True)
    assert full.polling_interval_sec == 3
    assert "ein Name" in repr(full)


def test_queue_of_any_name_works(app: QueueApp, jobs: Jobs) -> None:
    """Also where its limits are shared with other processes, who know it by its name."""
    for name in ('it\'s "quoted"; --', "%s {x} :y /", "队列", " ", "x" * 512):
        queue = unpolled(name, concurrency=1, limiter={"limit": 5, "period": 1})
        assert queue.enqueue(job, "w").get_result() == "w done"
        assert [status.queue_name for status in DBOS.list_workflows(queue_name=name)] == [name]


# -- options


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        *(
            (option, value, kind)
            for option in ("deduplication_id", "app_version", "queue_partition_key")
            for value, kind in BAD_TEXTS
        ),
        *(("priority", value, ValueError) for value in (0, -1, 2**31)),
        *(("priority", value, TypeError) for value in (1.5, "1", True, [1])),
    ],
)
def test_option_that_makes_no_sense_is_refused(option: str, value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=rf"(?i){option.replace('_', '[_ ]').replace('queue', '(queue)?')}"):
        SetEnqueueOptions(**{option: value})


def test_options_have_names() -> None:
    with pytest.raises(TypeError):
        SetEnqueueOptions("id")  # type: ignore[call-arg]


def test_priorities_reach_from_1_to_the_largest(app: QueueApp, jobs: Jobs) -> None:
    queue = unpolled("q", priority_enabled=True)
    for priority in (1, MAX_PRIORITY):
        with SetEnqueueOptions(priority=priority):
            handle = queue.enqueue(job, "w")
        assert handle.get_result() == "w done"
        assert handle.get_status().priority == priority


PLAIN: dict[str, Any] = {}
WRONG_PLACES = [
    pytest.param(PLAIN, {"priority": 1}, "priority_enabled", id="priority on a queue without"),
    pytest.param(PLAIN, {"queue_partition_key": "k"}, "partition_queue", id="key on a plain queue"),
    pytest.param({"partition_queue": True}, {}, "queue_partition_key", id="no key"),
    pytest.param({"partition_queue": True}, {"deduplication_id": "d"}, "queue_partition_key", id="no key, but an id"),
    pytest.param(
        {"partition_queue": True},
        {"deduplication_id": "d", "queue_partition_key": "k"},
        "dedup",
        id="id in a partition",
    ),
]


@pytest.mark.parametrize(("rules", "options", "said"), WRONG_PLACES)
def test_options_that_are_not_for_the_queue_are_refused(
    app: QueueApp, jobs: Jobs, rules: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    """By code, on a loop and in a workflow, which goes on; nothing is enqueued, no id and no number is used up."""
    queue, plain, roadblock = unpolled("q", **rules), unpolled("plain"), Roadblock()

    @DBOS.step()
    def pause() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def parent() -> str:
        with refused(), SetEnqueueOptions(**options):
            queue.enqueue(job, "refused")
        pause()
        return plain.enqueue(job, "child").get_result()

    def refused() -> Any:
        return pytest.raises(error.DBOSException, match=f"(?i){said}")

    async def enqueue_async() -> None:
        with SetEnqueueOptions(**options):
            await queue.enqueue_async(job_async, "refused")

    with SetWorkflowID("w"):
        with refused(), SetEnqueueOptions(**options):
            queue.enqueue(job, "refused")
        assert plain.enqueue(job, "w").workflow_id == "w"
    with refused():
        asyncio.run(enqueue_async())
    with SetWorkflowID("p"):
        DBOS.start_workflow(parent)
    interrupt_at(roadblock, app)
    assert DBOS.get_result("p") == "child done"
    assert steps_of("p") == [(1, pause.__qualname__), (2, "queues.job"), (3, "DBOS.getResult")]
    assert all_ids() == ["p", "p-2", "w"]


# -- places and functions


def test_steps_do_not_enqueue(app: QueueApp, jobs: Jobs) -> None:
    """Neither sync nor async ones; called outside of workflows they are plain code, and may."""
    queue = unpolled("q")

    @DBOS.step()
    def enqueue() -> str:
        return queue.enqueue(job, "w").workflow_id

    @DBOS.step()
    async def enqueue_async() -> str:
        return (await queue.enqueue_async(job, "w")).workflow_id

    @DBOS.workflow()
    def workflow() -> str:
        return enqueue()

    @DBOS.workflow()
    async def workflow_async() -> str:
        return await enqueue_async()

    with pytest.raises(error.DBOSException, match=r"(?i)enqueue.* step"):
        workflow()
    with pytest.raises(error.DBOSException, match=r"(?i)enqueue_async.* step"):
        asyncio.run(workflow_async())
    assert jobs.started == []
    assert [status.name for status in DBOS.list_workflows(queues_only=True)] == []
    assert DBOS.get_result(enqueue()) == "w done"


def test_nothing_is_enqueued_before_the_launch_or_after_the_end(unlaunched: Path, app: QueueApp) -> None:
    """The queue can be used again after the next launch."""
    DBOS.destroy()
    queue = unpolled("q")

    def assert_refused() -> None:
        with pytest.raises(error.DBOSException, match=r"DBOS\.launch\(\)|DBOS\(config"):
            queue.enqueue(job, "w")
        with pytest.raises(error.DBOSException, match=r"DBOS\.launch\(\)|DBOS\(config"):
            asyncio.run(cast("Any", queue.enqueue_async(job, "w")))

    assert_refused()
    DBOS(config=app.config())
    assert_refused()
    DBOS.launch()
    assert all_ids() == []
    with new_jobs():
        assert enqueue_job(queue, "w").get_result() == "w done"
    DBOS.destroy()
    assert_refused()


def undecorated() -> None:
    """No workflow."""


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (undecorated, "undecorated"),
        (lambda: None, "lambda"),
        (len, "len"),
        (None, "None"),
        ("queues.job", "queues.job"),
    ],
)
def test_only_decorated_functions_are_enqueued(sqlite_app: App, function: Any, said: str) -> None:
    queue = unpolled("q")
    with pytest.raises(error.DBOSException, match=f"{said}.*DBOS.workflow"):
        queue.enqueue(function)
    with pytest.raises(error.DBOSException, match=f"{said}.*DBOS.workflow"):
        asyncio.run(cast("Any", queue.enqueue_async(function)))
    assert all_ids() == []


def test_arguments_that_cannot_be_stored_are_refused(app: QueueApp, jobs: Jobs) -> None:
    """Nothing is enqueued, the deduplication id stays free; a workflow may catch that and go on."""
    queue = unpolled("q")
    bad: Any = threading.Lock()

    @DBOS.workflow()
    def parent() -> str:
        with pytest.raises(error.DBOSSerializationError), SetEnqueueOptions(deduplication_id="d"):
            queue.enqueue(job, bad)
        return step()

    for function, options in ((job, {"deduplication_id": "d"}), (job_async, {})):
        with pytest.raises(error.DBOSSerializationError), SetEnqueueOptions(**cast("Any", options)):
            queue.enqueue(cast("Callable[..., Any]", function), bad)
    with pytest.raises(error.DBOSSerializationError):
        asyncio.run(cast("Any", queue.enqueue_async(job, name=bad)))
    with SetWorkflowID("p"):
        assert parent() == "step"
    assert all_ids() == ["p"]
    with SetEnqueueOptions(deduplication_id="d"):
        assert queue.enqueue(job, "w").get_result() == "w done"


# -- listening


@pytest.mark.parametrize("queues", [["q"], [None], None, "q", 1], ids=repr)
def test_listening_to_what_is_no_queue_is_refused(unlaunched: Path, queues: Any) -> None:
    with pytest.raises(TypeError, match="listen_queues"):
        DBOS.listen_queues(queues)


def test_listening_to_a_queue_that_is_not_in_a_list_is_refused(unlaunched: Path) -> None:
    with pytest.raises(TypeError, match="listen_queues"):
        DBOS.listen_queues(cast("Any", unpolled("q")))


def test_listening_after_the_launch_is_refused(app: QueueApp, jobs: Jobs) -> None:
    """And changes nothing."""
    queue, other = unpolled("q"), unpolled("other")
    with pytest.raises(error.DBOSException, match=r"after DBOS\.launch"):
        DBOS.listen_queues([other])
    assert enqueue_job(queue, "w").get_result() == "w done"
    assert recorded("w").queue_name == "q"
