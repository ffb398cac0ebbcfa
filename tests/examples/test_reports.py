"""Reports by a schedule: killed between the INSERT of a report and its commit, with others due and others missed."""

from __future__ import annotations

import runpy
import sqlite3
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dbos import DBOSClient
from tests.support.apps import eventually
from tests.support.processes import ROOT, Spawner

FOLDER = ROOT / "examples" / "reports"

HELD = f"""
    import runpy, sys, threading

    from sqlalchemy.orm import Session

    # Stops when the first report was inserted, and not committed yet.
    execute = Session.execute

    def watch(self, statement, *arguments, **options):
        result = execute(self, statement, *arguments, **options)
        if "INSERT INTO reports" in str(statement):
            print("holding", flush=True)
            threading.Event().wait()
        return result

    Session.execute = watch
    sys.path.insert(0, {str(FOLDER)!r})
    runpy.run_path({str(FOLDER / "main.py")!r}, run_name="__main__")
"""


def rows_of(shop_file: Path, query: str) -> list[Any]:
    """What a query of the shop's file gives."""
    with closing(sqlite3.connect(shop_file, timeout=30)) as connection:
        return connection.execute(query).fetchall()


def test_every_period_has_one_report_through_a_kill_and_downtime(
    database_url: str, spawn: Spawner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop_file = tmp_path / "shop.sqlite"
    settings = {"DBOS_SYSTEM_DATABASE_URL": database_url, "PERIOD_S": "1", "SHOP_FILE": str(shop_file)}
    monkeypatch.setenv("SHOP_FILE", str(shop_file))
    shop = runpy.run_path(str(FOLDER / "shop.py"))
    with shop["sales"]() as connection:  # the shop has been open for a while, and nobody was there to report
        for ago_s in (5.5, 3.5, 3.4):
            connection.execute("INSERT INTO sales VALUES (?, 10)", (time.time() - ago_s,))

    killed = spawn(HELD, env=settings)
    killed.wait_for_line("holding")
    killed.kill()
    assert rows_of(shop_file, "SELECT * FROM sqlite_master WHERE name = 'reports'") == []

    spawn(FOLDER / "shop.py", env=settings).wait_for_line("open")
    writer = spawn(FOLDER / "main.py", env=settings)
    first_sale, (newest,) = shop["opened_at"](), rows_of(shop_file, "SELECT max(sold_at) FROM sales")[0]
    writer.wait_for_line("Report until .* coins", count=5, stream="stderr")

    def reports() -> list[tuple[float, int, int]]:
        rows = rows_of(shop_file, "SELECT period_end, sales, coins FROM reports ORDER BY period_end")
        return [(datetime.fromisoformat(end).timestamp(), sales, coins) for end, sales, coins in rows]

    def is_complete() -> bool:
        """Whether each period from the first sale to the newest one has its report."""
        ends = [end for end, _, _ in reports()]
        return ends[-1] > newest and ends == [ends[0] + number for number in range(len(ends))]

    eventually(is_complete, "all periods have their reports")
    written = reports()
    assert written[0][0] - 1 <= first_sale.timestamp() < written[0][0]
    for end, *sums in written:
        query = f"SELECT count(*), coalesce(sum(coins), 0) FROM sales WHERE {end} - 1 <= sold_at AND sold_at < {end}"
        assert rows_of(shop_file, query) == [tuple(sums)]
    with DBOSClient(system_database_url=database_url) as client:
        assert client.list_workflows(status="ERROR") == []
