"""What tests do with an executor behind its back: rows left behind, threads that run out, results in time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from unittest.mock import patch

from dbos.runtime.executor import Executor
from dbos.storage.gate import Moment
from tests.support.gates import CountingGate
from tests.support.storage import change, commit_start, start

T = TypeVar("T")

PATIENCE_S = 15.0
"""How long something may take that must not take for ever."""


def in_time(function: Callable[[], T]) -> T:
    """Call the function in a thread of its own; its result, which must come in time."""
    results: list[T] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), f"it took longer than {PATIENCE_S:g} s"
    if errors:
        raise errors[0]
    return results[0]


def leave_behind(executor: Executor, workflow_id: str, name: str, token: str | None = None) -> None:
    """A pending workflow in the database that nobody runs; with a token, this executor has claimed it."""
    inputs = executor.codec.encode({"args": (), "kwargs": {}}, lambda: "the arguments")
    commit_start(
        executor.database,
        start(
            workflow_id,
            token,
            name=name,
            inputs=inputs.text,
            serialization=inputs.format,
            lease_id=None if token is None else executor.lease_id,
            application_version=executor.application_version,
        ),
    )


def bury(executor: Executor) -> None:
    """Another executor takes this one for dead."""
    statement = "UPDATE {schema}executors SET state = 'DEAD' WHERE lease_id = :lease"
    assert change(executor.database, statement, lease=executor.lease_id) == 1


@contextmanager
def no_new_threads(executor: Executor) -> Iterator[None]:
    """Meanwhile no thread can be started, and no idle one is left."""
    go = threading.Event()

    def keep_busy() -> None:
        go.wait(PATIENCE_S)

    for _ in range(5):
        executor.threads.submit(keep_busy)

    def start_none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    try:
        with patch.object(threading.Thread, "start", start_none):
            yield
    finally:
        go.set()


class LosingGate(CountingGate):
    """Raises when asked to, at the next transaction of the operation that comes to the moment."""

    def __init__(self) -> None:
        super().__init__()
        self._next: tuple[str, Moment, BaseException] | None = None

    def lose(self, operation: str, moment: Moment, error: BaseException) -> None:
        """Raise once."""
        self._next = (operation, moment, error)

    def __call__(self, operation: str, moment: Moment) -> None:
        super().__call__(operation, moment)
        if self._next is not None and self._next[:2] == (operation, moment):
            error, self._next = self._next[2], None
            raise error

    @property
    def is_lost(self) -> bool:
        """Whether it has raised."""
        return self._next is None
