"""What type checkers see of clients. Never run; see `public_api`."""

# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedCoroutine=false

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any

from typing_extensions import assert_type

from dbos import DBOSClient, EnqueueOptions, StepInfo, WorkflowHandle, WorkflowHandleAsync, WorkflowStatus


def making() -> None:
    with DBOSClient(system_database_url="sqlite:///file", dbos_system_schema="dbos", serializer=None) as client:
        assert_type(client, DBOSClient)
    DBOSClient("sqlite:///file").destroy()
    DBOSClient(system_database_url=1)  # type: ignore[arg-type]
    DBOSClient(serializer="json")  # type: ignore[arg-type]


def blocking_methods(client: DBOSClient) -> None:
    options: EnqueueOptions = {"workflow_name": "w", "queue_name": "q", "priority": 1, "workflow_timeout": 1.5}
    handle: WorkflowHandle[list[int]] = client.enqueue(options, 1, flag=True)
    assert_type(handle.get_result(), list[int])
    typed: WorkflowHandle[str] = client.retrieve_workflow("id")
    assert_type(typed.get_result(), str)
    assert_type(client.get_workflow_status("id"), WorkflowStatus | None)
    assert_type(client.list_workflows(status="PENDING", limit=1), list[WorkflowStatus])
    assert_type(client.list_queued_workflows(queue_name="q"), list[WorkflowStatus])
    assert_type(client.list_workflow_steps("id"), list[StepInfo])
    assert_type(client.get_event("id", "key", timeout_seconds=0.5), Any)
    assert_type(client.get_all_events("id"), dict[str, Any])
    assert_type(client.read_stream("id", "key"), Generator[Any, None, None])
    assert_type(client.fork_workflow("id", 2, application_version="v"), WorkflowHandle[Any])
    client.send("id", {"any": "value"}, "topic", idempotency_key="k")
    client.enqueue({"workflow_name": "w"})  # type: ignore[typeddict-item]
    client.enqueue({"workflow_name": "w", "queue_name": "q", "priority": "1"})  # type: ignore[typeddict-item]
    client.enqueue("w")  # type: ignore[arg-type]
    client.send("id")  # type: ignore[call-arg]
    client.list_workflows(limit="1")  # type: ignore[arg-type]
    client.fork_workflow("id")  # type: ignore[call-arg]


async def async_methods(client: DBOSClient) -> None:
    handle: WorkflowHandleAsync[int] = await client.enqueue_async({"workflow_name": "w", "queue_name": "q"}, 1)
    assert_type(await handle.get_result(), int)
    assert_type(await client.retrieve_workflow_async("id"), WorkflowHandleAsync[Any])
    assert_type(await client.list_workflows_async(name="w"), list[WorkflowStatus])
    assert_type(await client.list_workflow_steps_async("id"), list[StepInfo])
    assert_type(await client.get_event_async("id", "key"), Any)
    assert_type(client.read_stream_async("id", "key"), AsyncGenerator[Any, None])
    assert_type(await client.resume_workflow_async("id"), WorkflowHandleAsync[Any])
    await client.send_async("id", 1)
    await client.cancel_workflow_async("id")
    await client.delete_workflow_async("id", delete_children=True)
    await client.send_async(1, 1)  # type: ignore[arg-type]
