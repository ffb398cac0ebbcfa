"""PostgreSQL's notifications, heard by the test itself, and the connections by which applications hear them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from dbos import DBOS
from tests.support.apps import PATIENCE_S
from tests.support.postgres import PostgresAdmin

_LISTENING = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = %s AND (query ILIKE 'LISTEN %%' OR query ILIKE '%%pg_notify%%' OR query ILIKE 'NOTIFY %%')"""

MARK = "mark"
"""The payload of the test's own notifications."""


class Listener:
    """Hears the hints that applications on a database give each other.

    Without a channel given, one of them must be launched in this process.
    """

    def __init__(self, url: str, channel: str | None = None) -> None:
        application: Any = DBOS._application  # pyright: ignore[reportPrivateUsage]
        self._channel: str = channel or application.executor.hints._channel
        self._changed = threading.Condition()
        self._heard: list[str] = []
        self._marks = 0
        self._connection: psycopg.Connection[Any] = psycopg.connect(url, autocommit=True)
        self._connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
        self._url = url
        threading.Thread(target=self._listen, daemon=True).start()

    def heard(self) -> list[str]:
        """What was notified until now, by anybody but the test."""
        with self._changed:
            wanted = self._marks + 1
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("SELECT pg_notify(%s, %s)", (self._channel, MARK))
        with self._changed:
            assert self._changed.wait_for(lambda: self._marks >= wanted, PATIENCE_S), "the mark never came"
            return list(self._heard)

    def wait_for(self, condition: Callable[[list[str]], bool]) -> list[str]:
        """Wait until the condition holds of all that was notified."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self._heard), PATIENCE_S), f"heard only {self._heard}"
            return list(self._heard)

    def close(self) -> None:
        """Hear no more."""
        self._connection.close()

    def _listen(self) -> None:
        try:
            for notification in self._connection.notifies():
                with self._changed:
                    if notification.payload == MARK:
                        self._marks += 1
                    else:
                        self._heard.append(notification.payload)
                    self._changed.notify_all()
        except psycopg.Error:
            return


def listening(admin: PostgresAdmin, url: str) -> set[int]:
    """The server's processes that serve listening connections to the database."""
    return {int(pid) for (pid,) in admin.execute(_LISTENING, (make_url(url).database,))}


def connection_count(admin: PostgresAdmin, url: str) -> int:
    """How many connections to the database there are."""
    ((count,),) = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (make_url(url).database,))
    return int(count)


def cut(admin: PostgresAdmin, pids: set[int]) -> None:
    """End these connections, as the server's administrator might."""
    admin.execute("SELECT pg_terminate_backend(pid, 10000) FROM unnest(%s::int[]) AS pid", (list(pids),))
