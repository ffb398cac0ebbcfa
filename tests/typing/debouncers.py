"""What type checkers see of debouncers. Never run; see `public_api`."""

# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedCoroutine=false

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

from dbos import DBOSClient, Debouncer, DebouncerClient, Queue, WorkflowHandle, WorkflowHandleAsync
from tests.typing.functions import work, work_async


def debouncing(queue: Queue) -> None:
    debouncer = Debouncer.create(work, debounce_timeout_sec=10, queue=queue)
    handle = debouncer.debounce("key", 0.5, 1, flag=True)
    assert_type(handle, WorkflowHandle[list[int]])
    assert_type(handle.get_result(), list[int])
    debouncer.debounce("key", 0.5, "1")  # type: ignore[arg-type]
    debouncer.debounce("key", 0.5)  # type: ignore[call-arg]
    debouncer.debounce("key", "0.5", 1)  # type: ignore[arg-type]
    Debouncer.create(work, queue="queue")  # type: ignore[arg-type]


async def debouncing_coroutines() -> None:
    handle = await Debouncer.create_async(work_async).debounce_async("key", 1, "x")
    assert_type(handle, WorkflowHandleAsync[dict[str, int]])
    assert_type(await handle.get_result(), dict[str, int])
    await Debouncer.create_async(work_async).debounce_async("key", 1, 1)  # type: ignore[arg-type]
    Debouncer.create_async(work)  # type: ignore[arg-type]


def debouncing_by_a_client(client: DBOSClient) -> None:
    debouncer = DebouncerClient(client, {"workflow_name": "w", "queue_name": "q"}, debounce_timeout_sec=5)
    typed: WorkflowHandle[Any] = debouncer.debounce("key", 1, 2, flag=True)
    assert_type(typed.get_workflow_id(), str)
    DebouncerClient(client, {"queue_name": "q"})  # type: ignore[typeddict-item]
