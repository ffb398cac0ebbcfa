"""Overview."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dbos.storage.reads import read_now_ms

if TYPE_CHECKING:
    from dbos.edges.console.app import Console


def routes(console: Console) -> list[BaseRoute]:
    """The routes of this page."""

    async def show(request: Request) -> Response:
        await console.work(lambda gateway: read_now_ms(gateway.database))
        return console.page(request, "overview.html")

    return [Route("/", show, methods=["GET"], name="overview")]
