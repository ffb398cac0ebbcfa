"""Serves an application's HTTP on an open socket, until another one tells to stop.

Uvicorn's protocol, without its server: that installs handlers of signals, sets up loggers that the application's own
uvicorn uses too, and takes its time to stop.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

_logger = logging.getLogger("dbos.admin")

MAX_CONNECTIONS = 100

REQUEST_TIMEOUT_S = 10.0
"""How long a connection may take until its first request has begun."""

STALL_S = 60.0
"""How long one may stay after that while no request begins and nothing of an answer is taken; longer than the guards
give a request and its answer."""

_KEEP_ALIVE_S = 5
_MAX_HEADER_BYTES = 16 * 1024


class _Protocol(H11Protocol):
    """Uvicorn's protocol, with a logger of our own, and limits on the time that a connection is held for nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = _logger
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._next_look = self.loop.call_later(REQUEST_TIMEOUT_S, self._hang_up_if_stalled, (None, 0))

    def connection_lost(self, exc: Exception | None) -> None:
        self._next_look.cancel()
        super().connection_lost(exc)

    def _hang_up_if_stalled(self, before: tuple[object, int]) -> None:
        # The latest request (none before the first one), and how much of answers waits to be taken.
        now = (self.cycle, self.transport.get_write_buffer_size())
        if now == before:
            self.transport.abort()
        else:
            self._next_look = self.loop.call_later(STALL_S, self._hang_up_if_stalled, now)


def serve(app: ASGIApp, listener: socket.socket, stops: socket.socket) -> None:
    """Serve until the socket ``stops`` becomes readable; then break off what is under way."""
    asyncio.run(_serve(app, listener, stops))


async def _serve(app: ASGIApp, listener: socket.socket, stops: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    config = Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
    )
    config.load()
    state = ServerState()
    server = await loop.create_server(lambda: _Protocol(config, state, {}, loop), sock=listener)
    stops.setblocking(False)
    try:
        await loop.sock_recv(stops, 1)
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
