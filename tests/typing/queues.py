"""What type checkers see of queues. Never run; see `public_api`."""

# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedCoroutine=false

from __future__ import annotations

from typing_extensions import assert_type

from dbos import DBOS, Queue, QueueRateLimit, SetEnqueueOptions, WorkflowHandle, WorkflowHandleAsync
from tests.typing.functions import step, work, work_async


def declaring() -> None:
    limiter: QueueRateLimit = {"limit": 50, "period": 30.5}
    queue = Queue("name", concurrency=10, worker_concurrency=5, limiter=limiter, priority_enabled=True)
    Queue("positional", 10, {"limit": 1, "period": 1})
    Queue("partitioned", partition_queue=True, polling_interval_sec=0.1)
    DBOS.listen_queues([queue])
    Queue()  # type: ignore[call-arg]
    Queue(1)  # type: ignore[arg-type]
    Queue("name", concurrency="10")  # type: ignore[arg-type]
    Queue("name", limiter={"limit": 50})  # type: ignore[arg-type]
    DBOS.listen_queues(["name"])  # type: ignore[list-item]


def enqueueing_gives_handles_of_the_workflows_type(queue: Queue) -> None:
    handle = queue.enqueue(work, 1, flag=True)
    assert_type(handle, WorkflowHandle[list[int]])
    assert_type(handle.get_result(), list[int])
    assert_type(queue.enqueue(work_async, "x").get_result(), dict[str, int])
    assert_type(queue.enqueue(step, 1).get_result(), str)
    queue.enqueue(work, "1")  # type: ignore[call-overload]
    queue.enqueue(work_async)  # type: ignore[call-overload]
    queue.enqueue(work)  # type: ignore[call-overload]


async def enqueueing_async_too(queue: Queue) -> None:
    handle = await queue.enqueue_async(work, 1)
    assert_type(handle, WorkflowHandleAsync[list[int]])
    assert_type(await handle.get_result(), list[int])
    assert_type(await (await queue.enqueue_async(work_async, "x")).get_result(), dict[str, int])
    await queue.enqueue_async(work_async, 1)  # type: ignore[call-overload]


def options(queue: Queue) -> None:
    with SetEnqueueOptions(deduplication_id="d", priority=1, app_version="v", queue_partition_key="k"):
        queue.enqueue(work, 1)
    SetEnqueueOptions(priority="1")  # type: ignore[arg-type]
    SetEnqueueOptions("d")  # type: ignore[call-arg]
