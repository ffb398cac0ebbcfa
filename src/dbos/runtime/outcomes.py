"""Waits for the ends of workflows that run elsewhere, by asking the database for all of them at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dbos.error import DBOSException
from dbos.model.clock import Clock
from dbos.model.values import RecordedOutcome
from dbos.runtime.drivers import Ending
from dbos.storage.promise import Bell, Promise

_logger = logging.getLogger("dbos")

FIRST_INTERVAL_S = 0.005
LONGEST_INTERVAL_S = 1.0
FORGET_AFTER_S = 10.0
"""For how long a watch is kept that nobody waits for: who asks for it begins to wait at once."""


@dataclass(slots=True)
class _Watch:
    ended: Promise[Ending[Any]]
    interval_s: float
    longest_interval_s: float
    next_look: float
    asked_at: float


class OutcomeWatch:
    """One thread that looks for the outcomes of all watched workflows, ever more seldom the longer one takes.

    Args:
        read: Reads the rows of workflows, by id.
        decode: How a workflow ended according to its row; ``None`` if it has not.
        clock: Measures the intervals.
    """

    def __init__(
        self,
        read: Callable[[Iterable[str]], Mapping[str, RecordedOutcome]],
        decode: Callable[[RecordedOutcome], Ending[Any] | None],
        clock: Clock,
    ) -> None:
        self._read = read
        self._decode = decode
        self._clock = clock
        self._lock = threading.Lock()
        self._bell = Bell()
        self._watches: dict[str, _Watch] = {}
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    def watch(self, workflow_id: str, longest_interval_s: float | None = None) -> Promise[Ending[Any]]:
        """The promise of how the workflow ends. A workflow that does not exist yet is waited for."""
        longest = LONGEST_INTERVAL_S if longest_interval_s is None else longest_interval_s
        with self._lock:
            watch = self._watches.get(workflow_id)
            if watch is None:
                now = self._clock.monotonic()
                watch = _Watch(Promise(), min(FIRST_INTERVAL_S, longest), longest, now, now)
                if self._is_stopped:
                    watch.ended.reject(_stopped(workflow_id))
                    return watch.ended
                self._watches[workflow_id] = watch
            watch.asked_at = self._clock.monotonic()
            watch.longest_interval_s = min(watch.longest_interval_s, longest)
            watch.next_look = min(watch.next_look, watch.asked_at + longest)
            if self._thread is None:
                thread = threading.Thread(target=self._look_on, name="dbos-outcomes", daemon=True)
                thread.start()
                self._thread = thread
        self._bell.ring()
        return watch.ended

    def stop(self) -> None:
        """Look no more; whoever still waits is told."""
        with self._lock:
            self._is_stopped = True
            watches, self._watches = self._watches, {}
        Promise.settle_all([(watch.ended, None, _stopped(id)) for id, watch in watches.items()])
        self._bell.ring()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _look_on(self) -> None:
        while not self._is_stopped:
            with self._lock:
                now = self._clock.monotonic()
                due = [id for id, watch in self._watches.items() if watch.next_look <= now]
                soonest = min((watch.next_look for watch in self._watches.values()), default=None)
            if due:
                try:
                    self._look(due)
                except Exception as error:
                    _logger.warning("Looking for the outcomes of workflows failed, trying again: %r", error)
                    self._postpone(due)
            else:
                self._bell.wait(None if soonest is None else soonest - now)

    def _look(self, due: list[str]) -> None:
        ended: list[tuple[Promise[Ending[Any]], Ending[Any], None]] = []
        for workflow_id, outcome in self._read(due).items():
            ending = self._decode(outcome)
            if ending is not None:
                with self._lock:
                    watch = self._watches.pop(workflow_id, None)
                if watch is not None:
                    ended.append((watch.ended, ending, None))
        self._postpone(due)
        Promise.settle_all(ended)

    def _postpone(self, ids: list[str]) -> None:
        with self._lock:
            now = self._clock.monotonic()
            for workflow_id in ids:
                watch = self._watches.get(workflow_id)
                if watch is None:
                    continue
                if now - watch.asked_at > FORGET_AFTER_S and not watch.ended.has_waiters:
                    # Whoever waited has given up.
                    del self._watches[workflow_id]
                else:
                    watch.next_look = now + watch.interval_s
                    watch.interval_s = min(watch.interval_s * 1.5, watch.longest_interval_s)


def _stopped(workflow_id: str) -> DBOSException:
    return DBOSException(f"DBOS was shut down while the result of workflow {workflow_id!r} was awaited.")
