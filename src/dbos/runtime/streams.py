"""Streams: values that a workflow appends one after the other, for anyone to read from the first on, also live."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any

from dbos.error import DBOSNonExistentWorkflowError
from dbos.model.limits import STREAM_CLOSED
from dbos.model.values import StepEffect, StreamEntry
from dbos.runtime.drivers import Core, Ending, Raised, Returned, Wait, drive, drive_async
from dbos.runtime.gateway import Gateway
from dbos.runtime.looking import look
from dbos.runtime.publishing import publish, publish_from_step
from dbos.runtime.run import Run
from dbos.storage.waiting import MAX_ENTRIES, StreamPart, StreamQuery, Value

WRITE_STREAM = "DBOS.writeStream"
CLOSE_STREAM = "DBOS.closeStream"

FIRST_ENTRIES = 20
"""How many entries the first look at a stream returns at most, before it is known how long they are."""
_MAX_CHARS = 16 * 1024 * 1024
"""How much of a stream one look shall return."""


def write_stream(run: Run, function_id: int, key: str, value: Any) -> Core[Ending[None]]:
    """Append a value to a stream, from a workflow."""
    return publish(run, function_id, WRITE_STREAM, lambda: _entry(run, key, value))


def write_stream_in_step(run: Run, step_id: int, key: str, value: Any) -> Core[Ending[None]]:
    """Append a value to a stream, from a step, whether the step succeeds or not."""
    return publish_from_step(run, StepEffect(step_id, _entry(run, key, value)))


def close_stream(run: Run, function_id: int, key: str) -> Core[Ending[None]]:
    """End a stream: readers read no further."""
    return publish(run, function_id, CLOSE_STREAM, lambda: _entry(run, key, STREAM_CLOSED))


def _entry(run: Run, key: str, value: Any) -> StreamEntry:
    encoded = run.executor.codec.encode(value, lambda: f"A value of the stream {key!r} of workflow {run.workflow_id!r}")
    return StreamEntry(key, encoded.text, encoded.format)


def read_stream(gateway: Gateway, query: StreamQuery, run: Run | None = None) -> Generator[Any, None, None]:
    """The values of a stream from the query's offset on, until it is closed or its workflow has ended.

    ``run`` is the workflow that reads it, if one does.
    """
    reader = _Reader(gateway, query, run)
    while not reader.is_over:
        yield from drive(reader.next_values())


async def read_stream_async(gateway: Gateway, query: StreamQuery, run: Run | None = None) -> AsyncGenerator[Any, None]:
    """As ``read_stream``; waiting holds no thread."""
    reader = _Reader(gateway, query, run)
    while not reader.is_over:
        for value in await drive_async(reader.next_values()):
            yield value


def _next_count(entries: Sequence[Value]) -> int:
    """How many entries to read next: as many as fit, if they are like the last ones."""
    chars = sum(len(entry.text) for entry in entries) // max(1, len(entries))
    return max(1, min(MAX_ENTRIES, _MAX_CHARS // max(1, chars)))


class _Reader:
    """Where one reader is in a stream."""

    def __init__(self, gateway: Gateway, query: StreamQuery, run: Run | None) -> None:
        self._gateway = gateway
        self._query = query
        self._run = run
        self.is_over = False

    def next_values(self) -> Core[Ending[list[Any]]]:
        """The next values, once there are some; none if the stream is over."""
        query = self._query
        if self._run is not None:
            # It may be the stream of the workflow itself, or of a child that it has just started.
            yield from self._run.barrier()
        with self._gateway.waits.watching(query, looks_now=False) as arrival:
            part: StreamPart | None = yield from look(self._gateway, query)
            if part is None:
                if self._run is None:
                    yield Wait((arrival,))
                else:
                    yield from self._run.wait(arrival)
                part = arrival.result()
        assert part is not None
        if not part.exists:
            return Raised(DBOSNonExistentWorkflowError(query.workflow_id))
        self.is_over = not part.entries
        values: list[Any] = []
        for entry in part.entries:
            value = self._gateway.codec.decode(entry.text, entry.serialization)
            if isinstance(value, str) and value == STREAM_CLOSED:
                self.is_over = True
                break
            values.append(value)
        offset, count = query.offset + len(part.entries), _next_count(part.entries)
        self._query = StreamQuery(query.workflow_id, query.key, offset, count)
        return Returned(values)
