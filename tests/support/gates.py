"""Gates: what tests hang on the begin and the commit of transactions. See `dbos.storage.gate`."""

from __future__ import annotations

import threading
from collections import Counter

from dbos.storage.gate import Moment

WAIT_S = 30.0


class CountingGate:
    """Counts the transactions that pass, by operation and moment."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._passed: Counter[tuple[str, Moment]] = Counter()

    def __call__(self, operation: str, moment: Moment) -> None:
        with self._changed:
            self._passed[operation, moment] += 1
            self._changed.notify_all()

    def count(self, operation: str, moment: Moment = "after_commit") -> int:
        """How many transactions of the operation passed the moment."""
        with self._changed:
            return self._passed[operation, moment]

    def counts(self, moment: Moment = "after_commit") -> dict[str, int]:
        """How many transactions passed the moment, by operation."""
        with self._changed:
            return {operation: count for (operation, its_moment), count in self._passed.items() if its_moment == moment}

    def wait_for(self, operation: str, moment: Moment, count: int) -> None:
        """Wait until so many transactions of the operation passed the moment."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._passed[operation, moment] >= count, WAIT_S):
                raise AssertionError(f"{self._passed[operation, moment]} of {count} times {operation} {moment}")


class PausingGate(CountingGate):
    """Stops the first transaction that reaches the given point, until `go` is called."""

    def __init__(self, operation: str, moment: Moment) -> None:
        super().__init__()
        self._point = (operation, moment)
        self._is_first = True
        self._reached = threading.Event()
        self._go = threading.Event()

    def __call__(self, operation: str, moment: Moment) -> None:
        super().__call__(operation, moment)
        if (operation, moment) == self._point and self._is_first:
            self._is_first = False
            self._reached.set()
            assert self._go.wait(WAIT_S), f"nobody let {operation} go on {moment}"

    def wait_until_reached(self) -> None:
        """Wait until the transaction stands still."""
        assert self._reached.wait(WAIT_S), f"{self._point} was not reached"

    def go(self) -> None:
        """Let it go on."""
        self._go.set()


class FailingGate(CountingGate):
    """Raises at the given point, the first time only."""

    def __init__(self, operation: str, moment: Moment, error: BaseException) -> None:
        super().__init__()
        self._point = (operation, moment)
        self._error: BaseException | None = error

    def __call__(self, operation: str, moment: Moment) -> None:
        super().__call__(operation, moment)
        if (operation, moment) == self._point and self._error is not None:
            error, self._error = self._error, None
            raise error
