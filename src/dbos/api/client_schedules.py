"""Schedules by a client: what they run is said by names, and nobody checks whether there is such a function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from dbos.api.schedules import (
    apply_core,
    check_definition,
    check_inputs,
    create_core,
)
from dbos.model.limits import check_key
from dbos.runtime.drivers import Core, Ending
from dbos.runtime.gateway import Gateway
from dbos.runtime.registry import DeclaredSchedule

if TYPE_CHECKING:
    from typing_extensions import Required


class ClientScheduleInput(TypedDict, total=False):
    """A schedule that ``DBOSClient.apply_schedules`` is to store.

    Attributes:
        schedule_name: Its name.
        workflow_name: The function that it runs, as it is recorded: its ``__qualname__``, or what ``name=`` says.
        workflow_class_name: The class of the function, if it is a method.
        schedule: Its cron expression.
        context: What the function is called with beside the time. Default: ``None``.
    """

    schedule_name: Required[str]
    workflow_name: Required[str]
    workflow_class_name: str | None
    schedule: Required[str]
    context: Any


_KEYS = {
    "schedule_name": True,
    "workflow_name": True,
    "workflow_class_name": False,
    "schedule": True,
    "context": False,
}


def create_schedule(
    client: Gateway | None,
    *,
    schedule_name: str,
    workflow_name: str,
    schedule: str,
    context: Any = None,
    workflow_class_name: str | None = None,
) -> Core[Ending[None]]:
    """Store a schedule: from now on, executors that know the function start it at the schedule's times.

    Args:
        schedule_name: A new name.
        workflow_name: The function that it runs, as it is recorded: its ``__qualname__``, or what ``name=`` says.
        schedule: A cron expression; see ``DBOS.create_schedule``.
        context: What the function is called with beside the time.
        workflow_class_name: The class of the function, if it is a method.

    Raises:
        DBOSException: The expression is invalid, or a schedule of this name exists.
        DBOSSerializationError: The context cannot be stored.
    """
    return create_core(client, _definition(schedule_name, workflow_name, workflow_class_name, schedule, context))


def apply_schedules(
    client: Gateway | None, schedules: list[ClientScheduleInput], delete: list[str] | None = None
) -> Core[Ending[None]]:
    """Store these schedules in place of those that have their names, and delete others: all in one transaction.

    Args:
        schedules: The schedules to be stored. They are active, also where a paused one is replaced.
        delete: The names of schedules to be deleted.

    Raises:
        DBOSException: An expression is invalid.
        DBOSSerializationError: A context cannot be stored.
    """
    given = check_inputs(schedules, _KEYS, "ClientScheduleInput")
    definitions = [
        _definition(
            each["schedule_name"],
            each["workflow_name"],
            each.get("workflow_class_name"),
            each["schedule"],
            each.get("context"),
        )
        for each in given
    ]
    return apply_core(client, definitions, delete)


def _definition(
    name: object, workflow_name: object, class_name: object, cron: object, context: object
) -> DeclaredSchedule:
    checked = check_key(workflow_name, "workflow_name")
    if not checked:
        raise ValueError("workflow_name must not be empty.")
    class_checked = None if class_name is None else check_key(class_name, "workflow_class_name")
    return check_definition(name, cron, context, lambda: (checked, class_checked))
