"""Sync workflows of transactions that insert a row each, in the system database: transactions per second.

One workflow after the other, or all of them at once.
"""

import argparse
import time

from sqlalchemy import text
from support import config, connect, expect, finish, transactions

from dbos import DBOS

WARM_UP = 10

INSERT = text("INSERT INTO greetings (name, note) VALUES (:name, :note)")

transaction, sql_session = transactions()


@transaction
def insert(name: str, note: str) -> str:
    sql_session().execute(INSERT, {"name": name, "note": note})
    return note


@DBOS.workflow()
def greet(name: str, notes: int) -> list[str]:
    return [insert(name, f"note {number}") for number in range(notes)]


def run_one_by_one(prefix: str, count: int, notes: int) -> list[list[str]]:
    return [greet(f"{prefix}{number}", notes) for number in range(count)]


def run_at_once(prefix: str, count: int, notes: int) -> list[list[str]]:
    handles = [DBOS.start_workflow(greet, f"{prefix}{number}", notes) for number in range(count)]
    return [handle.get_result() for handle in handles]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--transactions", type=int, default=10)
    parser.add_argument("--at-once", action="store_true")
    options = parser.parse_args()
    run = run_at_once if options.at_once else run_one_by_one

    DBOS(config=config())
    DBOS.launch()
    connection = connect()
    connection.execute("CREATE TABLE greetings (name TEXT NOT NULL, note TEXT NOT NULL, PRIMARY KEY (name, note))")
    run("warm up ", WARM_UP, options.transactions)

    started = time.perf_counter()
    results = run("", options.count, options.transactions)
    elapsed = time.perf_counter() - started

    expect(results, [[f"note {number}" for number in range(options.transactions)]] * options.count, "results")
    workflows = WARM_UP + options.count
    count = workflows * options.transactions
    expect(len(DBOS.list_workflows(status="SUCCESS")), workflows, "number of successful workflows")
    rows = connection.execute("SELECT count(*) FROM greetings").fetchone()[0]
    expect(rows, count, "number of rows")
    finish(options.count * options.transactions / elapsed, workflows=workflows, checkpoints=count)


if __name__ == "__main__":
    main()
