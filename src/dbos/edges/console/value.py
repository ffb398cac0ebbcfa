"""A stored value by itself, in full: as it is stored, or as JSON to be kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dbos.edges.console.asked import key_of, number_of, workflow_id_of
from dbos.edges.guards import Refused
from dbos.serialization.display import display
from dbos.storage.stored_values import Source, read_value

if TYPE_CHECKING:
    from dbos.edges.console.app import Console

MAX_CHARS = 64 * 1024 * 1024
"""How long a value may be that is read at once."""


def routes(console: Console) -> list[BaseRoute]:
    """The route of this page."""

    async def show(request: Request) -> Response:
        workflow_id, number = workflow_id_of(request), number_of(request, "number", 0, least=-(2**31))
        key, what = key_of(request, "key") or "", request.query_params.get("what", "")
        try:
            source = Source(what)
        except ValueError:
            known = ", ".join(one.value for one in Source)
            raise Refused(400, f"what must be one of {known}, and is {what[:40]!r}.") from None

        stored = await console.work(
            lambda gateway: read_value(
                gateway.database, source, workflow_id, key=key, number=number, max_chars=MAX_CHARS
            )
        )
        if stored is None:
            raise Refused(404, "There is no such value: it was deleted, received or replaced meanwhile, or never was.")
        if stored.text is None:
            raise Refused(413, f"The value has {stored.chars:,} characters, too many to be shown here. Read it by SQL.")
        text, format = stored.text, stored.format
        if request.query_params.get("as") != "json":
            content = text.encode("utf-8", "backslashreplace")
            return Response(content, headers=_headers(source, number, "txt", "inline"), media_type="text/plain")
        body = await console.work(lambda _: json.dumps(display(text, format), indent=2))
        return Response(body, headers=_headers(source, number, "json", "attachment"), media_type="application/json")

    return [Route("/workflow/value", show, methods=["GET"], name="value")]


def _headers(source: Source, number: int, ending: str, disposition: str) -> dict[str, str]:
    # Nothing of what somebody else has chosen is part of the name.
    name = f"{source.value}-{number}.{ending}" if number else f"{source.value}.{ending}"
    return {
        "Cache-Control": "no-store",
        "Content-Disposition": f'{disposition}; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
    }
