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
            "max_selected": MAX_SELECTED,
            "filters": filters,
            "query": query,
        }
        try:
            wanted = filters.read_query(query)
        except (TypeError, ValueError) as error:
            return await self._console.page(
                request, "workflows.html", status=400, page=None, mistake=str(error), **values
            )
        start = filters.read_place(request.headers.get(HOLD_HEADER)) or wanted.start
        page = await self._console.work(
            lambda gateway: read_page(
                gateway.database, wanted.workflows, size=wanted.size, text=wanted.text, start=start
            )
        )
        return await self._console.page(request, "workflows.html", page=page, mistake=None, **values)

    async def confirm(self, request: Request) -> Response:
        form = await self._console.form(request)
        action, ids, there_are_more = _action(form), _ids(form), False
        if form.text("all") == "1":
            ids, there_are_more = await self._matching(form)
        if not ids:
            raise Refused(400, "No workflow was selected. Go back, and tick the boxes of those that are meant.")
        rows = await self._console.work(lambda gateway: examine(gateway, ids))
        return await self._console.page(
            request,
            "confirm.html",
            action=action,
            ids=ids,
            rows=rows,
            suited={workflow_id for workflow_id, row in rows.items() if action.suits(row)},
            there_are_more=there_are_more,
            back=form.text("back") or "",
            to_list=_list(request, form),
        )

    async def apply(self, request: Request) -> Response:
        form = await self._console.form(request)
        action, ids = _action(form), _ids(form)
        with_children = form.text("with_children") == "1"
        outcome = await self._console.work(lambda gateway: action.apply(gateway, ids, with_children))
        is_error = bool(outcome.left or outcome.missing)
        return self._console.redirect(request, _list(request, form), outcome.told(action), is_error=is_error)

    async def _matching(self, form: Form) -> tuple[list[str], bool]:
        """The newest workflows of the list that the form came from, and whether there are more than may be selected."""
        try:
            wanted = filters.read_query(QueryParams(form.text("back") or ""))
        except (TypeError, ValueError) as error:
            raise Refused(400, str(error)) from None
        page = await self._console.work(
            lambda gateway: read_page(gateway.database, wanted.workflows, size=MAX_SELECTED, text=wanted.text)
        )
        return [row.workflow_id for row in page.rows], page.older is not None


def _action(form: Form) -> Action:
    """What is to be done.

    Raises:
        Refused: There is no such action.
    """
    action = ACTIONS.get(form.text("action") or "")
    if action is None:
        raise Refused(400, f"There is no such action. There are: {', '.join(ACTIONS)}.")
    return action


def _ids(form: Form) -> list[str]:
    """The selected workflows, each once.

    Raises:
        Refused: There are too many.
    """
    ids = list(dict.fromkeys(form.all("id")))
    if len(ids) > MAX_SELECTED:
        raise Refused(400, f"{len(ids)} workflows were selected, of at most {MAX_SELECTED}. Nothing was done.")
    return ids


def _list(request: Request, form: Form) -> str:
    """The list that the form came from."""
    query = urllib.parse.urlencode(QueryParams(form.text("back") or "").multi_items(), errors="replace")
    return url(request, "workflows") + (f"?{query}" if query else "")
