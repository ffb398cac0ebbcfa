"""A clock that stands still until a test moves it."""

from __future__ import annotations

import threading


class ManualClock:
    """Time by hand. It remembers how often it was read, so that a test can wait until somebody has looked at it."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._changed = threading.Condition()
        self._start_ms = now_ms
        self._elapsed_s = 0.0
        self._reads = 0

    def now_ms(self) -> int:
        """The wall clock."""
        with self._changed:
            return self._start_ms + round(self._elapsed_s * 1000)

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        with self._changed:
            self._reads += 1
            self._changed.notify_all()
            return self._elapsed_s

    def advance(self, seconds: float) -> None:
        """Move time on."""
        with self._changed:
            self._elapsed_s += seconds

    def wait_for_reads(self, count: int, timeout: float = 10.0) -> None:
        """Wait until `monotonic` was called `count` more times, by whichever threads."""
        with self._changed:
            wanted = self._reads + count
            if not self._changed.wait_for(lambda: self._reads >= wanted, timeout):
                raise AssertionError(f"the clock was not read {count} times in {timeout} s")
