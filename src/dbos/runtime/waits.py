"""Waits: for messages, events, stream entries and the ends of workflows, wherever they come from.

One thread asks the database for everything that is waited for, all at once. It asks at once for what this process has
just written or another process has hinted at, and by itself ever more seldom the longer a wait takes, so that a lost
hint costs a little time and nothing else. Looking takes a bounded share of the processor: what took long is not looked
for again soon. The same thread attends, now and then, to the executor's other duties.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dbos.error import DBOSException
from dbos.model.clock import Clock
from dbos.storage.hints import ASKING, EVERYTHING, Hints
from dbos.storage.promise import Bell, Promise
from dbos.storage.waiting import Query

_logger = logging.getLogger("dbos")

FIRST_INTERVAL_S = 0.005
LONGEST_INTERVAL_S = 1.0

_GROWTH = 1.5
_BEAT_S = 0.25
_MAX_STALE = 1000
"""How many plans of watches that have ended may be left over."""
_REST = 20
"""How many times as long as a look took the thread rests before it looks without a hint again."""
_ASK_AGAIN_S = 20.0
"""How often other processes are asked again for the hints that they give only if asked."""
_STOP_S = 0.5
_IDLE_PEEK_S = 0.05
_QUIET_PEEK_S = 0.01
_BUSY_S = 1.0
"""For how long after something arrived, or a wait began, the file is watched most closely."""


@dataclass(slots=True, eq=False)
class _Watch:
    promise: Promise[Any]
    interval_s: float
    longest_interval_s: float
    next_look: float
    watchers: int = 0

    def next_poll(self, now: float) -> float:
        """When to look without a hint: rare looks are made together, a few each second, rather early than late."""
        when = now + self.interval_s
        beat = math.floor(when / _BEAT_S) * _BEAT_S
        return beat if self.interval_s >= _BEAT_S and beat > now else when


class Waits:
    """See the module's description.

    Args:
        find: Asks the database what has arrived of some queries.
        hints: Tells when to look.
        clock: Measures the intervals.
        longest_interval_s: The longest time between two looks without a hint.
        stopped: What those are told who still wait when this is stopped.
    """

    def __init__(
        self,
        find: Callable[[Iterable[Query]], dict[Query, Any]],
        hints: Hints,
        clock: Clock,
        longest_interval_s: float = LONGEST_INTERVAL_S,
        stopped: str = "DBOS was shut down while something was waited for.",
    ) -> None:
        self._find = find
        self._stopped_message = stopped
        self._hints = hints
        self._clock = clock
        self._longest_interval_s = longest_interval_s
        self._lock = threading.Lock()
        self._bell = Bell()
        self._watches: dict[Query, _Watch] = {}
        self._by_hint: dict[str, set[Query]] = {}
        self._order = itertools.count()
        self._looks: list[tuple[float, int, Query]] = []
        """When to look for what: a heap, in which watches that moved or ended leave stale entries."""
        self._hinted: set[Query] = set()
        """What to look for at once."""
        self._unwatched: deque[tuple[Query, Promise[Any]]] = deque()
        """What watchers have ended their watch of, to be worked off under the lock."""
        self._once: dict[Query, Promise[Any]] = {}
        """What to look for at once, and only once."""
        self._attend: Callable[[bool], float] | None = None
        self._attend_at = 0.0
        self._is_told = True
        """Whether there is a reason to attend but the time."""
        self._ask_at = 0.0
        self._rest_until = 0.0
        self._wakes_at = 0.0
        """When the thread looks up by itself."""
        self._has_peeked_change = False
        self._peeked_at = -math.inf
        self._busy_until = 0.0
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    # -- what waits

    def watch(self, query: Query, longest_interval_s: float | None = None) -> Promise[Any]:
        """The promise of what the query asks for. What is not there yet is waited for until ``unwatch``.

        Args:
            query: What is waited for.
            longest_interval_s: The longest time between two looks without a hint.
        """
        return self._watch(query, longest_interval_s, looks_now=True)

    def watching(self, query: Query, longest_interval_s: float | None = None, *, looks_now: bool = True) -> Watching:
        """``watch`` for a ``with`` block.

        Args:
            query: What is waited for.
            longest_interval_s: The longest time between two looks without a hint.
            looks_now: Whether to look at once; not needed if the caller looks by itself, inside the block.
        """
        return Watching(self, query, self._watch(query, longest_interval_s, looks_now=looks_now))

    def unwatch(self, query: Query, promise: Promise[Any]) -> None:
        """One who watched does so no longer; when nobody does, it is looked for no more.

        It waits for no lock: the garbage collector may close a coroutine that watches at any moment, also in a thread
        that holds the lock.
        """
        self._unwatched.append((query, promise))
        if self._lock.acquire(blocking=False):
            try:
                self._work_off_unwatched()
            finally:
                self._lock.release()

    def _watch(self, query: Query, longest_interval_s: float | None, *, looks_now: bool) -> Promise[Any]:
        longest = self._longest_interval_s if longest_interval_s is None else longest_interval_s
        with self._lock:
            now = self._clock.monotonic()
            self._work_off_unwatched()
            watch = self._watches.get(query)
            if watch is None:
                if self._is_stopped:
                    return self._rejected()
                watch = _Watch(Promise(), self._first_interval_s(longest), longest, now)
                self._watches[query] = watch
                for hint in query.hints:
                    self._by_hint.setdefault(hint, set()).add(query)
                self._plan(query, watch, now if looks_now else watch.next_poll(now))
            elif looks_now:
                self._plan(query, watch, now)
            watch.watchers += 1
            if longest < watch.longest_interval_s:
                watch.longest_interval_s = longest
                watch.interval_s = min(watch.interval_s, longest)
                self._plan(query, watch, min(watch.next_look, now + longest))
            self._busy_until = now + _BUSY_S
            must_wake = looks_now or watch.next_look < self._wakes_at or self._hints.peek_interval_s is not None
            self._start_thread()
        self._hints.publish(ASKING + hint for hint in query.interests)
        if must_wake:
            self._bell.ring()
        return watch.promise

    def look(self, query: Query) -> Promise[Any]:
        """The promise of what the query asks for, or ``None`` if it is not there now."""
        with self._lock:
            if self._is_stopped:
                return self._rejected()
            promise = self._once.setdefault(query, Promise())
            self._start_thread()
        self._bell.ring()
        return promise

    def look_here(self, query: Query) -> Any | None:
        """What the query asks for, or ``None`` if it is not there now; asked by this thread."""
        return self._find([query]).get(query)

    # -- what wakes

    def wake(self, hints: Iterable[str]) -> None:
        """Look at once for what the hints tell of."""
        if not self._watches:
            return
        with self._lock:
            hinted: set[Query] = set()
            for hint in hints:
                if hint == EVERYTHING:
                    hinted.update(self._watches)
                else:
                    hinted.update(self._by_hint.get(hint, ()))
            self._hinted |= hinted
        if hinted:
            self._bell.ring()

    def deliver(self, found: Mapping[Query, Any]) -> None:
        """This has arrived: whoever waits for it need not look."""
        settled: list[tuple[Promise[Any], Any, None]] = []
        with self._lock:
            for query, value in found.items():
                watch = self._watches.get(query)
                if watch is not None:
                    settled.append((watch.promise, value, None))
                    self._drop(query)
        Promise.settle_all(settled)

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits for anything."""
        return not self._watches

    # -- life cycle

    def start(self, attend: Callable[[bool], float]) -> None:
        """Attend to duties too: ``attend`` is called now, and then each time after as many seconds as it returned.

        It is told whether something may have happened, or only the time has come.
        """
        with self._lock:
            self._attend = attend
            self._start_thread()
        # A recovered run may wait already, and with it the thread.
        self._bell.ring()

    def attend_now(self) -> None:
        """Something may have happened that is to be attended to."""
        with self._lock:
            self._is_told = True
            self._attend_at = -math.inf
        self._bell.ring()

    def attend_in(self, seconds: float) -> None:
        """Attend to the duties in so many seconds at the latest."""
        with self._lock:
            attend_at = self._clock.monotonic() + seconds
            is_earlier = attend_at < self._attend_at
            self._attend_at = min(self._attend_at, attend_at)
        if is_earlier:
            self._bell.ring()

    def stop(self) -> None:
        """Look no more; whoever still waits is told."""
        with self._lock:
            self._is_stopped = True
            promises = [watch.promise for watch in self._watches.values()] + list(self._once.values())
            self._watches.clear()
            self._once.clear()
        Promise.settle_all([(promise, None, DBOSException(self._stopped_message)) for promise in promises])
        self._bell.ring()
        if self._thread is not None and self._thread is not threading.current_thread():
            # It may be asking a database that is away.
            self._thread.join(_STOP_S)

    def _rejected(self) -> Promise[Any]:
        promise: Promise[Any] = Promise()
        promise.reject(DBOSException(self._stopped_message))
        return promise

    def _start_thread(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._look_on, name="dbos-waits", daemon=True)
            thread.start()
            self._thread = thread

    # -- the thread

    def _look_on(self) -> None:
        while not self._is_stopped:
            try:
                self._look_around()
            except Exception:
                # Everybody who waits depends on this thread.
                _logger.exception("Looking for what is waited for failed unexpectedly; it goes on")
                self._bell.wait(FIRST_INTERVAL_S)

    def _look_around(self) -> None:
        once, due, wait_s = self._take_due()
        if once or due:
            self._look(once, due)
        now = self._clock.monotonic()
        if self._attend is not None and now >= self._attend_at:
            self._attend_to_duties(self._attend)
        elif self._watches and now >= self._ask_at:
            self._ask_again()
        elif not self._has_peeked(now) and not once and not due:
            self._bell.wait(self._until_peek(now, wait_s))

    def _take_due(self) -> tuple[dict[Query, Promise[Any]], dict[Query, _Watch], float | None]:
        """What to look for now: once, and otherwise; and for how long there is nothing more to do."""
        with self._lock:
            now = self._clock.monotonic()
            self._work_off_unwatched()
            once, self._once = self._once, {}
            due, self._hinted = self._hinted & self._watches.keys(), set()
            if self._has_peeked_change and now >= self._rest_until:
                self._has_peeked_change = False
                due.update(self._watches)
            if len(self._looks) > 2 * len(self._watches) + _MAX_STALE:
                self._looks = [look for look in self._looks if not self._is_stale(look)]
                heapq.heapify(self._looks)
            while self._looks and (self._looks[0][0] <= now or self._is_stale(self._looks[0])):
                look = heapq.heappop(self._looks)
                if not self._is_stale(look):
                    due.add(look[2])
            moments = [self._looks[0][0], self._ask_at] if self._looks else []
            if self._attend is not None:
                moments.append(self._attend_at)
            if self._has_peeked_change:
                moments.append(self._rest_until)
            self._wakes_at = min(moments, default=math.inf)
            wait_s = None if self._wakes_at == math.inf else self._wakes_at - now
            return once, {query: self._watches[query] for query in due}, wait_s

    def _look(self, once: dict[Query, Promise[Any]], due: dict[Query, _Watch]) -> None:
        began, has_failed = self._clock.monotonic(), False
        try:
            found = self._find(due.keys() | once.keys())
        except Exception as error:
            has_failed = True
            if not self._is_stopped:
                _logger.warning("Looking for what is waited for failed, trying again: %r", error)
            Promise.settle_all([(promise, None, error) for promise in once.values()])
            found, once = {}, {}
        settled: list[tuple[Promise[Any], Any, None]] = [
            (promise, found.get(query), None) for query, promise in once.items()
        ]
        with self._lock:
            now = self._clock.monotonic()
            self._rest_until = now + _REST * (now - began)
            for query, watch in due.items():
                if self._watches.get(query) is not watch:
                    # It ended meanwhile; a later one must not be told what was there before it began.
                    continue
                if query in found:
                    settled.append((watch.promise, found[query], None))
                    self._busy_until = now + _BUSY_S
                    self._drop(query)
                elif has_failed:
                    self._plan(query, watch, now + min(watch.longest_interval_s, LONGEST_INTERVAL_S))
                else:
                    self._plan(query, watch, max(watch.next_poll(now), self._rest_until))
                    watch.interval_s = min(watch.interval_s * _GROWTH, watch.longest_interval_s)
        Promise.settle_all(settled)

    def _ask_again(self) -> None:
        with self._lock:
            self._ask_at = self._clock.monotonic() + _ASK_AGAIN_S
            interests = [hint for query in self._watches for hint in query.interests]
        self._hints.publish(ASKING + hint for hint in interests)

    def _attend_to_duties(self, attend: Callable[[bool], float]) -> None:
        with self._lock:
            is_told, self._is_told = self._is_told, False
            began = self._clock.monotonic()
            self._attend_at = began + self._longest_interval_s
        try:
            self.attend_in(attend(is_told))
        except Exception as error:
            self._is_told |= is_told
            if not self._is_stopped:
                _logger.warning("Attending to cancelled and waiting workflows failed, trying again: %r", error)
        now = self._clock.monotonic()
        self._rest_until = max(self._rest_until, now + _REST * (now - began))

    def _has_peeked(self, now: float) -> bool:
        """Peek at the file, if there is one and it is time; returns whether something was written."""
        peek_s = self._peek_interval_s()
        if peek_s is None or now < self._peeked_at + peek_s or self._is_stopped:
            return False
        self._peeked_at = now
        has_changed = self._hints.peek()
        if has_changed:
            with self._lock:
                self._has_peeked_change = bool(self._watches)
                self._is_told = True
                self._attend_at = min(self._attend_at, max(now, self._rest_until))
        return has_changed

    def _until_peek(self, now: float, wait_s: float | None) -> float | None:
        """How long to wait: for so many seconds at most, and no longer than until the next peek."""
        peek_s = self._peek_interval_s()
        if peek_s is None:
            return wait_s
        until_peek_s = self._peeked_at + peek_s - now
        return until_peek_s if wait_s is None else min(wait_s, until_peek_s)

    def _peek_interval_s(self) -> float | None:
        closest_s = self._hints.peek_interval_s
        if closest_s is None or not self._watches:
            return None if closest_s is None or self._attend is None else _IDLE_PEEK_S
        return closest_s if self._clock.monotonic() < self._busy_until else _QUIET_PEEK_S

    # -- the lock is held

    def _work_off_unwatched(self) -> None:
        while self._unwatched:
            query, promise = self._unwatched.popleft()
            watch = self._watches.get(query)
            if watch is not None and watch.promise is promise:
                watch.watchers -= 1
                if watch.watchers == 0:
                    self._drop(query)

    def _first_interval_s(self, longest: float) -> float:
        return longest if self._hints.is_live else min(FIRST_INTERVAL_S, longest)

    def _plan(self, query: Query, watch: _Watch, when: float) -> None:
        watch.next_look = when
        heapq.heappush(self._looks, (when, next(self._order), query))

    def _is_stale(self, look: tuple[float, int, Query]) -> bool:
        watch = self._watches.get(look[2])
        return watch is None or watch.next_look != look[0]

    def _drop(self, query: Query) -> None:
        del self._watches[query]
        for hint in query.hints:
            its_queries = self._by_hint.get(hint)
            if its_queries is not None:
                its_queries.discard(query)
                if not its_queries:
                    del self._by_hint[hint]


class Watching:
    """A watch for the length of a ``with`` block, which gets its promise."""

    __slots__ = ("_promise", "_query", "_waits")

    def __init__(self, waits: Waits, query: Query, promise: Promise[Any]) -> None:
        self._waits = waits
        self._query = query
        self._promise = promise

    def __enter__(self) -> Promise[Any]:
        return self._promise

    def __exit__(self, *error: object) -> None:
        self._waits.unwatch(self._query, self._promise)
