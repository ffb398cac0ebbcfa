"""Virtual time: it stands still until a test moves it, and what comes due on the way happens, in order, at once.

The clock takes the place of the time that workflows live by (``ProgramTime``): their sleeps, the timeouts of ``recv``
and ``get_event``, pauses between the attempts of a step, timeouts of workflows, delays and rates of queues, schedules,
and what the database calls now. Leases, polling and everything else that the library does by itself go by the machine's
clock, so an executor never looks dead because a test let a year pass.

Time moves from one thing that is due to the next. At each stop the clock waits until the program has *settled*
(``dbos.testing.settling``): every workflow waits for something again. So a workflow that sleeps an hour three times
needs no more than one ``advance`` of three hours, and a schedule fires at each of its times, in order.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections import Counter
from collections.abc import Awaitable, Generator, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from dbos.model.clock import SystemClock
from dbos.runtime.drivers import Command
from dbos.storage.errors import JournalClosed
from dbos.storage.promise import Promise, sleep_on_any, wait_for_any

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor
    from dbos.runtime.run import Run
    from dbos.storage.database import Database

PATIENCE_S = 10.0
"""For how long the clock waits for the program to settle, in seconds of the machine."""

_PAUSE_S = 0.002
"""How often a clock that skips looks whether there is something to skip."""

_CLOCK = SystemClock()

_logger = logging.getLogger("dbos")

_HELD_UP = (
    "A workflow that was called in the thread of the test waits for time to be moved, and the test waits for the "
    "workflow. Call it in `with dbos_clock.skipping():`, or start it with DBOS.start_workflow."
)


class VirtualClock:
    """Time in the hands of a test. It begins at the machine's time, and stands still.

    Args:
        start: When it begins: a ``datetime``, in UTC if it names no time zone. Default: now.

    Made by ``dbos_clock``, or given to an ``App``; one clock serves one application, through all of its launches.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._now_ms = _CLOCK.now_ms() if start is None else _to_ms(start)
        self._lock = threading.Lock()
        self._moving = threading.RLock()
        """Held by whoever moves time."""
        self._waits: dict[VirtualWait, None] = {}
        """What waits at the moment, in the order in which it began to."""
        self._by_run: Counter[str] = Counter()
        self._changes = 0
        self._thread = threading.get_ident()
        self._skippers = 0
        self.executor: Executor | None = None
        """The launched executor that lives by this clock."""

    # -- what tests call

    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.fromtimestamp(self.now_ms() / 1000, timezone.utc)

    def advance(self, seconds: float | timedelta, *, patience_s: float = PATIENCE_S) -> None:
        """Let time pass: all that becomes due happens before this returns, each at its time, in the order of time.

        What is due at the same millisecond wakes together. When this returns, every workflow has ended or waits for
        something that has not come.

        Args:
            seconds: How long, in seconds or as a ``timedelta``; to the millisecond.
            patience_s: For how many seconds of the machine to wait for steps that run.

        Raises:
            ValueError: The time is negative.
            TimeoutError: Something runs for longer than ``patience_s``; the message says what. Time has gone as far as
                to what began it, and no further.
            RuntimeError: It was called in a running event loop: use ``advance_async``.
        """
        span_s = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        if not 0 <= span_s < math.inf:
            raise ValueError(f"Time cannot be advanced by {span_s:g} s: it moves forward only.")
        with self._moving:
            self._move_to(self.now_ms() + round(span_s * 1000), patience_s)

    def advance_to(self, moment: datetime, *, patience_s: float = PATIENCE_S) -> None:
        """``advance`` to a moment; one without a time zone is in UTC. (Errors as for ``advance``.)"""
        with self._moving:
            target_ms = _to_ms(moment)
            if target_ms < self.now_ms():
                raise ValueError(
                    f"It is {self.now().isoformat()} already, and time moves forward only. To begin at another time, "
                    "use freeze, or give the clock a start."
                )
            self._move_to(target_ms, patience_s)

    async def advance_async(self, seconds: float | timedelta, *, patience_s: float = PATIENCE_S) -> None:
        """As ``advance``, to be awaited: the event loop goes on meanwhile."""
        import asyncio

        await asyncio.to_thread(self.advance, seconds, patience_s=patience_s)

    async def advance_to_async(self, moment: datetime, *, patience_s: float = PATIENCE_S) -> None:
        """As ``advance_to``, to be awaited."""
        import asyncio

        await asyncio.to_thread(self.advance_to, moment, patience_s=patience_s)

    def advance_to_next(self, *, patience_s: float = PATIENCE_S) -> bool:
        """``advance`` to what is due next, whenever that is; returns whether there is something."""
        with self._moving:
            self.settle(patience_s=patience_s)
            next_ms = self._next_ms()
            if next_ms is None:
                return False
            self._move_to(next_ms, patience_s)
            return True

    def settle(self, *, patience_s: float = PATIENCE_S) -> None:
        """Wait, without moving time, until every workflow has ended or waits. (Errors as for ``advance``.)"""
        from dbos.testing.settling import settle

        executor = self._launched
        if executor is not None:
            settle(executor, self, patience_s)

    @contextlib.contextmanager
    def skipping(self) -> Generator[None, None, None]:
        """For a ``with`` block: whenever all workflows wait, time moves to what is due next by itself.

        For results of workflows that sleep. Send the messages that they wait for with a timeout before the block
        begins: nobody tells the clock that one is to come.
        """
        stopped = threading.Event()
        errors: list[BaseException] = []

        def skip() -> None:
            while not stopped.wait(_PAUSE_S) and not errors:
                launched = self._launched
                try:
                    self.advance_to_next(patience_s=_PAUSE_S)
                except TimeoutError:
                    continue
                except (Exception, JournalClosed) as error:
                    # What it meets in an application that is stopped meanwhile is not its business.
                    if launched is self._launched:
                        _logger.error("Time is not skipped any more: %r", error)
                        errors.append(error)

        thread = threading.Thread(target=skip, name="dbos-virtual-clock", daemon=True)
        self._skippers += 1
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()
            self._skippers -= 1
        if errors:
            raise errors[0]

    def set(self, moment: datetime) -> None:
        """Set it, also to an earlier time, while nothing is launched; ``App.freeze`` does."""
        if self.executor is not None:
            raise RuntimeError("The clock of a launched application can be advanced only. Use dbos_app.freeze(...).")
        self._now_ms = _to_ms(moment)

    # -- what the engine asks

    def now_ms(self) -> int:
        """The time, in milliseconds since the Unix epoch."""
        return self._now_ms

    def monotonic(self) -> float:
        """The machine's own time, which is not virtual."""
        return _CLOCK.monotonic()

    def time_of(self, database: Database) -> VirtualTime:
        """The time of an executor that is about to be launched; the database's clock is this one from now on."""
        database.freeze(self._now_ms)
        with self._lock:
            # Waits of a former launch are over.
            self._waits.clear()
            self._by_run.clear()
        return VirtualTime(self)

    def park(self, wait: VirtualWait) -> None:
        """A run begins to wait."""
        with self._lock:
            self._waits[wait] = None
            self._by_run[wait.token] += 1
            self._changes += 1

    def holds_up_its_test(self, wait: VirtualWait) -> bool:
        """Whether the wait is in the thread that made the clock, which moves time, mostly, and nothing else does."""
        is_in_its_thread = threading.get_ident() == self._thread
        return is_in_its_thread and not self._skippers and wait.due_ms is not None

    def unpark(self, wait: VirtualWait) -> None:
        """It waits no longer."""
        with self._lock:
            if wait in self._waits:
                del self._waits[wait]
                self._by_run[wait.token] -= 1
                if not self._by_run[wait.token]:
                    del self._by_run[wait.token]
            self._changes += 1

    # -- what the settling asks

    @property
    def changes(self) -> int:
        """How often a wait began or ended."""
        return self._changes

    def waits_of(self, run: Run) -> list[VirtualWait]:
        """What the run waits for."""
        token = run.log.token
        if token not in self._by_run:
            return []
        with self._lock:
            return [wait for wait in self._waits if wait.token == token]

    # -- moving, in one thread at a time

    @property
    def _launched(self) -> Executor | None:
        executor = self.executor
        return None if executor is None or executor.is_closing else executor

    def _move_to(self, target_ms: int, patience_s: float) -> None:
        self.settle(patience_s=patience_s)
        while (next_ms := self._next_ms()) is not None and next_ms <= target_ms:
            self._set(max(next_ms, self._now_ms))
            self.settle(patience_s=patience_s)
        if target_ms > self._now_ms:
            self._set(target_ms)
            self.settle(patience_s=patience_s)

    def _set(self, now_ms: int) -> None:
        executor = self._launched
        self._now_ms = now_ms
        if executor is not None:
            executor.database.freeze(now_ms)
        with self._lock:
            due = [wait for wait in self._waits if wait.due_ms is not None and wait.due_ms <= now_ms]
        for wait in sorted(due, key=lambda wait: wait.due_ms or 0):
            wait.comes_due.resolve(None)
        if executor is not None:
            executor.schedules.changed()

    def _next_ms(self) -> int | None:
        """When something is due next."""
        from dbos.testing.settling import next_due_ms

        with self._lock:
            dues = [wait.due_ms for wait in self._waits if wait.due_ms is not None and not wait.is_over]
        executor = self._launched
        if executor is not None and (due_ms := next_due_ms(executor, self._now_ms)) is not None:
            dues.append(due_ms)
        return min(dues, default=None)


class VirtualTime:
    """What an executor sees of a virtual clock: a ``ProgramTime``."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._start_ms = clock.now_ms()

    def refresh(self) -> None:
        """There is nothing to ask."""

    def in_ms(self, seconds: float) -> int:
        return self._clock.now_ms() + round(seconds * 1000)

    def passed_ms(self) -> float:
        return self._clock.now_ms()

    def seconds_until(self, time_ms: float) -> float:
        return max(0.0, round((time_ms - self._clock.now_ms()) / 1000, 6))

    def moment_in(self, seconds: float) -> float:
        return (self._clock.now_ms() - self._start_ms) / 1000 + seconds

    def seconds_left(self, moment: float) -> float:
        # Rounded, as what is off by the last bit of a float would never be due.
        return round(moment - (self._clock.now_ms() - self._start_ms) / 1000, 6)

    def wait(self, run: Run, promises: Sequence[Promise[Any]], seconds: float | None) -> Command:
        due_ms = None if seconds is None else self._clock.now_ms() + math.ceil(round(seconds * 1000, 3))
        return VirtualWait(self._clock, run.log.token, promises, due_ms)


class VirtualWait:
    """A run waits for promises, or until a time of the virtual clock.

    Attributes:
        token: The run's.
        due_ms: When it is over; ``None``: it has no end.
        comes_due: Settled when the time has come.
    """

    __slots__ = ("_clock", "_promises", "comes_due", "due_ms", "token")

    def __init__(self, clock: VirtualClock, token: str, promises: Sequence[Promise[Any]], due_ms: int | None) -> None:
        self._clock = clock
        self.token = token
        self.due_ms = due_ms
        self.comes_due: Promise[None] = Promise()
        self._promises = (*promises, self.comes_due)

    @property
    def is_over(self) -> bool:
        """Whether what it waits for has come, although the run may not have noticed yet."""
        return any(promise.is_done for promise in self._promises)

    def block(self) -> None:
        self._park()
        try:
            if self._clock.holds_up_its_test(self):
                sleep_on_any(self._promises, PATIENCE_S)
                if not self.is_over:
                    _logger.warning("%s", _HELD_UP)
            sleep_on_any(self._promises)
        finally:
            self._clock.unpark(self)

    def wait(self) -> Awaitable[None]:
        return self._wait()

    async def _wait(self) -> None:
        self._park()
        try:
            await wait_for_any(self._promises)
        finally:
            self._clock.unpark(self)

    def _park(self) -> None:
        self._clock.park(self)
        if self.due_ms is not None and self.due_ms <= self._clock.now_ms():
            # Time has moved since it was made.
            self.comes_due.resolve(None)


def _to_ms(moment: datetime) -> int:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
    return round(aware.timestamp() * 1000)
