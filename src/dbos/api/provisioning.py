"""Making databases ready ahead of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos.api.config import url_beside
from dbos.error import DBOSInitializationError

if TYPE_CHECKING:
    from dbos.storage.database import Database


def run_dbos_database_migrations(
    system_database_url: str | None = None,
    *,
    application_database_url: str | None = None,
    schema: str = "dbos",
    app_role: str | None = None,
) -> None:
    """Make or upgrade the library's tables, as a launch does; done already, nothing happens.

    For a role that may make tables, where the application's role may not.

    Args:
        system_database_url: The system database. On Postgres it is created if it does not exist.
        application_database_url: The application database, in which transactions are recorded, if it is another one. If
            the system database is not given, that is its neighbour with the suffix ``_dbos_sys``, as in the
            configuration; on SQLite the same file.
        schema: The PostgreSQL schema of the tables.
        app_role: A PostgreSQL role that may read and write the rows afterwards, and need not own anything.

    Raises:
        DBOSInitializationError: The database cannot be used, or there is no such role.
    """
    from dbos.storage.opening import is_same_database, open_application_database, open_database

    if system_database_url is None:
        if application_database_url is None:
            raise DBOSInitializationError("run_dbos_database_migrations was given no system_database_url.")
        system_database_url = url_beside(application_database_url)
    database = open_database(url=system_database_url, schema=schema, pool_size=2)
    try:
        is_separate = application_database_url is not None and not is_same_database(
            database.engine, application_database_url
        )
        _grant(database, app_role)
    finally:
        database.close()
    if application_database_url is not None and is_separate:
        database = open_application_database(url=application_database_url, schema=schema, pool_size=2)
        try:
            _grant(database, app_role)
        finally:
            database.close()


def _grant(database: Database, app_role: str | None) -> None:
    from dbos.storage.opening import explained
    from dbos.storage.provisioning import grant

    if app_role is not None:
        with explained(database.engine):
            grant(database, app_role)
