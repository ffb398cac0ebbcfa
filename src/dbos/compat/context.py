"""Where the running code is, as ``dbos._context`` and ``dbos._core`` show it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextvars import Token
from typing import Any

from dbos.api.dbos import DBOS
from dbos.api.instance import recording_run
from dbos.api.workflow_methods import StepOptions, step_rules
from dbos.runtime.context import CONTEXT, OUTSIDE, Context
from dbos.runtime.drivers import drive_async
from dbos.runtime.run import Run
from dbos.runtime.steps import run_step


class DBOSContext:
    """Where code runs. All code of one execution of a workflow has the same one."""

    def __init__(self, context: Context) -> None:
        self.context = context

    @property
    def workflow_id(self) -> str | None:
        """The workflow's id; ``None`` outside of workflows."""
        return None if self.context.run is None else self.context.run.workflow_id

    @property
    def function_id(self) -> int:
        """The number of the step that runs, or that was started last; 0 if none was."""
        run, here = self.context.run, CONTEXT.get()
        if run is None:
            return 0
        is_in_step = here.run is run and here.step is not None
        return here.step.step_id if is_in_step and here.step is not None else run.upcoming_function_id - 1

    @property
    def authenticated_user(self) -> str | None:
        """Whom the code acts for."""
        return self.context.authentication.user

    def is_within_workflow(self) -> bool:
        """Whether it is in a workflow, or in a step of one."""
        return self.context.run is not None


class ReservedStep:
    """A place in a workflow's order of steps, taken now for a step that is run later."""

    def __init__(self, run: Run, context: Context) -> None:
        self.run = run
        self.context = context
        self.function_id = run.next_function_id()


def get_local_dbos_context() -> DBOSContext | None:
    """The context of the running code; ``None`` outside."""
    return context_of(CONTEXT.get())


def context_of(context: Context) -> DBOSContext | None:
    """What stands for a context; for each run it is always the same object."""
    if context is OUTSIDE:
        return None
    if context.run is None:
        return DBOSContext(context)
    if context.run.older_context is None:
        context.run.older_context = DBOSContext(Context(context.run))
    known: DBOSContext = context.run.older_context
    return known


class ContextVariable:
    """The context variable, as far as programs hand it from thread to thread."""

    def get(self) -> DBOSContext | None:
        """The context of the running code."""
        return get_local_dbos_context()

    def set(self, context: DBOSContext | None) -> Token[Context]:
        """Run on in this context, in this thread or task."""
        return CONTEXT.set(OUTSIDE if context is None else context.context)

    def reset(self, token: Token[Context]) -> None:
        """Undo a ``set``."""
        CONTEXT.reset(token)


dbos_context_var = ContextVariable()


def set_local_dbos_context(context: DBOSContext | None) -> None:
    """Run on in this context, in this thread or task."""
    dbos_context_var.set(context)


def snapshot_step_context(*, reserve_sleep_id: bool = False) -> ReservedStep | None:
    """Take the next place in the workflow's order of steps, for ``run_step_async``; ``None`` where nothing is recorded.

    Args:
        reserve_sleep_id: Whether to take one more place behind it.
    """
    context, is_recorded = recording_run()
    if context.run is None or not is_recorded:
        return None
    reserved = ReservedStep(context.run, context)
    if reserve_sleep_id:
        context.run.next_function_id()
    return reserved


def run_step_async(
    dbos: DBOS,
    step_ctx: ReservedStep | None,
    func: Callable[..., Any],
    options: StepOptions | None,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Coroutine[Any, Any, Any]:
    """Run a function as the step whose place was taken; without one, as the next step."""
    if step_ctx is None:
        return DBOS.run_step_async(options, func, *args, **kwargs)
    rules = step_rules(options or {}, func)
    core = run_step(
        step_ctx.run, step_ctx.function_id, rules, func, args, dict(kwargs), step_ctx.context.authentication
    )
    return drive_async(core)


def write_stream(dbos: DBOS, key: str, value: Any) -> None:
    """``DBOS.write_stream``."""
    DBOS.write_stream(key, value)
