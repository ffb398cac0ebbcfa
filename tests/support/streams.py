"""Streams: readers in threads of their own, and what is stored by plain SQL."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import Any, Literal

from dbos import DBOS
from tests.support.apps import PATIENCE_S
from tests.verify.rows import decode, query

CLOSED = "__DBOS_STREAM_CLOSED__"
"""The stored value that ends a closed stream."""


class Reader:
    """Reads a stream in a thread of its own, from the moment it is made; `is_async` by `read_stream_async`."""

    def __init__(self, workflow_id: str, key: str, *, is_async: bool = False) -> None:
        self._workflow_id, self._key = workflow_id, key
        self._items: queue.Queue[tuple[Literal["value", "end", "error"], Any]] = queue.Queue()
        threading.Thread(target=self._read, args=(is_async,), daemon=True).start()

    def next(self) -> Any:
        """Wait for the next value."""
        kind, item = self._take()
        assert kind == "value", f"the stream ended instead of giving a value: {item!r}"
        return item

    def rest(self) -> list[Any]:
        """Wait until the stream ends; the values until then. Raises what the reader raised."""
        values: list[Any] = []
        while True:
            kind, item = self._take()
            if kind == "error":
                raise item
            if kind == "end":
                return values
            values.append(item)

    def _take(self) -> tuple[str, Any]:
        try:
            return self._items.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError("the stream gave no value, and did not end") from None

    def _read(self, is_async: bool) -> None:
        try:
            if is_async:
                asyncio.run(self._read_async())
            else:
                for value in DBOS.read_stream(self._workflow_id, self._key):
                    self._items.put(("value", value))
        except BaseException as error:
            self._items.put(("error", error))
        else:
            self._items.put(("end", None))

    async def _read_async(self) -> None:
        async for value in DBOS.read_stream_async(self._workflow_id, self._key):
            self._items.put(("value", value))


def both_readers(workflow_id: str, key: str) -> tuple[Reader, Reader]:
    """A reader of each kind."""
    return Reader(workflow_id, key), Reader(workflow_id, key, is_async=True)


def read_all(workflow_id: str, key: str) -> list[Any]:
    """Read a stream to its end, in both ways, which must give the same."""
    values, values_async = (reader.rest() for reader in both_readers(workflow_id, key))
    assert values == values_async
    return values


async def collect(workflow_id: str, key: str) -> list[Any]:
    """Read a stream to its end in a coroutine."""
    return [value async for value in DBOS.read_stream_async(workflow_id, key)]


def stored(url: str, workflow_id: str, key: str) -> list[tuple[int, Any]]:
    """The offsets and values of a stream in the database."""
    rows = query(
        url,
        'SELECT "offset", value FROM {schema}streams '
        f"WHERE workflow_uuid = '{workflow_id}' AND key = '{key}' ORDER BY \"offset\"",
    )
    return [(offset, decode(value)) for offset, value in rows]
