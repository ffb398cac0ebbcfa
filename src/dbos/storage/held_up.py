"""Runs whose rows somebody keeps locked, for instance a session that was left open in the middle of a transaction.

The batch that meets such a row waits for it, and with it everybody who has something in the batch. So those runs are
set aside when the wait has lasted for the time that a lock may take: each is committed by a thread of its own, again
and again until it succeeds, and what it submits meanwhile waits behind that. Nobody else is held up any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from dbos.storage.errors import JournalClosed
from dbos.storage.promise import Promise
from dbos.storage.tickets import AnyTicket, RunLog, Ticket


class HeldUp:
    """The tickets that are set aside.

    Args:
        lock: The journal's; held by the caller where a method says so.
        commit: Commits tickets of one run, and returns when they are settled.
    """

    def __init__(self, lock: threading.Lock, commit: Callable[[list[Ticket]], None]) -> None:
        self._lock = lock
        self._commit = commit
        self._waiting: dict[RunLog, list[Ticket]] = {}
        """What is to be committed next, of each run that is set aside."""
        self._under_way: dict[RunLog, list[Ticket]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __contains__(self, log: RunLog) -> bool:
        """Whether the run is set aside. The lock is held."""
        return log in self._waiting

    def add(self, tickets: Iterable[Ticket]) -> None:
        """Set tickets aside, in their order.

        Raises:
            RuntimeError: No thread can be started; nothing of that run was set aside.
        """
        by_run: dict[RunLog, list[Ticket]] = {}
        for ticket in tickets:
            by_run.setdefault(ticket.log, []).append(ticket)
        for log, its_tickets in by_run.items():
            with self._lock:
                self._waiting[log] = its_tickets
            try:
                threading.Thread(target=self._work, args=(log,), name="dbos-held-up", daemon=True).start()
            except RuntimeError:
                with self._lock:
                    del self._waiting[log]
                raise
            # Not everybody who sleeps on them has to wait for what takes so long.
            for ticket in its_tickets:
                while ticket.wake_sleeper():
                    pass

    def sift(self, pending: list[AnyTicket]) -> list[AnyTicket]:
        """Put behind the others what belongs to runs that are set aside; returns the rest. The lock is held."""
        rest: list[AnyTicket] = []
        for ticket in pending:
            if isinstance(ticket, Ticket) and ticket.log in self._waiting:
                self._waiting[ticket.log].append(ticket)
            else:
                rest.append(ticket)
        return rest

    def close(self) -> None:
        """Nobody waits for them any more. What their threads still commit counts, if the run owns its workflow then."""
        with self._lock:
            left = [*self._under_way.values(), *self._waiting.values()]
            self._waiting = {log: [] for log in self._waiting}
        closed = JournalClosed("A row of the workflow was locked until the shutdown.")
        Promise.settle_all([(ticket, None, closed) for tickets in left for ticket in tickets])

    def _work(self, log: RunLog) -> None:
        while True:
            with self._lock:
                tickets = self._waiting[log]
                if not tickets:
                    del self._waiting[log]
                    self._under_way.pop(log, None)
                    return
                self._waiting[log] = []
                self._under_way[log] = tickets
            self._commit(tickets)
