"""The rules of a queue: how many of its workflows may run at once, and how often one may start."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PRIORITY = 2**31 - 1
"""The largest priority, which is the least urgent one."""

INTERNAL_QUEUE = "_dbos_internal_queue"
"""Holds resumed, forked and debounced workflows until an executor of their version starts them."""


SEPARATOR = "\x1f"
"""Between a queue's name, which must not hold it, and a version, where both are one key."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``limit`` starts in every period of ``period_ms`` milliseconds."""

    limit: int
    period_ms: int


@dataclass(frozen=True, slots=True)
class QueueRules:
    """What was declared of a queue. The limits of a partitioned queue hold for each of its partitions.

    Attributes:
        name: Its name.
        concurrency: How many of its workflows may run at once, in all processes together.
        worker_concurrency: How many of them may run at once in one process.
        rate: How often one may start, in all processes together.
        has_priorities: Whether its workflows may have priorities.
        is_partitioned: Whether each of its workflows belongs to a partition.
        polling_interval_s: How long to wait at most before looking for work without a hint.
    """

    name: str
    concurrency: int | None = None
    worker_concurrency: int | None = None
    rate: RateLimit | None = None
    has_priorities: bool = False
    is_partitioned: bool = False
    polling_interval_s: float = 1.0

    @property
    def limits(self) -> str:
        """Its limits in words; empty if it has none."""
        words: list[str] = []
        if self.concurrency is not None:
            words.append(f"{self.concurrency} at once")
        if self.worker_concurrency is not None:
            words.append(f"{self.worker_concurrency} at once in a process")
        if self.rate is not None:
            words.append(f"{self.rate.limit} in {self.rate.period_ms / 1000:g} s")
        return ", ".join(words) + (" (each partition)" if words and self.is_partitioned else "")

    @property
    def is_shared(self) -> bool:
        """Whether a limit holds for all processes together, so that they have to take turns claiming."""
        return self.concurrency is not None or self.rate is not None
