"""The application as an object with parts, as ``dbos._dbos``, ``dbos._sys_db`` and ``dbos._utils`` show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dbos.api.dbos import DBOS
from dbos.api.instance import get_executor
from dbos.runtime.retention import collect_garbage
from dbos.storage.database import Database
from dbos.storage.postgres import PostgresDatabase

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine


class DatabaseView:
    """A database of the application, as far as programs use it: its engine."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def engine(self) -> Engine:
        """The engine. Tables of the schema ``dbos`` are found in it, whatever the schema is called or if there is none.

        See ``dbos.compat.tables``.
        """
        schema = self._database.schema if isinstance(self._database, PostgresDatabase) else None
        return self._database.engine.execution_options(schema_translate_map={"dbos": schema})


class SystemDatabase(DatabaseView):
    """The system database."""


class Instance(DBOS):
    """The configured application; its methods are those of ``DBOS``."""

    def __init__(self) -> None:
        """There is nothing to configure."""

    @property
    def _sys_db(self) -> SystemDatabase:
        return SystemDatabase(get_executor("The system database").database)

    @property
    def _app_db(self) -> DatabaseView:
        return DatabaseView(get_executor("The application database").application.store.database)

    @property
    def _config(self) -> Mapping[str, Any]:
        return DBOS._configured("Its configuration").settings.given

    @property
    def _initialized(self) -> bool:
        return DBOS._application is not None

    @property
    def _launched(self) -> bool:
        return DBOS._application is not None and DBOS._application.executor is not None


def current_instance() -> Instance | None:
    """The application, if there is one: ``dbos._dbos._dbos_global_instance``."""
    instance = Instance()
    return instance if instance._initialized else None  # pyright: ignore[reportPrivateUsage]


def get_instance() -> Instance:
    """The application: ``dbos._dbos._get_dbos_instance()``.

    Raises:
        DBOSException: ``DBOS(config=...)`` was not called.
    """
    DBOS._configured("_get_dbos_instance()")  # pyright: ignore[reportPrivateUsage]
    return Instance()


class _Parameters(type):
    """The properties of ``GlobalParams``."""

    @property
    def app_version(cls) -> str:
        return DBOS.application_version if current_instance() else ""

    @property
    def executor_id(cls) -> str:
        return DBOS.executor_id if current_instance() else "local"


class GlobalParams(metaclass=_Parameters):
    """What this process is called: ``GlobalParams.app_version``, ``GlobalParams.executor_id``."""


def garbage_collect(
    dbos: DBOS, cutoff_epoch_timestamp_ms: int | None = None, rows_threshold: int | None = None
) -> None:
    """Delete workflows that have ended, beyond either bound: created before the moment, or not among the newest."""
    executor = get_executor("garbage_collect")
    executor.flush()
    collect_garbage(executor, before_ms=cutoff_epoch_timestamp_ms, rows_kept=rows_threshold)


def startup_recovery_thread(dbos: DBOS, pending_workflows: Iterable[Any] = ()) -> None:
    """Recover what nobody runs, in this thread. Which workflows that are, the database says."""
    get_executor("startup_recovery_thread").recovery.make_pass()
