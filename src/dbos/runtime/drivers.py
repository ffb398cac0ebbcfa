"""What cores may wait for, and the two drivers that run them.

A core is a generator that yields commands and returns how it ended, as a value: ``Returned`` or ``Raised``. (No
exception of user code passes through a generator: a ``StopIteration`` would end it.) Exceptions that end a run rather
than a step, such as ``asyncio.CancelledError`` or ``KeyboardInterrupt``, are thrown into the core at its ``yield``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from dbos.runtime.context import CONTEXT, Context
from dbos.storage.promise import Promise, sleep_on_any, wait_for_any

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Returned(Generic[T_co]):
    """It ended with a value."""

    value: T_co

    def unwrap(self) -> T_co:
        return self.value


@dataclass(frozen=True, slots=True)
class Raised:
    """It ended with an exception."""

    error: BaseException

    def unwrap(self) -> NoReturn:
        raise self.error


Ending = Returned[T] | Raised


class Command(Protocol):
    """Something to wait for. Promises are commands."""

    def block(self) -> Any:
        """Wait in this thread."""
        ...

    def wait(self) -> Awaitable[Any]:
        """Wait on the running event loop."""
        ...


Core = Generator[Command, Any, T]


def drive(core: Core[Ending[T]]) -> T:
    """Run the core in this thread, blocking for what it waits for."""
    try:
        command = core.send(None)
        while True:
            try:
                reply = command.block()
            except BaseException as error:
                command = core.throw(error)
            else:
                command = core.send(reply)
    except StopIteration as end:
        ending: Ending[T] = end.value
    return ending.unwrap()


async def drive_async(core: Core[Ending[T]]) -> T:
    """Run the core on the running event loop, awaiting what it waits for."""
    try:
        command = core.send(None)
        while True:
            try:
                awaited = command.wait()
                # A wait may be long, and there may be ten thousands of them: nothing is kept that is not needed.
                del command
                reply = await awaited
                del awaited
            except BaseException as error:
                command = core.throw(error)
            else:
                command = core.send(reply)
                del reply
    except StopIteration as end:
        ending: Ending[T] = end.value
    return ending.unwrap()


class _Code:
    """A call of the user's function, with the context that it sees."""

    __slots__ = ("args", "context", "function", "kwargs")

    def __init__(
        self, context: Context, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self.context = context
        self.function = function
        self.args = args
        self.kwargs = kwargs


class WorkflowCode(_Code):
    """Call the user's workflow function, in the thread or as the task of its run; the reply is what it returns.

    What it raises is thrown into the core. A task has a context of its own, which needs no restoring, and no more
    frames than it must: there may be ten thousands of them.
    """

    __slots__ = ()

    def block(self) -> Any:
        token = CONTEXT.set(self.context)
        try:
            return self.function(*self.args, **self.kwargs)
        finally:
            CONTEXT.reset(token)

    def wait(self) -> Awaitable[Any]:
        CONTEXT.set(self.context)
        coroutine: Awaitable[Any] = self.function(*self.args, **self.kwargs)
        return coroutine


class UserCode(_Code):
    """Call the user's function in a context of ours; the reply is how it ended.

    Only an ``Exception`` is an ending. Whatever else it raises interrupts the core.
    """

    __slots__ = ()

    def block(self) -> Ending[Any]:
        token = CONTEXT.set(self.context)
        try:
            return Returned(self.function(*self.args, **self.kwargs))
        except Exception as error:
            return Raised(error)
        finally:
            CONTEXT.reset(token)

    async def wait(self) -> Ending[Any]:
        token = CONTEXT.set(self.context)
        try:
            value = self.function(*self.args, **self.kwargs)
            if asyncio.iscoroutine(value):
                value = await value
            return Returned(value)
        except Exception as error:
            return Raised(error)
        finally:
            # It fails if the garbage collector closes the coroutine, in somebody else's context.
            with contextlib.suppress(ValueError):
                CONTEXT.reset(token)


class Wait:
    """Wait until one of the promises is settled, or for so many seconds. What became of them, the promises tell.

    Args:
        promises: What is waited for.
        seconds: How long at most; ``None`` for ever.
    """

    __slots__ = ("promises", "seconds")

    def __init__(self, promises: Sequence[Promise[Any]], seconds: float | None = None) -> None:
        self.promises = promises
        self.seconds = seconds

    def block(self) -> None:
        sleep_on_any(self.promises, self.seconds)

    def wait(self) -> Awaitable[None]:
        return wait_for_any(self.promises, self.seconds)


class Offload:
    """Call a function of ours that blocks, mostly on the database; on an event loop, in another thread."""

    __slots__ = ("function", "submit")

    def __init__(self, submit: Callable[[Callable[[], None]], None], function: Callable[[], Any]) -> None:
        self.submit = submit
        self.function = function

    def block(self) -> Any:
        return self.function()

    async def wait(self) -> Any:
        promise: Promise[Any] = Promise()

        def work() -> None:
            try:
                promise.resolve(self.function())
            except BaseException as error:
                promise.reject(error)

        self.submit(work)
        return await promise.wait()


class Pause:
    """Let some time pass."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def block(self) -> None:
        time.sleep(self.seconds)

    def wait(self) -> Awaitable[None]:
        return asyncio.sleep(self.seconds)
