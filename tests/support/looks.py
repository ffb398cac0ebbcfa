"""How often an application looks into its database, and for what; and time that passes as fast as a test wants."""

from __future__ import annotations

import threading
from collections import Counter

from dbos.model.clock import SystemClock
from dbos.storage.gate import Gate, Moment
from tests.support.gates import CountingGate

HOUSEKEEPING = frozenset(
    {
        "migrate",
        "read_version",
        "read_clock",
        "register_lease",
        "renew_lease",
        "note_serving",
        "read_leases",
        "bury_lease",
        "find_orphans",
        "find_left_behind",
        "put_back",
        "find_queues",
        "find_unknown_functions",
        "find_other_versions",
        "find_stranded",
        "claim_orphans",
        "count_claims",
        "read_claims",
        "release",
        "read_active_ids",
    }
)
"""What an application does of itself now and then, mostly when it renews its lease, whoever waits for whatever."""


class LooksGate(CountingGate):
    """Counts all transactions; time passes by the renewals of the lease, which the application does seldom or often.

    Attributes:
        then: Another gate to be passed, if there is one.
    """

    then: Gate | None = None

    def __call__(self, operation: str, moment: Moment) -> None:
        super().__call__(operation, moment)
        if self.then is not None:
            self.then(operation, moment)

    def looks(self) -> Counter[str]:
        """All transactions so far but those for housekeeping, reads included, by operation."""
        return Counter({name: count for name, count in self.counts("begin").items() if name not in HOUSEKEEPING})

    def await_renewals(self, count: int) -> None:
        """Wait until the lease was renewed so many times more."""
        self.wait_for("renew_lease", "after_commit", self.count("renew_lease") + count)


class ShiftedClock(SystemClock):
    """The machine's clock, ahead by as much as the test moved it on. It counts how often it is read."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ahead_s = 0.0
        self._reads = 0

    def now_ms(self) -> int:
        with self._changed:
            return super().now_ms() + round(self._ahead_s * 1000)

    def monotonic(self) -> float:
        with self._changed:
            self._reads += 1
            self._changed.notify_all()
            return super().monotonic() + self._ahead_s

    def advance(self, seconds: float) -> None:
        """Move time on."""
        with self._changed:
            self._ahead_s += seconds

    def await_reads(self, count: int) -> None:
        """Wait until `monotonic` was read so many times more, by whichever threads."""
        with self._changed:
            wanted = self._reads + count
            assert self._changed.wait_for(lambda: self._reads >= wanted, 30), "nobody reads the clock"
