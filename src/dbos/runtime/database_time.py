"""The database's clock as this process sees it: what deadlines are computed and compared with.

Asking takes time, so what is known of the database's clock is an interval. Deadlines are made from its late end and
compared with its early end: they never pass early.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from dbos.model.clock import Clock
from dbos.runtime.drivers import Command, Wait
from dbos.storage.database import Database, Transaction
from dbos.storage.promise import Promise

if TYPE_CHECKING:
    from dbos.runtime.run import Run

LONGEST_WAIT_S = 300.0
"""How long to wait without looking at the clock: timers of the system stand still while the machine is suspended."""

_READ_CLOCK = "SELECT {now}"


class ProgramTime(Protocol):
    """Time as workflows live it: their sleeps, timeouts, deadlines, delays and schedules.

    What the library does by itself (leases, looks, pauses before another try) goes by the machine's ``Clock`` instead,
    so that this one can be put in the hands of a test. Times are epoch milliseconds; moments are in seconds, and mean
    something to the object only that made them.
    """

    def refresh(self) -> None:
        """Ask the database, whose clock may have been set."""
        ...

    def in_ms(self, seconds: float) -> int:
        """When so many seconds will have passed for sure."""
        ...

    def passed_ms(self) -> float:
        """A time that has come for sure, and not long ago."""
        ...

    def seconds_until(self, time_ms: float) -> float:
        """How long it takes at most until then; 0 if it has passed for sure."""
        ...

    def moment_in(self, seconds: float) -> float:
        """The moment that comes in so many seconds."""
        ...

    def seconds_left(self, moment: float) -> float:
        """How long it takes until the moment; not positive when it has come."""
        ...

    def wait(self, run: Run, promises: Sequence[Promise[Any]], seconds: float | None) -> Command:
        """What a run waits with for one of the promises, or for so many seconds. It may be over before either."""
        ...


class DatabaseTime:
    """See the module's description."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._behind_ms = self._ahead_ms = 0.0
        """What to add to this process's own clock for the earliest and the latest time that it may be."""

    def refresh(self) -> None:
        def ask(transaction: Transaction) -> tuple[float, int, float]:
            # Each try anew: those that fail may take long.
            asked = self._clock.monotonic()
            now_ms = int(transaction.rows(_READ_CLOCK)[0][0])
            return asked, now_ms, self._clock.monotonic()

        asked, now_ms, answered = self._database.run("read_clock", ask, "read")
        # The database rounds to milliseconds.
        self._behind_ms = now_ms - 1 - answered * 1000
        self._ahead_ms = now_ms + 1 - asked * 1000

    def in_ms(self, seconds: float) -> int:
        return int(self._ahead_ms + (self._clock.monotonic() + seconds) * 1000) + 1

    def passed_ms(self) -> float:
        return self._behind_ms + self._clock.monotonic() * 1000

    def seconds_until(self, time_ms: float) -> float:
        return max(0.0, (time_ms - self._behind_ms) / 1000 - self._clock.monotonic())

    def moment_in(self, seconds: float) -> float:
        return self._clock.monotonic() + seconds

    def seconds_left(self, moment: float) -> float:
        return moment - self._clock.monotonic()

    def wait(self, run: Run, promises: Sequence[Promise[Any]], seconds: float | None) -> Command:
        return Wait(promises, None if seconds is None else min(seconds, LONGEST_WAIT_S))
