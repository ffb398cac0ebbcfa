"""Reports by a schedule: one for each period, also for those in which no process was there, each written exactly once.

Run `python shop.py` in one terminal and `python main.py` in another one; README.md tells what to try.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from datetime import datetime, timedelta, timezone

import shop
from sqlalchemy import text

from dbos import DBOS, DBOSConfig

SCHEDULE = "sales reports"
PERIOD_S = int(os.environ.get("PERIOD_S", "5"))  # a divisor of 60
LONGEST_GAP = timedelta(hours=6)

CREATE = text("CREATE TABLE IF NOT EXISTS reports (period_end TEXT PRIMARY KEY, sales INTEGER, coins INTEGER)")
SUM_UP = text("SELECT count(*), coalesce(sum(coins), 0) FROM sales WHERE :start <= sold_at AND sold_at < :end")
WRITE = text("INSERT INTO reports (period_end, sales, coins) VALUES (:period_end, :sales, :coins)")


@DBOS.workflow()
def report(scheduled_time: datetime, period_s: int) -> None:
    """The report of the period that ends with the scheduled time."""
    sales, coins = write_report(scheduled_time, period_s)
    DBOS.logger.info("Report until %s: %d sales, %d coins", f"{scheduled_time:%H:%M:%S}", sales, coins)


@DBOS.transaction()
def write_report(end: datetime, period_s: int) -> tuple[int, int]:
    """Sum up and write, in one transaction. A second INSERT for a period would fail; there never is one."""
    start = end - timedelta(seconds=period_s)
    period = {"start": start.timestamp(), "end": end.timestamp()}
    sales, coins = DBOS.sql_session.execute(SUM_UP, period).one()
    DBOS.sql_session.execute(CREATE)
    DBOS.sql_session.execute(WRITE, {"period_end": end.isoformat(), "sales": sales, "coins": coins})
    return sales, coins


def catch_up() -> None:
    """Have the reports written that are missing since the first sale, but for gaps that are too old.

    Each has the id that its firing would have given it, so those that are there already are left alone.
    """
    opened, now = shop.opened_at(), datetime.now(timezone.utc)
    if opened is not None:
        DBOS.backfill_schedule(SCHEDULE, max(opened, now - LONGEST_GAP), now)


def main() -> None:
    """Write reports until Ctrl-C."""
    config: DBOSConfig = {
        "name": "reports",
        "system_database_url": os.environ.get("DBOS_SYSTEM_DATABASE_URL", "sqlite:///reports.sqlite"),
        "application_database_url": f"sqlite:///{shop.SHOP_FILE}",  # transactions run where the sales are
    }
    DBOS(config=config)
    DBOS.launch()
    cron = f"*/{PERIOD_S} * * * * *"
    DBOS.apply_schedules([{"schedule_name": SCHEDULE, "workflow_fn": report, "schedule": cron, "context": PERIOD_S}])
    catch_up()
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    DBOS.destroy()


if __name__ == "__main__":
    main()
