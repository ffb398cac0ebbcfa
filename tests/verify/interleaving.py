"""Steps two executors through their transactions, in an order that the test says.

Each executor makes its calls in a thread of its own, on a database whose gate holds it at the begin of every
transaction and before every commit. One step lets it go on to the next such point. An executor that the other one holds
up (it waits for a lock; on SQLite it is refused, and tries again) goes on by itself when it can.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from dbos.storage.gate import Moment

WAIT_S = 20.0


class Held:
    """One executor: a gate, and the thread that passes it."""

    def __init__(self, is_blocked: Callable[[], bool]) -> None:
        self._is_blocked = is_blocked
        self._changed = threading.Condition()
        self._is_held = False
        self._must_go = False
        self._is_free = False
        self._tries = 0
        """How often the transaction under way was begun."""
        self._future: Future[list[Any]] | None = None

    def __call__(self, operation: str, moment: Moment) -> None:
        with self._changed:
            if self._is_free or operation == "test":
                return
            if moment == "after_commit":
                self._tries = 0
                return
            if moment == "begin":
                self._tries += 1
                self._changed.notify_all()
                if self._tries > 1:
                    return
            self._is_held = True
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._must_go or self._is_free, WAIT_S), f"{operation} was forgotten"
            self._is_held = self._must_go = False

    def start(self, threads: ThreadPoolExecutor, calls: Sequence[Callable[[], Any]]) -> None:
        """Make the calls, one after the other."""
        self._future = threads.submit(lambda: [call() for call in calls])
        self._wait_until_quiet()

    def step(self) -> None:
        """Go on to the next point, to the end, or to where the other one holds this one up."""
        with self._changed:
            if not self._is_held:
                return
            self._must_go = True
            self._changed.notify_all()
        self._wait_until_quiet()

    def free(self) -> None:
        """From now on nothing holds it but the other one."""
        with self._changed:
            self._is_free = True
            self._changed.notify_all()

    def answers(self) -> list[Any]:
        """The answers to its calls. Both have to be free before."""
        assert self._future is not None
        return self._future.result(WAIT_S)

    def _wait_until_quiet(self) -> None:
        assert self._future is not None
        ends_at = time.monotonic() + WAIT_S
        while time.monotonic() < ends_at:
            with self._changed:
                if self._future.done() or (self._is_held and not self._must_go) or self._tries > 1:
                    return
                self._changed.wait(0.001)
            if self._is_blocked():
                return
        raise AssertionError("it neither comes to a point nor waits for a lock")


def schedules(first: int, second: int) -> Iterator[str]:
    """All orders of so many steps of the first executor (`A`) and of the second (`B`)."""
    total = first + second
    for places in itertools.combinations(range(total), first):
        yield "".join("A" if place in places else "B" for place in range(total))
