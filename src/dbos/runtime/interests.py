"""Whose end other processes wait for: workflows end all the time, and only these ends are worth a hint."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from dbos.model.clock import Clock
from dbos.storage.waiting import hint

REMEMBER_S = 60.0
"""For how long another process's interest counts; as long as it waits, it asks again."""
_LATELY_S = 1.0
"""For how long an end is remembered for those whose question was on its way when it happened."""


class Interests:
    """What other processes asked for, and what ended lately."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: dict[str, float] = {}
        """Until when each hint is asked for."""
        self._lately: deque[tuple[float, Sequence[str]]] = deque()
        """When which workflows ended."""
        self._forgot_at = 0.0

    def asked(self, hints: Sequence[str]) -> list[str]:
        """Another process asks for these hints; returns those that it has missed."""
        with self._lock:
            now = self._clock.monotonic()
            self._asked.update(dict.fromkeys(hints, now + REMEMBER_S))
            self._forget(now)
            ended = {hint("outcome", workflow_id) for _, ids in self._lately for workflow_id in ids}
            return [its_hint for its_hint in hints if its_hint in ended]

    def ended(self, workflow_ids: Sequence[str]) -> list[str]:
        """These workflows have ended; returns the hints that were asked for."""
        with self._lock:
            now = self._clock.monotonic()
            self._lately.append((now, workflow_ids))
            self._forget(now)
            if not self._asked:
                return []
            hints = [hint("outcome", workflow_id) for workflow_id in workflow_ids]
            return [its_hint for its_hint in hints if self._asked.pop(its_hint, 0.0) >= now]

    def _forget(self, now: float) -> None:
        while self._lately and self._lately[0][0] < now - _LATELY_S:
            self._lately.popleft()
        if self._forgot_at < now - REMEMBER_S:
            self._forgot_at = now
            self._asked = {its_hint: until for its_hint, until in self._asked.items() if until >= now}
