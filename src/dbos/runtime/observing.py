"""Observers: whoever is told of what the engine did. Usually there is nobody, and then nothing is measured.

Tracing (``runtime.tracing``) wraps the code of runs and steps; observers only hear of it afterwards. Metrics and alerts
are made of what they hear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbos.storage.errors import TransientStorageError

if TYPE_CHECKING:
    from dbos.model.clock import Clock
    from dbos.model.values import Batch, BatchAnswer, ClaimedWorkflow, Lease
    from dbos.runtime.run import Run
    from dbos.storage.journal import BatchStore


class Observer:
    """Does nothing with what it hears: subclasses take what they care for.

    The methods are called in the threads in which it happens, also by several at a time. They must not raise, nor take
    long. Durations are in seconds.
    """

    def step_ended(self, name: str, seconds: float) -> None:
        """A step, or a transaction, returned or raised; retries and their pauses are part of it."""

    def step_retried(self, name: str) -> None:
        """A step raised, and is tried again."""

    def workflow_ended(self, run: Run, status: str, error: BaseException | None) -> None:
        """A run ended, and its status is recorded."""

    def deadlines_passed(self, workflow_ids: Sequence[str]) -> None:
        """This process has cancelled workflows, wherever they ran, as their time was up."""

    def claimed(self, workflows: Sequence[ClaimedWorkflow], seconds: float) -> None:
        """A transaction has claimed workflows, from a queue or for recovery."""

    def committed(self, batch: Batch, seconds: float) -> None:
        """The journal has committed a batch."""

    def commit_failed(self) -> None:
        """A commit of the journal failed, and is tried again."""

    def lease_lost(self) -> None:
        """This executor was taken for dead by another one."""

    def executor_died(self, lease: Lease, reason: str, left_behind: int) -> None:
        """This executor has buried another one, which left so many workflows behind."""


class ObservedStore:
    """Commits what the journal writes, as another store does it, and tells how long it took."""

    def __init__(self, inner: BatchStore, clock: Clock, observers: Sequence[Observer]) -> None:
        self._inner = inner
        self._clock = clock
        self._observers = observers

    def commit(self, batch: Batch) -> BatchAnswer:
        began = self._clock.monotonic()
        try:
            answer = self._inner.commit(batch)
        except TransientStorageError:
            for observer in self._observers:
                observer.commit_failed()
            raise
        seconds = self._clock.monotonic() - began
        for observer in self._observers:
            observer.committed(batch, seconds)
        return answer

    @property
    def parallel_commits(self) -> int:
        return self._inner.parallel_commits

    def held_up(self, workflow_ids: Sequence[str]) -> set[str]:
        return self._inner.held_up(workflow_ids)
