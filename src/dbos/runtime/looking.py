"""Looks for what may have arrived: in this thread, or, from an event loop, together with all other looks."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any

from dbos.error import DBOSSerializationError
from dbos.runtime.drivers import Command, Ending, Raised, Returned
from dbos.runtime.gateway import Gateway
from dbos.runtime.waits import Waits
from dbos.storage.waiting import Query, Value


class Look:
    """Ask for something once; the reply is ``None`` if it is not there."""

    __slots__ = ("query", "waits")

    def __init__(self, waits: Waits, query: Query) -> None:
        self.waits = waits
        self.query = query

    def block(self) -> Any:
        return self.waits.look_here(self.query)

    def wait(self) -> Awaitable[Any]:
        return self.waits.look(self.query).wait()


def look(gateway: Gateway, query: Query) -> Generator[Command, Any, Any]:
    """What the query asks for, ``None`` if it is not there."""
    return (yield Look(gateway.waits, query))


def decoded(gateway: Gateway, value: Value | None) -> Ending[Any]:
    """What arrived, for who waited for it; ``None`` if nothing did."""
    if value is None:
        return Returned(None)
    try:
        return Returned(gateway.codec.decode(value.text, value.serialization))
    except DBOSSerializationError as error:
        return Raised(error)
