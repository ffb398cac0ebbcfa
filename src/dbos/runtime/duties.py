"""An executor's duties beside running: deadlines, runs that are to stop, workflows that are to be started, schedules.

One cheap question tells whether there is anything to do. It is asked when another process hints at it, when a deadline
passes, and now and then. Deadlines and delays are everybody's duty: those of a workflow whose executor is down are kept
as well.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from typing import TYPE_CHECKING

from dbos.runtime.threads import Errand
from dbos.storage.claims import read_duties, read_stopping, release_all
from dbos.storage.management import cancel_overdue
from dbos.storage.queues import release_delayed

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor

_logger = logging.getLogger("dbos")

_OVERDUE_S = 1.0
"""How soon to look again after something that is overdue."""


class Duties:
    """See the module's description."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._lock = threading.Lock()
        self._asks_at = -math.inf
        """When to ask without having been told; schedules make the thread come back at other times, too."""
        self._overdue = Errand(executor.threads, self._cancel_overdue, "Cancelling workflows whose deadline has passed")
        self._stopped: deque[tuple[str, str]] = deque()
        """The ids and tokens of runs that have stopped as their workflows were cancelled."""
        self._release = Errand(executor.threads, self._release_stopped, "Releasing cancelled workflows")
        self._delayed = Errand(executor.threads, self._release_delayed, "Enqueuing workflows whose delay is over")

    def attend(self, is_told: bool) -> float:
        """Have done what there is to do; returns in how many seconds to come back at the latest.

        Args:
            is_told: Whether something may have happened, or only the time has come.
        """
        executor = self._executor
        # First, as fire times are to be kept to the millisecond.
        executor.schedules.attend()
        with self._lock:
            now = executor.clock.monotonic()
            if not is_told and now < self._asks_at:
                return self._asks_at - now
            self._asks_at = now + executor.longest_poll_s
        back_in_s = self._ask(is_told)
        with self._lock:
            self._asks_at = min(self._asks_at, executor.clock.monotonic() + back_in_s)
        return back_in_s

    def attend_in(self, seconds: float) -> None:
        """Ask whether there is something to do in so many seconds at the latest."""
        with self._lock:
            self._asks_at = min(self._asks_at, self._executor.clock.monotonic() + seconds)
        self._executor.waits.attend_in(seconds)

    def _ask(self, is_told: bool) -> float:
        executor = self._executor
        back_in_s = executor.longest_poll_s
        duties = read_duties(executor.database, executor.lease_id)
        if duties.has_stopping:
            tokens = read_stopping(executor.database, executor.lease_id)
            runs = [run for token in tokens if (run := executor.find_token(token)) is not None]
            executor.stop_cancelled(runs)
        for in_ms, errand in ((duties.deadline_in_ms, self._overdue), (duties.delayed_in_ms, self._delayed)):
            if in_ms is not None and in_ms <= 0:
                errand.run_soon()
                # Not all that is overdue can be done at once.
                back_in_s = min(back_in_s, _OVERDUE_S)
            elif in_ms is not None:
                back_in_s = min(back_in_s, in_ms / 1000)
        return min(back_in_s, executor.dispatcher.attend(is_told))

    def expect_deadline(self, deadline_ms: int) -> None:
        """A workflow was started that has this deadline."""
        self.attend_in(self._executor.time.seconds_until(deadline_ms))

    def stop(self) -> None:
        """Attend to nothing more."""
        self._overdue.stop()
        self._release.stop()
        self._delayed.stop()

    def release(self, workflow_id: str, token: str) -> None:
        """The run of a cancelled workflow has stopped: release its claim, in the background."""
        self._stopped.append((workflow_id, token))
        self._release.run_soon()

    def _release_stopped(self) -> None:
        # If it fails, the claims stay until their workflows are resumed, and harm nobody.
        stopped = [self._stopped.popleft() for _ in range(len(self._stopped))]
        if stopped:
            release_all(self._executor.database, stopped)

    def _cancel_overdue(self) -> None:
        cancelled = cancel_overdue(self._executor.database)
        if cancelled:
            _logger.info("Workflows cancelled, as their deadlines have passed: %d", len(cancelled))
            for observer in self._executor.observers:
                observer.deadlines_passed([workflow.workflow_id for workflow in cancelled])
        self._executor.cancelled(cancelled)
        # For the deadlines that come next.
        self.attend_in(0)

    def _release_delayed(self) -> None:
        if release_delayed(self._executor.database):
            self._executor.enqueued()
