"""Time, injected, so that tests move it by hand.

``now_ms`` is the wall clock and goes into records; ``monotonic`` measures durations in this process. What decides
something between processes uses neither, but the database's clock.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the engine asks of time."""

    def now_ms(self) -> int:
        """The wall clock: milliseconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment, counting on while the machine is suspended where the system can tell."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    if hasattr(time, "CLOCK_BOOTTIME"):
        # Monotonic time stands still while the machine is suspended, and a lease does not.
        def monotonic(self) -> float:
            return time.clock_gettime(time.CLOCK_BOOTTIME)

    else:

        def monotonic(self) -> float:
            return time.monotonic()
