"""A database and a way for hints that a test plays itself, for `dbos.runtime.waits`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dbos.model.clock import Clock
from dbos.storage.waiting import MessageQuery, Query

WAIT_S = 30.0

SENTINEL = MessageQuery("sentinel", "sentinel")
"""What nobody waits for: a look for it tells that all that was due before has been looked for."""


class Finder:
    """Finds what the test has put there, and remembers each look.

    Attributes:
        looks: The queries of each look, without the sentinel, and when it was by the clock.
        threads: The thread of each look.
        takes_s: How much time passes during a look, by the manual clock.
        failures: What the next looks raise, one each.
        meanwhile: Called in each look, after it has seen what is there.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._there: dict[Query, Any] = {}
        self.looks: list[tuple[float, frozenset[Query]]] = []
        self.threads: list[threading.Thread] = []
        self.failures: list[Exception] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self, queries: Iterable[Query]) -> dict[Query, Any]:
        asked = frozenset(query for query in queries if query != SENTINEL)
        if not asked:
            return {}
        with self._changed:
            self.threads.append(threading.current_thread())
            self.looks.append((self._clock.monotonic(), asked))
            self._changed.notify_all()
            failure = self.failures.pop(0) if self.failures else None
            found = {query: self._there[query] for query in asked if query in self._there}
        self.meanwhile()
        if failure is not None:
            raise failure
        return found

    def put(self, *queries: Query, value: object = "value") -> None:
        """What these ask for is there from now on."""
        with self._changed:
            self._there.update(dict.fromkeys(queries, value))

    def remove(self, query: Query) -> None:
        """What it asks for is there no longer."""
        with self._changed:
            self._there.pop(query, None)

    def looked_for(self, query: Query) -> list[float]:
        """When the query was looked for."""
        with self._changed:
            return self._looked_for(query)

    def wait_for_looks(self, query: Query, count: int, within_s: float = WAIT_S) -> None:
        """Wait until the query was looked for so many times."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._looked_for(query)) >= count, within_s):
                raise AssertionError(f"{query} was looked for {len(self._looked_for(query))} times only")

    def _looked_for(self, query: Query) -> list[float]:
        return [when for when, queries in self.looks if query in queries]


class FakeHints:
    """Hints to other processes that the test reads, and a file at which it tells whether it has changed.

    Attributes:
        published: What was published, in order.
        peeks: How often the file was peeked at.
        has_changed: What the next peek tells.
    """

    def __init__(self, *, is_live: bool = False, peek_interval_s: float | None = None) -> None:
        self.is_live = is_live
        self.peek_interval_s: float | None = peek_interval_s
        self._changed = threading.Condition()
        self.published: list[str] = []
        self.peeks = 0
        self.has_changed = False

    def start(self, receive: Callable[[Sequence[str]], None]) -> None:
        """See `Hints`."""

    def publish(self, hints: Iterable[str]) -> None:
        """See `Hints`."""
        self.published.extend(hints)

    def peek(self) -> bool:
        """See `Hints`."""
        with self._changed:
            self.peeks += 1
            self._changed.notify_all()
            was, self.has_changed = self.has_changed, False
            return was

    def wait_for_peeks(self, count: int) -> None:
        """Wait until the file was peeked at so many times more."""
        with self._changed:
            wanted = self.peeks + count
            assert self._changed.wait_for(lambda: self.peeks >= wanted, WAIT_S), "nobody peeks at the file"

    def stop(self) -> None:
        """See `Hints`."""
