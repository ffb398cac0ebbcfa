"""The application database: where transactions run, which may be the system database itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager

from dbos.model.values import RecordedStep
from dbos.storage.database import Database
from dbos.storage.transactions import TransactionStore

_LOOK_AROUND_S = 2.0
"""How often a transaction that waits for a connection looks whether its run may still go on."""


class ApplicationDatabase:
    """The application database and its connections.

    In the system database transactions use its connections, all but one, so that what the library itself has to write
    never waits for the application's code. A database of their own has as many connections of its own. In SQLite there
    is one transaction at a time.

    Args:
        system: The system database.
        own: The application database, if it is another one; it is closed with this.
    """

    def __init__(self, system: Database, own: Database | None = None) -> None:
        self._own = own
        database = system if own is None else own
        self.store = TransactionStore(database, has_guard=own is None)
        """Where transactions run."""
        at_once = database.pool_size - (own is None) if database.locks_rows else 1
        self._turns = threading.Semaphore(max(1, at_once))

    @property
    def is_separate(self) -> bool:
        """Whether it is not the system database."""
        return self._own is not None

    @contextmanager
    def turn(self, check: Callable[[], None]) -> Generator[None, None, None]:
        """Wait until there is a connection for one more transaction; ``check`` is called now and then meanwhile."""
        while not self._turns.acquire(timeout=_LOOK_AROUND_S):
            check()
        try:
            yield
        finally:
            self._turns.release()

    def records(self, workflow_ids: Sequence[str]) -> dict[str, dict[int, RecordedStep]]:
        """The transactions that may be recorded nowhere else, by workflow id and function id.

        In the system database each has its checkpoint, and there are none.
        """
        return self.store.read(workflow_ids) if self.is_separate else {}

    def forget(self, workflow_ids: Collection[str]) -> None:
        """Delete the records that were not deleted with their workflows."""
        if self.is_separate:
            self.store.delete(list(workflow_ids))

    def close(self) -> None:
        """Close the database, if it is its own."""
        if self._own is not None:
            self._own.close()
