"""The page of a workflow: what it is, what it did when, what it does now, and what belongs to it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dbos.edges.console import steering, value
from dbos.edges.console.asked import key_of, number_of, workflow_id_of
from dbos.edges.console.shown import MAX_STORED_CHARS, shown
from dbos.edges.console.timeline import brief
from dbos.edges.console.workflow_view import EVENTS_PER_PAGE, MESSAGES_COUNTED, find, page_of, read_events, read_view
from dbos.model.limits import NO_TOPIC, STREAM_CLOSED
from dbos.model.status import LIVE
from dbos.runtime.gateway import Gateway
from dbos.storage.published import EntryRow, EventRow, read_entries, read_last_offset

if TYPE_CHECKING:
    from dbos.edges.console.app import Console

ENTRIES_PER_PAGE = 100


def routes(console: Console) -> list[BaseRoute]:
    """The routes of this page, of what it links to, and of its forms."""

    async def show(request: Request) -> Response:
        workflow_id, at = workflow_id_of(request), number_of(request, "at", 0)
        page = page_of(at) if at else number_of(request, "page", 1, least=1)
        view = await console.work(lambda gateway: read_view(gateway.database, workflow_id, page))
        step = number_of(request, "step", 0)
        return await console.page(
            request,
            "workflow.html",
            view=view,
            at=at,
            step=step,
            shown=cache(shown),
            brief=brief,
            no_topic=NO_TOPIC,
            events_per_page=EVENTS_PER_PAGE,
            messages_counted=MESSAGES_COUNTED,
        )

    async def show_events(request: Request) -> Response:
        workflow_id, after = workflow_id_of(request), key_of(request, "after")

        def read(gateway: Gateway) -> list[EventRow]:
            find(gateway.database, workflow_id)
            return read_events(gateway.database, workflow_id, after)

        events = await console.work(read)
        return await console.page(
            request, "events.html", workflow_id=workflow_id, events=events, per_page=EVENTS_PER_PAGE, shown=cache(shown)
        )

    async def show_stream(request: Request) -> Response:
        workflow_id, key = workflow_id_of(request), key_of(request, "key") or ""
        wanted = number_of(request, "page", 1, least=1)

        def read(gateway: Gateway) -> tuple[str, int, int, list[EntryRow]]:
            row = find(gateway.database, workflow_id)
            last = read_last_offset(gateway.database, workflow_id, key)
            count = 1 if last is None else last // ENTRIES_PER_PAGE + 1
            page = min(wanted, count)
            first = (page - 1) * ENTRIES_PER_PAGE
            until = first + ENTRIES_PER_PAGE - 1
            entries = read_entries(gateway.database, workflow_id, key, first, until, max_chars=MAX_STORED_CHARS)
            return row.status, page, count, entries

        status, page, count, entries = await console.work(read)
        return await console.page(
            request,
            "stream.html",
            workflow_id=workflow_id,
            key=key,
            page=page,
            count=count,
            entries=entries,
            closed=STREAM_CLOSED,
            is_live=status in LIVE,
            shown=cache(shown),
        )

    return [
        Route("/workflow/events", show_events, methods=["GET"], name="events"),
        Route("/workflow/stream", show_stream, methods=["GET"], name="stream"),
        *value.routes(console),
        *steering.routes(console),
        Route("/workflow", show, methods=["GET"], name="workflow"),
    ]
