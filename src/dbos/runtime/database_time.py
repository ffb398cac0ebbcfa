"""The database's clock as this process sees it: what deadlines are computed and compared with.

Asking takes time, so what is known of the database's clock is an interval. Deadlines are made from its late end and
compared with its early end: they never pass early.
"""

from __future__ import annotations

from dbos.model.clock import Clock
from dbos.storage.database import Database, Transaction

_READ_CLOCK = "SELECT {now}"


class DatabaseTime:
    """See the module's description. Times are epoch milliseconds."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._behind_ms = self._ahead_ms = 0.0
        """What to add to this process's own clock for the earliest and the latest time that it may be."""

    def refresh(self) -> None:
        """Ask the database, whose clock may have been set."""

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
        """When so many seconds will have passed for sure."""
        return int(self._ahead_ms + (self._clock.monotonic() + seconds) * 1000) + 1

    def passed_ms(self) -> float:
        """A time that has come for sure, and not long ago."""
        return self._behind_ms + self._clock.monotonic() * 1000

    def seconds_until(self, time_ms: float) -> float:
        """How long it takes at most until then; 0 if it has passed for sure."""
        return max(0.0, (time_ms - self._behind_ms) / 1000 - self._clock.monotonic())
