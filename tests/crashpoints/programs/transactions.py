"""A workflow of steps and transactions, one of which raises after it has inserted its row.

In the variant `separate` the transactions run in a database of their own.
"""

from __future__ import annotations

from sqlalchemy import text

from dbos import DBOS, SetWorkflowID
from tests.verify.life import ask_application, execute, table_prefix, variant

ID = "root"
EXPECTED = {ID: ["step", "insert", "insert", "insert_and_fail", "step", "insert"]}
COMMITS = {"journal": 7 if variant() == "separate" else 4, "transaction": 4}
"""The start, what is made durable before the next one's code, the outcome; and each transaction."""


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.transaction()
def insert() -> str:
    value = execute()
    sql = text(f"INSERT INTO {table_prefix()}effects (workflow, step, value) VALUES (:workflow, :step, :value)")
    DBOS.sql_session.execute(sql, {"workflow": DBOS.workflow_id, "step": DBOS.step_id, "value": value})
    return value


@DBOS.transaction("READ COMMITTED")
def insert_and_fail() -> None:
    raise ValueError(insert.__wrapped__())  # type: ignore[attr-defined]


@DBOS.workflow()
def workflow() -> list[str]:
    values = [step(), insert(), insert()]
    try:
        insert_and_fail()
    except ValueError as error:
        values.append(type(error).__name__)
    return [*values, step(), insert()]


def main() -> list[str]:
    ask_application("CREATE TABLE IF NOT EXISTS {schema}effects (workflow TEXT, step INTEGER, value TEXT)")
    with SetWorkflowID(ID):
        return workflow()
