"""Opening a database: what works, and in which words the rest is refused."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url

from dbos.error import DBOSInitializationError
from dbos.storage import database as database_module
from dbos.storage.database import Database
from dbos.storage.leases import register_lease
from dbos.storage.opening import open_database
from tests.support.postgres import PostgresAdmin
from tests.support.storage import commit_start, lease, start, status


def refusal(url: str | None, **options: object) -> str:
    """The text with which the database is refused."""
    with pytest.raises(DBOSInitializationError) as caught:
        open_database(url=url, **options)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried again, so that a refusal comes at once."""
    monkeypatch.setitem(Database.run.__kwdefaults__, "patience_s", -1.0)


@pytest.mark.parametrize(
    "url", ["", "nonsense", "just/a/path.sqlite", "postgresql:", "postgresql://host:port/db", "://"]
)
def test_a_text_that_is_no_url_is_refused_with_examples(url: str) -> None:
    text = refusal(url)
    assert "cannot be parsed" in text
    assert "postgresql://user:password@host:5432/database" in text
    assert "sqlite:///path" in text


@pytest.mark.parametrize(
    "driver",
    [
        "mysql",
        "mysql+pymysql",
        "oracle",
        "postgresql+psycopg2",
        "postgresql+asyncpg",
        "postgresql+pg8000",
        "sqlite+aiosqlite",
        "sqlite+pysqlcipher",
        "cockroachdb",
        "http",
    ],
)
def test_a_driver_that_does_not_work_is_refused_by_name(driver: str) -> None:
    text = refusal(f"{driver}://user:secret@host/db")
    assert f"{driver}://" in text
    assert "postgresql://" in text
    assert "sqlite://" in text
    assert "secret" not in text


def test_neither_url_nor_engine_is_refused() -> None:
    assert "Neither a database URL nor an engine" in refusal(None)


@pytest.mark.parametrize("drivername", ["postgresql", "postgresql+psycopg"])
def test_postgres_urls_with_and_without_driver_open(postgres_url: str, drivername: str) -> None:
    url = make_url(postgres_url).set(drivername=drivername).render_as_string(hide_password=False)
    database = open_database(url=url)
    assert database.engine.dialect.driver == "psycopg"
    database.close()


def test_the_short_scheme_of_postgres_opens(postgres_url: str) -> None:
    database = open_database(url="postgres" + postgres_url.removeprefix("postgresql"))
    assert "PostgreSQL at" in database.location
    database.close()


@pytest.mark.parametrize("drivername", ["sqlite", "sqlite+pysqlite"])
def test_sqlite_urls_with_and_without_driver_open(tmp_path: Path, drivername: str) -> None:
    """The query that other programs give is understood too."""
    path = tmp_path / "a file's name; with 100% signs.sqlite"
    for query in ("", "?check_same_thread=false", "?timeout=5"):
        database = open_database(url=f"{drivername}:///{path}{query}")
        assert str(path) in database.location
        database.close()
    assert path.exists()


def test_a_sqlite_database_syncs_every_commit_to_its_log(sqlite_url: str) -> None:
    database = open_database(url=sqlite_url)
    settings = [
        database.run("test", lambda t, name=name: t.rows(f"PRAGMA {name}"), "read")[0][0]  # type: ignore[misc]
        for name in ("journal_mode", "synchronous", "busy_timeout")
    ]
    assert settings == ["wal", 2, 0]
    database.close()


# -- SQLite files that cannot be used


def test_a_sqlite_path_that_cannot_be_opened_is_refused_at_once(tmp_path: Path) -> None:
    """Without trying again for as long as one tries with a file that works."""
    missing = tmp_path / "missing" / "dbos.sqlite"
    retried: list[float] = []
    sleep = database_module.time.sleep
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Database.run.__kwdefaults__, "patience_s", 1.0)
        patch.setattr(database_module.time, "sleep", lambda seconds: (retried.append(seconds), sleep(seconds)))
        for path in (missing, tmp_path):
            text = refusal(f"sqlite:///{path}")
            assert str(path) in text
            assert "directory must exist" in text
    assert retried == []


def test_a_missing_directory_is_named(tmp_path: Path, no_patience: None) -> None:
    path = tmp_path / "missing" / "dbos.sqlite"
    text = refusal(f"sqlite:///{path}")
    assert str(path) in text
    assert "directory must exist" in text


@pytest.mark.parametrize("content", [b"This is a letter, not a database.\n" * 100, b"\x00\xff" * 5000])
def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(content)
    text = refusal(f"sqlite:///{path}")
    assert str(path) in text
    assert "not a database" in text
    assert "Move it away" in text
    assert path.read_bytes() == content


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.sqlite"
    open_database(url=f"sqlite:///{path}").close()
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xa5" * (4096 - 100)  # the first page, behind the header
    path.write_bytes(content)
    text = refusal(f"sqlite:///{path}")
    assert str(path) in text
    assert "damaged" in text


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the administrator's right to write everywhere, if the tests run as administrator."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.fixture
def shared_directory() -> Iterator[Path]:
    """A directory that other users may look into, but not write to."""
    directory = Path(tempfile.mkdtemp(prefix="dbos-"))
    directory.chmod(0o755)
    yield directory
    directory.chmod(0o755)
    shutil.rmtree(directory)


def test_a_file_that_must_not_be_written_is_refused(shared_directory: Path, no_patience: None) -> None:
    path = shared_directory / "dbos.sqlite"
    sqlite3.connect(path).close()
    path.touch()
    path.chmod(0o444)
    shared_directory.chmod(0o555)
    with as_nobody():
        text = refusal(f"sqlite:///{path}")
    assert str(path) in text
    assert "may not write" in text


def test_a_directory_that_must_not_be_written_is_refused(shared_directory: Path, no_patience: None) -> None:
    shared_directory.chmod(0o555)
    with as_nobody():
        text = refusal(f"sqlite:///{shared_directory / 'dbos.sqlite'}")
    assert "allowed to write there" in text


def test_a_locked_file_is_refused_in_the_end(tmp_path: Path, no_patience: None) -> None:
    path = tmp_path / "dbos.sqlite"
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    text = refusal(f"sqlite:///{path}")
    holder.close()
    assert "locked" in text
    assert "Another process" in text


# -- PostgreSQL servers that cannot be used


def test_a_port_where_nobody_listens_is_refused_without_the_password() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # taken, but not listened to: connections are refused
        port = taken.getsockname()[1]
        text = refusal(f"postgresql://user:secret@127.0.0.1:{port}/db")
    assert "refused" in text
    assert str(port) in text
    assert "Check that the server runs" in text
    assert "secret" not in text


def test_an_unknown_user_is_refused(postgres_url: str) -> None:
    url = make_url(postgres_url).set(username="nobody-of-that-name", password="secret")
    text = refusal(url.render_as_string(hide_password=False))
    assert "nobody-of-that-name" in text
    assert "secret" not in text


@pytest.mark.parametrize("suffix", ["_plain", " with 'quotes\" and space", "_100%_größe"])
def test_a_missing_database_is_created(postgres_url: str, postgres_admin: PostgresAdmin, suffix: str) -> None:
    name = f"{make_url(postgres_url).database}{suffix}"
    url = make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    try:
        database = open_database(url=url)
        register_lease(database, lease())
        commit_start(database, start("w"))
        assert status(database, "w") == "PENDING"
        database.close()
        assert postgres_admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)) == [(1,)]
    finally:
        postgres_admin.drop_database(url)


def test_a_missing_database_that_one_must_not_create_is_refused(
    postgres_url: str, postgres_admin: PostgresAdmin
) -> None:
    postgres_admin.execute("DROP ROLE IF EXISTS dbos_test_weak")
    postgres_admin.execute("CREATE ROLE dbos_test_weak LOGIN NOCREATEDB")
    try:
        url = make_url(postgres_url).set(username="dbos_test_weak", database="dbos_test_missing")
        text = refusal(url.render_as_string(hide_password=False))
    finally:
        postgres_admin.execute("DROP ROLE dbos_test_weak")
    assert "permission denied to create database" in text
    assert "dbos_test_missing" in text


# -- engines of other kinds


def test_an_engine_of_another_database_is_refused() -> None:
    from sqlalchemy.pool import NullPool

    class Stranger:
        url = make_url("mysql+pymysql://user:secret@host/db")
        dialect = type("Dialect", (), {"driver": "pymysql", "name": "mysql"})()
        pool = NullPool(lambda: None)

    text = refusal(None, engine=Stranger())
    assert "mysql+pymysql" in text
    assert "postgresql+psycopg" in text
    assert "secret" not in text


def test_a_refused_engine_is_not_disposed(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("This is a letter, not a database.\n" * 100)
    engine = create_engine(f"sqlite:///{tmp_path / 'letter.txt'}")
    pool = engine.pool
    assert "not a database" in refusal(None, engine=engine)
    assert engine.pool is pool, "disposing an engine replaces its pool"
