"""Workflows that do what a test tells them, call by call, so that a test puts them into any situation it needs."""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dbos import DBOS, SetWorkflowID, WorkflowHandle
from dbos.runtime.run import RunOutdated
from tests.support.apps import PATIENCE_S


@dataclass(slots=True)
class Told:
    """One call that a puppet was told to make.

    A puppet that is replayed makes its calls again: each run adds how the call ended.
    """

    method: str | Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    endings: queue.SimpleQueue[tuple[Any, BaseException | None]] = field(
        default_factory=queue.SimpleQueue[tuple[Any, BaseException | None]]
    )

    def result(self) -> Any:
        """Wait for the end of the call in the next run that makes it; return or raise what it did."""
        value, error = self.endings.get(timeout=PATIENCE_S)
        if error is not None:
            raise error
        return value

    def ended(self) -> BaseException | None:
        """Wait for the end of the call in the next run that makes it; what it raised."""
        return self.endings.get(timeout=PATIENCE_S)[1]

    def is_done(self) -> bool:
        """Whether the call has ended in a run whose end was not asked for yet."""
        return not self.endings.empty()


class Puppet:
    """A running workflow on strings.

    Its library calls are made in the workflow; a coroutine workflow makes the `_async` ones. The test must end it,
    by `end_all` at the latest.
    """

    _all: ClassVar[dict[str, Puppet]] = {}

    def __init__(self, workflow_id: str, *, is_async: bool = False, starts: bool = True) -> None:
        self.workflow_id = workflow_id
        self.is_async = is_async
        self._changed = threading.Condition()
        self._calls: list[Told] = []
        self._ending: tuple[Any, BaseException | None] | None = None
        Puppet._all[workflow_id] = self
        if starts:
            self.handle = self.start()

    def start(self) -> WorkflowHandle[Any]:
        """Start the workflow."""
        with SetWorkflowID(self.workflow_id):
            function: Callable[..., Any] = _async_puppet if self.is_async else _puppet
            return DBOS.start_workflow(function, self.workflow_id)

    def tell(self, method: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Told:
        """Let the workflow call a method of `DBOS`, or a function; a stream is read to its end."""
        told = Told(method, args, kwargs)
        with self._changed:
            self._calls.append(told)
            self._changed.notify_all()
        return told

    def do(self, method: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Let the workflow make a call; return or raise what it did."""
        return self.tell(method, *args, **kwargs).result()

    def end(self, result: Any = None) -> None:
        """Let the workflow return the result, after the calls it was told to make."""
        self._end((result, None))

    def fail(self, error: BaseException) -> None:
        """Let the workflow raise the error, after the calls it was told to make."""
        self._end((None, error))

    @classmethod
    def end_all(cls) -> None:
        """Let every puppet return, so that none keeps a thread."""
        while cls._all:
            _, puppet = cls._all.popitem()
            puppet.end()

    @classmethod
    def named(cls, name: str) -> Puppet:
        """The puppet of this name."""
        return cls._all[name]

    def _end(self, ending: tuple[Any, BaseException | None]) -> None:
        with self._changed:
            self._ending = self._ending or ending
            self._changed.notify_all()

    def await_call(self, number: int) -> Told | None:
        """Wait for the call of this number, from 0; `None` if the workflow shall end instead."""
        with self._changed:
            self._changed.wait_for(lambda: number < len(self._calls) or self._ending is not None)
            return self.next_call(number)

    def is_told(self, number: int) -> bool:
        """Whether there is a call of this number, or the workflow shall end instead."""
        return number < len(self._calls) or self._ending is not None

    def next_call(self, number: int) -> Told | None:
        """The call of this number; `None` if the workflow shall end instead."""
        return self._calls[number] if number < len(self._calls) else None

    def ending(self) -> Any:
        """Return or raise what the workflow shall."""
        assert self._ending is not None
        value, error = self._ending
        if error is not None:
            raise error
        return value


@DBOS.workflow(name="puppet")
def _puppet(name: str) -> Any:
    puppet, number = Puppet.named(name), 0
    while (told := puppet.await_call(number)) is not None:
        number += 1
        try:
            method = told.method if callable(told.method) else getattr(DBOS, told.method)
            value = method(*told.args, **told.kwargs)
            told.endings.put((list(value) if inspect.isgenerator(value) else value, None))
        except Exception as error:
            told.endings.put((None, error))
        except RunOutdated:
            # It is begun anew, and makes the call again.
            raise
        except BaseException as error:
            told.endings.put((None, error))
            raise
    return puppet.ending()


@DBOS.workflow(name="async_puppet")
async def _async_puppet(name: str) -> Any:
    puppet, number = Puppet.named(name), 0
    while True:
        while not puppet.is_told(number):
            await asyncio.sleep(0.002)
        told = puppet.next_call(number)
        if told is None:
            return puppet.ending()
        number += 1
        try:
            method = told.method if callable(told.method) else getattr(DBOS, f"{told.method}_async")
            value = method(*told.args, **told.kwargs)
            if inspect.isasyncgen(value):
                value = [item async for item in value]
            elif inspect.isawaitable(value):
                value = await value
            told.endings.put((value, None))
        except Exception as error:
            told.endings.put((None, error))
        except RunOutdated:
            # It is begun anew, and makes the call again.
            raise
        except BaseException as error:
            told.endings.put((None, error))
            raise
