"""The database fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from tests.support.postgres import PostgresAdmin
from tests.support.processes import Spawner


def engine_for(url: str) -> sa.Engine:
    parsed = sa.make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return sa.create_engine(parsed)


@pytest.mark.parametrize("round_", [1, 2])
def test_each_test_gets_an_empty_database_of_its_own(database_url: str, round_: int) -> None:
    engine = engine_for(database_url)
    assert sa.inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE seen (n integer)"))
        connection.execute(sa.text("INSERT INTO seen VALUES (:n)"), {"n": round_})
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT n FROM seen")).all() == [(round_,)]
    engine.dispose()


def test_the_url_serves_psycopg_and_child_processes(postgres_url: str, spawn: Spawner) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE note (text text)")
        connection.execute("INSERT INTO note VALUES ('hello')")
    program = """
        import sys, psycopg
        print(psycopg.connect(sys.argv[1]).execute("SELECT text FROM note").fetchone()[0])
    """
    assert spawn(program, postgres_url).succeed() == "hello\n"


@pytest.mark.parametrize("setting", ["fsync", "synchronous_commit", "full_page_writes"])
def test_postgres_keeps_its_durable_settings(postgres_admin: PostgresAdmin, setting: str) -> None:
    assert postgres_admin.execute("SELECT current_setting(%s)", (setting,)) == [("on",)]


def test_a_database_is_dropped_under_its_users(postgres_admin: PostgresAdmin) -> None:
    url = postgres_admin.create_database()
    connection = psycopg.connect(url)
    postgres_admin.drop_database(url)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)
    postgres_admin.drop_database(url)


def test_connections_can_be_cut(postgres_admin: PostgresAdmin, postgres_url: str) -> None:
    connection = psycopg.connect(postgres_url)
    assert postgres_admin.terminate_connections(postgres_url) == 1
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    psycopg.connect(postgres_url).close()


def test_an_outage_refuses_connections_and_ends(postgres_admin: PostgresAdmin, postgres_url: str) -> None:
    connection = psycopg.connect(postgres_url)
    with postgres_admin.outage(postgres_url):
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
            psycopg.connect(postgres_url)
    psycopg.connect(postgres_url).close()


@pytest.mark.postgres
@pytest.mark.skipif("TEST_POSTGRES_URL" in os.environ, reason="uses a server of its own")
def test_the_server_goes_away_when_its_process_is_killed(spawn: Spawner) -> None:
    child = spawn(
        """
        from tests.support.postgres import PostgresServer
        server = PostgresServer()
        print("directory", server.directory)
        input()
        """
    )
    directory = Path(child.wait_for_line("^directory (.*)")[1])
    assert (directory / "postmaster.pid").exists()
    child.kill()  # also waits for the end of stderr, which whoever tidies up still holds open
    assert not directory.exists()
