"""Schedules: checking what is asked for, and the calls that the application and its clients share."""

from __future__ import annotations

import inspect
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, TypeVar, cast

from dbos.api.functions import workflow_function
from dbos.api.instance import get_executor, recording_run
from dbos.api.reads import check_texts, recorded_call, several
from dbos.error import DBOSException
from dbos.model.limits import check_key
from dbos.model.schedules import ACTIVE, MAX_NAME_BYTES, PAUSED, STATUSES, Schedule
from dbos.runtime import scheduling
from dbos.runtime.classes import method_of_instances, target_of
from dbos.runtime.cron import Cron
from dbos.runtime.drivers import Core, Ending, Raised, Returned
from dbos.runtime.gateway import Gateway
from dbos.runtime.registry import REGISTRY, DeclaredSchedule
from dbos.serialization.codec import Codec
from dbos.storage.schedules import ScheduleFilter, read_schedules

T = TypeVar("T")

ScheduledWorkflow = Callable[[datetime, Any], Any]
"""A workflow that can be scheduled: it takes the scheduled time and the schedule's context."""

_IDS = uuid.UUID("6a3c1ad0-4f6e-4c55-9d0b-3f2f3f0b9a57")
"""The namespace of the ids of schedules that workflows make."""


class WorkflowSchedule(TypedDict):
    """A schedule, as it is listed.

    Attributes:
        schedule_id: Its definition's id: when the schedule is replaced by another definition, it is a new one.
        schedule_name: Its name.
        workflow_name: The function that it runs, as it is recorded.
        workflow_class_name: The class of the function, if it is a method.
        schedule: The cron expression.
        status: ``ACTIVE`` or ``PAUSED``.
        context: What the function is called with beside the time.
    """

    schedule_id: str
    schedule_name: str
    workflow_name: str
    workflow_class_name: str | None
    schedule: str
    status: str
    context: Any


# -- what is asked for


def check_definition(
    name: object, cron: object, context: object, workflow: Callable[[], tuple[str, str | None]]
) -> DeclaredSchedule:
    """The definition of a schedule, if it can be one.

    Args:
        name: The schedule's name.
        cron: Its expression.
        context: Its context.
        workflow: Tells the names of the function and of its class.

    Raises:
        DBOSException: The expression, or the function, cannot be used.
        TypeError, ValueError: The name cannot be used, or something has the wrong type.
    """
    checked = check_key(name, "A schedule's name", MAX_NAME_BYTES)
    if not checked:
        raise ValueError("A schedule's name must not be empty.")
    try:
        return DeclaredSchedule(checked, *workflow(), Cron(cron).expression, context)
    except DBOSException as error:
        raise DBOSException(f"Schedule {checked!r}: {error.message}", error.dbos_error_code) from None


def function_names(function: object) -> tuple[str, str | None]:
    """The names by which the function of a schedule, and its class, are recorded.

    Raises:
        DBOSException: It cannot be scheduled.
    """
    if not callable(function):
        raise TypeError(f"A schedule runs a workflow, and {function!r} is none.")
    if inspect.ismethod(function) and not isinstance(function.__self__, type):
        raise method_of_instances(function.__qualname__)
    workflow, args = workflow_function(cast("Callable[..., Any]", function), (None, None))
    REGISTRY.classes.owner_of(workflow.name)  # refuses methods of instances that are taken from their class
    signature = inspect.signature(function)
    try:
        signature.bind(None, None)
    except TypeError:
        raise DBOSException(
            f"{workflow.name}{signature} cannot be scheduled, as it is called with two arguments: the scheduled time "
            "and the context."
        ) from None
    return workflow.name, target_of(workflow, args).class_name


def encoded(codec: Codec, definition: DeclaredSchedule, schedule_id: str | None = None) -> Schedule:
    """The schedule as it is stored.

    Raises:
        DBOSSerializationError: Its context cannot be stored.
    """
    context = codec.encode(definition.context, lambda: f"The context of schedule {definition.name!r}")
    return Schedule(
        schedule_id or str(uuid.uuid4()),
        definition.name,
        definition.workflow_name,
        definition.class_name,
        definition.cron,
        context.text,
        context.format,
    )


def gateway_for(client: Gateway | None, method: str) -> Gateway:
    """What the method is called through: the client, or the application."""
    return get_executor(_caller(client, method)) if client is None else client


def create_core(client: Gateway | None, definition: DeclaredSchedule) -> Core[Ending[None]]:
    """Store a new schedule. One that a workflow makes has a derived id: made again after a crash it is the same one."""
    context, is_recorded = recording_run()
    schedule_id = None
    if client is None and context.run is not None and is_recorded:
        made_by = f"{context.run.workflow_id}/{context.run.upcoming_function_id}"
        schedule_id = str(uuid.uuid5(_IDS, made_by))
    schedule = encoded(gateway_for(client, "create_schedule").codec, definition, schedule_id)
    return _call(
        client,
        "DBOS.createSchedule",
        "create_schedule",
        lambda gateway: scheduling.create_schedule(gateway, schedule),
    )


def apply_core(client: Gateway | None, definitions: Sequence[DeclaredSchedule], delete: object) -> Core[Ending[None]]:
    """Replace and delete schedules, all at once."""
    _refuse_in_workflow(client, "apply_schedules")
    deleted = several("delete", cast("Any", delete)) or []
    names = Counter([*(definition.name for definition in definitions), *set(deleted)])
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        raise ValueError(f"apply_schedules was given {', '.join(map(repr, twice))} more than once.")
    codec = gateway_for(client, "apply_schedules").codec
    schedules = [encoded(codec, definition) for definition in definitions]
    return _call(
        client,
        "DBOS.applySchedules",
        "apply_schedules",
        lambda gateway: scheduling.apply_schedules(gateway, schedules, deleted),
    )


def check_inputs(schedules: object, keys: Mapping[str, bool], kind: str) -> list[dict[str, Any]]:
    """The schedules that are to be applied, if each is of the kind.

    Args:
        schedules: What was given.
        keys: The keys that there are, each with whether it must be given.
        kind: What they should be.
    """
    if not isinstance(schedules, list | tuple):
        raise TypeError(f"apply_schedules takes a list of {kind}, not {type(schedules).__name__}.")
    checked: list[dict[str, Any]] = []
    for given in cast("Sequence[object]", schedules):
        if not isinstance(given, Mapping):
            raise TypeError(f"apply_schedules takes a list of {kind} (dicts), and {given!r} is none.")
        values = dict(cast("Mapping[str, Any]", given))
        if values.keys() - keys.keys() or {key for key, is_required in keys.items() if is_required} - values.keys():
            raise ValueError(f"A {kind} has the keys {', '.join(keys)}; given was {', '.join(map(str, values))}.")
        checked.append(values)
    return checked


# -- the calls that the application and its clients share


def list_schedules(
    client: Gateway | None,
    *,
    status: str | list[str] | None = None,
    workflow_name: str | list[str] | None = None,
    schedule_name_prefix: str | list[str] | None = None,
) -> Core[Ending[list[WorkflowSchedule]]]:
    """The schedules that meet all the given conditions, in the order of their names.

    Args:
        status: ``ACTIVE``, ``PAUSED``, or a list of these.
        workflow_name: That run this function, or one of these.
        schedule_name_prefix: Whose names begin with this, or one of these, taken literally.
    """
    statuses = several("status", status)
    for one in statuses or ():
        if one not in STATUSES:
            raise ValueError(f"A schedule has no status {one!r}. The statuses are {', '.join(STATUSES)}.")
    wanted = ScheduleFilter(
        statuses=statuses,
        workflow_names=several("workflow_name", workflow_name),
        name_prefixes=several("schedule_name_prefix", schedule_name_prefix),
    )
    codec = gateway_for(client, "list_schedules").codec
    rows = _call(client, "DBOS.listSchedules", "list_schedules", lambda gateway: _read(gateway, wanted))
    return _mapped(rows, lambda found: [_shown(codec, row) for row in found])


def get_schedule(client: Gateway | None, name: str) -> Core[Ending[WorkflowSchedule | None]]:
    """The schedule of this name; ``None`` if there is none."""
    wanted = ScheduleFilter(names=[_checked_name(name)])
    codec = gateway_for(client, "get_schedule").codec

    def read(gateway: Gateway) -> dict[str, Any] | None:
        return next(iter(_read(gateway, wanted)), None)

    row = _call(client, "DBOS.getSchedule", "get_schedule", read)
    return _mapped(row, lambda found: None if found is None else _shown(codec, found))


def pause_schedule(client: Gateway | None, name: str) -> Core[Ending[None]]:
    """Have a schedule fire no more, from now on. If it is paused already, or there is none, nothing happens."""
    return _set_status(client, "pause", name, PAUSED)


def resume_schedule(client: Gateway | None, name: str) -> Core[Ending[None]]:
    """Have a paused schedule fire again, from now on; the times at which it was paused are left out.

    If it is active, or there is none, nothing happens.
    """
    return _set_status(client, "resume", name, ACTIVE)


def delete_schedule(client: Gateway | None, name: str) -> Core[Ending[None]]:
    """Delete a schedule, which fires no more from now on. The workflows that it has started stay.

    If there is none of this name, nothing happens.
    """
    checked = _checked_name(name)
    return _call(
        client,
        "DBOS.deleteSchedule",
        "delete_schedule",
        lambda gateway: scheduling.delete_schedule(gateway, checked),
    )


def trigger_core(client: Gateway | None, name: str) -> Core[Ending[str]]:
    """Start a schedule's workflow now; returns its id."""
    _refuse_in_workflow(client, "trigger_schedule")
    checked = _checked_name(name)
    return _call(
        client,
        "DBOS.triggerSchedule",
        "trigger_schedule",
        lambda gateway: scheduling.trigger_schedule(gateway, checked),
    )


def backfill_core(client: Gateway | None, name: str, start: datetime, end: datetime) -> Core[Ending[list[str]]]:
    """Start the workflows of the fire times between the two; returns their ids."""
    _refuse_in_workflow(client, "backfill_schedule")
    checked = _checked_name(name)
    first, last = _utc(start, "start"), _utc(end, "end")
    return _call(
        client,
        "DBOS.backfillSchedule",
        "backfill_schedule",
        lambda gateway: scheduling.backfill_schedule(gateway, checked, first, last),
    )


def _set_status(client: Gateway | None, verb: str, name: str, status: str) -> Core[Ending[None]]:
    checked = _checked_name(name)
    return _call(
        client,
        f"DBOS.{verb}Schedule",
        f"{verb}_schedule",
        lambda gateway: scheduling.set_status(gateway, checked, status),
    )


def _call(client: Gateway | None, step: str, method: str, call: Callable[[Gateway], T]) -> Core[Ending[T]]:
    return recorded_call(step, _caller(client, method), call, client)


def _caller(client: Gateway | None, method: str) -> str:
    return f"{'DBOS' if client is None else 'DBOSClient'}.{method}"


def _mapped(core: Core[Ending[Any]], change: Callable[[Any], T]) -> Core[Ending[T]]:
    ending = yield from core
    return ending if isinstance(ending, Raised) else Returned(change(ending.value))


def _read(gateway: Gateway, wanted: ScheduleFilter) -> list[dict[str, Any]]:
    """The schedules as a workflow records them: in the form of version 2, the context as it is stored."""
    return [
        {
            "schedule_id": row.schedule_id,
            "schedule_name": row.name,
            "workflow_name": row.workflow_name,
            "workflow_class_name": row.class_name,
            "schedule": row.cron,
            "status": row.status,
            "context": row.context,
            "serialization": row.serialization,
        }
        for row in read_schedules(gateway.database, wanted)
    ]


def _shown(codec: Codec, recorded: Mapping[str, Any]) -> WorkflowSchedule:
    """The schedule, its context decoded; what cannot be decoded shows as the stored text."""
    shown = dict(recorded)
    shown["context"] = codec.show(recorded["context"], shown.pop("serialization", None))
    return cast("WorkflowSchedule", shown)


def _refuse_in_workflow(client: Gateway | None, method: str) -> None:
    context, is_recorded = recording_run()
    if client is None and context.run is not None and is_recorded:
        raise DBOSException(f"DBOS.{method} cannot be called from a workflow. Call it from a step, or from outside.")


def _checked_name(name: object) -> str:
    check_texts("A schedule's name", [name])
    return str(name)


def _utc(time: object, what: str) -> datetime:
    """The time with its zone; without one it is local."""
    if not isinstance(time, datetime):
        raise TypeError(f"{what} must be a datetime, not {type(time).__name__}.")
    try:
        return time.astimezone() if time.tzinfo is None else time
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{what} is {time!r}, which is beyond the calendar of the local time zone.") from error
