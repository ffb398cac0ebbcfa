"""What the programs share: the configuration, checks, plain SQL, and the one JSON line at the end.

Programs use the public API only, which both libraries have, and are run unchanged by either's interpreter. This module
does not import the library, since some programs measure just that.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from dbos import DBOSConfig, Queue

P = ParamSpec("P")
R = TypeVar("R")

VERSION = "benchmark"


def database_url() -> str:
    """The fresh database this process is to work on."""
    try:
        return os.environ["BENCH_DATABASE_URL"]
    except KeyError:
        sys.exit("set BENCH_DATABASE_URL, for example to sqlite:////tmp/new.sqlite")


def config(executor_id: str = "benchmark") -> "DBOSConfig":
    """The same for both libraries: no admin server, no log lines, everything else at its default."""
    return {
        "name": "benchmark",
        "system_database_url": database_url(),
        "application_version": VERSION,
        "executor_id": executor_id,
        "run_admin_server": False,
        "log_level": "ERROR",
    }


def declare_queue(name: str, **limits: int) -> "Queue":
    """A queue, declared after the launch: the peer keeps its queues in the database and refuses `Queue(...)`."""
    from dbos import DBOS, Queue

    register = getattr(DBOS, "register_queue", None)
    return Queue(name, **limits) if register is None else register(name, **limits)


def transactions() -> tuple[Callable[[Callable[P, R]], Callable[P, R]], Callable[[], "Session"]]:
    """A decorator of transactions in the system database, and what gives their session.

    The peer 3.4.0 has given up `DBOS.transaction`, for a `SQLAlchemyDatasource` that is created for a database.
    """
    import dbos

    if hasattr(dbos.DBOS, "transaction"):
        return dbos.DBOS.transaction(), lambda: dbos.DBOS.sql_session
    source: Any = dbos.SQLAlchemyDatasource.create(database_url())  # type: ignore[attr-defined]
    return source.transaction(), source.sql_session


def expect(actual: object, expected: object, what: str) -> None:
    """Leave with an error when a result is wrong: who does not work cannot win."""
    if actual != expected:
        print(f"wrong {what}: {str(actual)[:500]}, expected {str(expected)[:500]}", file=sys.stderr, flush=True)
        os._exit(1)


def finish(
    value: float, *, workflows: int = 0, checkpoints: int = 0, pending: int = 0, enqueued: int = 0, **rows: int
) -> NoReturn:
    """Print the measurement and what the database must hold, then leave at once: nothing can be written late.

    Those of the `workflows` that are neither `pending` nor `enqueued` must have succeeded. `rows` may also name
    `sleeps` and `stream_values`, which are not looked at otherwise; `checkpoints` are the recorded steps that are no
    sleeps.
    """
    succeeded = workflows - pending - enqueued
    rows |= {"workflows": workflows, "succeeded": succeeded, "pending": pending, "enqueued": enqueued}
    rows |= {"checkpoints": checkpoints}
    print(json.dumps({"value": value, "rows": rows}), flush=True)
    os._exit(0)


def count_rows(connection: Any, table: str, where: str = "") -> int:
    """Plain SQL: precise, and costs the same whatever the library's own way of looking costs."""
    schema = "" if database_url().startswith("sqlite") else "dbos."
    condition = f" WHERE {where}" if where else ""
    return int(connection.execute(f"SELECT count(*) FROM {schema}{table}{condition}").fetchone()[0])


def connect() -> Any:
    """A connection of the database's own driver, with neither library's settings."""
    url = database_url()
    if url.startswith("sqlite"):
        import sqlite3

        return sqlite3.connect(url.removeprefix("sqlite:///"), timeout=60, isolation_level=None)
    import psycopg

    return psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://"), autocommit=True)


def copy_workflow(connection: Any, workflow_id: str, count: int, replaced: Mapping[str, str]) -> None:
    """Copy the rows of a workflow, in every table that has some, `count` times.

    `replaced` are the columns that differ between the copies, as SQL expressions of `number`, which is 1, 2, and so on.
    """
    expressions = {"seq": "seq + number", **replaced}  # a running number of ours
    for table, columns in _tables_of_workflows(connection).items():
        quoted = [f'"{column}"' for column in columns]
        values = [expressions.get(column, name) for column, name in zip(columns, quoted, strict=True)]
        connection.execute(
            "WITH RECURSIVE numbers(number) AS"
            f" (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < {count})"
            f" INSERT INTO {table} ({', '.join(quoted)})"
            f" SELECT {', '.join(values)} FROM {table} CROSS JOIN numbers WHERE workflow_uuid = '{workflow_id}'"
        )


def gather_statistics(connection: Any) -> None:
    """Give Postgres the statistics that its autovacuum would soon gather."""
    if not database_url().startswith("sqlite"):
        for table in _tables_of_workflows(connection):
            connection.execute(f"VACUUM ANALYZE {table}")


def _tables_of_workflows(connection: Any) -> dict[str, list[str]]:
    """The names of their columns; the main table first."""
    if database_url().startswith("sqlite"):
        query, schema = "SELECT name FROM sqlite_master WHERE type = 'table'", ""
    else:
        query, schema = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'dbos'", "dbos."
    names = [schema + row[0] for row in connection.execute(query).fetchall()]
    names.sort(key=lambda name: not name.endswith("workflow_status"))
    tables = {
        name: [column[0] for column in connection.execute(f"SELECT * FROM {name} LIMIT 0").description]
        for name in names
    }
    return {name: columns for name, columns in tables.items() if "workflow_uuid" in columns}
