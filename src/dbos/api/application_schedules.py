"""The application's schedules: those that it makes by calls, and those that its code tells of before the launch."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

from dbos.api.functions import workflow_function
from dbos.api.instance import is_launched
from dbos.api.schedules import (
    ScheduledWorkflow,
    apply_core,
    check_definition,
    check_inputs,
    create_core,
    encoded,
    function_names,
)
from dbos.runtime.cron import Cron
from dbos.runtime.drivers import Command, Core, Ending, Returned
from dbos.runtime.gateway import Gateway
from dbos.runtime.registry import REGISTRY, SCHEDULES, DeclaredSchedule
from dbos.runtime.schedules import Decorated
from dbos.runtime.scheduling import create_declared, name_taken

if TYPE_CHECKING:
    from typing_extensions import Required

    from dbos.runtime.executor import Executor


class ScheduleInput(TypedDict, total=False):
    """A schedule that ``DBOS.apply_schedules`` is to store.

    Attributes:
        schedule_name: Its name.
        workflow_fn: The workflow that it runs, with the scheduled time and the context.
        schedule: Its cron expression.
        context: What the workflow is called with beside the time. Default: ``None``.
    """

    schedule_name: Required[str]
    workflow_fn: Required[ScheduledWorkflow]
    schedule: Required[str]
    context: Any


_KEYS = {"schedule_name": True, "workflow_fn": True, "schedule": True, "context": False}


def create_schedule(
    client: Gateway | None,
    *,
    schedule_name: str,
    workflow_fn: ScheduledWorkflow,
    schedule: str,
    context: Any = None,
) -> Core[Ending[None]]:
    """Store a schedule: from now on the workflow is started at its times, once for each, by whichever executor.

    Called before ``DBOS.launch()``, it is stored at the launch. If there is one of its name then, that stays; if it is
    another one, a warning says so.

    Args:
        schedule_name: A new name.
        workflow_fn: The workflow. It is called with the scheduled time, in UTC, and the context.
        schedule: A cron expression in UTC, of five fields (minute, hour, day of the month, month, day of the week), or
            of six, the second first.
        context: What the workflow is called with beside the time: anything that can be stored.

    Raises:
        DBOSException: The expression is invalid, the function cannot be scheduled, or a schedule of this name exists.
        DBOSSerializationError: The context cannot be stored.
    """
    definition = check_definition(schedule_name, schedule, context, partial(function_names, workflow_fn))
    return create_core(client, definition) if is_launched() else _declare(definition)


def apply_schedules(
    client: Gateway | None, schedules: list[ScheduleInput], delete: list[str] | None = None
) -> Core[Ending[None]]:
    """Store these schedules in place of those that have their names, and delete others: all in one transaction.

    What is stored already as it is given stays as it is. It cannot be called from a workflow.

    Args:
        schedules: The schedules to be stored. They are active, also where a paused one is replaced.
        delete: The names of schedules to be deleted.

    Raises:
        DBOSException: An expression is invalid, or a function cannot be scheduled; nothing is changed.
        DBOSSerializationError: A context cannot be stored.
    """
    given = check_inputs(schedules, _KEYS, "ScheduleInput")
    definitions = [
        check_definition(
            each["schedule_name"],
            each["schedule"],
            each.get("context"),
            partial(function_names, each["workflow_fn"]),
        )
        for each in given
    ]
    return apply_core(client, definitions, delete)


def _declare(definition: DeclaredSchedule) -> Generator[Command, None, Ending[None]]:
    """Have the schedule stored at the launch.

    Raises:
        DBOSException: The program declares another one of its name.
    """
    if SCHEDULES.declared.setdefault(definition.name, definition) != definition:
        raise name_taken(definition.name)
    return _nothing()


def create_declared_schedules(executor: Executor) -> None:
    """Store what the program declares, as far as it is not there.

    Raises:
        DBOSSerializationError: A context cannot be stored.
    """
    if SCHEDULES.declared:
        create_declared(executor, [encoded(executor.codec, each) for each in SCHEDULES.declared.values()])


def decorated_schedules() -> list[Decorated]:
    """The functions that are decorated with their times, and these times.

    Raises:
        DBOSException: One is no workflow, or a method of instances.
    """
    decorated: dict[tuple[str, str], Decorated] = {}
    for function, expression in SCHEDULES.decorated:
        # The one decorator may be above the other or below.
        known = next((workflow for workflow in REGISTRY if workflow.function is function), None)
        name = (workflow_function(function, ())[0] if known is None else known).name
        decorated[name, expression] = Decorated(name, REGISTRY.classes.owner_of(name), Cron(expression))
    return list(decorated.values())


def _nothing() -> Generator[Command, None, Ending[None]]:
    return Returned(None)
    yield
