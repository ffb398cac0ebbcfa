"""Configure, launch, destroy: one application at a time in a process."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from typing import TYPE_CHECKING

from dbos.api.alerts import ALERTS
from dbos.api.application_schedules import create_declared_schedules, decorated_schedules
from dbos.api.config import Settings
from dbos.api.instance import set_executor
from dbos.api.log_records import WORKFLOW_FILTER
from dbos.api.seams import load_edge
from dbos.api.telemetry_methods import OTEL_PACKAGE
from dbos.api.termination import TerminationHandler
from dbos.error import DBOSException, DBOSInitializationError
from dbos.model.clock import SystemClock
from dbos.runtime.leases import renew_interval_s
from dbos.runtime.registry import REGISTRY
from dbos.serialization.codec import Codec

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from dbos.model.clock import Clock
    from dbos.runtime.alerts import Alerts
    from dbos.runtime.application import ApplicationDatabase
    from dbos.runtime.database_time import ProgramTime
    from dbos.runtime.executor import Executor
    from dbos.runtime.overseeing import Overseer
    from dbos.runtime.tracing import Tracing
    from dbos.storage.database import Database
    from dbos.storage.gate import Gate
    from dbos.storage.hints import Hints

    class AdminServer(Protocol):
        """What a launch has to do with its admin server."""

        def stop(self) -> None: ...
        def abandon(self) -> None: ...

    class Telemetry(Protocol):
        """What a launch has to do with its telemetry."""

        @property
        def tracing(self) -> Tracing: ...
        def stop(self) -> None: ...
        def abandon(self) -> None: ...


_logger = logging.getLogger("dbos")

PATCHING_VERSION = "PATCHING_ENABLED"
"""The application version of all code that is upgraded by patches."""


class Application:
    """A configured application, launched or not.

    ``clock``, ``time_of``, ``overseer``, ``gate``, the times and ``drops_hints`` (of other processes) are the seams for
    tests, to be set before the launch.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock: Clock = SystemClock()
        self.time_of: Callable[[Database], ProgramTime] | None = None
        self.overseer: Overseer | None = None
        self.gate: Gate | None = None
        self.hold_back_s = 0.002
        self.lease_ttl_s = settings.lease_ttl_s
        self.renew_interval_s = renew_interval_s(settings.lease_ttl_s)
        self.drops_hints = False
        self._lock = threading.Lock()
        self._executor: Executor | None = None
        self._termination = TerminationHandler(self._terminate)
        self._admin: AdminServer | None = None
        self._telemetry: Telemetry | None = None
        self._alerts: Alerts | None = None

    @property
    def executor(self) -> Executor | None:
        return self._executor

    @property
    def application_version(self) -> str:
        """The configured version; with patching one for all; else a hash of the workflows' source."""
        if self._executor is not None:
            return self._executor.application_version
        if self.settings.application_version is not None:
            return self.settings.application_version
        return PATCHING_VERSION if self.settings.is_patching_enabled else REGISTRY.source_hash()

    def launch(self) -> None:
        """Open the database and start the executor. Launched already, it only says so.

        Raises:
            DBOSInitializationError: The database cannot be used.
        """
        from dbos.api.older_debouncer import register_older_debouncer
        from dbos.runtime.executor import Executor
        from dbos.runtime.settings import ExecutorSettings

        register_older_debouncer()
        with self._lock:
            if self._executor is not None:
                _logger.warning("DBOS.launch() was called again; it is launched already")
                return
            settings = self.settings
            database = self._open_database()
            application: ApplicationDatabase | None = None
            try:
                telemetry = self._start_telemetry()
                application = self._open_application_database(database)
                executor = Executor(
                    database,
                    Codec(settings.serializer),
                    self.clock,
                    REGISTRY,
                    ExecutorSettings(
                        executor_id=settings.executor_id,
                        application_version=self.application_version,
                        application_id=settings.application_id,
                        hold_back_s=self.hold_back_s,
                        renew_interval_s=self.renew_interval_s,
                        lease_ttl_s=self.lease_ttl_s,
                        longest_poll_s=settings.longest_poll_s,
                        is_patching_enabled=settings.is_patching_enabled,
                        retention=settings.retention,
                        schedules_poll_s=settings.schedules_poll_s,
                    ),
                    self._open_hints(database),
                    application,
                    None if self.time_of is None else self.time_of(database),
                )
                executor.overseer = self.overseer
                if telemetry is not None:
                    executor.tracing = telemetry.tracing
                executor.register()
            except BaseException:
                self._stop_telemetry()
                if application is not None:
                    application.close()
                database.close()
                raise
            self._executor = executor
            set_executor(executor)
            _note_launched(self)
            atexit.register(self._at_exit)
            self._termination.install()
            try:
                self._start_alerts(executor)
                # Only now, as recovered workflows use the public functions.
                executor.begin(decorated_schedules())
                create_declared_schedules(executor)
                self._start_admin_server(executor)
            except BaseException:
                self._stop(0)
                raise
        _logger.info("DBOS launched: %s, version %s", database.location, executor.application_version)

    def shut_down(self, completion_timeout_s: float) -> None:
        """Stop the executor and close the database; never launched, it does nothing."""
        with self._lock:
            self._stop(completion_timeout_s)

    def _stop(self, completion_timeout_s: float) -> None:
        executor, self._executor = self._executor, None
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.stop()
        if executor is not None:
            atexit.unregister(self._at_exit)
            self._termination.remove()
            executor.shut_down(completion_timeout_s)
            self._stop_alerts()
            set_executor(None)
            executor.application.close()
            executor.database.close()
        # At last, as there are spans of what was interrupted.
        self._stop_telemetry()

    def _terminate(self) -> None:
        """As SIGTERM asks."""
        timeout_s = self.settings.termination_timeout_s
        if self._executor is not None:
            self._executor.stop_claiming()
            _logger.info(
                "SIGTERM: nothing more is started; what runs has %g s to complete, then others go on", timeout_s
            )
        self.shut_down(timeout_s)

    def abandon(self) -> None:
        """Forget the executor without stopping it: it is another process's."""
        self._lock = threading.Lock()
        self._executor = None
        if self._admin is not None:
            self._admin.abandon()
            self._admin = None
        if self._telemetry is not None:
            self._telemetry.abandon()
            self._telemetry = None
        self._alerts = None
        atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        """A program that just ends hands back what it leaves undone."""
        self.shut_down(0)

    def reset_system_database(self) -> None:
        """Drop and remake the library's tables.

        Raises:
            DBOSException: It is launched.
        """
        from dbos.storage.migrations import reset

        with self._lock:
            if self._executor is not None:
                raise DBOSException(
                    "DBOS.reset_system_database() was called after DBOS.launch(). It deletes all workflows, so it may "
                    "only be called between DBOS(config=...) and DBOS.launch()."
                )
            database = self._open_database()
            application: ApplicationDatabase | None = None
            try:
                # First what a workflow of the same id would take for its own.
                application = self._open_application_database(database)
                application.store.delete_all()
                reset(database)
            finally:
                if application is not None:
                    application.close()
                database.close()

    def _start_admin_server(self, executor: Executor) -> None:
        if self.settings.admin is not None:
            edge = load_edge("admin.listener", "uvicorn", "The admin server")
            self._admin = edge.start(executor, self.settings.admin)

    def _start_telemetry(self) -> Telemetry | None:
        if self.settings.telemetry is not None:
            edge = load_edge("telemetry.exporting", OTEL_PACKAGE, "enable_otlp")
            self._telemetry = edge.start(self.settings, self.application_version)
        return self._telemetry

    def _stop_telemetry(self) -> None:
        telemetry, self._telemetry = self._telemetry, None
        if telemetry is not None:
            telemetry.stop()

    def _start_alerts(self, executor: Executor) -> None:
        if ALERTS.handler is not None:
            from dbos.runtime.alerts import Alerts, AlertSettings

            settings = self.settings
            self._alerts = Alerts(
                executor,
                AlertSettings(ALERTS.handler, settings.alert_queue_wait_s, settings.alert_repeat_interval_s),
            )
            self._alerts.start()

    def _stop_alerts(self) -> None:
        alerts, self._alerts = self._alerts, None
        if alerts is not None:
            alerts.stop()

    def _open_hints(self, database: Database) -> Hints:
        from dbos.storage.hints import NoHints, open_hints

        return (
            NoHints() if self.drops_hints else open_hints(database, uses_notifications=self.settings.uses_notifications)
        )

    def _open_database(self) -> Database:
        from dbos.storage.opening import open_database

        settings = self.settings
        if settings.given.get("use_listen_notify") and (settings.system_database_url or "").startswith("sqlite"):
            raise DBOSInitializationError("Configuration: use_listen_notify must be False with SQLite, which has none.")
        return open_database(
            url=settings.system_database_url,
            engine=settings.system_database_engine,
            schema=settings.schema,
            pool_size=settings.pool_size,
            gate=self.gate,
        )

    def _open_application_database(self, system: Database) -> ApplicationDatabase:
        from dbos.runtime.application import ApplicationDatabase
        from dbos.storage.migrations import prepare_for_transactions
        from dbos.storage.opening import is_same_database, open_application_database

        settings = self.settings
        url = settings.application_database_url
        if url is None or is_same_database(system.engine, url):
            prepare_for_transactions(system)
            return ApplicationDatabase(system)
        own = open_application_database(url=url, schema=settings.schema, pool_size=settings.pool_size, gate=self.gate)
        return ApplicationDatabase(system, own)


def _note_launched(application: Application) -> None:
    global _launched
    _launched = application


_launched: Application | None = None
_abandoned: list[object] = []


def _forget_in_child() -> None:
    """A forked process has none of its parent's threads, and must not touch its connections.

    They are kept from the garbage collector, which would close them for the parent too. The child may launch anew.
    """
    if _launched is not None and _launched.executor is not None:
        _abandoned.append(_launched.executor)
        _launched.abandon()
        set_executor(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


class _FallbackHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error unless the application has set up logging itself, then or later."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            super().emit(record)


def set_up_logging(level: str) -> None:
    """Set the logger's level, and make its lines visible where nobody else does."""
    _logger.setLevel(level)
    _logger.addFilter(WORKFLOW_FILTER)
    if not _logger.handlers:
        handler = _FallbackHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s dbos: %(message)s", "%H:%M:%S"))
        _logger.addHandler(handler)
