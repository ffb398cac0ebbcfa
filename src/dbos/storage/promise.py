"""A value that arrives later, awaited by threads, event loops and callbacks alike.

``concurrent.futures.Future`` would serve threads, but wakes event loops one future at a time. A commit of the journal
settles hundreds of promises at once, so ``Promise.settle_all`` wakes each event loop once for all of them.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

_logger = logging.getLogger("dbos")

_LOCKS = [threading.RLock() for _ in range(64)]
"""Promises share locks, which take more memory than they do. They may be entered again by the same thread, as the
garbage collector may close a coroutine that waits for one promise while another is locked."""
_numbers = itertools.count()
_SIGNALS_S = 0.5
"""How long the main thread waits without looking for signals."""
_thread = threading.local()


class Promise(Generic[T]):
    """Settled once, with a value or with an exception. Every method may be called from any thread."""

    __slots__ = ("_callbacks", "_error", "_futures", "_lock", "_sleepers", "_value", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._lock = _LOCKS[next(_numbers) % len(_LOCKS)]
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
        if self.add_sleeper(sleeper):
            acquire(sleeper)

    def add_sleeper(self, sleeper: threading.Lock) -> bool:
        """Have the sleeper woken when it is settled; returns whether it is still to be."""
        with self._lock:
            if self.is_done:
                return False
            if self._sleepers is None:
                self._sleepers = []
            self._sleepers.append(sleeper)
            return True

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
            if self.add_future(future):
                try:
                    await future
                finally:
                    self.forget_future(future)
        return self.result()

    def add_future(self, future: asyncio.Future[None]) -> bool:
        """Have the future set when it is settled; returns whether it is still to be."""
        with self._lock:
            if self.is_done:
                return False
            if self._futures is None:
                self._futures = [future]
            else:
                self._futures.append(future)
            return True

    def forget_future(self, future: asyncio.Future[None]) -> None:
        """Nobody waits for this future any more."""
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
            if self._futures:
                # Nobody wakes any more on a loop that was closed.
                self._futures = [future for future in self._futures if not future.get_loop().is_closed()]
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


def sleep_on_any(promises: Sequence[Promise[Any]], timeout_s: float | None = None) -> None:
    """Wait in this thread until one of the promises is settled, or the time is over."""
    sleeper = new_sleeper()
    try:
        if all(promise.add_sleeper(sleeper) for promise in promises):
            acquire(sleeper, timeout_s)
    finally:
        for promise in promises:
            promise.forget_sleeper(sleeper)


def wait_for_any(promises: Sequence[Promise[Any]], timeout_s: float | None = None) -> asyncio.Future[None]:
    """A future of the running event loop: done when one of the promises is settled, or the time is over."""
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    timer: asyncio.TimerHandle | None = None
    if not all(promise.add_future(future) for promise in promises):
        future.set_result(None)
    elif timeout_s is not None:
        timer = loop.call_later(max(timeout_s, 0.0), _finish, (future,), context=plain_context())
    future.add_done_callback(_Forget(promises, timer), context=plain_context())
    return future


def plain_context() -> contextvars.Context:
    """The context for callbacks on this thread's event loop that need none; otherwise each would hold a copy."""
    context: contextvars.Context | None = getattr(_thread, "context", None)
    if context is None:
        context = _thread.context = contextvars.Context()
    return context


class _Forget:
    """What is left to do when nobody waits with a future any more."""

    __slots__ = ("promises", "timer")

    def __init__(self, promises: Sequence[Promise[Any]], timer: asyncio.TimerHandle | None) -> None:
        self.promises = promises
        self.timer = timer

    def __call__(self, future: asyncio.Future[None]) -> None:
        if self.timer is not None:
            self.timer.cancel()
        for promise in self.promises:
            promise.forget_future(future)


def acquire(lock: threading.Lock, timeout_s: float | None = None) -> bool:
    """Wait for the lock; returns whether it was released before the timeout.

    The main thread looks up now and then: a signal that comes just before it begins to wait would be noticed only when
    the wait is over.
    """
    if threading.current_thread() is not threading.main_thread():
        return lock.acquire(timeout=-1 if timeout_s is None else max(timeout_s, 0.0))
    until = math.inf if timeout_s is None else time.monotonic() + timeout_s
    while not lock.acquire(timeout=max(0.0, min(until - time.monotonic(), _SIGNALS_S))):
        if time.monotonic() >= until:
            return False
    return True


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


def _finish(futures: Sequence[asyncio.Future[None]]) -> None:
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
