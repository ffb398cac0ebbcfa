"""The application under test: launched, restarted, crashed and emptied, as a test likes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, cast

from dbos.api.config import DBOSConfig
from dbos.api.dbos import DBOS
from dbos.api.instance import is_launched
from dbos.api.lifecycle import Application
from dbos.error import DBOSException
from dbos.runtime.executor import Executor
from dbos.serialization.serializer import Serializer
from dbos.storage.opening import is_same_database, open_application_database
from dbos.storage.transactions import TransactionStore
from dbos.testing.calls import CallWatch
from dbos.testing.clock import VirtualClock
from dbos.testing.databases import SessionDatabase
from dbos.testing.gate import Crashed, CrashGate

_DEFAULTS: Mapping[str, Any] = {
    "name": "test",
    "application_version": "test",
    "run_admin_server": False,
    "log_level": "WARNING",
}
_OURS = ("system_database_url", "system_database_engine", "dbos_system_schema")


_current: App | None = None


def current_app() -> App | None:
    """The application under test that is launched; ``None`` if none is."""
    return _current if is_launched() else None


class App:
    """The application of this process, on a database for tests. The decorated functions stay through all launches.

    Args:
        database: Its database, which it empties when it is asked to.
        config: What to configure beside the database. By default the ``application_version`` is ``test``, there is no
            admin server, and the log begins at ``WARNING``.
        clock: The clock that it lives by. Default: the machine's.

    Raises:
        DBOSException: The configuration names a database of its own.
    """

    def __init__(
        self,
        database: SessionDatabase,
        config: Mapping[str, Any] | None = None,
        clock: VirtualClock | None = None,
    ) -> None:
        self.database = database
        self.clock = clock
        self.calls = CallWatch()
        self._config = {name: value for name, value in (config or {}).items() if value is not None}
        if named := [name for name in _OURS if name in self._config]:
            raise DBOSException(
                f"dbos_config names {named[0]}, but the tests empty their database, and must not empty that one. Say "
                "by DBOS_TEST_DATABASE_URL or the fixture dbos_database_url where they may make one of their own."
            )
        self._gate = CrashGate()
        self._application_database_url: str | None = None

    @property
    def serializer(self) -> Serializer | None:
        """The serializer of the configuration; ``None`` for the default."""
        return cast("Serializer | None", self._config.get("serializer"))

    @property
    def is_launched(self) -> bool:
        """Whether it is launched."""
        return _current is self and is_launched()

    @property
    def executor(self) -> Executor:
        """What is launched.

        Raises:
            DBOSException: Nothing is.
        """
        application = _application()
        if application is None or application.executor is None:
            raise DBOSException("The application under test is not launched. Call launch() or relaunch().")
        return application.executor

    def launch(self, *, after_commit: Callable[[str], bool] | None = None) -> None:
        """Configure and launch.

        Args:
            after_commit: See ``CrashGate``.

        Raises:
            DBOSException: Something is launched already.
            DBOSInitializationError: The configuration is wrong, or the database cannot be used.
            Crashed: The gate was shut meanwhile, by what was recovered.
        """
        if is_launched():
            raise DBOSException(
                "DBOS is launched already, and there is one application at a time in a process. Let the test use the "
                "launched one that dbos_app is, or call DBOS.destroy() before."
            )
        database = {"system_database_url": self.database.url, "dbos_system_schema": self.database.schema}
        DBOS(config=cast(DBOSConfig, {**_DEFAULTS, **self._config, **database}))
        application = _application()
        assert application is not None
        self._application_database_url = application.settings.application_database_url
        self._gate = application.gate = CrashGate(after_commit)
        application.overseer = self.calls
        if self.clock is not None:
            application.clock = self.clock
            application.time_of = self.clock.time_of
        try:
            DBOS.launch()
        except Crashed:
            self._gate.silence_ends()
            self.database.bury_all()
            raise
        if self.clock is not None:
            self.clock.executor = application.executor
        global _current
        _current = self

    def destroy(self) -> None:
        """Stop, as ``DBOS.destroy()`` does: what was recorded is durable, what runs is interrupted."""
        if self.clock is not None:
            self.clock.executor = None
        DBOS.destroy()

    def relaunch(self) -> None:
        """Stop and launch again, as a process that is restarted: what was interrupted goes on."""
        self.destroy()
        self.launch()

    def crash(self, *, drain_s: float = 0.0) -> None:
        """Stop as a process that is killed: from now on nothing is recorded, and nothing is handed back.

        What the last commit made durable is there when it is launched again, and nothing else is. This process
        lives on, though: the code of a running step goes on to its end, ``finally`` blocks are run, and what modules
        hold in memory stays.

        Args:
            drain_s: How long to wait for steps that run, in seconds.
        """
        executor, gate = self.executor, self._gate
        gate.shut()
        try:
            self.destroy()
            gives_up_at = time.monotonic() + drain_s
            while executor.runs and time.monotonic() < gives_up_at:
                time.sleep(0.001)
        finally:
            gate.silence_ends()
        self.database.bury_all()

    def empty(self) -> None:
        """Delete all that is recorded; nothing may be launched.

        In an ``application_database_url`` of its own, what transactions of these workflows recorded is deleted, and
        nothing else.
        """
        url = self._application_database_url
        if url is not None and not is_same_database(self.database.opened.engine, url):
            own = open_application_database(url=url, schema=self.database.schema, pool_size=1)
            try:
                TransactionStore(own, has_guard=False).delete(self.database.workflow_ids())
            finally:
                own.close()
        self.database.empty()

    def reset(self) -> None:
        """Stop, delete all that is recorded (see ``empty``), and launch again."""
        self.destroy()
        self.empty()
        self.launch()

    def freeze(self, at: datetime | None = None) -> VirtualClock:
        """Launch again with a time that stands still; returns the clock, which moves it.

        Args:
            at: The time, in UTC if it names no time zone. Default: now, or where the clock stands.
        """
        self.destroy()
        if self.clock is None:
            self.clock = VirtualClock(at)
        elif at is not None:
            self.clock.set(at)
        self.launch()
        return self.clock


def _application() -> Application | None:
    return DBOS._application  # pyright: ignore[reportPrivateUsage]
