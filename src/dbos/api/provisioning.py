"""Making databases ready ahead of time."""

from __future__ import annotations

from dbos.api.config import url_beside
from dbos.error import DBOSInitializationError


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
        application_database_url: The application database, if the system database is not given: that is then, as in
            the configuration, its neighbour with the suffix ``_dbos_sys``; on SQLite the same file.
        schema: The PostgreSQL schema of the tables.
        app_role: A PostgreSQL role that may read and write the rows afterwards, and need not own anything.

    Raises:
        DBOSInitializationError: The database cannot be used, or there is no such role.
    """
    from dbos.storage.opening import explained, open_database
    from dbos.storage.provisioning import grant

    if system_database_url is None:
        if application_database_url is None:
            raise DBOSInitializationError("run_dbos_database_migrations was given no system_database_url.")
        system_database_url = url_beside(application_database_url)
    database = open_database(url=system_database_url, schema=schema, pool_size=2)
    try:
        if app_role is not None:
            with explained(database.engine):
                grant(database, app_role)
    finally:
        database.close()
