"""A primary and its streaming replica: what may be launched on which, and what happens when the replica takes over."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from dbos import DBOS, DBOSClient
from dbos.error import DBOSInitializationError
from tests.support.apps import App, eventually
from tests.support.busy import STEPS, Busy
from tests.support.postgres import PostgresAdmin, PostgresServer
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.usefixtures("destroyed"), pytest.mark.postgres]


@pytest.fixture
def replica(own_server: PostgresServer, own_url: str) -> Iterator[PostgresServer]:
    """A replica of the test's own server, made after its database."""
    replica = PostgresServer(replica_of=own_server)
    yield replica
    replica.stop()


def test_read_replica_is_refused_at_launch(own_url: str, replica: PostgresServer) -> None:
    """At once, in words that say what it is; a client may read there."""
    App(own_url).launch()
    DBOS.destroy()
    url = PostgresAdmin(replica.url).url_of(str(make_url(own_url).database))
    with psycopg.connect(url, autocommit=True) as connection:
        eventually(
            lambda: connection.execute("SELECT to_regclass('dbos.workflow_status') IS NOT NULL").fetchone() == (True,),
            "the replica has the tables",
        )
    with pytest.raises(DBOSInitializationError, match=r"read replica.*target_session_attrs=read-write"):
        App(url).launch()
    DBOS.destroy()
    client = DBOSClient(system_database_url=url)
    assert client.list_workflows() == []
    client.destroy()


def test_database_that_is_read_only_is_refused_at_launch(postgres_admin: PostgresAdmin, postgres_url: str) -> None:
    """As after a provider has found the disk full."""
    name = str(make_url(postgres_url).database)
    postgres_admin.execute(
        sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(sql.Identifier(name))
    )
    with pytest.raises(DBOSInitializationError, match=r"is read-only.*default_transaction_read_only"):
        App(postgres_url).launch()


def test_workflows_go_on_when_the_replica_takes_over(
    own_server: PostgresServer, own_admin: PostgresAdmin, own_url: str, replica: PostgresServer
) -> None:
    """With both hosts in the URL, and commits that wait for the replica: nothing is lost, and nothing runs twice."""
    own_admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    own_admin.execute("SELECT pg_reload_conf()")
    replica_url = PostgresAdmin(replica.url).url_of(str(make_url(own_url).database))
    primary_proxy, replica_proxy = Proxy(own_url), Proxy(replica_url)
    busy = Busy(
        f"postgresql://postgres@127.0.0.1:{replica_proxy.port},127.0.0.1:{primary_proxy.port}/"
        f"{make_url(own_url).database}?target_session_attrs=read-write",
        replica_url,
        queue=True,
    )
    try:
        busy.launch()
        handles = busy.start()
        busy.wait_for(STEPS)
        own_server.shut_down("immediate")
        executions = busy.executions.total()
        assert executions < STEPS * busy.workflows, "all had ended before"
        replica.run("pg_ctl", "promote", "-w", "-D", str(replica.directory))
        busy.finish(handles)
    finally:
        DBOS.destroy()
        for proxy in (primary_proxy, replica_proxy):
            proxy.close()
        own_server.start_again()
        own_admin.close()
        own_admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
        own_admin.execute("SELECT pg_reload_conf()")
