"""An engine of the application's: used like our own, its connections given back as they came, never disposed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from dbos.storage.database import Database
from dbos.storage.leases import register_lease
from dbos.storage.opening import open_database
from tests.support.gates import FailingGate
from tests.support.storage import SUCCEEDED, checkpoint, commit, commit_patiently, lease, run, start, status, step_ids

MakeEngine = Callable[..., Engine]


@pytest.fixture
def make_engine(database_url: str) -> Iterator[MakeEngine]:
    """Makes the application's engine on the test's database."""
    with ExitStack() as stack:

        def make(**options: Any) -> Engine:
            url = database_url.replace("postgresql://", "postgresql+psycopg://")
            engine = create_engine(url, **options)
            stack.callback(engine.dispose)
            return engine

        yield make


def state(engine: Engine) -> tuple[object, ...]:
    """How a connection of the pool is set, seen by the next who takes it."""
    connection = engine.raw_connection()
    try:
        driver: Any = connection.driver_connection
        if engine.dialect.name == "postgresql":
            return driver.autocommit, driver.info.transaction_status.name
        timeout = driver.execute("PRAGMA busy_timeout").fetchone()[0]
        return driver.isolation_level, timeout, driver.in_transaction
    finally:
        connection.close()


def use(database: Database, workflow_id: str = "w") -> None:
    """A workflow's life."""
    register_lease(database, lease(f"lease of {workflow_id}"))
    commit(database, start(workflow_id, lease_id=f"lease of {workflow_id}"))
    commit(database, run(workflow_id, checkpoint(1)))
    commit(database, run(workflow_id))
    commit(database, run(workflow_id, outcome=SUCCEEDED))
    assert (status(database, workflow_id), step_ids(database, workflow_id)) == ("SUCCESS", [1])


def test_connections_of_a_pool_come_back_as_they_went(make_engine: MakeEngine) -> None:
    engine = make_engine(poolclass=QueuePool, pool_size=1, max_overflow=0)
    before = state(engine)
    database = open_database(url=None, engine=engine)
    assert state(engine) == before, "after opening"
    use(database)
    assert state(engine) == before, "after use"
    assert before[0] in (False, ""), "the driver's default"


def test_a_connection_comes_back_as_it_went_after_a_failure(make_engine: MakeEngine) -> None:
    engine = make_engine(poolclass=QueuePool, pool_size=1, max_overflow=0)
    before = state(engine)
    database = open_database(url=None, engine=engine, gate=FailingGate("journal", "before_commit", ValueError("wrong")))
    with pytest.raises(ValueError, match="wrong"):
        commit(database, start("w", lease_id=None))
    assert state(engine) == before
    assert status(database, "w") is None


def test_settings_of_the_application_are_kept(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url, connect_args={"timeout": 7.5, "isolation_level": "EXCLUSIVE"}, pool_size=1)
    database = open_database(url=None, engine=engine)
    use(database)
    assert state(engine) == ("EXCLUSIVE", 7500, False)
    engine.dispose()


def test_an_engine_in_autocommit_stays_so(make_engine: MakeEngine) -> None:
    engine = make_engine(isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=0)
    before = state(engine)
    database = open_database(url=None, engine=engine)
    use(database)
    assert state(engine) == before
    assert before[0] in (True, None)


def test_a_connection_that_was_set_once_is_set_back_each_time(make_engine: MakeEngine) -> None:
    """The application changes a connection of the pool between two uses of ours."""
    engine = make_engine(pool_size=1, max_overflow=0)
    database = open_database(url=None, engine=engine)
    use(database, "w1")
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 1234")
    before = state(engine)
    use(database, "w2")
    assert state(engine) == before


def test_the_application_works_with_its_engine_between_and_after(make_engine: MakeEngine) -> None:
    """Its transactions roll back, which they would not in autocommit."""
    engine = make_engine(pool_size=1, max_overflow=0)
    database = open_database(url=None, engine=engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mine (id INTEGER)"))
    for number in range(3):
        use(database, f"w{number}")
        with engine.connect() as connection:
            connection.execute(text("INSERT INTO mine VALUES (1)"))
            connection.rollback()
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO mine VALUES (2)"))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT id FROM mine")).scalars().all() == [2, 2, 2]


def test_the_engine_is_not_disposed(make_engine: MakeEngine) -> None:
    engine = make_engine(pool_size=1)
    pool, closed = engine.pool, []
    event.listen(engine, "close", lambda *_: closed.append(1))
    database = open_database(url=None, engine=engine)
    use(database)
    database.close()
    assert (engine.pool is pool, closed) == (True, [])
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


@pytest.mark.parametrize(
    "options", [{"poolclass": NullPool}, {"pool_pre_ping": True}, {"pool_size": 2, "max_overflow": 0}]
)
def test_pools_of_all_kinds_serve_many_threads(
    make_engine: MakeEngine, threads: ThreadPoolExecutor, options: dict[str, Any]
) -> None:
    engine = make_engine(**options)
    database = open_database(url=None, engine=engine)
    register_lease(database, lease())

    def work(number: int) -> str | None:
        commit_patiently(database, start(f"w{number}"))
        commit_patiently(database, run(f"w{number}", checkpoint(1), outcome=SUCCEEDED))
        return status(database, f"w{number}")

    assert list(threads.map(work, range(50))) == ["SUCCESS"] * 50


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_shared_connection_in_memory_comes_back_as_it_went(url: str) -> None:
    connect_args = {"check_same_thread": False, "timeout": 3}
    engine = create_engine(url, poolclass=StaticPool, connect_args=connect_args)
    before = state(engine)
    database = open_database(url=None, engine=engine)
    use(database)
    assert state(engine) == before == ("", 3000, False)
    database.close()
    assert state(engine) == before
    with engine.connect() as connection:
        statement = "SELECT status FROM workflow_status"
        assert connection.execute(text(statement)).scalars().all() == ["SUCCESS"], "its data are still there"
    engine.dispose()
