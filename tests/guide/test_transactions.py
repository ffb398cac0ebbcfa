"""The guide on transactions."""

from __future__ import annotations

from typing import Any, Optional

import pytest
import sqlalchemy
from sqlalchemy import Column, MetaData, String, Table, select, text

from dbos import DBOS, SetWorkflowID
from tests.guide.inventory import runs
from tests.support.apps import App, Roadblock, interrupt_at, steps_of
from tests.support.guide import Program

pytestmark = pytest.mark.usefixtures("app")

NAMES: dict[str, Any] = {
    "Column": Column,
    "MetaData": MetaData,
    "Optional": Optional,
    "String": String,
    "Table": Table,
    "select": select,
    "text": text,
}


def greetings(app: App, statement: str) -> list[Any]:
    """Execute something in the application's database."""
    engine = sqlalchemy.create_engine(app.url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        engine.dispose()


def check_greetings(app: App, program: Program) -> None:
    """Insert and select, on their own and from a workflow that is interrupted in between."""
    greetings(app, "CREATE TABLE greetings (name TEXT, note TEXT)")
    program.names |= NAMES
    program.run()
    program["example_insert"]("ann", "hello")
    assert program["example_select"]("ann") == "hello"
    assert program["example_select"]("nobody") is None
    assert [one.name for one in DBOS.list_workflows()] == ["<temp>.example_insert", *["<temp>.example_select"] * 2]

    roadblock = Roadblock()

    @DBOS.step()
    def hold() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def workflow() -> Any:
        program["example_insert"]("bob", "good day")
        hold()
        return program["example_select"]("bob")

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    interrupt_at(roadblock, app)
    assert DBOS.get_result("w") == "good day"
    assert [name for _, name in steps_of("w")] == ["example_insert", hold.__qualname__, "example_select"]
    assert sorted(greetings(app, "SELECT name, note FROM greetings")) == [("ann", "hello"), ("bob", "good day")]

    @DBOS.workflow()
    def failing() -> None:
        program["failing_insert"]("eve", "never")

    @DBOS.transaction()
    def failing_insert(name: str, note: str) -> None:
        DBOS.sql_session.execute(text("INSERT INTO greetings VALUES (:name, :note)"), {"name": name, "note": note})
        raise ValueError("changed its mind")

    program.names["failing_insert"] = failing_insert
    with pytest.raises(ValueError, match="changed its mind"):
        failing()
    assert len(greetings(app, "SELECT * FROM greetings")) == 2, "one database transaction: all of it or nothing"


@runs(("SQLAlchemy", 1))
def test_transactions_with_expressions_of_sqlalchemy(app: App, program: Program) -> None:
    check_greetings(app, program)


@runs(("Raw SQL", 1))
def test_transactions_with_raw_sql(app: App, program: Program) -> None:
    check_greetings(app, program)


def test_coroutine_function_cannot_be_a_transaction() -> None:
    with pytest.raises(Exception, match="transfer_money"):

        @DBOS.transaction()
        async def transfer_money() -> None: ...
