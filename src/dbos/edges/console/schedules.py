"""Schedules: when they fire, when they have fired; pausing, resuming, triggering, backfilling."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dbos.edges.console.forms import Form
from dbos.edges.console.rendering import url
from dbos.edges.guards import Refused
from dbos.error import DBOSException, DBOSSerializationError
from dbos.model.limits import check_key
from dbos.model.schedules import ACTIVE, MAX_NAME_BYTES, PAUSED, ScheduleRow, run_id, to_datetime, to_ms
from dbos.runtime.cron import Cron
from dbos.runtime.gateway import Gateway
from dbos.runtime.scheduling import backfill_schedule, require_schedule, set_status, trigger_schedule
from dbos.serialization.plain import read_plain
from dbos.storage.database import Database
from dbos.storage.fires import read_decorated
from dbos.storage.reads import WorkflowFilter, WorkflowRow, read_now_ms, read_workflows
from dbos.storage.schedules import ScheduleFilter, read_schedules

if TYPE_CHECKING:
    from dbos.edges.console.app import Console

MAX_SCHEDULES = 100
"""How many schedules are shown: the first by name."""

NEXT_IN_LIST, NEXT_ALONE = 2, 10
"""How many fire times are told in advance."""


@dataclass(frozen=True, slots=True)
class ShownSchedule:
    """A schedule with the times at which it fires.

    Attributes:
        row: What is stored.
        next_ms: When it fires next; empty if it is paused.
        last_ms: Its last fire time, if it has fired since it was made or resumed.
        last: The workflow that was started then, if it was not deleted.
        mistake: Why it never fires, if its expression cannot be used.
    """

    row: ScheduleRow
    next_ms: Sequence[int]
    last_ms: int | None
    last: WorkflowRow | None
    mistake: str | None


@dataclass(frozen=True, slots=True)
class ShownDecorated:
    """A function whose decorator says when it runs.

    Attributes:
        name: The function.
        last_ms: Its last fire time, or when it was first launched.
        last: The workflow that was started then.
    """

    name: str
    last_ms: int
    last: WorkflowRow | None


def shown_schedules(prefix: str | None, gateway: Gateway) -> tuple[list[ShownSchedule], int, list[ShownDecorated]]:
    """The schedules whose names begin with the prefix, how many more there are, and the decorated functions."""
    database = gateway.database
    rows = read_schedules(database, ScheduleFilter(name_prefixes=None if prefix is None else [prefix]))
    decorated = [(name, ms) for name, ms in read_decorated(database).items() if name.startswith(prefix or "")]
    shown, few = rows[:MAX_SCHEDULES], decorated[:MAX_SCHEDULES]
    marks = [(row.name, row.fired_until_ms) for row in shown if row.fired_until_ms is not None]
    started = _started(database, [*marks, *few])
    now_ms = read_now_ms(database)
    return (
        [_shown(row, now_ms, started, NEXT_IN_LIST) for row in shown],
        len(rows) - len(shown),
        [ShownDecorated(name, ms, started.get(_run(name, ms))) for name, ms in few],
    )


def shown_schedule(name: str, gateway: Gateway) -> ShownSchedule:
    """One schedule.

    Raises:
        Refused: There is none of this name.
    """
    row = _find(gateway.database, name)
    started = _started(gateway.database, [] if row.fired_until_ms is None else [(row.name, row.fired_until_ms)])
    return _shown(row, read_now_ms(gateway.database), started, NEXT_ALONE)


def _find(database: Database, name: str) -> ScheduleRow:
    try:
        check_key(name, "A schedule's name", MAX_NAME_BYTES)
        return require_schedule(database, name)
    except (DBOSException, ValueError):
        raise Refused(404, f"There is no schedule {name[:100]!r}.") from None


def _run(name: str, at_ms: int) -> str:
    return run_id(name, to_datetime(at_ms))


def _started(database: Database, marks: Sequence[tuple[str, int]]) -> dict[str, WorkflowRow]:
    """The workflows that were started at the fire times up to which schedules are settled, by id."""
    ids = [_run(name, at_ms) for name, at_ms in marks]
    if not ids:
        return {}
    wanted = WorkflowFilter(workflow_ids=ids, load_input=False, load_output=False)
    return {row.workflow_id: row for row in read_workflows(database, wanted)}


def _shown(row: ScheduleRow, now_ms: int, started: dict[str, WorkflowRow], count: int) -> ShownSchedule:
    times: list[datetime] = []
    mistake: str | None = None
    has_fired = False
    try:
        cron = Cron(row.cron)
        settled_ms = row.fired_until_ms
        has_fired = settled_ms is not None and cron.next_after_ms(settled_ms - 1) == settled_ms
        if row.status == ACTIVE:
            times = list(itertools.islice(cron.times_after(to_datetime(now_ms)), count))
    except DBOSException as error:
        mistake = str(error.message)
    last_ms = row.fired_until_ms if has_fired else None
    last = None if last_ms is None else started.get(_run(row.name, last_ms))
    return ShownSchedule(row, [to_ms(at) for at in times], last_ms, last, mistake)


def routes(console: Console) -> list[BaseRoute]:
    """The routes of these pages."""
    pages = _Schedules(console)
    return [
        Route("/schedules", pages.list, methods=["GET"], name="schedules"),
        Route("/schedule", pages.show, methods=["GET"], name="schedule"),
        Route("/schedule/pause", pages.pause, methods=["POST"], name="pause_schedule"),
        Route("/schedule/resume", pages.resume, methods=["POST"], name="resume_schedule"),
        Route("/schedule/trigger", pages.trigger, methods=["POST"], name="trigger_schedule"),
        Route("/schedule/backfill", pages.backfill, methods=["POST"], name="backfill_schedule"),
    ]


class _Schedules:
    def __init__(self, console: Console) -> None:
        self._console = console

    # -- pages

    async def list(self, request: Request) -> Response:
        prefix = request.query_params.get("begins_with") or None
        if prefix is not None and not _is_storable(prefix):
            raise Refused(400, "No schedule has such a name.")
        schedules, left_out, decorated = await self._console.work(partial(shown_schedules, prefix))
        return await self._console.page(
            request,
            "schedules.html",
            schedules=schedules,
            left_out=left_out,
            decorated=decorated,
            prefix=prefix or "",
        )

    async def show(self, request: Request) -> Response:
        schedule = await self._console.work(partial(shown_schedule, request.query_params.get("name", "")))
        return await self._console.page(request, "schedule.html", schedule=schedule)

    # -- forms

    async def pause(self, request: Request) -> Response:
        return await self._set_status(request, PAUSED, "is paused: it fires no more.")

    async def resume(self, request: Request) -> Response:
        return await self._set_status(request, ACTIVE, "is active: it fires from now on.")

    async def trigger(self, request: Request) -> Response:
        form = await self._console.form(request)
        name = _name(form)

        def work(gateway: Gateway) -> str:
            return f"Started now: {trigger_schedule(gateway, name, read_plain)}"

        return await self._do(request, form, work)

    async def backfill(self, request: Request) -> Response:
        form = await self._console.form(request)
        name, start, end = _name(form), _moment(form, "start"), _moment(form, "end")
        if start >= end:
            raise Refused(400, "The first time must lie before the last one. Nothing was backfilled.")

        def work(gateway: Gateway) -> str:
            ids = backfill_schedule(gateway, name, start, end, read_plain)
            if not ids:
                return f"Schedule {name!r} does not fire between these times; nothing was started."
            return (
                f"Backfilled: {len(ids)} fire times from {ids[0]} to {ids[-1]}. Those that ran before do not run again."
            )

        return await self._do(request, form, work)

    async def _set_status(self, request: Request, status: str, text: str) -> Response:
        form = await self._console.form(request)
        name = _name(form)

        def work(gateway: Gateway) -> str:
            set_status(gateway, name, status)
            return f"Schedule {name!r} {text}"

        return await self._do(request, form, work)

    async def _do(self, request: Request, form: Form, work: Callable[[Gateway], str]) -> Response:
        """Do what a form asks for, and show the page that it came from, which says what was done."""
        name = _name(form)

        def do(gateway: Gateway) -> tuple[str, bool]:
            _find(gateway.database, name)
            try:
                return work(gateway), False
            except DBOSSerializationError as error:
                return (
                    f"Nothing was started. The context of schedule {name!r} is not plain data, and the console "
                    f"unpickles nothing: use DBOS.trigger_schedule or DBOS.backfill_schedule in the application. "
                    f"({error.message})",
                    True,
                )
            except DBOSException as error:
                return str(error.message), True

        text, is_error = await self._console.work(do)
        to = url(request, "schedules") if form.text("back") == "list" else url(request, "schedule", name=name)
        return self._console.redirect(request, to, text, is_error=is_error)


def _name(form: Form) -> str:
    return next(iter(form.all("name")), "")


def _is_storable(text: str) -> bool:
    try:
        check_key(text, "A schedule's name", MAX_NAME_BYTES)
    except ValueError:
        return False
    return True


def _moment(form: Form, field: str) -> datetime:
    """A moment as browsers send it, or with its zone; without one it is UTC.

    Raises:
        Refused: It is none.
    """
    text = form.text(field) or ""
    try:
        at = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        return at.replace(tzinfo=timezone.utc) if at.tzinfo is None else at.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise Refused(
            400, f"{text[:50]!r} is no time such as 2026-01-31T13:00. Nothing was backfilled. Go back, and give one."
        ) from None
