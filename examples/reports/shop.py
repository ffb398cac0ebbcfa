"""The shop: sells things, and writes that down in an SQLite file. Knows nothing of reports or workflows."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import datetime, timezone

SHOP_FILE = os.environ.get("SHOP_FILE", "shop.sqlite")


def sell(coins: int) -> None:
    """Write a sale down. The time is taken inside the transaction, so no report that begins later can miss it."""
    with sales() as connection:
        connection.execute("INSERT INTO sales (sold_at, coins) VALUES (?, ?)", (time.time(), coins))


def opened_at() -> datetime | None:
    """When the first thing was sold; None if nothing was."""
    with sales() as connection:
        (first,) = connection.execute("SELECT min(sold_at) FROM sales").fetchone()
    return None if first is None else datetime.fromtimestamp(first, timezone.utc)


@contextmanager
def sales() -> Generator[sqlite3.Connection, None, None]:
    """A connection and a transaction that nobody else writes beside."""
    with closing(sqlite3.connect(SHOP_FILE, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            connection.execute("CREATE TABLE IF NOT EXISTS sales (sold_at REAL, coins INTEGER)")
            yield connection


def main() -> None:
    """Sell until Ctrl-C."""
    print("The shop is open", flush=True)
    while True:
        sell(random.randint(1, 9))
        time.sleep(0.3)


if __name__ == "__main__":
    main()
