"""What type checkers see of listing and steering workflows, and of what is set for them. Never run."""

# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedCoroutine=false

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

from dbos import DBOS, SetWorkflowID, SetWorkflowTimeout, StepInfo, WorkflowHandle, WorkflowHandleAsync, WorkflowStatus
from tests.typing.functions import work


def listing() -> None:
    for found in DBOS.list_workflows(workflow_ids=["id"], app_version=["v1", "v2"], start_time="2030-01-01T00:00:00Z"):
        assert_type(found.status, str)
        assert_type(found.app_version, str | None)
        assert_type(found.error, Exception | None)
        if found.input is not None:
            assert_type(found.input["args"], tuple[Any, ...])
            assert_type(found.input["kwargs"], dict[str, Any])
    assert_type(DBOS.list_queued_workflows(load_input=False), list[WorkflowStatus])
    (step,) = DBOS.list_workflow_steps("id")
    assert_type(step["error"], Exception | None)
    assert_type(step["child_workflow_id"], str | None)
    DBOS.list_workflows("id")  # type: ignore[call-arg, arg-type]
    DBOS.list_workflows(workflow_ids="id")  # type: ignore[arg-type]
    DBOS.list_workflows(sort_desc="yes")  # type: ignore[arg-type]


async def listing_async() -> None:
    assert_type(await DBOS.list_workflows_async(user="ada"), list[WorkflowStatus])
    assert_type(await DBOS.list_queued_workflows_async(), list[WorkflowStatus])
    assert_type(await DBOS.list_workflow_steps_async("id"), list[StepInfo])
    assert_type(await DBOS.get_workflow_status_async("id"), WorkflowStatus | None)
    assert_type(await DBOS.get_result_async("id"), Any)


def steering() -> None:
    DBOS.cancel_workflow("id")
    DBOS.delete_workflow("id", delete_children=True)
    resumed: WorkflowHandle[int] = DBOS.resume_workflow("id")
    assert_type(resumed.get_result(), int)
    assert_type(DBOS.fork_workflow("id", 2, application_version="v2"), WorkflowHandle[Any])
    DBOS.cancel_workflow()  # type: ignore[call-arg]
    DBOS.fork_workflow("id", "2")  # type: ignore[arg-type]
    DBOS.fork_workflow("id", 2, "v2")  # type: ignore[call-arg]


async def steering_async() -> None:
    await DBOS.cancel_workflow_async("id")
    await DBOS.delete_workflow_async("id")
    assert_type(await DBOS.resume_workflow_async("id"), WorkflowHandleAsync[Any])
    assert_type(await DBOS.fork_workflow_async("id", 1), WorkflowHandleAsync[Any])


def what_is_set_for_workflows() -> None:
    with SetWorkflowID("id") as its_id, SetWorkflowTimeout(1.5), SetWorkflowTimeout(None):
        assert_type(its_id, SetWorkflowID)
        assert_type(work(1), list[int])
    SetWorkflowTimeout("1")  # type: ignore[arg-type]
    SetWorkflowID()  # type: ignore[call-arg]
