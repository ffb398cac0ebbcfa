"""A gate that acts at the k-th transaction of the program under test: kills, stops or fails it.

Set it as `DBOS._application.gate` between `DBOS(config=...)` and `DBOS.launch()`. Only chosen operations are counted,
so that what runs in the background (renewing leases, looking for orphans) does not shift k.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from dbos import DBOS
from dbos.storage.database import Database
from dbos.storage.errors import TransientStorageError
from tests.support import ledger

Moment = Literal["begin", "before_commit", "after_commit"]

Action = Literal["kill", "stop", "transient", "final"]
"""SIGKILL; SIGSTOP, to be continued by the parent; an error that passes (after the commit: a lost acknowledgement);
an error that stays."""


databases_of_clients: list[Database] = []
"""What clients in this process write to, through the gate."""


class FinalFailure(Exception):
    """An error of the database that trying again does not cure."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Do `action` when `moment` is reached for the `k`-th time (from 1) by one of `operations`."""

    action: Action
    moment: Moment
    k: int
    operations: tuple[str, ...] = ("journal",)


class CountingGate:
    """Follows a plan. What it does it first writes into the ledger, as an entry of kind `reached`.

    When the transaction in which it stopped has passed after all, it writes one of kind `came_back`.
    """

    def __init__(self, plan: Plan, ledger_path: str | os.PathLike[str]) -> None:
        self._plan = plan
        self._ledger_path = ledger_path
        self._lock = threading.Lock()
        self._count = 0
        self._stopped_in: int | None = None

    def __call__(self, operation: str, moment: Moment) -> None:
        plan = self._plan
        if moment == "after_commit" and self._stopped_in == threading.get_ident():
            self._stopped_in = None
            ledger.record(self._ledger_path, kind="came_back", pid=os.getpid(), operation=operation)
        if moment != plan.moment or operation not in plan.operations:
            return
        with self._lock:
            self._count += 1
            if self._count != plan.k:
                return
        ledger.record(self._ledger_path, kind="reached", pid=os.getpid(), operation=operation, moment=moment)
        where = f"{operation} {moment} number {plan.k}"
        if plan.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif plan.action == "stop":
            self._stopped_in = threading.get_ident()
            with _no_other_writer():
                # Sent to the whole process it may reach another thread first, and this one would run on for a while.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        elif plan.action == "transient":
            raise TransientStorageError(f"made by the test at {where}")
        else:
            raise FinalFailure(f"made by the test at {where}")


@contextmanager
def _no_other_writer() -> Generator[None, None, None]:
    """Keeps other threads out of write transactions where those lock the whole database, as on SQLite."""
    application = DBOS._application
    assert application is not None
    assert application.executor is not None
    with ExitStack() as locks:
        for database in (application.executor.database, *databases_of_clients):
            locks.enter_context(database.write_lock)
        yield
