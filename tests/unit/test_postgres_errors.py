"""Which of PostgreSQL's errors may pass when the same transaction is tried again."""

from __future__ import annotations

import pytest
from psycopg import errors
from sqlalchemy import create_engine

from dbos.storage.postgres import PostgresDatabase


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (errors.SerializationFailure, True),
        (errors.DeadlockDetected, True),
        (errors.LockNotAvailable, True),
        (errors.ReadOnlySqlTransaction, True),
        (errors.AdminShutdown, True),
        (errors.DiskFull, True),
        (errors.IdleInTransactionSessionTimeout, True),  # a process that was stopped inside its transaction
        (errors.TransactionTimeout, True),
        (errors.ProgramLimitExceeded, False),
        (errors.UniqueViolation, False),
        (errors.UndefinedTable, False),
        (errors.UntranslatableCharacter, False),
    ],
)
def test_errors_that_may_pass_are_told_from_those_for_good(error: type[Exception], may_pass: bool) -> None:
    engine = create_engine("postgresql+psycopg://nobody@localhost/nothing")
    database = PostgresDatabase(engine, schema="dbos", owns_engine=True)
    assert database.is_transient(error("odd")) is may_pass
