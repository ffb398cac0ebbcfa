"""The decorators: what a call of a decorated function does."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

from dbos.api.instance import get_executor, new_workflow_id, recording_run, refuse_in_step
from dbos.api.roles import authorize, call_plainly, without_guard
from dbos.api.scopes import take_next_id
from dbos.error import DBOSException
from dbos.model.limits import check_storable
from dbos.runtime.children import call_child, child_id
from dbos.runtime.classes import target_of
from dbos.runtime.context import CONTEXT, Context
from dbos.runtime.drivers import Core, Ending, drive, drive_async
from dbos.runtime.registry import REGISTRY, TEMPORARY_PREFIX, WorkflowFunction
from dbos.runtime.run import Run
from dbos.runtime.starting import Call, call_workflow
from dbos.runtime.steps import StepRules, run_step

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_FUNCTION = "__dbos_workflow_function__"


class Decorator(Protocol):
    """Decorates functions and methods, the latter above or below ``@classmethod``; what it returns looks as before."""

    @overload
    def __call__(self, function: staticmethod[P, R], /) -> staticmethod[P, R]: ...

    @overload
    def __call__(self, function: classmethod[T, P, R], /) -> classmethod[T, P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]: ...


def decorate_workflow(function: Callable[P, R], name: str | None, max_recovery_attempts: int | None) -> Callable[P, R]:
    """Register the function as a workflow and return what runs it as one."""
    function, required_roles = without_guard(function)
    require_function(function, "workflow")
    if max_recovery_attempts is not None and max_recovery_attempts < 0:
        raise ValueError(f"max_recovery_attempts is {max_recovery_attempts}, and must not be negative.")
    check_storable(name or "", "A workflow's name")
    workflow = WorkflowFunction(
        name=name or function.__qualname__,
        function=function,
        is_async=is_coroutine_function(function),
        max_recovery_attempts=max_recovery_attempts,
        required_roles=required_roles,
    )
    REGISTRY.add(workflow)

    def call(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Core[Ending[Any]]:
        context = CONTEXT.get()
        executor = get_executor(f"Workflow {workflow.name}")
        refuse_in_step(context, f"Workflow {workflow.name}")
        its_call, function_id = new_call(context, workflow, args, kwargs)
        if context.run is None:
            return call_workflow(executor, its_call)
        return call_child(context.run, function_id, context.run.next_function_id(), its_call)

    if workflow.is_async:

        def call_async(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
            return _named(call(args, kwargs), function)

        wrapper: Callable[..., Any] = _as_coroutine_function(functools.wraps(function)(call_async))
    else:

        def call_sync(*args: Any, **kwargs: Any) -> Any:
            return drive(call(args, kwargs))

        wrapper = functools.wraps(function)(call_sync)
    mark_workflow_function(wrapper, workflow)
    return cast("Callable[P, R]", wrapper)


def decorate_step(function: Callable[P, R], rules: StepRules) -> Callable[P, R]:
    """Return what runs the function as a step when a workflow calls it, and calls it plainly otherwise."""
    function, required_roles = without_guard(function)
    is_async = is_coroutine_function(function)

    def step(run: Run, context: Context, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Core[Ending[Any]]:
        authentication = authorize(alone, context)
        return run_step(run, run.next_function_id(), rules, function, args, kwargs, authentication)

    if is_async:

        def call_async(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
            context, is_recorded = recording_run()
            if context.run is None or not is_recorded:
                return cast("Coroutine[Any, Any, Any]", call_plainly(alone, function, args, kwargs))
            return _named(step(context.run, context, args, kwargs), function)

        wrapper: Callable[..., Any] = _as_coroutine_function(functools.wraps(function)(call_async))
    else:

        def call_sync(*args: Any, **kwargs: Any) -> Any:
            context, is_recorded = recording_run()
            if context.run is None or not is_recorded:
                return call_plainly(alone, function, args, kwargs)
            return drive(step(context.run, context, args, kwargs))

        wrapper = functools.wraps(function)(call_sync)
    # Started on its own, a step runs as a workflow that calls it.
    alone = WorkflowFunction(
        TEMPORARY_PREFIX + rules.name, wrapper, is_async, is_temporary=True, required_roles=required_roles
    )
    REGISTRY.add_temporary(alone)
    mark_workflow_function(wrapper, alone)
    return cast("Callable[P, R]", wrapper)


def mark_workflow_function(wrapper: Callable[..., Any], function: WorkflowFunction) -> None:
    """Let ``workflow_function`` find what the decorated function runs as."""
    setattr(wrapper, _FUNCTION, function)


def on_methods_too(decorate: Callable[[Callable[..., Any]], Any]) -> Decorator:
    """Have the decorator take what ``@staticmethod`` and ``@classmethod`` return, too, and decorate what is in it."""

    def decorate_any(function: Any, /) -> Any:
        if isinstance(function, staticmethod | classmethod):
            return type(cast(Any, function))(decorate(cast(Any, function).__func__))
        return decorate(function)

    return cast(Decorator, decorate_any)


def workflow_function(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[WorkflowFunction, tuple[Any, ...]]:
    """What ``start_workflow`` is to run, and with which arguments: a bound method brings its first one.

    Raises:
        DBOSException: The function is neither a workflow nor a step.
    """
    workflow = marked_as(function)
    if workflow is None:
        name = getattr(function, "__qualname__", repr(function))
        raise DBOSException(f"{name} is not a workflow. Decorate it with @DBOS.workflow() or @DBOS.step().")
    if workflow.is_temporary:
        REGISTRY.require(workflow)
    return workflow, (function.__self__, *args) if inspect.ismethod(function) else args


def marked_as(function: object) -> WorkflowFunction | None:
    """What the decorated function runs as; ``None`` if it is not decorated."""
    workflow = getattr(function, _FUNCTION, None)
    return workflow if isinstance(workflow, WorkflowFunction) else None


def new_call(
    context: Context, workflow: WorkflowFunction, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Call, int]:
    """A call of a workflow with what was set for it, and its number among the steps of the workflow that calls, or 0.

    A child's id is derived from its parent's, unless one was set.

    Args:
        context: Where it is called.
        workflow: What is called.
        args: The arguments; for a method the first is what it is called on.
        kwargs: The keyword arguments.

    Raises:
        DBOSException: It is a method, and recovery could not find what it is called on.
        DBOSNotAuthorizedError: It requires a role that the user does not have.
    """
    target, authentication = target_of(workflow, args), authorize(workflow, context)
    parent = context.run
    function_id = 0 if parent is None else parent.next_function_id()
    workflow_id = take_next_id(context) or (new_workflow_id() if parent is None else child_id(parent, function_id))
    recorded = args[len(target.passed) :]
    call = Call(workflow, workflow_id, recorded, kwargs, context.timeout, target, authentication)
    return call, function_id


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Whether a call of it returns a coroutine; also where it is decorated by us."""
    return inspect.iscoroutinefunction(function) or hasattr(function, "_is_coroutine")


def require_function(function: Any, decorator: str) -> None:
    """Make sure that the function can be decorated.

    Raises:
        TypeError: It is no function, or a generator function.
    """
    if not callable(function) or not hasattr(function, "__qualname__"):
        raise TypeError(f"@DBOS.{decorator}() decorates functions, and {function!r} is none.")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(
            f"{function.__qualname__} is a generator function, which cannot be a {decorator}: what it yields cannot be "
            "recorded. Return a list instead."
        )


def _named(core: Core[Ending[Any]], function: Callable[..., Any]) -> Coroutine[Any, Any, Any]:
    """Drive the core, shown as the user's function in "was never awaited" and in task listings."""
    coroutine: Any = drive_async(core)
    coroutine.__name__ = getattr(function, "__name__", "workflow")
    coroutine.__qualname__ = getattr(function, "__qualname__", "workflow")
    return cast("Coroutine[Any, Any, Any]", coroutine)


def _as_coroutine_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a plain function that returns a coroutine, so that frameworks await it.

    It is plain because a call has to take its place in the workflow's order when it is made, not when it is awaited.
    """
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    from dbos.api.coroutine_functions import CoroutineFunction

    return CoroutineFunction(function)
