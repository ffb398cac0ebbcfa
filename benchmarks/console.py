"""How long the console takes for each of its pages with 100 000 workflows in the table.

The time is the server's: from the request that the ASGI application gets until the last byte that it has sent. Three
tables are measured on each database: a long history with little under way, a long backlog on ten queues, and 10 000
that run. The exit code is 1 if the median of a page is over the bound.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

import httpx
from harness.databases import Source, Sqlite, postgres
from harness.machine import machine_facts
from sqlalchemy import create_engine, make_url, text

from dbos import DBOS, Queue
from dbos.console import console_app

BOUND_MS = 200.0

TABLES: Mapping[str, str] = {
    "history": "CASE WHEN n % 1000 = 1 THEN 'ENQUEUED' WHEN n % 1000 = 2 THEN 'PENDING' WHEN n % 50 = 3 THEN 'ERROR' "
    "WHEN n % 500 = 4 THEN 'CANCELLED' ELSE 'SUCCESS' END",
    "backlog": "CASE WHEN n % 100 = 2 THEN 'PENDING' WHEN n % 100 = 3 THEN 'ERROR' ELSE 'ENQUEUED' END",
    "running": "CASE WHEN n % 10 = 3 THEN 'PENDING' WHEN n % 50 = 4 THEN 'ERROR' ELSE 'SUCCESS' END",
}
"""The statuses of the n-th workflow, by the name of the table."""

PAGES = (
    "/",
    "/workflows",
    "/workflows?status=ERROR",
    "/workflows?status=PENDING&status=ENQUEUED",
    "/workflows?q=w-0999",
    "/workflows?q=there+is+none",
    "/workflows?queue_name=queue-3",
    "/workflows?queue_name=queue-3&status=ENQUEUED",
    "/workflows?name=send_invoice",
    "/workflows?app_version=2.0",
    "/workflows?app_version=none",
    "/workflows?user=user-7",
    "/workflows?executor_id=nobody",
    "/workflows?start_time=2001-01-01T00:00&end_time=2001-01-02T00:00",
    "/workflow?id=w-000500",
    "/graph?id=w-000500",
    "/queues",
    "/schedules",
    "/executors",
)

FILL = """
INSERT INTO {prefix}workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, inputs,
    output, serialization, outcome_serialization, queue_name, executor_id, lease_id, owner_xid, priority,
    recovery_attempts, started_at_epoch_ms, completed_at, authenticated_user, parent_workflow_id{seq})
SELECT id, status, 'send_invoice', made, made, CASE WHEN n % 10 = 0 THEN '2.0' ELSE '1.0' END,
    '{{"args": ["customer", 12345], "kwargs": {{}}}}', '"invoice 12345 was sent to the customer"', 'portable_json',
    'portable_json', CASE WHEN status = 'ENQUEUED' OR n % 2 = 0 THEN 'queue-' || (n % 10) END, 'worker', 'nobody',
    CASE WHEN status = 'PENDING' THEN 'token ' || n END, n % 3, 1,
    CASE WHEN status <> 'ENQUEUED' THEN made END,
    CASE WHEN status IN ('SUCCESS', 'ERROR', 'CANCELLED') THEN made + 1000 END, 'user-' || (n % 1000),
    CASE WHEN n % 100 = 50 THEN 'w-000500' END{number}
FROM (SELECT n, {status} AS status, {made} + n * 10 AS made, 'w-' || substr('000000' || n, length('000000' || n) - 5)
    AS id FROM {numbers}) AS rows"""


@DBOS.workflow()
def send_invoice(customer: str, number: int) -> str:
    return DBOS.run_step({"name": "send"}, lambda: f"invoice {number} was sent to {customer}")


def main() -> int:
    options = _parse_options()
    slow = 0
    with contextlib.ExitStack() as stack:
        sources: dict[str, Source] = {}
        if options.database in ("sqlite", "both"):
            sources["sqlite"] = Sqlite()
        if options.database in ("postgres", "both"):
            sources["postgres"] = stack.enter_context(postgres())
        print("| database | table | page | median, ms | slowest, ms |\n| --- | --- | --- | ---: | ---: |")
        for name, source in sources.items():
            for table in TABLES:
                with source.fresh() as url, _filled(url, table, options.total):
                    for page, times_ms in asyncio.run(_measure(url, options.repeats)).items():
                        slow += median(times_ms) > BOUND_MS
                        line = f"| {name} | {table} | `{page}` | {median(times_ms):.0f} | {max(times_ms):.0f} |"
                        print(line, flush=True)
    print("\n" + "\n".join(f"{name}: {value}" for name, value in machine_facts().items()))
    print(f"over {BOUND_MS:g} ms: {slow}")
    return 1 if slow else 0


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--total", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--database", choices=["sqlite", "postgres", "both"], default="both")
    return parser.parse_args()


@contextlib.contextmanager
def _filled(url: str, table: str, total: int) -> Iterator[None]:
    """An application that has run one workflow, declares queues and schedules, and meets this table."""
    DBOS(config={"name": "bench", "system_database_url": url, "run_admin_server": False, "log_level": "CRITICAL"})
    DBOS.listen_queues([])
    DBOS.launch()
    for number in range(5):
        with contextlib.suppress(Exception):
            Queue(f"queue-{number}", concurrency=5)
    for number in range(50):
        DBOS.create_schedule(
            schedule_name=f"schedule-{number:02}", workflow_fn=send_invoice, schedule=f"{number} 3 1 * *", context=7
        )
    _fill(url, table, total)
    try:
        yield
    finally:
        DBOS.destroy()


def _fill(url: str, table: str, total: int) -> None:
    is_sqlite = url.startswith("sqlite")
    numbers = (
        f"(WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {total}) "
        "SELECT n FROM numbers) AS numbers"
        if is_sqlite
        else f"generate_series(1, {total}) AS numbers (n)"
    )
    made = int(time.time() * 1000) - total * 10
    statement = FILL.format(
        prefix="" if is_sqlite else "dbos.",
        status=TABLES[table],
        numbers=numbers,
        made=made,
        seq=", seq" if is_sqlite else "",
        number=", n + 1000" if is_sqlite else "",
    )
    engine = create_engine(make_url(url) if is_sqlite else make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(text(statement.replace(":", "\\:")))
    if not is_sqlite:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE dbos.workflow_status"))
    engine.dispose()


async def _measure(url: str, repeats: int) -> dict[str, list[float]]:
    """The times of each page in milliseconds, after one that does not count."""
    found: dict[str, list[float]] = {}
    transport: Any = httpx.ASGITransport(console_app(url, allow_writes=True))
    async with httpx.AsyncClient(transport=transport, base_url="http://console", timeout=60) as client:
        for page in PAGES:
            times: list[float] = []
            for _ in range(1 + repeats):
                began = time.perf_counter()
                answer = await client.get(page)
                times.append((time.perf_counter() - began) * 1000)
                if answer.status_code != 200:
                    sys.exit(f"{page} answers {answer.status_code}: {answer.text[:2000]}")
            found[page] = times[1:]
    return found


if __name__ == "__main__":
    sys.exit(main())
