"""A value that arrives later, awaited by threads, event loops and callbacks alike.

``concurrent.futures.Future`` would serve threads, but wakes event loops one future at a time. A commit of the journal
settles hundreds of promises at once, so ``Promise.settle_all`` wakes each event loop once for all of them.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

_logger = logging.getLogger("dbos")


class Promise(Generic[T]):
    """Settled once, with a value or with an exception. Every method may be called from any thread."""

    __slots__ = ("_callbacks", "_error", "_futures", "_lock", "_sleepers", "_value", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._sleepers: list[threading.Lock] | None = None
        self._futures: list[asyncio.Future[None]] | None = None
        self._callbacks: list[Callable[[], None]] | None = None

    def result(self) -> T:
        """The value, or raise the exception. Only once it is done."""
        if self._error is not None:
            raise self._error
        return cast(T, self._value)

    def resolve(self, value: T) -> None:
        Promise.settle_all([(self, value, None)])

    def reject(self, error: BaseException) -> None:
        Promise.settle_all([(self, None, error)])

    def block(self) -> T:
        """Wait in this thread, then return the value or raise the exception."""
        self.sleep_on(new_sleeper())
        return self.result()

    def sleep_on(self, sleeper: threading.Lock) -> None:
        """Wait in this thread until it is settled, or ``wake_sleeper`` picks the sleeper (a lock that is held)."""
        with self._lock:
            if self.is_done:
                return
            if self._sleepers is None:
                self._sleepers = []
            self._sleepers.append(sleeper)
        sleeper.acquire()

    def wake_sleeper(self) -> bool:
        """Wake one thread that waits although nothing is settled; returns whether there was one."""
        with self._lock:
            if not self._sleepers:
                return False
            self._sleepers.pop().release()
            return True

    def forget_sleeper(self, sleeper: threading.Lock) -> None:
        """The thread that slept on this lock does so no longer."""
        with self._lock:
            if self._sleepers is not None and sleeper in self._sleepers:
                self._sleepers.remove(sleeper)

    async def wait(self) -> T:
        """Wait on the running event loop, then return the value or raise the exception."""
        if not self.is_done:
            import asyncio

            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            with self._lock:
                if self.is_done:
                    future.set_result(None)
                elif self._futures is None:
                    self._futures = [future]
                else:
                    self._futures.append(future)
            try:
                await future
            finally:
                self._forget_future(future)
        return self.result()

    def _forget_future(self, future: asyncio.Future[None]) -> None:
        with self._lock:
            if self._futures is not None and future in self._futures:
                self._futures.remove(future)

    def then(self, callback: Callable[[], None]) -> None:
        """Call back when it is settled, in the thread that settles it, or at once. The callback must not raise."""
        with self._lock:
            if not self.is_done:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(callback)
                return
        callback()

    @property
    def has_followers(self) -> bool:
        """Whether something is to be called back."""
        return bool(self._callbacks)

    @property
    def has_waiters(self) -> bool:
        """Whether anybody waits for it, or is to be called back."""
        with self._lock:
            return bool(self._sleepers or self._futures or self._callbacks)

    @staticmethod
    def settle_all(settlements: Sequence[tuple[Promise[Any], Any, BaseException | None]]) -> None:
        """Settle promises, each with (value, exception), waking every event loop once. A done one stays as it is.

        All callbacks have returned when the first waiter wakes. An interruption leaves what is left to ``wake_all``.
        """
        callbacks: list[Callable[[], None]] = []
        for promise, value, error in settlements:
            with promise._lock:
                if not promise.is_done:
                    promise._value, promise._error, promise.is_done = value, error, True
                    callbacks.extend(promise._callbacks or ())
                    promise._callbacks = None
        for callback in callbacks:
            try:
                callback()
            except BaseException:
                _logger.exception("What was to follow a promise failed")
        Promise.wake_all([promise for promise, _, _ in settlements])

    @staticmethod
    def wake_all(promises: Sequence[Promise[Any]]) -> None:
        """Wake whoever still waits for those of the promises that are settled. It may be done again."""
        futures: list[asyncio.Future[None]] = []
        for promise in promises:
            with promise._lock:
                if promise.is_done:
                    futures.extend(promise._futures or ())
                    for bell in promise._sleepers or ():
                        # Released already, if an interruption came between that and here.
                        with contextlib.suppress(RuntimeError):
                            bell.release()
                    promise._sleepers = None
        _wake_futures(futures)
        for promise in promises:
            if promise.is_done:
                promise._futures = None


def new_sleeper() -> threading.Lock:
    """A lock to sleep on: held, until somebody wakes the sleeper by releasing it."""
    sleeper = threading.Lock()
    sleeper.acquire()
    return sleeper


def _wake_futures(futures: list[asyncio.Future[None]]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for future in futures:
        by_loop.setdefault(future.get_loop(), []).append(future)
    for loop, its_futures in by_loop.items():
        # A closed loop has nobody left who waits on it.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_finish, its_futures)


def _finish(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class Bell:
    """Wakes one thread that waits for it. Rings while nobody listens are remembered as one."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        # Releasing it twice means that an earlier ring was not heard yet.
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for a ring; returns whether there was one before the timeout."""
        return self._lock.acquire(timeout=-1 if timeout_s is None else max(timeout_s, 0.0))
