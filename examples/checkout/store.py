"""The shop's own data: the orders, in an SQLite file. Knows nothing of workflows.

A step that a crash cut off runs again, so each of these functions may be called twice for an order without harm.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager

WIDGETS = 12
"""How many widgets there were at the beginning; each order that was not cancelled takes one."""


def reserve(order_id: str) -> bool:
    """Reserve a widget for the order; False if there is none left."""
    with shop() as connection:
        connection.execute(
            "INSERT OR IGNORE INTO orders (id, status) "
            "SELECT ?, 'reserved' WHERE (SELECT count(*) FROM orders WHERE status <> 'cancelled') < ?",
            (order_id, WIDGETS),
        )
    return status_of(order_id) is not None


def set_status(order_id: str, status: str) -> None:
    """Say how the order stands: paid, dispatched, or cancelled, which puts its widget back."""
    with shop() as connection:
        connection.execute("UPDATE orders SET status = ? WHERE id = ?", (status, order_id))


def status_of(order_id: str) -> str | None:
    """How the order stands; None if there is no widget reserved for it."""
    with shop() as connection:
        row = connection.execute("SELECT status FROM orders WHERE id = ?", (order_id,)).fetchone()
    return None if row is None else row[0]


def in_stock() -> int:
    """How many widgets are left."""
    with shop() as connection:
        (taken,) = connection.execute("SELECT count(*) FROM orders WHERE status <> 'cancelled'").fetchone()
    return WIDGETS - int(taken)


@contextmanager
def shop() -> Generator[sqlite3.Connection, None, None]:
    """A connection and a transaction."""
    with closing(sqlite3.connect(os.environ.get("SHOP_FILE", "shop.sqlite"))) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, status TEXT NOT NULL)")
        yield connection
