"""The dispatcher: starts what waits on the queues that this process listens to.

Each queue has a *lane*. It claims when it is told that there is work: by a commit of this process, by a hint of another
one, by the end of a run that held a slot, by the time at which a rate limit opens; and by looking now and then, in case
that nobody told. It claims no more than can start soon, so that what one process cannot start is left to others.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from dbos.model.queues import INTERNAL_QUEUE, QueueRules
from dbos.model.values import ClaimedWorkflow
from dbos.runtime.classes import describe
from dbos.runtime.registry import QUEUES
from dbos.runtime.threads import Errand
from dbos.storage.queues import (
    Claim,
    Claimant,
    claim_enqueued,
    find_partitions,
    find_queues,
    find_unknown_functions,
    find_waiting,
    note_starts,
)
from dbos.storage.waiting import queue_hint

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor
    from dbos.runtime.run import Run

_logger = logging.getLogger("dbos")

WINDOW = 100
"""How many runs of a queue may be young: claimed, and neither over nor running for a while."""

YOUTH_S = 0.05
"""For how long a run is young. What then is not over waits for something, or takes long: it holds up nobody."""

_MANY_PARTITIONS = 50
"""Of how many partitions one transaction claims."""

_REST = 4
"""How many times as long as a claim took the lane rests before the next, while what it has claimed is being run and
no slot is freed: so that what is enqueued one by one is not claimed one by one."""

_RETRY_S = 0.01
"""How soon to look again where a limit opens at an unknown time, at the earliest."""


class Slot:
    """What a run holds of its queue: a claim, until its workflow is another's or nobody's, and a place in this process,
    until its function has returned."""

    __slots__ = ("claimed_at", "has_begun", "has_claim", "is_free", "lane", "partition", "token")

    def __init__(self, lane: Lane, partition: str | None, token: str, claimed_at: float) -> None:
        self.lane = lane
        self.partition = partition
        self.token = token
        self.claimed_at = claimed_at
        self.has_begun = False
        self.has_claim = True
        self.is_free = False

    def begin(self) -> None:
        """The run's function is about to be called."""
        if not self.has_begun:
            self.has_begun = True
            self.lane.begun(self)

    def lose_claim(self) -> None:
        """The workflow was cancelled or deleted, or is another's; its function may still be running."""
        if self.has_claim:
            self.has_claim = False
            self.lane.unclaimed(self)

    def free(self) -> None:
        """The run's function has returned, or will not be called."""
        if not self.is_free:
            self.is_free = True
            self.begin()
            self.lane.freed(self)
            self.lose_claim()


class Lane:
    """One queue, as this process serves it."""

    def __init__(self, dispatcher: Dispatcher, rules: QueueRules) -> None:
        self.rules = rules
        self._dispatcher = dispatcher
        self._executor = dispatcher.executor
        self._lock = threading.Lock()
        self._running: Counter[str | None] = Counter()
        """How many functions run here, by partition."""
        self._claims: Counter[str | None] = Counter()
        """How many claims are held here, by partition."""
        self._young: dict[str, Slot] = {}
        self._is_held_up = False
        """Whether there may be more than was claimed."""
        self._started: list[str] = []
        """Tokens of claims whose functions were called, which the database does not know yet."""
        self._serve = Errand(self._executor.threads, self._claim_all, f"Starting what waits on queue {rules.name!r}")
        self._note = Errand(self._executor.threads, self._note_starts, f"Noting starts of queue {rules.name!r}")
        self._last_partition: str | None = None
        """The partition of which was claimed last."""
        self._resting = threading.Event()
        """Ends the rest after a claim."""
        self._rests_until = 0.0
        self._opens_at: float | None = None
        """When the rate limit lets the next one start, at the earliest: a moment of the program's time."""
        self.looks_at = 0.0
        """When to look without having been told."""

    def serve_soon(self) -> None:
        """There may be work."""
        self._serve.run_soon()

    def _serve_now(self) -> None:
        """There may be work, or room for it, that must not wait."""
        self._resting.set()
        self._serve.run_soon()

    def stop(self) -> None:
        """Start nothing more."""
        self._serve.stop()

    def note_soon(self) -> None:
        """Note what was started and is not noted yet."""
        if self._started:
            self._note.run_soon()

    def flush(self) -> None:
        """Note what was started, in this thread."""
        self._note.stop()
        self._note_starts()

    # -- slots

    def begun(self, slot: Slot) -> None:
        if self.rules.rate is not None:
            with self._lock:
                self._started.append(slot.token)
            self._note.run_soon()

    def freed(self, slot: Slot) -> None:
        rules = self.rules
        with self._lock:
            _count_down(self._running, slot.partition)
            self._young.pop(slot.token, None)
            must_serve = self._is_held_up and (
                rules.worker_concurrency is not None or len(self._young) <= WINDOW * 3 // 4
            )
        if must_serve:
            self._serve_now()

    def unclaimed(self, slot: Slot) -> None:
        with self._lock:
            _count_down(self._claims, slot.partition)
        if self.rules.concurrency is not None:
            self._serve_now()
            self._executor.hints.publish([queue_hint(self.rules.name)])

    def _room(self, partition: str | None, left: int) -> int:
        """How many more may be claimed of the partition here, as far as this process knows."""
        room, rules = left, self.rules
        if rules.worker_concurrency is not None:
            room = min(room, rules.worker_concurrency - self._running[partition])
        if rules.concurrency is not None:
            room = min(room, rules.concurrency - self._claims[partition])
        return room

    def _window_left(self, now: float) -> int:
        for token, slot in list(self._young.items()):
            if slot.has_begun and now - slot.claimed_at > YOUTH_S:
                del self._young[token]
        return WINDOW - len(self._young)

    # -- claiming

    def _claim_all(self) -> None:
        """Claim and start until there is no more, or no room for more."""
        if self._running:
            self._resting.wait(self._rests_until - self._executor.clock.monotonic())
        self._resting.clear()
        began = self._executor.clock.monotonic()
        self._claim_round()
        ended = self._executor.clock.monotonic()
        self._rests_until = ended + min(_REST * (ended - began), YOUTH_S)

    def _claim_round(self) -> None:
        while not self._executor.is_closing and not self._serve.is_stopped:
            partitions = self._find_partitions() if self.rules.is_partitioned else [None]
            has_more = False
            for first in range(0, len(partitions), _MANY_PARTITIONS):
                has_more |= self._claim_some(partitions[first : first + _MANY_PARTITIONS])
            if not has_more:
                return

    def _find_partitions(self) -> list[str | None]:
        """The partitions that hold work, beginning behind the one that was served last."""
        partitions = find_partitions(self._executor.database, self.rules)
        last = self._last_partition or ""
        return sorted(partitions, key=lambda partition: ((partition or "") <= last, partition or ""))

    def _claim_some(self, partitions: Sequence[str | None]) -> bool:
        """Claim of these partitions; returns whether there may be more for which there is room."""
        executor = self._executor
        now, began = executor.clock.monotonic(), executor.time.moment_in(0.0)
        opens_in_s = self.opens_in_s()
        if opens_in_s > 0 and not self.rules.is_partitioned:
            self.look_in(opens_in_s)
            return False
        with self._lock:
            left = window = self._window_left(now)
            share = max(1, left // max(1, len(partitions)))
            rooms: dict[str | None, int] = {}
            for partition in partitions:
                room = self._room(partition, min(share, left))
                if room > 0:
                    rooms[partition] = room
                    left -= room
                    self._last_partition = partition
            self._is_held_up = True
        if not rooms:
            if window <= 0:
                # Some of the young ones are over soon, or run on and are young no more.
                self.look_in(YOUTH_S)
            return False
        opens_in_ms: int | None = None
        is_full: bool = False
        is_contended: bool = False

        def claim() -> list[ClaimedWorkflow]:
            nonlocal opens_in_ms, is_full, is_contended
            claimed = self._claim(rooms)
            opens_in_ms, is_contended = claimed.opens_in_ms, claimed.is_contended
            counts = Counter(map(self._partition_of, claimed.workflows))
            is_full = any(counts[partition] == room for partition, room in rooms.items())
            return claimed.workflows

        executor.recovery.take_up(claim)
        if opens_in_ms is not None:
            opens_in_s = max(opens_in_ms / 1000, _RETRY_S)
            self.look_in(opens_in_s)
            self._opens_at = began + opens_in_s
        if is_contended:
            self.look_in(_RETRY_S)
        elif not is_full and not self.rules.is_shared:
            if not self.rules.is_partitioned:
                with self._lock:
                    self._is_held_up = False
            # What others were claiming at the same time, and then left, was not seen.
            self.look_in(YOUTH_S)
        return is_full

    def _claim(self, rooms: Mapping[str | None, int]) -> Claim:
        return claim_enqueued(
            self._executor.database,
            self.rules,
            self._dispatcher.claimant(),
            nonce=self._executor.new_token(),
            rooms=rooms,
        )

    def take(self, run: Run, workflow: ClaimedWorkflow) -> None:
        """The run was claimed from this queue: it holds a slot."""
        partition = self._partition_of(workflow)
        slot = Slot(self, partition, workflow.token, self._executor.clock.monotonic())
        with self._lock:
            self._running[partition] += 1
            self._claims[partition] += 1
            self._young[slot.token] = slot
        run.slot = slot

    def _partition_of(self, workflow: ClaimedWorkflow) -> str | None:
        return workflow.partition_key if self.rules.is_partitioned else None

    def opens_in_s(self) -> float:
        """In how many seconds the rate limit lets the next one start; not positive if it may do so now."""
        return 0.0 if self._opens_at is None else self._executor.time.seconds_left(self._opens_at)

    def look_in(self, seconds: float) -> None:
        """Look for work in so many seconds at the latest."""
        self.looks_at = min(self.looks_at, self._executor.clock.monotonic() + seconds)
        self._executor.duties.attend_in(seconds)

    def _note_starts(self) -> None:
        with self._lock:
            tokens, self._started = self._started, []
        if not tokens:
            return
        try:
            note_starts(self._executor.database, tokens)
        except BaseException:
            with self._lock:
                self._started = tokens + self._started
            self.look_in(1.0)
            raise


def _count_down(counter: Counter[str | None], partition: str | None) -> None:
    counter[partition] -= 1
    if not counter[partition]:
        del counter[partition]


class Dispatcher:
    """See the module's description."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self._lock = threading.Lock()
        self._internal = Lane(self, QueueRules(INTERNAL_QUEUE, polling_interval_s=executor.longest_poll_s))
        self._lanes: dict[str, Lane] = {INTERNAL_QUEUE: self._internal}
        self._by_hint: dict[str, Lane] = {queue_hint(INTERNAL_QUEUE): self._internal}
        self._is_stopped = False
        self._reported: set[object] = set()
        """The queues and functions of which was said that their work is not done here."""

    def opens_in_s(self) -> float | None:
        """In how many seconds a rate limit lets something start, the first that does; ``None`` if none is in force."""
        waiting = [seconds for lane in list(self._lanes.values()) if (seconds := lane.opens_in_s()) > 0]
        return min(waiting, default=None)

    def listen(self) -> None:
        """Serve the queues that are declared by now."""
        with self._lock:
            if self._is_stopped:
                return
            for rules in QUEUES.listened():
                if rules.name not in self._lanes:
                    self._lanes[rules.name] = self._by_hint[queue_hint(rules.name)] = Lane(self, rules)

    def declared(self) -> None:
        """A queue was declared after the launch."""
        self.listen()
        self.executor.announcement.tell_soon()
        self.executor.waits.attend_now()

    def served(self) -> tuple[QueueRules, ...]:
        """The queues that are served here, the library's own among them."""
        with self._lock:
            return () if self._is_stopped else tuple(lane.rules for lane in self._lanes.values())

    def lane(self, name: str | None) -> Lane | None:
        """The lane of a queue, if it is served here."""
        return self._lanes.get(name or "")

    def claimant(self) -> Claimant:
        executor = self.executor
        return Claimant(
            lease_id=executor.lease_id,
            executor_id=executor.executor_id,
            application_version=executor.application_version,
            names=executor.registry.names(),
            owners=executor.registry.classes.owners(),
        )

    def wake(self, names: Iterable[str]) -> None:
        """There may be work on these queues."""
        for name in names:
            lane = self._lanes.get(name)
            if lane is not None:
                lane.serve_soon()

    def hinted(self, hints: Iterable[str]) -> None:
        """Another process has told of work, or of room for it."""
        for its_hint in hints:
            lane = self._by_hint.get(its_hint)
            if lane is not None:
                lane.serve_soon()

    def attend(self, is_told: bool) -> float:
        """Look for work on the queues whose time has come, or on all; returns in how many seconds to come back.

        Args:
            is_told: Whether there may be work on any queue.
        """
        executor = self.executor
        lanes = list(self._lanes.values())
        now = executor.clock.monotonic()
        for lane in lanes:
            lane.note_soon()
        due = [] if self._is_stopped else [lane for lane in lanes if is_told or lane.looks_at <= now]
        for lane in due:
            lane.looks_at = now + lane.rules.polling_interval_s
        if due:
            queues, its = [lane.rules.name for lane in due], self.claimant()
            self.wake(find_waiting(executor.database, queues, its.application_version, its.names, its.owners))
        if self._is_stopped:
            return executor.longest_poll_s
        return max(0.0, min(lane.looks_at for lane in lanes) - executor.clock.monotonic())

    def report_unserved(self) -> None:
        """Say once of each queue, and of each function, that work waits for it which is not done here."""
        executor = self.executor
        for name in find_queues(executor.database):
            if name not in self._lanes and QUEUES.get(name) is None and name not in self._reported:
                self._reported.add(name)
                _logger.warning(
                    "Work waits on queue %r, which this process does not declare. It starts when a process runs that "
                    "does: Queue(%r).",
                    *(name, name),
                )
        for unknown in find_unknown_functions(executor.database, list(self._lanes), self.claimant()):
            if unknown not in self._reported:
                self._reported.add(unknown)
                _logger.warning(
                    "Work waits on queue %r for the function %s, which is not registered in this process. It starts "
                    "when a process of this version runs that registers it; what waits behind it goes on.",
                    *(unknown[0], describe(*unknown[1:])),
                )

    def stop(self) -> None:
        """Start nothing more, also of queues that are declared later."""
        with self._lock:
            self._is_stopped = True
            lanes = list(self._lanes.values())
        for lane in lanes:
            lane.stop()

    def flush(self) -> None:
        """Note what was started, as far as the database lets us: what is not noted now, others find lost."""
        for lane in list(self._lanes.values()):
            try:
                lane.flush()
            except Exception as error:
                _logger.warning("Starts of queue %r could not be noted: %r", lane.rules.name, error)
