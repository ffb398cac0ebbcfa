"""Handles: what a started workflow is known by."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, TypeVar, cast

from dbos.api.instance import get_executor, recording_run, refuse_if_locked_out, refuse_on_loop
from dbos.api.reads import status_core
from dbos.api.status import WorkflowStatus
from dbos.error import DBOSNonExistentWorkflowError
from dbos.model.limits import check_interval
from dbos.runtime.children import await_child
from dbos.runtime.drivers import Core, Ending, drive, drive_async
from dbos.runtime.endings import wait_for_end
from dbos.runtime.gateway import Gateway
from dbos.storage.promise import Promise

R = TypeVar("R")


class _Handle:
    def __init__(
        self,
        workflow_id: str,
        ended: Promise[Ending[Any]] | None = None,
        *,
        must_exist: bool = True,
        client: Gateway | None = None,
    ) -> None:
        self._workflow_id = workflow_id
        self._ended = ended
        self._must_exist = must_exist
        self._client = client
        """The client that made the handle; ``None`` for the application."""

    @property
    def workflow_id(self) -> str:
        """The workflow's id."""
        return self._workflow_id

    def get_workflow_id(self) -> str:
        """The workflow's id."""
        return self._workflow_id

    def _result(self, polling_interval_s: float) -> Core[Ending[Any]]:
        return result_core(
            self._workflow_id,
            self._ended,
            polling_interval_s=polling_interval_s,
            must_exist=self._must_exist,
            client=self._client,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._workflow_id!r})"


class WorkflowHandle(_Handle, Generic[R]):
    """Stands for a workflow in blocking code."""

    def get_result(self, *, polling_interval_sec: float = 1.0) -> R:
        """Wait for the workflow to end; return its result or raise its exception.

        Args:
            polling_interval_sec: The longest time between two looks at the database, for workflows that run in
                another process. The first looks follow each other faster.

        Raises:
            DBOSAwaitedWorkflowCancelledError: The workflow was cancelled.
            DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded: It was given up.
            Exception: What the workflow raised.
        """
        refuse_on_loop("WorkflowHandle.get_result", "DBOS.get_result_async")
        return cast(R, drive(self._result(polling_interval_sec)))

    def get_status(self) -> WorkflowStatus:
        """The workflow as it is recorded now.

        Raises:
            DBOSNonExistentWorkflowError: There is no such workflow.
        """
        refuse_on_loop("WorkflowHandle.get_status", "DBOS.get_workflow_status_async")
        return _existing(
            drive(status_core(self._workflow_id, "WorkflowHandle.get_status", self._client)), self._workflow_id
        )


class WorkflowHandleAsync(_Handle, Generic[R]):
    """Stands for a workflow in coroutines. Waiting holds no thread."""

    def get_result(self, *, polling_interval_sec: float = 1.0) -> Coroutine[Any, Any, R]:
        """As ``WorkflowHandle.get_result``."""
        return drive_async(self._result(polling_interval_sec))

    def get_status(self) -> Coroutine[Any, Any, WorkflowStatus]:
        """As ``WorkflowHandle.get_status``."""
        status = drive_async(status_core(self._workflow_id, "WorkflowHandleAsync.get_status", self._client))
        return _existing_async(status, self._workflow_id)


def result_core(
    workflow_id: str,
    ended: Promise[Ending[Any]] | None = None,
    *,
    polling_interval_s: float = 1.0,
    must_exist: bool = False,
    client: Gateway | None = None,
) -> Core[Ending[Any]]:
    """Wait for a workflow's end; in a workflow that is recorded as a step."""
    polling_interval_s = check_interval(polling_interval_s, "polling_interval_sec")
    if client is not None:
        refuse_if_locked_out(client)
        return wait_for_end(client, workflow_id, polling_interval_s=polling_interval_s, must_exist=must_exist)
    executor = get_executor("WorkflowHandle.get_result")
    if ended is None and (known := executor.find_run(workflow_id)) is not None:
        ended = known.ended
    context, is_recorded = recording_run()
    if context.run is not None and is_recorded:
        return await_child(context.run, context.run.next_function_id(), workflow_id, ended)
    return wait_for_end(executor, workflow_id, ended, polling_interval_s=polling_interval_s, must_exist=must_exist)


def _existing(status: WorkflowStatus | None, workflow_id: str) -> WorkflowStatus:
    if status is None:
        raise DBOSNonExistentWorkflowError(workflow_id)
    return status


async def _existing_async(status: Coroutine[Any, Any, WorkflowStatus | None], workflow_id: str) -> WorkflowStatus:
    return _existing(await status, workflow_id)
