"""The journal: the durable writes of all running workflows, committed together.

What runs write reaches the journal in two ways. ``submit`` asks for it to be made durable and returns a ticket to wait
for. ``hold`` keeps a checkpoint back: the run that recorded it goes on with deterministic code, and the checkpoint
travels with whatever the run submits next. A crash before that looks exactly like a crash inside the step. What is
held for longer than ``hold_back_s`` is submitted by the journal itself, so that nobody waits for a run that dawdles.

One thread at a time leads: it takes everything that is pending, commits it in one transaction, settles the tickets and
looks again. While it commits, the next batch gathers, so the more writers there are, the more each commit carries, and
a lone writer never waits for company. A thread that finds the journal idle leads for its own ticket, without any
hand-off. Event loops must not block, so a thread of the journal's own leads for them, and watches over what is held.
The main thread leads for nobody but itself: Ctrl-C may interrupt it anywhere, and then it puts its ticket back. A start
of a workflow and a message from outside of workflows depend on nothing that is pending, so where the database lets
several transactions commit at once, a thread that finds the journal led commits its own by itself.

A run's writes stay in order and are never torn apart: a batch that fails for good is retried run by run, and a run
whose write is refused for good fails all its later ones with the same error. A batch that fails for now (connection
lost, deadlock, file locked) is retried until it succeeds or the journal closes; storage recognises what an earlier try
had committed after all. Runs whose rows somebody keeps locked are set aside (``dbos.storage.held_up``). A leader that
is interrupted (Ctrl-C) puts its batch back for the next one.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from dbos.model.clock import Clock
from dbos.model.limits import MAX_BATCH_CHARS, MAX_BATCH_WRITES
from dbos.model.values import (
    Batch,
    BatchAnswer,
    Checkpoint,
    ChildStart,
    Message,
    Outcome,
    StepEffect,
    WorkflowStart,
)
from dbos.storage.errors import JournalClosed, TransientStorageError
from dbos.storage.held_up import HeldUp
from dbos.storage.promise import Bell, Promise, new_sleeper
from dbos.storage.tickets import (
    AnyTicket,
    LoneTicket,
    MessageTicket,
    RunLog,
    StartTicket,
    Ticket,
    assemble,
    by_run,
    settle,
)

_logger = logging.getLogger("dbos")

A = TypeVar("A")

_FIRST_RETRY_S = 0.01
_LONGEST_RETRY_S = 2.0
_SILENT_RETRIES_S = 1.0
"""For how long a commit is tried again without a word: a file that a neighbour has locked is nothing to report."""
_TRIES_WHILE_CLOSING = 6
_PATIENCE_WHILE_CLOSING_S = 1.0
"""How often and for how long, at least, a commit is tried again that fails while the journal closes."""
_LEISURE = 25
"""How many times longer than others leisurely checkpoints may be kept back."""
_LOOKS_IN_VAIN = 25
"""How often the writer thread looks for held checkpoints and finds none, before it sleeps until it is called."""


class BatchStore(Protocol):
    """What the journal asks of storage."""

    def commit(self, batch: Batch) -> BatchAnswer:
        """Write the batch in one transaction.

        Raises:
            TransientStorageError: It may have been committed or not, and may be tried again.
            Exception: It was not committed, and trying again does not help.
        """
        ...

    @property
    def parallel_commits(self) -> int:
        """How many starts and messages may be committed beside another batch."""
        ...

    def held_up(self, workflow_ids: Sequence[str]) -> set[str]:
        """Those of the workflows whose rows somebody else keeps locked at the moment."""
        ...


class Journal:
    """Gathers, commits, settles. See the module's description."""

    def __init__(
        self,
        store: BatchStore,
        clock: Clock,
        hold_back_s: float = 0.002,
        on_commit: Callable[[Batch, BatchAnswer], None] = lambda batch, answer: None,
    ) -> None:
        self.store = store
        """Where batches are committed; another one may take its place at any time."""
        self._clock = clock
        self._hold_back_s = hold_back_s
        self._on_commit = on_commit
        """Called with every batch that was committed; it must not raise, nor take long."""
        self._lock = threading.Lock()
        self._pending: list[AnyTicket] = []
        self._taken: list[AnyTicket] = []
        """What the leader is committing."""
        self._held: dict[RunLog, float] = {}
        """Until when each run may hold something back, the first first; and so for what is leisurely."""
        self._held_long: dict[RunLog, float] = {}
        self._leader: int | None = None
        """The identifier of the thread that leads."""
        self._urgent: list[RunLog] = []
        """Runs that hold what somebody may be waiting for; the writer thread submits it as soon as it gets to it."""
        self._beside: dict[int, LoneTicket[Any]] = {}
        """What threads commit beside the leader, by their identifiers."""
        self._held_up = HeldUp(self._lock, lambda tickets: self._commit([*tickets], may_set_aside=False))
        self._closing = threading.Event()
        self._bell = Bell()
        self._writer: threading.Thread | None = None
        self._writer_looks = False
        """Whether the writer thread looks for overdue checkpoints; else it sleeps until the bell rings."""

    # -- what runs call

    def hold(
        self,
        log: RunLog,
        checkpoint: Checkpoint,
        start: ChildStart | None = None,
        *,
        is_urgent: bool = False,
        is_leisurely: bool = False,
    ) -> None:
        """Keep the checkpoint, and the workflow that it enqueues, back until the run submits, for a while at most.

        What others may be waiting for is urgent: it is kept back only until the writer thread gets to it, which is
        mostly not before the run submits by itself or waits for something. What nobody but a restart would miss is
        leisurely, and may be kept back ``_LEISURE`` times as long, so that it can travel with what comes next.
        """
        with self._lock:
            self._refuse_if_closed()
            log.hold(checkpoint, start)
            if log not in self._held:
                delay_s = self._hold_back_s * (_LEISURE if is_leisurely else 1)
                held = self._held_long if is_leisurely else self._held
                held.setdefault(log, self._clock.monotonic() + delay_s)
            if is_urgent:
                self._urgent.append(log)
            must_wake, self._writer_looks = is_urgent or not self._writer_looks, True
        if must_wake:
            # Also while somebody leads, who looks at what is pending only.
            self._ring()

    def submit(
        self,
        log: RunLog,
        *,
        checkpoint: Checkpoint | None = None,
        children: Sequence[ChildStart] = (),
        outcome: Outcome | None = None,
        step_effects: Sequence[StepEffect] = (),
    ) -> Ticket:
        """Ask for what the run holds, then for what is given, to be made durable, all in one transaction.

        With nothing held and nothing given it asks who owns the run, and its status. What rides with a checkpoint must
        be given together with it: one that is held may be submitted at any moment.
        """
        with self._lock:
            self._refuse_if_closed()
            if checkpoint is not None:
                log.hold(checkpoint)
            log.starts_asked += sum(child.start.place is not None for child in children)
            return self._submit(log, children, outcome, step_effects)

    def start(self, start: WorkflowStart) -> StartTicket:
        """Ask for a new workflow's row."""
        ticket = StartTicket(self, start)
        with self._lock:
            self._refuse_if_closed()
            self._pending.append(ticket)
        return ticket

    def send(self, message: Message) -> MessageTicket:
        """Ask for a message from outside of workflows to be delivered; the answer is whether its destination exists."""
        ticket = MessageTicket(self, message)
        with self._lock:
            self._refuse_if_closed()
            self._pending.append(ticket)
        return ticket

    def barrier(self, log: RunLog) -> Ticket | None:
        """The ticket to wait for until all that the run recorded is durable; ``None`` if it is already."""
        with self._lock:
            if log.held:
                self._refuse_if_closed()
                return self._submit(log)
            # Whoever leads may let go of it meanwhile.
            last = log.last
            return last if last is not None and not last.is_done else None

    def flush(self) -> None:
        """Make durable what is held and pending now, and wait for it, but not for what is set aside."""
        with self._lock:
            for log in (*self._held, *self._held_long):
                self._submit(log)
            waiting = [*self._taken, *self._pending]
        for ticket in waiting:
            self.wait(ticket, unless_aside=True)

    def close(self) -> None:
        """Make durable what was recorded so far, as far as the database lets us; from then on refuse everything."""
        with self._lock:
            for log in (*self._held, *self._held_long):
                self._submit(log)
            self._closing.set()
            waiting = [*self._taken, *self._pending]
            beside = list(self._beside.values())
        self._held_up.close()
        for ticket in waiting:
            self.wait(ticket, unless_aside=True)
        self._held_up.close()
        for ticket in beside:
            ticket.sleep_on(new_sleeper())
        self._bell.ring()
        if self._writer is not None and self._writer is not threading.current_thread():
            self._writer.join()

    # -- waiting and leading

    def wait(self, ticket: AnyTicket, *, unless_aside: bool = False) -> None:
        """Block this thread until the ticket is settled (or set aside), leading whenever nobody else does.

        The main thread leads for its own ticket only: Ctrl-C may interrupt it between any two instructions.
        """
        sleeper = new_sleeper()
        leads_for_all = threading.current_thread() is not threading.main_thread()
        try:
            while not ticket.is_done:
                with self._lock:
                    may_lead = leads_for_all or (self._pending == [ticket] and not ticket.has_followers)
                    is_aside = isinstance(ticket, Ticket) and ticket.log in self._held_up
                    if self._leader is None and may_lead and not is_aside:
                        self._leader = threading.get_ident()
                if self._leader == threading.get_ident():
                    self._lead(ticket)
                    continue
                if is_aside and unless_aside:
                    return
                # Whoever leads looks at what is pending before it leaves, and wakes a successor.
                if not leads_for_all:
                    self.kick()
                ticket.sleep_on(sleeper)
        except BaseException:
            # We may lead, or have been woken to lead.
            self._step_down()
            ticket.forget_sleeper(sleeper)
            self.kick()
            raise

    def commit_beside_leader(self, ticket: LoneTicket[Any]) -> bool:
        """Commit a lone write in this thread while another one leads; returns whether that could be done."""
        me = threading.get_ident()
        try:
            with self._lock:
                has_room = self._leader is not None and len(self._beside) < self.store.parallel_commits
                if not has_room or ticket not in self._pending or ticket.has_followers:
                    return False
                self._beside[me] = ticket
                self._pending.remove(ticket)
            self._commit([ticket])
            return True
        except BaseException:
            with self._lock:
                if not ticket.is_done and ticket not in self._pending:
                    self._pending.append(ticket)
            Promise.wake_all([ticket])
            self.kick()
            raise
        finally:
            with self._lock:
                self._beside.pop(me, None)

    def kick(self) -> None:
        """Have the writer thread commit what is pending, unless somebody leads, who will."""
        if self._leader is None:
            self._ring()

    def _ring(self) -> None:
        self._bell.ring()
        if self._writer is not None:
            return
        with self._lock:
            if self._writer is None:
                self._writer = self._start_writer()

    def _start_writer(self) -> threading.Thread | None:
        writer = threading.Thread(target=self._write, name="dbos-journal", daemon=True)
        try:
            writer.start()
        except RuntimeError as error:
            self._writer_looks = False
            _logger.error("The journal's thread cannot be started, trying again with the next write: %s", error)
            return None
        return writer

    def _write(self) -> None:
        looks_in_vain = 0
        while True:
            with self._lock:
                self._submit_overdue()
                leads = bool(self._pending) and self._leader is None
                if leads:
                    self._leader = threading.get_ident()
                elif self._closing.is_set() and not self._pending:
                    return
                looks_in_vain = 0 if self._held or self._held_long else looks_in_vain + 1
                self._writer_looks = looks_in_vain < _LOOKS_IN_VAIN
            if leads:
                try:
                    self._lead(None)
                except BaseException:
                    # Event loops have no other thread to commit for them.
                    _logger.exception("The journal's thread was interrupted; it goes on")
            elif self._writer_looks:
                self._bell.wait(self._hold_back_s)
            else:
                # Who rings holds something back, and mostly has submitted it again before we look: look on for a while.
                self._bell.wait()
                looks_in_vain = 0

    def _lead(self, mine: AnyTicket | None) -> None:
        """Commit batch after batch: until ``mine`` is settled, or, for the writer thread, until nothing is pending."""
        try:
            while True:
                with self._lock:
                    self._take()
                    if not self._taken:
                        self._leader = None
                        return
                self._commit(self._taken)
                if mine is not None and mine.is_done:
                    self._hand_over()
                    return
        except BaseException:
            self._step_down()
            self.kick()
            raise

    def _step_down(self) -> None:
        """Lead no longer, if this thread does; what it took and did not settle is for the next leader."""
        with self._lock:
            if self._leader == threading.get_ident():
                taken = self._taken
                undone = [ticket for ticket in taken if not ticket.is_done and ticket not in self._pending]
                self._pending = undone + self._pending
                self._taken = []
                self._leader = None
            else:
                return
        Promise.wake_all(taken)

    def _hand_over(self) -> None:
        with self._lock:
            self._taken = []
            self._leader = None
            waiting = list(self._pending)
        if waiting and not any(ticket.wake_sleeper() for ticket in waiting):
            self.kick()

    def _take(self) -> None:
        """Take what one batch may hold off the pending tickets. The lock is held."""
        if self._held_up:
            self._pending = self._held_up.sift(self._pending)
        writes = chars = count = 0
        for ticket in self._pending:
            its_writes, its_chars = ticket.size
            writes, chars = writes + its_writes, chars + its_chars
            if count and (writes > MAX_BATCH_WRITES or chars > MAX_BATCH_CHARS):
                break
            count += 1
        # In this order: an interruption in between doubles the tickets, which does no harm, and loses none.
        self._taken = self._pending[:count]
        self._pending = self._pending[count:]

    # -- committing

    def _commit(self, tickets: list[AnyTicket], *, may_set_aside: bool = True) -> None:
        """Commit and settle the tickets, or set them aside. Only an interruption is raised."""
        tickets = self._without_doomed(tickets)
        if not tickets:
            return None
        batch = assemble(tickets)
        delay = _FIRST_RETRY_S
        waited, report_after = 0.0, _SILENT_RETRIES_S
        tries_while_closing, waited_while_closing = 0, 0.0
        while True:
            try:
                answer = self.store.commit(batch)
            except TransientStorageError as error:
                if error.is_held_up and may_set_aside and (rest := self._set_aside(tickets)) is not None:
                    return self._commit(rest)
                tries_while_closing += self._closing.is_set()
                if tries_while_closing > _TRIES_WHILE_CLOSING and waited_while_closing > _PATIENCE_WHILE_CLOSING_S:
                    return self._reject(tickets, JournalClosed("The database did not answer before the shutdown."))
                if waited >= report_after:
                    _logger.warning("The database has refused a commit for %.0f s, trying again: %s", waited, error)
                    report_after = 2 * waited
                pause_s = min(delay, error.longest_pause_s) * random.uniform(0.5, 1.0)
                time.sleep(pause_s)
                waited += pause_s
                waited_while_closing += pause_s if tries_while_closing else 0.0
                delay = min(delay * 2, _LONGEST_RETRY_S)
            except Exception as error:
                parts = by_run(tickets)
                if len(parts) == 1:
                    return self._reject(tickets, error)
                for part in parts:
                    self._commit(part, may_set_aside=may_set_aside)
                return None
            else:
                settle(tickets, batch, answer)
                return self._on_commit(batch, answer)

    def _set_aside(self, tickets: list[AnyTicket]) -> list[AnyTicket] | None:
        """Set the tickets of runs aside whose rows somebody keeps locked; returns the others, ``None`` if it is all."""
        runs = [ticket for ticket in tickets if isinstance(ticket, Ticket)]
        try:
            locked = self.store.held_up([ticket.log.workflow_id for ticket in runs])
            aside = [ticket for ticket in runs if ticket.log.workflow_id in locked]
            if not aside:
                return None
            self._held_up.add(aside)
        except (TransientStorageError, RuntimeError):
            return None
        _logger.warning("Somebody keeps rows of these workflows locked, they have to wait: %s", ", ".join(locked))
        return [ticket for ticket in tickets if ticket not in aside]

    def _without_doomed(self, tickets: list[AnyTicket]) -> list[AnyTicket]:
        """Reject the tickets of runs of which an earlier write was refused for good; returns the others."""
        doomed: list[AnyTicket] = []
        for ticket in tickets:
            if isinstance(ticket, Ticket) and ticket.log.failure is not None:
                doomed.append(ticket)
                ticket.reject(ticket.log.failure)
        return [ticket for ticket in tickets if ticket not in doomed] if doomed else tickets

    def _reject(self, tickets: list[AnyTicket], error: BaseException) -> None:
        for ticket in tickets:
            if isinstance(ticket, Ticket):
                ticket.log.failure = error
        Promise.settle_all([(ticket, None, error) for ticket in tickets])

    def _submit(
        self,
        log: RunLog,
        children: Sequence[ChildStart] = (),
        outcome: Outcome | None = None,
        step_effects: Sequence[StepEffect] = (),
    ) -> Ticket:
        if log.held_starts:
            children, log.held_starts = [*log.held_starts, *children], None
        ticket = Ticket(self, log, log.held or (), children, outcome, step_effects)
        log.held = None
        self._held.pop(log, None)
        self._held_long.pop(log, None)
        if log.failure is not None:
            ticket.reject(log.failure)
        else:
            self._pending.append(ticket)
            log.last = ticket
        return ticket

    def _submit_overdue(self) -> None:
        """Submit what is urgent, and what was held for too long. The lock is held."""
        urgent, self._urgent = self._urgent, []
        for log in urgent:
            if log.held:
                self._submit(log)
        now = self._clock.monotonic()
        for held in (self._held, self._held_long):
            for log, until in list(held.items()):
                if now < until:
                    break
                self._submit(log)

    def _refuse_if_closed(self) -> None:
        if self._closing.is_set():
            raise JournalClosed("DBOS is shutting down.")
