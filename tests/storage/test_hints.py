"""Hints between processes: coalesced, small, never one's own, and back again when the connection was lost."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any

import pytest

from dbos.storage import hints as hints_module
from dbos.storage.database import Database
from dbos.storage.hints import EVERYTHING, FileHints, Hints, NoHints, PostgresHints, open_hints
from dbos.storage.opening import open_database
from dbos.storage.waiting import hint
from tests.support.background import InBackground
from tests.support.listening import Listener, connection_count, cut, listening
from tests.support.postgres import PostgresAdmin
from tests.support.processes import Spawner
from tests.support.storage import change, commit, sql, start
from tests.support.waiting import wait_until

WAIT_S = 30.0


class Ear:
    """Remembers the hints that arrive."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heard: list[str] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self, hints: Sequence[str]) -> None:
        with self._changed:
            self._heard.extend(hints)
            self._changed.notify_all()
        self.meanwhile()

    def heard(self) -> list[str]:
        """All that arrived."""
        with self._changed:
            return list(self._heard)

    def wait_for(self, *hints: str) -> None:
        """Wait until all of these have arrived."""
        with self._changed:
            assert self._changed.wait_for(lambda: set(hints) <= set(self._heard), WAIT_S), f"heard {self._heard[:20]}"

    def forget(self) -> None:
        """Forget what has arrived."""
        with self._changed:
            self._heard.clear()


class Processes:
    """What stands for several processes: each with connections and hints of its own."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self.url = url
        self._stack = stack

    def open(self, **options: Any) -> Database:
        """A database with connections of its own."""
        database = open_database(url=self.url, **options)
        self._stack.callback(database.close)
        return database

    def start(self, database: Database | None = None) -> tuple[PostgresHints, Ear]:
        """Hints that arrive, and the ear for them."""
        hints, ear = PostgresHints(database or self.open()), Ear()
        hints.start(ear)
        self._stack.callback(hints.stop)
        ear.wait_for(EVERYTHING)
        ear.forget()
        return hints, ear


@pytest.fixture(scope="module")
def server_url(postgres_admin: PostgresAdmin) -> Iterator[str]:
    """A PostgreSQL database that the tests share."""
    url = postgres_admin.create_database()
    yield url
    postgres_admin.drop_database(url)


@pytest.fixture
def processes(server_url: str, postgres_admin: PostgresAdmin) -> Iterator[Processes]:
    """None of which listens yet."""
    wait_until(lambda: not listening(postgres_admin, server_url), "those of the test before are gone")
    with ExitStack() as stack:
        yield Processes(server_url, stack)


@pytest.fixture
def two(processes: Processes) -> tuple[PostgresHints, Ear]:
    """The hints of one process, and the ear of another."""
    hints, _ = processes.start()
    _, ear = processes.start()
    return hints, ear


def some(count: int) -> list[str]:
    """So many hints, of the length that hints have."""
    return [hint("message", f"w{number}") for number in range(count)]


# -- PostgreSQL


def test_hints_arrive_at_every_other_process_and_not_at_ones_own(processes: Processes) -> None:
    (one, own), (_, ear), (_, another) = (processes.start() for _ in range(3))
    one.publish(["a", "b"])
    one.publish(iter(["c"]))
    for its_ear in (ear, another):
        its_ear.wait_for("a", "b", "c")
        assert sorted(its_ear.heard()) == ["a", "b", "c"]
    processes.start()[0].publish(["d"])
    own.wait_for("d")
    assert own.heard() == ["d"]


def test_process_that_begins_to_listen_is_told_that_anything_may_have_happened(processes: Processes) -> None:
    hints, ear = PostgresHints(processes.open()), Ear()
    assert not hints.is_live
    hints.start(ear)
    ear.wait_for(EVERYTHING)
    assert (hints.is_live, ear.heard()) == (True, [EVERYTHING])
    hints.stop()


def test_processes_of_different_schemas_do_not_hear_each_other(processes: Processes) -> None:
    """They share the server's database and nothing else."""
    one, _ = processes.start()
    other, ear_of_other = processes.start(processes.open(schema="other"))
    _, ear = processes.start()
    one.publish(["a"])
    ear.wait_for("a")
    other.publish(["b"])
    processes.start(processes.open(schema="other"))[0].publish(["c"])
    ear_of_other.wait_for("c")
    assert (ear.heard(), ear_of_other.heard()) == (["a"], ["c"])


def test_nothing_published_nothing_sent(two: tuple[PostgresHints, Ear]) -> None:
    hints, ear = two
    hints.publish([])
    hints.publish(iter(()))
    hints.publish(["a"])
    ear.wait_for("a")
    assert ear.heard() == ["a"]


@pytest.fixture
def held_back(
    processes: Processes,
) -> Iterator[tuple[PostgresHints, Callable[[], None], Listener]]:
    """Hints of which nothing goes out until the test says so; and the test's own ear for notifications."""
    hints, ear = processes.start()
    listener = Listener(processes.url, hints._channel)
    arrived, go = threading.Event(), threading.Event()

    def stand_still() -> None:
        arrived.set()
        assert go.wait(WAIT_S)

    ear.meanwhile = stand_still
    sql(processes.open(), "SELECT pg_notify(:channel, 'from somebody')", channel=listener._channel)
    assert arrived.wait(WAIT_S)
    assert listener.heard() == ["from somebody"]
    yield hints, go.set, listener
    go.set()
    listener.close()


Held = tuple[PostgresHints, Callable[[], None], Listener]


def test_what_is_published_while_one_is_on_its_way_goes_out_together(held_back: Held) -> None:
    """And each hint once, however often it was published."""
    hints, go, listener = held_back
    for one in some(300):
        hints.publish([one, "again and again"])
    go()
    (_, payload) = listener.wait_for(lambda heard: len(heard) > 1)
    assert sorted(payload.split(",")) == sorted([*some(300), "again and again"])
    assert len(listener.heard()) == 2


def test_many_hints_go_out_in_several_notifications_that_the_server_takes(held_back: Held) -> None:
    """It takes less than 8000 bytes; questions are a little longer."""
    hints, go, listener = held_back
    questions = [f"?{one}" for one in some(5000)]
    for begin in range(0, 5000, 100):
        hints.publish(questions[begin : begin + 100])
    go()
    _, *payloads = listener.wait_for(lambda heard: sum(len(payload.split(",")) for payload in heard) > 5000)
    assert [one for payload in payloads for one in payload.split(",")] == questions
    assert max(len(payload.encode()) for payload in payloads) < 8000
    assert len(payloads) == 10


def test_too_many_hints_become_the_hint_that_anything_may_have_happened(held_back: Held) -> None:
    """Whether they come at once or one by one; it takes bounded memory and time."""
    hints, go, listener = held_back
    hints.publish(some(5001))
    for one in some(20_000):
        hints.publish([one])
    assert len(hints._outgoing) <= 5000
    hints.publish(["the last"])
    go()
    _, *payloads = listener.wait_for(lambda heard: "the last" in ",".join(heard))
    assert EVERYTHING in ",".join(payloads).split(",")
    assert len(payloads) <= 10
    assert max(len(payload.encode()) for payload in payloads) < 8000


def test_hints_of_many_threads_all_arrive(processes: Processes) -> None:
    hints, _ = processes.start()
    _, ear = processes.start()

    def publish(number: int) -> None:
        for n in range(500):
            hints.publish([f"{number}-{n}"])

    for publishing in [InBackground(publish, number) for number in range(6)]:
        publishing.result()
    ear.wait_for(*(f"{number}-{n}" for number in range(6) for n in range(500)))
    assert len(ear.heard()) == 3000


def test_two_processes_that_shout_at_each_other_hear_everything(processes: Processes) -> None:
    """What arrives while one sends is not lost."""
    (one, ear_of_one), (other, ear_of_other) = processes.start(), processes.start()

    def shout(hints: PostgresHints, name: str) -> None:
        for number in range(1000):
            hints.publish([f"{name}-{number}"])

    shouting = [InBackground(shout, one, "one"), InBackground(shout, other, "other")]
    for its_shouting in shouting:
        its_shouting.result()
    ear_of_one.wait_for(*(f"other-{number}" for number in range(1000)))
    ear_of_other.wait_for(*(f"one-{number}" for number in range(1000)))
    assert (len(ear_of_one.heard()), len(ear_of_other.heard())) == (1000, 1000)


# -- stopping


def test_stopping_sends_what_is_left(processes: Processes) -> None:
    hints, _ = processes.start()
    _, ear = processes.start()
    hints.publish(some(100))
    hints.stop()
    ear.wait_for(*some(100))
    hints.publish(["too late"])
    hints.stop()
    processes.start()[0].publish(["from another"])
    ear.wait_for("from another")
    assert "too late" not in ear.heard()


def test_stopping_leaves_neither_connection_nor_thread_nor_socket(
    processes: Processes, postgres_admin: PostgresAdmin
) -> None:
    """Whether it was started or not."""
    database = processes.open()
    sql(database, "SELECT 1")
    before = connection_count(postgres_admin, processes.url), threading.active_count(), open_files()
    never_started = PostgresHints(database)
    never_started.publish(["a"])
    never_started.stop()
    hints, _ = processes.start(database)
    hints.stop()
    wait_until(lambda: connection_count(postgres_admin, processes.url) == before[0], "the connection is gone")
    del never_started, hints
    wait_until(lambda: (threading.active_count(), open_files()) == before[1:], "the rest is gone")


def open_files() -> int:
    """How many files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd"))


def test_ear_may_stop_it(processes: Processes) -> None:
    """From the thread of the hints."""
    hints, ear = processes.start()
    other, _ = processes.start()
    stopped = threading.Event()

    def stop() -> None:
        hints.stop()
        stopped.set()

    ear.meanwhile = stop
    other.publish(["a"])
    assert stopped.wait(WAIT_S)


# -- lost connections


def test_lost_connection_comes_back_and_nothing_is_missed(processes: Processes, postgres_admin: PostgresAdmin) -> None:
    """All are told that anything may have happened, as what was hinted at meanwhile may be lost."""
    (one, ear_of_one), (other, ear_of_other) = processes.start(), processes.start()
    lost = listening(postgres_admin, processes.url)
    assert len(lost) == 2
    cut(postgres_admin, lost)
    one.publish(["a"])
    ear_of_one.wait_for(EVERYTHING)
    ear_of_other.wait_for(EVERYTHING)
    wait_until(lambda: one.is_live and other.is_live, "both listen again")
    one.publish(["b"])
    other.publish(["c"])
    ear_of_other.wait_for("b")
    ear_of_one.wait_for("c")


def test_hints_published_while_there_is_no_connection_are_told_as_one(
    processes: Processes, postgres_admin: PostgresAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many: memory does not grow with the outage."""
    monkeypatch.setattr(hints_module, "_LONGEST_RETRY_S", 0.2)
    database = processes.open()
    hints, _ = processes.start(database)
    listener = Listener(processes.url, hints._channel)
    (own,) = listening(postgres_admin, processes.url) - listening_of_test(listener)
    may_connect = threading.Event()
    connect = database.detached_connection

    def connect_late() -> Any:
        if not may_connect.is_set():
            raise ConnectionError("not yet")
        return connect()

    monkeypatch.setattr(database, "detached_connection", connect_late)
    cut(postgres_admin, {own})
    wait_until(lambda: not hints.is_live, "it knows that the connection is lost")
    for one in some(20_000):
        hints.publish([one])
    assert len(hints._outgoing) <= 5000
    before = len(listener.heard())
    may_connect.set()
    payloads = listener.wait_for(lambda heard: len(heard) > before)[before:]
    assert EVERYTHING in payloads[0].split(",")
    assert len(payloads) <= 10
    wait_until(lambda: hints.is_live, "it listens again")
    hints.publish(["afterwards"])
    listener.wait_for(lambda heard: "afterwards" in ",".join(heard))
    listener.close()


def listening_of_test(listener: Listener) -> set[int]:
    """The server's process that serves the test's own ear."""
    return {listener._connection.info.backend_pid}


def test_hints_take_no_connection_from_the_pool(processes: Processes) -> None:
    database = processes.open(pool_size=1)
    hints, _ = processes.start(database)
    commit(database, start("w", lease_id=None))
    assert sql(database, "SELECT count(*) FROM {schema}workflow_status WHERE workflow_uuid = 'w'") == [(1,)]
    assert hints.is_live


# -- SQLite


@pytest.fixture
def file(sqlite_url: str) -> Iterator[Database]:
    with closing(open_database(url=sqlite_url)) as database:
        yield database


def test_peek_tells_that_another_connection_has_written(file: Database, sqlite_url: str) -> None:
    """Of this process or another; the first one tells that anything may have happened, reads tell nothing."""
    hints = FileHints(file)
    assert hints.peek()
    assert [hints.peek() for _ in range(3)] == [False] * 3
    commit(file, start("w", lease_id=None))
    assert [hints.peek() for _ in range(3)] == [True, False, False]
    with closing(open_database(url=sqlite_url)) as other:
        hints.peek()
        sql_read(other)
        assert not hints.peek()
        commit(other, start("v", lease_id=None), start("u", lease_id=None))
        change(other, "DELETE FROM workflow_status")
        assert [hints.peek() for _ in range(2)] == [True, False], "several writes count as one"
        change(other, "DELETE FROM workflow_status")
    assert hints.peek()
    hints.stop()
    hints.stop()


def sql_read(database: Database) -> None:
    """Read, and write nothing."""
    database.run("test", lambda t: t.rows("SELECT * FROM workflow_status"), "read")


def test_peek_sees_other_processes(file: Database, sqlite_url: str, spawn: Spawner) -> None:
    hints = FileHints(file)
    hints.peek()
    spawn(
        """
        import sys
        from dbos.storage.opening import open_database
        from tests.support.storage import commit, start
        database = open_database(url=sys.argv[1])
        commit(database, start("w", lease_id=None))
        """,
        sqlite_url,
    ).succeed()
    assert hints.peek()
    hints.stop()


def test_peek_does_not_see_what_is_not_committed(file: Database, sqlite_url: str) -> None:
    """Nor does it wait for it."""
    hints = FileHints(file)
    hints.peek()
    with closing(open_database(url=sqlite_url)) as other:
        hints.peek()
        with other.transaction("test") as transaction:
            transaction.write("DELETE FROM executors")
            transaction.write("INSERT INTO message_keys VALUES ('w', 'key', NULL)")
            assert not hints.peek()
        assert hints.peek()
    hints.stop()


def test_file_hints_leave_no_connection_behind(file: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if another thread stops them than the one that has peeked."""
    connections: list[sqlite3.Connection] = []
    connect = file.detached_connection

    def record() -> Any:
        connection = connect()
        assert isinstance(connection.dbapi_connection, sqlite3.Connection)
        connections.append(connection.dbapi_connection)
        return connection

    monkeypatch.setattr(file, "detached_connection", record)
    hints = FileHints(file)
    for _ in range(3):
        InBackground(hints.peek).result()
    (connection,) = connections
    hints.stop()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_database_in_memory_is_not_peeked_at() -> None:
    """Nobody else can write it."""
    with closing(open_database(url="sqlite:///:memory:")) as database:
        assert FileHints(database).peek_interval_s is None


def test_file_that_cannot_be_watched_is_polled(file: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it can be again."""

    def refuse() -> Any:
        raise OSError("too many open files")

    hints = FileHints(file)
    assert hints.is_live
    with monkeypatch.context() as patch:
        patch.setattr(file, "detached_connection", refuse)
        assert hints.peek()
        assert not hints.is_live
    assert hints.peek()
    assert hints.is_live
    assert not hints.peek()
    hints.stop()


# -- the way that there is


def test_way_of_hints_goes_by_the_database(file: Database, processes: Processes) -> None:
    server = processes.open()
    ways = [open_hints(file), open_hints(server), open_hints(server, uses_notifications=False)]
    assert [type(way) for way in ways] == [FileHints, PostgresHints, NoHints]
    for way in ways:
        way.stop()


def test_no_hints_do_nothing() -> None:
    hints: Hints = NoHints()
    hints.start(lambda _: None)
    hints.publish(["a"])
    assert (hints.peek(), hints.is_live, hints.peek_interval_s) == (False, False, None)
    hints.stop()
