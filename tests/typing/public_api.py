"""What type checkers see of the public API. Never run: checked by mypy and pyright, as configured in pyproject.toml.

`assert_type` says what something is; an ignore comment says that a line is an error, and is itself an error if the line
is none.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedCoroutine=false, reportSelfClsParameterName=false

from __future__ import annotations

import asyncio
import logging
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session
from typing_extensions import assert_type

from dbos import (
    DBOS,
    DBOSConfig,
    Serializer,
    SetWorkflowID,
    StepInfo,
    StepOptions,
    WorkflowHandle,
    WorkflowHandleAsync,
    WorkflowStatus,
    WorkflowStatusString,
    error,
)


@DBOS.step()
def add(a: int, b: int = 1) -> int:
    return a + b


@DBOS.step(name="named", retries_allowed=True, interval_seconds=0.5, max_attempts=5, backoff_rate=1.5)
async def add_async(a: int, *, b: int = 1) -> str:
    return str(a + b)


@DBOS.workflow()
def workflow(n: int, *, flag: bool = False) -> list[int]:
    return [add(n)] if flag else []


@DBOS.workflow(name="named", max_recovery_attempts=None)
async def workflow_async(name: str) -> dict[str, int]:
    return {name: add(1)}


@DBOS.workflow()
def nothing() -> None: ...


def plain(word: str, times: int = 1) -> str:
    return word * times


async def plain_async(word: str) -> bytes:
    return word.encode()


def decorated_functions_keep_their_parameters_and_results() -> None:
    assert_type(add(1, b=2), int)
    assert_type(workflow(1, flag=True), list[int])
    add("1")  # type: ignore[arg-type]
    add(1, c=2)  # type: ignore[call-arg]
    workflow(1, True)  # type: ignore[call-arg]
    workflow()  # type: ignore[call-arg]


async def decorated_coroutine_functions_too() -> None:
    assert_type(await add_async(1, b=2), str)
    assert_type(await workflow_async("x"), dict[str, int])
    assert_type(await asyncio.gather(add_async(1), workflow_async("x")), tuple[str, dict[str, int]])
    await add_async("1")  # type: ignore[arg-type]
    await workflow_async(name=1)  # type: ignore[arg-type]


def decorators_check_their_arguments() -> None:
    DBOS.step(max_attempts="3")  # type: ignore[arg-type]
    DBOS.step(retries=3)  # type: ignore[call-arg]
    DBOS.workflow(name=1)  # type: ignore[arg-type]
    DBOS.workflow(workflow)  # type: ignore[call-arg, arg-type]


def handles_have_the_type_of_their_workflow() -> None:
    handle = DBOS.start_workflow(workflow, 1, flag=True)
    assert_type(handle, WorkflowHandle[list[int]])
    assert_type(handle.get_result(), list[int])
    assert_type(handle.get_result(polling_interval_sec=0.1), list[int])
    assert_type(handle.get_status(), WorkflowStatus)
    assert_type(handle.workflow_id, str)
    assert_type(handle.get_workflow_id(), str)
    assert_type(DBOS.start_workflow(workflow_async, "x").get_result(), dict[str, int])
    assert_type(DBOS.start_workflow(add, 1).get_result(), int)
    assert_type(DBOS.start_workflow(add_async, 1).get_result(), str)
    assert_type(DBOS.start_workflow(nothing), WorkflowHandle[None])
    DBOS.start_workflow(workflow, "1")  # type: ignore[call-overload]
    DBOS.start_workflow(workflow, 1, flags=True)  # type: ignore[call-arg, arg-type]
    DBOS.start_workflow(workflow_async)  # type: ignore[call-overload]
    typed: WorkflowHandle[str] = DBOS.retrieve_workflow("id")
    assert_type(typed.get_result(), str)


async def async_handles_too() -> None:
    handle = await DBOS.start_workflow_async(workflow_async, "x")
    assert_type(handle, WorkflowHandleAsync[dict[str, int]])
    assert_type(await handle.get_result(), dict[str, int])
    assert_type(await handle.get_status(), WorkflowStatus)
    assert_type(handle.get_workflow_id(), str)
    assert_type(await (await DBOS.start_workflow_async(workflow, 1)).get_result(), list[int])
    await DBOS.start_workflow_async(workflow_async, 1)  # type: ignore[call-overload]
    typed: WorkflowHandleAsync[str] = await DBOS.retrieve_workflow_async("id", existing_workflow=False)
    assert_type(await typed.get_result(), str)


async def run_step_has_the_type_of_its_function() -> None:
    options: StepOptions = {"name": "x", "retries_allowed": True}
    assert_type(DBOS.run_step(None, plain, "x", times=2), str)
    assert_type(DBOS.run_step(options, plain, "x"), str)
    assert_type(DBOS.run_step({"max_attempts": 2}, lambda: 1), int)
    assert_type(await DBOS.run_step(None, plain_async, "x"), bytes)
    assert_type(await DBOS.run_step_async(None, plain_async, "x"), bytes)
    assert_type(await DBOS.run_step_async(None, plain, "x"), str)
    DBOS.run_step(None, plain, 1)  # type: ignore[call-overload]
    await DBOS.run_step_async(None, plain, 1)  # type: ignore[call-overload]


@DBOS.transaction()
def transaction(number: int) -> str:
    assert_type(DBOS.sql_session.execute(text("SELECT 1")).scalar_one(), Any)
    return str(number)


@DBOS.transaction("READ COMMITTED", name="other")
def other_transaction() -> None: ...


def transactions() -> None:
    assert_type(transaction(1), str)
    assert_type(DBOS.start_workflow(transaction, 1), WorkflowHandle[str])
    assert_type(DBOS.sql_session, Session)
    other_transaction()
    transaction("1")  # type: ignore[arg-type]
    DBOS.transaction("NONSENSE")  # type: ignore[arg-type]
    DBOS.transaction("SERIALIZABLE", "name")  # type: ignore[call-arg]


def reading() -> None:
    assert_type(DBOS.get_workflow_status("id"), WorkflowStatus | None)
    assert_type(DBOS.list_workflow_steps("id"), list[StepInfo])
    workflows = DBOS.list_workflows(status=["SUCCESS", WorkflowStatusString.ERROR], limit=3, sort_desc=True)
    assert_type(workflows, list[WorkflowStatus])
    assert_type(workflows[0].workflow_id, str)
    assert_type(workflows[0].created_at, int | None)
    assert_type(DBOS.list_workflow_steps("id")[0]["function_id"], int)
    DBOS.list_workflows(limit="3")  # type: ignore[arg-type]


def context_and_life_cycle() -> None:
    config: DBOSConfig = {"name": "app", "system_database_url": None, "serializer": Json()}
    dbos = DBOS(config=config)
    dbos.launch()
    assert_type(DBOS.workflow_id, str | None)
    assert_type(DBOS.step_id, int | None)
    assert_type(DBOS.logger, logging.Logger)
    assert_type(DBOS.application_version, str)
    assert_type(dbos.executor_id, str)
    if DBOS.step_status is not None:
        assert_type(DBOS.step_status.current_attempt, int | None)
    with SetWorkflowID("id"):
        workflow(1)
    DBOS.destroy(workflow_completion_timeout_sec=1, destroy_registry=True)
    DBOS()  # type: ignore[call-arg]
    DBOS(config={})  # type: ignore[typeddict-item]
    DBOS(config={"name": "app", "admin_port": "3001"})  # type: ignore[typeddict-item]
    SetWorkflowID(1)  # type: ignore[arg-type]


def errors() -> None:
    try:
        workflow(1)
    except error.DBOSMaxStepRetriesExceeded as caught:
        assert_type(caught.errors, list[Exception])
    except error.DBOSException as caught:
        assert_type(caught.dbos_error_code, int | None)


class Json(Serializer):
    def serialize(self, data: Any) -> str:
        return ""

    def deserialize(cls, serialized_data: str) -> Any:
        return None
