"""The part of ``DBOS`` that declares, starts and finds workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypedDict, TypeVar, cast, overload

from dbos.api.functions import (
    Decorator,
    decorate_step,
    decorate_workflow,
    is_coroutine_function,
    new_call,
    on_methods_too,
    require_function,
    workflow_function,
)
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync, result_core
from dbos.api.instance import get_executor, recording_run, refuse_in_step, refuse_on_loop
from dbos.api.reads import status_core
from dbos.api.status import WorkflowStatus
from dbos.error import DBOSNonExistentWorkflowError
from dbos.runtime.children import run_child_when_durable, start_child
from dbos.runtime.context import CONTEXT, Context
from dbos.runtime.drivers import Core, Ending, Returned, drive, drive_async
from dbos.runtime.run import Run
from dbos.runtime.starting import Launched, start_in_background
from dbos.runtime.steps import StepRules, run_step

P = ParamSpec("P")
R = TypeVar("R")


class StepOptions(TypedDict, total=False):
    """How ``run_step`` names and retries a step; the defaults are those of the ``step`` decorator.

    Attributes:
        name: What is recorded. Default: the function's ``__qualname__``.
        retries_allowed: Whether to try again when it raises. Default: ``False``.
        interval_seconds: The pause before the second attempt. Default: 1.
        max_attempts: All attempts, the first included. Default: 3.
        backoff_rate: By how much the pause grows each time, to an hour at most. Default: 2.
    """

    name: str | None
    retries_allowed: bool
    interval_seconds: float
    max_attempts: int
    backoff_rate: float


class WorkflowMethods:
    """Workflows and steps: declaring, starting, finding."""

    # -- declaring

    @staticmethod
    def workflow(*, name: str | None = None, max_recovery_attempts: int | None = 100) -> Decorator:
        """Make a function a workflow: its steps are recorded, and after a crash it goes on after the last one.

        Args:
            name: What is recorded and what recovery looks the function up by. Default: its ``__qualname__``.
            max_recovery_attempts: How often the workflow is recovered before it is given up. ``None``: no limit.

        Raises:
            DBOSConflictingRegistrationError: Another function has the name.
        """

        return on_methods_too(lambda function: decorate_workflow(function, name, max_recovery_attempts))

    @staticmethod
    def step(
        *,
        name: str | None = None,
        retries_allowed: bool = False,
        interval_seconds: float = 1.0,
        max_attempts: int = 3,
        backoff_rate: float = 2.0,
    ) -> Decorator:
        """Make a function a step: called by a workflow it runs once, and its result or exception is recorded.

        Called anywhere else it is a plain call.

        Args:
            name: What is recorded. Default: the function's ``__qualname__``.
            retries_allowed: Whether to try again when it raises.
            interval_seconds: The pause before the second attempt.
            max_attempts: All attempts, the first included. When they are used up, the step raises
                ``DBOSMaxStepRetriesExceeded``.
            backoff_rate: By how much the pause grows each time, to an hour at most.
        """

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            require_function(function, "step")
            rules = StepRules(
                name or function.__qualname__, retries_allowed, interval_seconds, max_attempts, backoff_rate
            )
            return decorate_step(function, rules)

        return on_methods_too(decorate)

    @overload
    @classmethod
    def run_step(
        cls,
        options: StepOptions | None,
        function: Callable[P, Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    @classmethod
    def run_step(
        cls, options: StepOptions | None, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @classmethod
    def run_step(cls, options: StepOptions | None, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call any function as a step of the running workflow.

        Args:
            options: The step's name and retries; ``None`` for the defaults.
            function: The function; for a coroutine function the result is to be awaited.
            *args: Its arguments.
            **kwargs: Its keyword arguments.
        """
        context, is_recorded = recording_run()
        if context.run is None or not is_recorded:
            return function(*args, **kwargs)
        core = _step_core(context.run, context, options or {}, function, args, kwargs)
        return drive_async(core) if is_coroutine_function(function) else drive(core)

    @overload
    @classmethod
    def run_step_async(
        cls,
        options: StepOptions | None,
        function: Callable[P, Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    @classmethod
    def run_step_async(
        cls, options: StepOptions | None, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...

    @classmethod
    def run_step_async(
        cls, options: StepOptions | None, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, Any]:
        """As ``run_step``, to be awaited, for plain and coroutine functions."""
        context, is_recorded = recording_run()
        if context.run is None or not is_recorded:
            return _plainly(function, args, kwargs)
        core = _step_core(context.run, context, options or {}, function, args, kwargs)
        return drive_async(core)

    # -- starting

    @overload
    @classmethod
    def start_workflow(
        cls, func: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...

    @overload
    @classmethod
    def start_workflow(cls, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]: ...

    @classmethod
    def start_workflow(cls, func: Callable[..., Any], *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
        """Start a workflow, or a step on its own, in the background.

        When this returns, the start is durable, except inside a workflow, where the next step waits for it.

        Args:
            func: A workflow or a step. A coroutine runs on an event loop of the library's own.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Raises:
            DBOSConflictingWorkflowError: The id that was set belongs to a workflow of another function.
            DBOSSerializationError: The arguments cannot be stored; nothing was started.
        """
        launched = drive(_start_core("DBOS.start_workflow", func, args, kwargs, None))
        return WorkflowHandle(launched.workflow_id, launched.ended)

    @overload
    @classmethod
    def start_workflow_async(
        cls, func: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[R]]: ...

    @overload
    @classmethod
    def start_workflow_async(
        cls, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[R]]: ...

    @classmethod
    def start_workflow_async(
        cls, func: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As ``start_workflow``, to be awaited. A coroutine runs on the caller's event loop, a function in a thread."""
        loop = asyncio.get_running_loop()
        return _async_handle(drive_async(_start_core("DBOS.start_workflow_async", func, args, kwargs, loop)))

    # -- finding

    @classmethod
    def retrieve_workflow(cls, workflow_id: str, existing_workflow: bool = True) -> WorkflowHandle[Any]:
        """The handle of a workflow by its id.

        Args:
            workflow_id: Its id.
            existing_workflow: Whether it must exist already; if not, ``get_result`` waits for it to appear.

        Raises:
            DBOSNonExistentWorkflowError: There is no such workflow.
        """
        refuse_on_loop("DBOS.retrieve_workflow")
        if existing_workflow and drive(status_core(workflow_id, "DBOS.retrieve_workflow")) is None:
            raise DBOSNonExistentWorkflowError(workflow_id)
        return WorkflowHandle(workflow_id, must_exist=existing_workflow)

    @classmethod
    async def retrieve_workflow_async(
        cls, workflow_id: str, existing_workflow: bool = True
    ) -> WorkflowHandleAsync[Any]:
        """As ``retrieve_workflow``."""
        if existing_workflow and await drive_async(status_core(workflow_id, "DBOS.retrieve_workflow_async")) is None:
            raise DBOSNonExistentWorkflowError(workflow_id)
        return WorkflowHandleAsync(workflow_id, must_exist=existing_workflow)

    @classmethod
    def get_workflow_status(cls, workflow_id: str) -> WorkflowStatus | None:
        """The workflow as it is recorded now; ``None`` if there is no such workflow."""
        refuse_on_loop("DBOS.get_workflow_status")
        return drive(status_core(workflow_id, "DBOS.get_workflow_status"))

    @classmethod
    def get_workflow_status_async(cls, workflow_id: str) -> Coroutine[Any, Any, WorkflowStatus | None]:
        """As ``get_workflow_status``."""
        return drive_async(status_core(workflow_id, "DBOS.get_workflow_status_async"))

    @classmethod
    def get_result(cls, workflow_id: str, *, polling_interval_sec: float = 1.0) -> Any:
        """Wait for a workflow, which may not exist yet, to end; return its result or raise its exception."""
        refuse_on_loop("DBOS.get_result")
        return drive(result_core(workflow_id, polling_interval_s=polling_interval_sec))

    @classmethod
    def get_result_async(cls, workflow_id: str, *, polling_interval_sec: float = 1.0) -> Coroutine[Any, Any, Any]:
        """As ``get_result``."""
        return drive_async(result_core(workflow_id, polling_interval_s=polling_interval_sec))


def _step_core(
    run: Run,
    context: Context,
    options: StepOptions,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Core[Ending[Any]]:
    rules = step_rules(options, function)
    return run_step(run, run.next_function_id(), rules, function, args, kwargs, context.authentication)


def _start_core(
    caller: str,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    loop: asyncio.AbstractEventLoop | None,
) -> Core[Ending[Launched]]:
    """The core is made at the call, not when it is first driven: it takes the id that is set now."""
    executor = get_executor(caller)
    function, args = workflow_function(func, args)
    context = CONTEXT.get()
    refuse_in_step(context, caller)
    call, function_id = new_call(context, function, args, kwargs)
    if context.run is None:
        return start_in_background(executor, call, loop)
    launched, ticket = start_child(context.run, function_id, call)
    if ticket is not None and launched.run is not None:
        run_child_when_durable(context.run, call, launched.run, ticket, loop)
    return _at_once(launched)


def _at_once(launched: Launched) -> Core[Ending[Launched]]:
    return Returned(launched)
    yield


async def _plainly(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    result = function(*args, **kwargs)
    return await result if asyncio.iscoroutine(result) else result


async def _async_handle(launched: Coroutine[Any, Any, Launched]) -> WorkflowHandleAsync[Any]:
    workflow = await launched
    return WorkflowHandleAsync(workflow.workflow_id, workflow.ended)


def step_rules(options: StepOptions, function: Callable[..., Any]) -> StepRules:
    """The rules of a step that runs the function.

    Raises:
        ValueError: There is no such option, or its value is out of range.
    """
    unknown = set(options) - set(StepOptions.__annotations__)
    if unknown:
        known = ", ".join(StepOptions.__annotations__)
        raise ValueError(f"Unknown step options: {', '.join(sorted(unknown))}. There are {known}.")
    return StepRules(
        name=options.get("name") or cast(str, getattr(function, "__qualname__", repr(function))),
        retries_allowed=options.get("retries_allowed", False),
        interval_s=options.get("interval_seconds", 1.0),
        max_attempts=options.get("max_attempts", 3),
        backoff_rate=options.get("backoff_rate", 2.0),
    )
