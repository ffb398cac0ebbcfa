"""The console in an application of somebody else's."""

from __future__ import annotations

import threading

from starlette.types import ASGIApp

from dbos.api.config import check_token
from dbos.api.instance import get_executor
from dbos.edges.console.app import Console
from dbos.edges.guards import Entrance, Guards
from dbos.error import DBOSException, DBOSInitializationError
from dbos.model.clock import SystemClock
from dbos.runtime.gateway import Gateway
from dbos.serialization.codec import Codec

POOL_SIZE = 4
"""How many database connections a console has that opens its own."""


class ConsoleApp(Guards):
    """The console as an ASGI application. ``close`` closes the connections that it has opened."""

    def __init__(self, app: ASGIApp, entrance: Entrance, opened: Opened | None) -> None:
        super().__init__(app, entrance)
        self._opened = opened

    def close(self) -> None:
        """Close the connections to its own database, if it has any; the next request would open it again."""
        if self._opened is not None:
            self._opened.close()


def console_app(
    system_database_url: str | None = None,
    *,
    allow_writes: bool = False,
    token: str | None = None,
    secret: str | None = None,
    dbos_system_schema: str = "dbos",
) -> ConsoleApp:
    """The console as an ASGI application, to be mounted anywhere: ``app.mount("/dbos", console_app())``.

    Whoever reaches it sees all workflows with their inputs and outputs: mount it where only those come who may, or set
    a token. It opens nothing before the first request.

    Args:
        system_database_url: The system database, as in the application's configuration. Default: that of the DBOS that
            is launched in this process when a request comes.
        allow_writes: Whether it may cancel, resume, fork and delete workflows, and steer schedules.
        token: What browsers ask for as a password, whatever the name; at least 16 characters. Default: nothing, as the
            application around it decides who may come.
        secret: What the tokens in forms are made with; at least 16 characters. Give several worker processes of one
            application the same, that nobody can guess. Default: each process makes up one of its own.
        dbos_system_schema: The PostgreSQL schema of the library's tables.

    Raises:
        DBOSInitializationError: The token or the secret is too short, or holds other characters than printable ASCII.
    """
    for name, value in (("token", token), ("secret", secret)):
        if value is not None:
            check_token(value, f"console_app: {name}")
    opened = None if system_database_url is None else Opened(system_database_url, dbos_system_schema)
    console = Console(opened or _launched, allow_writes=allow_writes, secret=secret)
    return ConsoleApp(console.app(), Entrance(token, is_local=False, pages=""), opened)


def _launched() -> Gateway:
    try:
        return get_executor("The console")
    except DBOSException as error:
        raise DBOSInitializationError(str(error.message)) from None


class Opened:
    """The way to a database, which is opened when it is first asked for.

    Args:
        url: The system database.
        schema: The PostgreSQL schema of its tables.
    """

    def __init__(self, url: str, schema: str) -> None:
        self._url = url
        self._schema = schema
        self._lock = threading.Lock()
        self._gateway: Gateway | None = None

    def __call__(self) -> Gateway:
        """The way.

        Raises:
            DBOSInitializationError: The database cannot be used; the next call tries again.
        """
        from dbos.storage.opening import open_existing_database

        with self._lock:
            if self._gateway is None:
                database = open_existing_database(url=self._url, schema=self._schema, pool_size=POOL_SIZE)
                self._gateway = Gateway(database, Codec(), SystemClock())
                self._gateway.connect()
            return self._gateway

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            gateway, self._gateway = self._gateway, None
        if gateway is not None:
            gateway.close()
            gateway.database.close()
