"""Workflows that talk: tests of blocking and awaited calls in one text, and looks at the tables by plain SQL."""

from __future__ import annotations

import asyncio
import base64
import math
import pickle
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from typing import Any, ParamSpec, TypeVar

import pytest
from sqlalchemy import NullPool, create_engine, text

from dbos import DBOS, SetWorkflowID, StepOptions, WorkflowHandle
from dbos.storage.gate import Gate
from tests.support.apps import App, Roadblock, eventually, steps_of
from tests.support.clock import ManualClock

P = ParamSpec("P")
T = TypeVar("T")

HOUR = 3600.0
AGES = 100 * 365 * 24 * HOUR
"""The longest timeout."""


@DBOS.workflow(name="messaging.idle")
def idle() -> None:
    """Receives nothing."""


@DBOS.workflow(name="messaging.collect")
def collect(number: int, topic: str | None = None) -> list[Any]:
    """Receives so many messages."""
    return [DBOS.recv(topic) for _ in range(number)]


@DBOS.workflow(name="messaging.publish")
def publish(**events: Any) -> None:
    """Sets these events."""
    for key, value in events.items():
        DBOS.set_event(key, value)


def publish_as(workflow_id: str, **events: Any) -> None:
    """Set these events in a workflow of this id, and wait for its end."""
    with SetWorkflowID(workflow_id):
        publish(**events)


class Talk(ABC):
    """The library's calls as coroutines, whichever way they are made.

    Tests are written once, as coroutines: `Awaited` awaits the `_async` methods on a loop; `Blocking` calls the plain
    ones, in a thread without a loop, where such a coroutine never waits and so runs to its end at once.
    """

    name: str

    def __repr__(self) -> str:
        return self.name

    @abstractmethod
    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it here, outside of workflows."""

    @abstractmethod
    def workflow(self, body: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Any]:
        """Make the coroutine function a workflow."""

    @abstractmethod
    async def step(self, body: Callable[[], Coroutine[Any, Any, T]], name: str = "step", attempts: int = 1) -> T:
        """Call the coroutine function as a step that may be tried so often."""

    @abstractmethod
    async def pause(self, roadblock: Roadblock) -> None:
        """Stand at the roadblock, in a step."""

    @abstractmethod
    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call the method of `DBOS`, or its twin."""

    async def start_child(self, workflow: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> str:
        """Start the workflow from a workflow; its id."""
        handle: WorkflowHandle[Any] = await self.call("start_workflow", workflow, *args, **kwargs)
        return handle.workflow_id

    async def send(self, *args: Any, **kwargs: Any) -> None:
        await self.call("send", *args, **kwargs)

    async def recv(self, *args: Any, **kwargs: Any) -> Any:
        return await self.call("recv", *args, **kwargs)

    async def set_event(self, *args: Any, **kwargs: Any) -> None:
        await self.call("set_event", *args, **kwargs)

    async def get_event(self, *args: Any, **kwargs: Any) -> Any:
        return await self.call("get_event", *args, **kwargs)

    async def get_all_events(self, *args: Any, **kwargs: Any) -> Any:
        return await self.call("get_all_events", *args, **kwargs)


def _options(name: str, attempts: int) -> StepOptions:
    return {"name": name, "retries_allowed": attempts > 1, "max_attempts": attempts, "interval_seconds": 0}


class Blocking(Talk):
    """Blocking calls, from threads."""

    name = "blocking"

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            coroutine.send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        coroutine.close()
        raise AssertionError("it awaited something that is no blocking call")

    def workflow(self, body: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Any]:
        def plain(*args: P.args, **kwargs: P.kwargs) -> T:
            return self.run(body(*args, **kwargs))

        return DBOS.workflow(name=f"{body.__qualname__}.{self.name}")(plain)

    async def step(self, body: Callable[[], Coroutine[Any, Any, T]], name: str = "step", attempts: int = 1) -> T:
        return DBOS.run_step(_options(name, attempts), lambda: self.run(body()))

    async def pause(self, roadblock: Roadblock) -> None:
        DBOS.run_step({"name": "pause"}, roadblock.stop)

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(DBOS, method)(*args, **kwargs)


class Awaited(Talk):
    """Awaited calls, on event loops."""

    name = "awaited"

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(coroutine)

    def workflow(self, body: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Any]:
        return DBOS.workflow(name=f"{body.__qualname__}.{self.name}")(body)

    async def step(self, body: Callable[[], Coroutine[Any, Any, T]], name: str = "step", attempts: int = 1) -> T:
        return await DBOS.run_step_async(_options(name, attempts), body)

    async def pause(self, roadblock: Roadblock) -> None:
        await DBOS.run_step_async({"name": "pause"}, roadblock.stop_async)

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return await getattr(DBOS, f"{method}_async")(*args, **kwargs)


both_ways = pytest.mark.parametrize("talk", [Blocking(), Awaited()], ids=repr)
"""The test runs once with blocking and once with awaited calls."""


def start(workflow_id: str, workflow: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
    """Start the workflow under this id, in the background."""
    with SetWorkflowID(workflow_id):
        DBOS.start_workflow(workflow, *args, **kwargs)


def query(app: App, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run a statement on the application's database, as its users do; `{schema}` stands for the tables' schema."""
    is_postgres = app.url.startswith("postgres")
    engine = create_engine(app.url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)
    with engine.begin() as connection:
        result = connection.execute(text(statement.replace("{schema}", "dbos." if is_postgres else "")), parameters)
        return [tuple(row) for row in result] if result.returns_rows else []


def messages_to(app: App, workflow_id: str) -> int:
    """How many messages lie in the table that the workflow has not received."""
    statement = "SELECT count(*) FROM {schema}notifications WHERE destination_uuid = :id"
    ((count,),) = query(app, statement, id=workflow_id)
    return int(count)


def recorded_waits(app: App) -> int:
    """How many waits were recorded, by all workflows."""
    ((count,),) = query(app, "SELECT count(*) FROM {schema}operation_outputs WHERE function_name = 'DBOS.sleep'")
    return int(count)


def wait_for_step(workflow_id: str, function_id: int, name: str) -> None:
    """Wait until the workflow has recorded this step. The `DBOS.sleep` of a recv or get_event tells that it waits."""
    eventually(lambda: (function_id, name) in steps_of(workflow_id), f"{workflow_id} recorded {function_id} {name}")


def pickled(value: Any) -> str:
    """The value as the older library stores it."""
    return base64.b64encode(pickle.dumps(value)).decode()


def shift_deadline(app: App, workflow_id: str, function_id: int, seconds: float) -> None:
    """Move the recorded deadline of a workflow's wait by SQL, while nobody runs the workflow."""
    wait = "WHERE workflow_uuid = :id AND function_id = :fid AND function_name = 'DBOS.sleep'"
    ids: dict[str, Any] = {"id": workflow_id, "fid": function_id}
    ((stored,),) = query(app, f"SELECT output FROM {{schema}}operation_outputs {wait}", **ids)
    moved = pickled(pickle.loads(base64.b64decode(stored)) + seconds)
    query(app, f"UPDATE {{schema}}operation_outputs SET output = :moved {wait}", moved=moved, **ids)


def relaunch_with(app: App, *, gate: Gate | None = None, polls: bool = True, **changes: Any) -> None:
    """Launch again with a gate, or in a world where nobody can find anything by polling.

    Without polls the time stands still that tells when to look again, and hints of other processes are dropped.
    """
    DBOS.destroy()
    DBOS(config=app.config(**changes))
    application: Any = DBOS._application  # pyright: ignore[reportPrivateUsage]
    application.gate = gate
    if not polls:
        application.clock = ManualClock(int(time.time() * 1000))
        application.drops_hints = True
    DBOS.launch()


Calls = Sequence[Callable[[], Coroutine[Any, Any, Any]]]

WRONG_NAMES: list[tuple[str, Any]] = [
    ("TypeError", 1),
    ("TypeError", b"t"),
    ("ValueError", "nul\x00"),
    ("ValueError", "surrogate\ud800"),
    ("ValueError", "long" * 1000),
]
"""What is no topic and no key, and how it is refused."""

WRONG_TIMEOUTS: list[tuple[str, Any]] = [
    *(("ValueError", seconds) for seconds in (-1, -0.001, -math.inf, math.inf, math.nan, AGES + 1, 10**400)),
    *(("TypeError", seconds) for seconds in ("1", None)),
]
"""What is no timeout, and how it is refused."""


async def refusals_of(calls: Calls, word: str) -> list[str]:
    """The kinds of errors with which the arguments are refused; the text of the error must have the word in it."""
    kinds = list[str]()
    for call in calls:
        try:
            await call()
        except (ValueError, TypeError) as refusal:
            kinds.append(type(refusal).__name__ if word in str(refusal) else f"unclear: {refusal!r}")
        else:
            kinds.append("not refused")
    return kinds


def refusal_of(call: Callable[[], Any]) -> str:
    """With which text the call is refused as it would block a running event loop."""
    try:
        call()
    except RuntimeError as refusal:
        return str(refusal)
    return "not refused"


class Topic(str, Enum):
    """Topics and keys are often members of such a class."""

    PAYMENT = "payment"
