"""The list of workflows: filters, pages, and what is done to several of them at once."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING, Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dbos.edges.console import filters
from dbos.edges.console.bulk import ACTIONS, MAX_SELECTED, Action, examine
from dbos.edges.console.forms import Form
from dbos.edges.console.rendering import url
from dbos.edges.guards import Refused
from dbos.storage.overview import read_page

if TYPE_CHECKING:
    from dbos.edges.console.app import Console

HOLD_HEADER = "console-hold"
"""With what a page that is looked at closely asks to begin with the row that it begins with, whatever is newer."""


def routes(console: Console) -> list[BaseRoute]:
    """The routes of this page."""
    pages = _Workflows(console)
    return [
        Route("/workflows", pages.show, methods=["GET"], name="workflows"),
        Route("/workflows/confirm", pages.confirm, methods=["POST"], name="confirm_workflows"),
        Route("/workflows/apply", pages.apply, methods=["POST"], name="apply_workflows"),
    ]


class _Workflows:
    def __init__(self, console: Console) -> None:
        self._console = console

    async def show(self, request: Request) -> Response:
        query = request.query_params
        values: dict[str, Any] = {
            "actions": ACTIONS,
            "filters": filters,
            "query": query,
            "with_place": filters.with_place,
        }
        try:
            wanted = filters.read_query(query)
        except (TypeError, ValueError) as error:
            return self._console.page(request, "workflows.html", status=400, page=None, mistake=str(error), **values)
        start = filters.read_place(request.headers.get(HOLD_HEADER)) or wanted.start
        page = await self._console.work(
            lambda gateway: read_page(
                gateway.database, wanted.workflows, size=wanted.size, text=wanted.text, start=start
            )
        )
        return self._console.page(request, "workflows.html", page=page, mistake=None, **values)

    async def confirm(self, request: Request) -> Response:
        form = await self._console.form(request)
        action, ids = _selected(form)
        rows = await self._console.work(lambda gateway: examine(gateway, ids))
        values: dict[str, Any] = {"action": action, "ids": ids, "rows": rows, "back": form.text("back") or ""}
        values["suited"] = {workflow_id for workflow_id, row in rows.items() if action.suits(row)}
        return self._console.page(request, "confirm.html", to_list=_list(request, form), **values)

    async def apply(self, request: Request) -> Response:
        form = await self._console.form(request)
        action, ids = _selected(form)
        with_children = form.text("with_children") == "1"
        outcome = await self._console.work(lambda gateway: action.apply(gateway, ids, with_children))
        is_error = bool(outcome.left or outcome.missing)
        return self._console.redirect(request, _list(request, form), outcome.told(action), is_error=is_error)


def _selected(form: Form) -> tuple[Action, list[str]]:
    """What is to be done, and with which workflows.

    Raises:
        Refused: That makes no sense.
    """
    action = ACTIONS.get(form.text("action") or "")
    if action is None:
        raise Refused(400, f"There is no such action. There are: {', '.join(ACTIONS)}.")
    ids = list(dict.fromkeys(form.all("id")))
    if not ids:
        raise Refused(400, "No workflow was selected. Go back, and tick the boxes of those that are meant.")
    if len(ids) > MAX_SELECTED:
        raise Refused(400, f"{len(ids)} workflows were selected, of at most {MAX_SELECTED}. Nothing was done.")
    return action, ids


def _list(request: Request, form: Form) -> str:
    """The list that the form came from."""
    query = urllib.parse.urlencode(QueryParams(form.text("back") or "").multi_items(), errors="replace")
    return url(request, "workflows") + (f"?{query}" if query else "")
