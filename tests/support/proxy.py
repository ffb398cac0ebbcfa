"""A network between the library and a PostgreSQL server that a test makes bad: it cuts, delays, and swallows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from sqlalchemy import make_url

T = TypeVar("T")

_CHUNK = 65536


class Proxy:
    """Passes TCP connections on to the server at a URL, in a thread of its own.

    Attributes:
        url: The same database, through the proxy.
        port: Where it listens, at 127.0.0.1.
        cuts: How many connections it has cut.
        swallowed: How many pieces of data have reached it while it swallowed.
    """

    def __init__(self, url: str) -> None:
        self._target = _address(url)
        self._delay_s = 0.0
        self._links: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self.cuts = self.swallowed = 0
        self._loop = asyncio.new_event_loop()
        self._passing = asyncio.Event()
        self._passing.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._link, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        parsed = make_url(url)
        self.url = parsed.set(
            host="127.0.0.1", port=self.port, query={k: v for k, v in parsed.query.items() if k not in ("host", "port")}
        ).render_as_string(hide_password=False)

    def delay(self, seconds: float) -> None:
        """Hold up each piece of data for so long, in both directions."""
        self._delay_s = seconds

    def swallow(self) -> None:
        """Pass nothing on any more, and cut nothing: what is sent waits in the void, new connections too."""
        self._loop.call_soon_threadsafe(self._passing.clear)

    def go_on(self) -> None:
        """Pass on again, also what has been waiting."""
        self._loop.call_soon_threadsafe(self._passing.set)

    def cut(self) -> int:
        """Cut all connections, in the middle of whatever they carry; how many there were."""

        async def cut() -> int:
            links, self._links = self._links, set()
            for ends in links:
                for end in ends:
                    end.transport.abort()
            self.cuts += len(links)
            return len(links)

        return self._run(cut())

    def close(self) -> None:
        """Cut everything and end."""
        self._loop.call_soon_threadsafe(self._server.close)
        self.cut()
        self.go_on()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self._target, str):
                server_reader, server_writer = await asyncio.open_unix_connection(self._target)
            else:
                server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = writer, server_writer
        self._links.add(ends)
        await asyncio.gather(self._pump(reader, server_writer), self._pump(server_reader, writer))
        self._links.discard(ends)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                self.swallowed += not self._passing.is_set()
                await self._passing.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                sink.write(data)
                await sink.drain()
        sink.close()


def _address(url: str) -> str | tuple[str, int]:
    """The server's Unix socket, or its host and port."""
    with psycopg.connect(
        make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    ) as connection:
        host, port = connection.info.host, connection.info.port
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
