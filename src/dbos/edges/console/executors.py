"""Executors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

if TYPE_CHECKING:
    from dbos.edges.console.app import Console


def routes(console: Console) -> list[BaseRoute]:
    """The routes of this page."""

    async def show(request: Request) -> Response:
        return console.page(request, "executors.html")

    return [Route("/executors", show, methods=["GET"], name="executors")]
