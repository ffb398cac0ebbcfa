"""PgBouncer in transaction mode: each transaction may run on another session of the server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dbos import DBOS
from dbos.storage.leases import read_live_leases
from dbos.storage.opening import open_database
from dbos.storage.postgres import PostgresDatabase
from tests.support.apps import App
from tests.support.busy import Busy
from tests.support.pooler import EXECUTABLE, Pooler
from tests.verify.rows import query

pytestmark = [pytest.mark.usefixtures("destroyed"), pytest.mark.postgres]
needs_pooler = pytest.mark.skipif(EXECUTABLE is None, reason="NOT TESTED: PgBouncer is not installed")


@pytest.fixture
def pooler(postgres_url: str) -> Iterator[Pooler]:
    pooler = Pooler(postgres_url)
    yield pooler
    pooler.close()


@needs_pooler
@pytest.mark.parametrize("queue", [False, True], ids=["started", "queued"])
def test_workflows_run_behind_a_pooler(pooler: Pooler, postgres_url: str, queue: bool) -> None:
    """Forty at the same time over the four sessions that it has, and while they run it cuts nobody off."""
    busy = Busy(pooler.url, postgres_url, workflows=40, queue=queue)
    busy.launch()
    busy.finish(busy.start())


@needs_pooler
def test_what_waits_behind_a_pooler_is_polled_for(pooler: Pooler, postgres_url: str) -> None:
    @DBOS.workflow(name="poolers.waiting")
    def waiting() -> str:
        DBOS.set_event("is", "there")
        return str(DBOS.recv(timeout_seconds=30))

    App(pooler.url).launch()
    handle = DBOS.start_workflow(waiting)
    assert DBOS.get_event(handle.workflow_id, "is", 30) == "there"
    DBOS.send(handle.workflow_id, "message")
    assert handle.get_result() == "message"
    assert query(postgres_url, "SELECT * FROM pg_stat_activity WHERE query LIKE 'LISTEN%'") == []


@needs_pooler
def test_nothing_is_left_in_the_sessions_of_others(pooler: Pooler) -> None:
    """What we set holds for our transactions, not for whoever gets the session next."""
    database = open_database(url=pooler.url)
    try:
        read_live_leases(database, own="")
        with database.transaction("look") as transaction:
            assert transaction.rows("SELECT current_setting('lock_timeout')") == [("3s",)]
        with database.transaction("look", "read") as transaction:
            assert transaction.rows("SELECT current_setting('lock_timeout')") == [("0",)]
            assert transaction.rows("SELECT count(*) FROM pg_prepared_statements") == [(0,)]
    finally:
        database.close()


def test_pooler_that_does_not_show_is_known_by_its_errors(postgres_url: str) -> None:
    """A prepared statement that is gone costs a try, once; from then on nothing is prepared."""
    database = open_database(url=postgres_url)
    assert isinstance(database, PostgresDatabase)
    try:
        for _ in range(3):
            read_live_leases(database, own="")
        with database.transaction("forget", "read") as transaction:
            assert transaction.rows("SELECT count(*) > 0 FROM pg_prepared_statements") == [(True,)]
            transaction.write("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")  # else the driver would notice
        assert not database.is_pooled
        assert read_live_leases(database, own="") == []
        assert database.is_pooled
        with database.transaction("look", "read") as transaction:
            assert transaction.rows("SELECT count(*) FROM pg_prepared_statements") == [(0,)]
    finally:
        database.close()
