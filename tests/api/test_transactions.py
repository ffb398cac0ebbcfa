"""Transactions: what they commit is recorded with it, once; in the system database and in one of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Column, MetaData, String, Table, create_engine, insert, select, text
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import QueuePool

from dbos import DBOS, DBOSClient, DBOSConfiguredInstance, Queue, SetWorkflowID, SetWorkflowTimeout
from dbos.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSException,
    DBOSInitializationError,
    DBOSSerializationError,
    DBOSUnexpectedStepError,
    DBOSWorkflowCancelledError,
)
from dbos.storage.errors import TransientStorageError
from dbos.storage.gate import Gate
from tests.support.apps import App, Roadblock, eventually, in_threads, interrupt_at, status_of, steps_of
from tests.support.gates import FailingGate
from tests.support.postgres import PostgresAdmin
from tests.support.transactions import MIXED_PLACES, PLACES, TransactionApp
from tests.verify.rows import query

GREETINGS = Table("greetings", MetaData(), Column("name", String), Column("note", String))


class Base(DeclarativeBase):
    pass


class Greeting(Base):
    """The same table, as objects."""

    __tablename__ = "greetings"
    name: Mapped[str] = mapped_column(primary_key=True)
    note: Mapped[str | None]


@pytest.fixture(scope="module")
def postgres_urls(postgres_admin: PostgresAdmin) -> Iterator[list[str]]:
    """Two databases that the tests of this module use one after the other, emptied."""
    urls = [postgres_admin.create_database() for _ in range(2)]
    yield urls
    for url in urls:
        postgres_admin.drop_database(url)


def places(*names: str) -> list[Any]:
    """The parameters of `unlaunched_app`."""
    return [pytest.param(name, marks=[pytest.mark.postgres] * ("postgres" in name)) for name in names]


@pytest.fixture(params=places(*PLACES))
def unlaunched_app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TransactionApp]:
    """An application for each place of the two databases, configured and not launched."""
    urls = [
        f"sqlite:///{tmp_path}/{number}.sqlite"
        if kind == "sqlite"
        else request.getfixturevalue("postgres_urls")[number]
        for number, kind in enumerate(request.param.split("-"))
    ]
    yield TransactionApp(urls[0], urls[1] if len(urls) > 1 else None)
    DBOS.destroy()
    for url in urls:
        if url.startswith("postgresql"):
            query(url, 'DROP SCHEMA IF EXISTS "dbos" CASCADE')
            query(url, "DROP SCHEMA public CASCADE")
            query(url, "CREATE SCHEMA public")


@pytest.fixture
def app(unlaunched_app: TransactionApp) -> TransactionApp:
    """The same, launched."""
    unlaunched_app.launch()
    return unlaunched_app


everywhere = pytest.mark.parametrize("unlaunched_app", places(*PLACES, *MIXED_PLACES), indirect=True)
shared_only = pytest.mark.parametrize("unlaunched_app", places("sqlite", "postgres"), indirect=True)
postgres_only = pytest.mark.parametrize("unlaunched_app", places("postgres", "postgres-postgres"), indirect=True)
while_others_write = pytest.mark.parametrize(
    "unlaunched_app", places("sqlite-sqlite", "postgres", "postgres-postgres"), indirect=True
)
"""Not in SQLite's system database, to which nobody writes while a transaction is under way."""
sqlite_only = pytest.mark.parametrize("unlaunched_app", ["sqlite"], indirect=True)
separate_only = pytest.mark.parametrize("unlaunched_app", places("sqlite-sqlite", "postgres-postgres"), indirect=True)


@DBOS.transaction()
def greet(name: str, note: str | None = None) -> str:
    DBOS.sql_session.execute(insert(GREETINGS).values(name=name, note=note))
    return f"hello {name}"


@DBOS.transaction()
def note_of(name: str) -> str | None:
    row = DBOS.sql_session.execute(select(GREETINGS.c.note).where(GREETINGS.c.name == name)).first()
    return row[0] if row else None


@DBOS.transaction()
def greet_and_fail(name: str) -> None:
    DBOS.sql_session.execute(insert(GREETINGS).values(name=name))
    raise LookupError("wrong", name)


@DBOS.workflow()
def greet_all(*names: str) -> list[str]:
    return [greet(name) for name in names]


# -- using it


@everywhere
def test_core_objects_and_raw_sql_work_as_in_the_guide(app: TransactionApp) -> None:
    @DBOS.transaction()
    def add_raw(name: str, note: str) -> None:
        sql = text("INSERT INTO greetings (name, note) VALUES (:name, :note)")
        DBOS.sql_session.execute(sql, {"name": name, "note": note})

    @DBOS.transaction()
    def read_raw(name: str) -> str | None:
        row = DBOS.sql_session.execute(text("SELECT note FROM greetings WHERE name = :name LIMIT 1"), {"name": name})
        first = row.first()
        return first[0] if first else None

    @DBOS.transaction()
    def add_object(name: str, note: str) -> None:
        DBOS.sql_session.add(Greeting(name=name, note=note))

    @DBOS.transaction()
    def read_object(name: str) -> str | None:
        greeting = DBOS.sql_session.scalars(select(Greeting).where(Greeting.name == name)).one()
        return greeting.note

    @DBOS.workflow()
    def workflow() -> list[str | None]:
        greet("core", "by core")
        add_raw("raw", "by SQL")
        add_object("object", "by object")
        return [note_of("core"), read_raw("raw"), read_object("object"), note_of("nobody")]

    assert workflow() == ["by core", "by SQL", "by object", None]
    assert app.greetings() == [("core", "by core"), ("object", "by object"), ("raw", "by SQL")]


def test_an_object_that_was_read_stays_readable_after_the_transaction(app: TransactionApp) -> None:
    @DBOS.transaction()
    def add() -> Greeting:
        greeting = Greeting(name="anna", note="kept")
        DBOS.sql_session.add(greeting)
        return greeting

    @DBOS.workflow()
    def workflow() -> str | None:
        return add().note

    with SetWorkflowID("w"):
        assert workflow() == "kept"
    assert cast(Greeting, DBOS.list_workflow_steps("w")[0]["output"]).note == "kept"


def test_it_is_a_step_with_a_record_of_its_own(app: TransactionApp) -> None:
    @DBOS.transaction("READ COMMITTED", name="look around")
    def look() -> tuple[str | None, int | None]:
        return DBOS.workflow_id, DBOS.step_id

    @DBOS.step()
    def step() -> int:
        return 1

    @DBOS.workflow()
    def workflow() -> Any:
        greet("anna")
        step()
        return look()

    with SetWorkflowID("w"):
        assert workflow() == ("w", 3)
    step_name = step.__qualname__  # type: ignore[attr-defined]
    assert steps_of("w") == [(1, "greet"), (2, step_name), (3, "look around")]
    first = DBOS.list_workflow_steps("w")[0]
    assert (first["output"], first["error"], first["child_workflow_id"]) == ("hello anna", None, None)
    assert first["started_at_epoch_ms"] is not None
    assert first["completed_at_epoch_ms"] is not None
    assert app.records("w") == [(1, "greet", 1, 0), (3, "look around", 1, 0)]


def test_called_on_its_own_it_is_a_workflow(app: TransactionApp) -> None:
    queue = Queue("greetings")
    with SetWorkflowID("called"), SetWorkflowTimeout(60):
        assert greet("called") == "hello called"
    with SetWorkflowID("called"):
        assert greet("again") == "hello called", "the id makes it idempotent"
    with SetWorkflowID("started"):
        assert DBOS.start_workflow(greet, "started").get_result() == "hello started"
    with SetWorkflowID("enqueued"):
        assert queue.enqueue(greet, "enqueued").get_result() == "hello enqueued"
    for workflow_id in ("called", "started", "enqueued"):
        status = DBOS.get_workflow_status(workflow_id)
        assert status is not None
        assert (status.name, status.status, steps_of(workflow_id)) == ("<temp>.greet", "SUCCESS", [(1, "greet")])
    assert [name for name, _ in app.greetings()] == ["called", "enqueued", "started"]


async def test_a_coroutine_calls_it_in_a_thread(app: TransactionApp) -> None:
    @DBOS.workflow()
    async def workflow() -> list[str | None]:
        await asyncio.to_thread(greet, "anna", "by a coroutine")
        await DBOS.sleep_async(0)
        return [await asyncio.to_thread(note_of, "anna"), note_of("anna")]

    with SetWorkflowID("w"):
        assert await workflow() == ["by a coroutine", "by a coroutine"]
    steps = await DBOS.list_workflow_steps_async("w")
    assert [step["function_name"] for step in steps] == ["greet", "DBOS.sleep", "note_of", "note_of"]


def test_methods_of_all_kinds(unlaunched_app: TransactionApp) -> None:
    @DBOS.dbos_class("Greeter")
    class Greeter(DBOSConfiguredInstance):
        def __init__(self, greeting: str) -> None:
            super().__init__(greeting)
            self.greeting = greeting

        @DBOS.transaction(name="Greeter.one")
        def one(self, name: str) -> str:
            DBOS.sql_session.execute(insert(GREETINGS).values(name=name, note=self.greeting))
            return f"{self.greeting} {name}"

        @classmethod
        @DBOS.transaction(name="Greeter.two")
        def two(cls, name: str) -> str:
            DBOS.sql_session.execute(insert(GREETINGS).values(name=name, note=cls.__name__))
            return cls.__name__

        @DBOS.transaction(name="Greeter.three")
        @staticmethod
        def three(name: str) -> str:
            DBOS.sql_session.execute(insert(GREETINGS).values(name=name))
            return name

        @DBOS.workflow(name="Greeter.all")
        def all(self) -> list[str]:
            return [self.one("1"), self.two("2"), Greeter.three("3")]

    greeter = Greeter("good day")
    unlaunched_app.launch()
    with SetWorkflowID("w"):
        assert greeter.all() == ["good day 1", "Greeter", "3"]
    assert steps_of("w") == [(1, "Greeter.one"), (2, "Greeter.two"), (3, "Greeter.three")]
    with SetWorkflowID("alone"):
        assert DBOS.start_workflow(greeter.one, "4").get_result() == "good day 4"
    assert [Greeter.two("5"), Greeter.three("6"), greeter.one("7")] == ["Greeter", "6", "good day 7"]
    status = DBOS.get_workflow_status("alone")
    assert status is not None
    assert (status.name, status.class_name, status.config_name) == ("<temp>.Greeter.one", "Greeter", "good day")
    assert len(unlaunched_app.greetings()) == 7


# -- what it raises


@everywhere
def test_what_it_raises_is_rolled_back_recorded_and_raised_again(app: TransactionApp) -> None:
    roadblock, calls = Roadblock(), list[str]()

    @DBOS.transaction()
    def fail(name: str) -> None:
        calls.append(name)
        greet_here(name)
        raise LookupError("wrong", name)

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def workflow() -> list[Any]:
        try:
            fail("anna")
        except LookupError as error:
            wait()
            return [type(error), *error.args]
        raise AssertionError

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    interrupt_at(roadblock, app)
    assert DBOS.retrieve_workflow("w").get_result() == [LookupError, "wrong", "anna"]
    assert (calls, app.greetings()) == (["anna"], [])
    assert app.records("w") == [(1, fail.__qualname__, 0, 1)]  # type: ignore[attr-defined]
    step = DBOS.list_workflow_steps("w")[0]
    assert isinstance(step["error"], LookupError)


def greet_here(name: str) -> None:
    """Insert a row, in a transaction."""
    DBOS.sql_session.execute(insert(GREETINGS).values(name=name))


def test_on_its_own_it_raises_what_it_raised(app: TransactionApp) -> None:
    with SetWorkflowID("w"), pytest.raises(LookupError, match="wrong"):
        greet_and_fail("anna")
    assert (status_of("w"), app.greetings()) == ("ERROR", [])


@pytest.mark.parametrize("way", ["commit", "rollback", "close"])
def test_ending_it_oneself_is_refused_by_sqlalchemy(app: TransactionApp, way: str) -> None:
    @DBOS.transaction()
    def end_at_last() -> None:
        greet_here("anna")
        getattr(DBOS.sql_session, way)()

    @DBOS.transaction()
    def end_and_go_on() -> None:
        greet_here("anna")
        getattr(DBOS.sql_session, way)()
        greet_here("bert")

    for transaction in (end_at_last, end_and_go_on):
        with pytest.raises(InvalidRequestError, match="inside context manager"):
            transaction()
    assert app.greetings() == [], "not even before the refusal"


@pytest.mark.parametrize("way", ["on the connection", "by SQL"])
def test_ending_it_behind_the_back_of_the_session_is_an_error(app: TransactionApp, way: str) -> None:
    @DBOS.transaction()
    def end() -> None:
        greet_here("anna")
        connection = DBOS.sql_session.connection()
        if way == "by SQL":
            connection.exec_driver_sql("ROLLBACK")
        else:
            connection.rollback()

    with pytest.raises(Exception, match=r"cannot be committed|inside context manager|closed|inactive"):
        end()
    assert app.greetings() == []


def test_a_savepoint_may_be_rolled_back(app: TransactionApp) -> None:
    @DBOS.transaction()
    def try_both() -> str:
        greet_here("anna")
        try:
            with DBOS.sql_session.begin_nested():
                greet_here("bert")
                raise ValueError("undone")
        except ValueError:
            greet_here("carl")
        return "done"

    assert try_both() == "done"
    assert [name for name, _ in app.greetings()] == ["anna", "carl"]


def test_a_failed_statement_that_is_swallowed_does_not_look_like_success(app: TransactionApp) -> None:
    """PostgreSQL has undone all by then; on SQLite only that statement is undone."""

    @DBOS.transaction()
    def swallow() -> str:
        greet_here("anna")
        try:
            DBOS.sql_session.execute(text("INSERT INTO greetings (name) VALUES (NULL)"))
        except IntegrityError:
            return "swallowed"
        raise AssertionError

    if app.application_url.startswith("sqlite"):
        assert (swallow(), len(app.greetings())) == ("swallowed", 1)
        return
    with pytest.raises(DBOSException, match=r"Transaction .*swallow cannot be committed: a statement failed.*nested"):
        swallow()
    assert app.greetings() == []


@postgres_only
def test_what_the_database_refuses_at_the_commit_is_the_transactions_error(app: TransactionApp) -> None:
    app.ask("CREATE TABLE unique_names (name TEXT UNIQUE DEFERRABLE INITIALLY DEFERRED)")

    @DBOS.transaction()
    def add_twice() -> None:
        DBOS.sql_session.execute(text("INSERT INTO unique_names VALUES ('anna'), ('anna')"))

    @DBOS.workflow()
    def workflow() -> str:
        try:
            add_twice()
        except IntegrityError:
            greet("anna")
        return "caught"

    with SetWorkflowID("w"):
        assert workflow() == "caught"
    assert [record[2:] for record in app.records("w")] == [(0, 1), (1, 0)]
    assert app.ask("SELECT * FROM unique_names") == []


def test_a_result_that_cannot_be_stored_is_rolled_back(app: TransactionApp) -> None:
    @DBOS.transaction()
    def give_lock() -> object:
        greet_here("anna")
        return threading.Lock()

    with SetWorkflowID("w"), pytest.raises(DBOSSerializationError, match=r"transaction .*give_lock of workflow 'w'"):
        give_lock()
    assert (app.greetings(), app.records("w")[0][2:]) == ([], (0, 1))


# -- where it may be called, and what may be called in it


def test_the_session_is_there_in_transactions_only(app: TransactionApp) -> None:
    @DBOS.step()
    def step() -> Any:
        return DBOS.sql_session

    @DBOS.transaction()
    def transaction() -> bool:
        return step() is DBOS.sql_session

    assert transaction() is True, "a step that is called in it is a part of it"
    for outside in (step, lambda: DBOS.sql_session):
        with pytest.raises(DBOSException, match=r"sql_session was used outside of a transaction.*@DBOS.transaction"):
            outside()


CALLS = {
    "sleep": lambda: DBOS.sleep(0),
    "send": lambda: DBOS.send("w", "message"),
    "recv": lambda: DBOS.recv(timeout_seconds=0),
    "set_event": lambda: DBOS.set_event("key", 1),
    "get_event": lambda: DBOS.get_event("w", "key", 0),
    "get_all_events": lambda: DBOS.get_all_events("w"),
    "write_stream": lambda: DBOS.write_stream("key", 1),
    "close_stream": lambda: DBOS.close_stream("key"),
    "read_stream": lambda: list(DBOS.read_stream("w", "key")),
    "get_workflow_status": lambda: DBOS.get_workflow_status("w"),
    "list_workflows": lambda: DBOS.list_workflows(),
    "list_workflow_steps": lambda: DBOS.list_workflow_steps("w"),
    "cancel_workflow": lambda: DBOS.cancel_workflow("w"),
    "fork_workflow": lambda: DBOS.fork_workflow("w", 1),
    "delete_workflow": lambda: DBOS.delete_workflow("w"),
    "start_workflow": lambda: DBOS.start_workflow(greet_all),
    "retrieve_workflow": lambda: DBOS.retrieve_workflow("w"),
    "get_result": lambda: DBOS.get_result("w"),
    "a workflow": lambda: greet_all(),
    "a transaction": lambda: greet("bert"),
}


@sqlite_only
def test_library_calls_in_a_transaction_raise(app: TransactionApp) -> None:
    @DBOS.transaction()
    def transaction(name: str) -> None:
        greet_here("anna")
        CALLS[name]()

    for name in CALLS:
        with pytest.raises(DBOSException, match=r"was called in a transaction.*Call it from the workflow instead"):
            transaction(name)
    assert app.greetings() == []


CLIENT_CALLS: dict[str, Callable[[DBOSClient], object]] = {
    "enqueue": lambda client: client.enqueue({"queue_name": "nobody's", "workflow_name": "none"}).workflow_id,
    "send": lambda client: client.send("w", "message"),
    "list_workflows": lambda client: client.list_workflows(),
    "cancel_workflow": lambda client: client.cancel_workflow("w"),
}


@everywhere
def test_client_in_a_transaction_works_unless_it_would_wait_for_its_end(app: TransactionApp) -> None:
    """SQLite lets one write at a time, so a client of the same file would wait for ever."""
    with SetWorkflowID("w"):
        greet_all()
    with DBOSClient(system_database_url=app.url) as client:
        ended = client.retrieve_workflow("w")
        calls: list[Callable[[], object]] = [lambda call=call: call(client) for call in CLIENT_CALLS.values()]  # type: ignore[misc]

        @DBOS.transaction()
        def transaction(number: int) -> None:
            greet_here("anna")
            calls[number]()

        calls.append(ended.get_result)
        for number in range(len(calls)):
            if app.url.startswith("sqlite") and not app.is_separate:
                with pytest.raises(DBOSException, match=r"DBOSClient was called in a transaction.*from the workflow"):
                    transaction(number)
            else:
                transaction(number)
        queued = client.list_queued_workflows(queue_name="nobody's")
    assert len(queued) == len(app.greetings()) // len(calls)


def test_a_step_must_not_call_it(app: TransactionApp) -> None:
    @DBOS.step()
    def step() -> None:
        greet("anna")

    @DBOS.workflow()
    def workflow() -> None:
        step()

    with pytest.raises(DBOSException, match=r"Transaction greet was called from a step.*Call it from the workflow"):
        workflow()
    assert app.greetings() == []


def test_it_needs_a_launched_application(unlaunched: Path) -> None:
    with pytest.raises(DBOSException, match=r"Calling transaction greet needs a launched DBOS"):
        greet("anna")


def test_what_cannot_be_a_transaction_is_refused_when_it_is_decorated() -> None:
    async def coroutine() -> None: ...

    def generator() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match=r"coroutine is a coroutine function.*asyncio\.to_thread\(coroutine"):
        DBOS.transaction()(coroutine)
    with pytest.raises(TypeError, match="generator is a generator function"):
        DBOS.transaction()(generator)
    with pytest.raises(TypeError, match="with its parentheses"):
        DBOS.transaction(greet_here)  # type: ignore[arg-type]
    for level in ("NONSENSE", "AUTOCOMMIT", ""):
        with pytest.raises(ValueError, match=r"greet_here: there is no isolation level .*READ COMMITTED"):
            DBOS.transaction(cast(Any, level))(greet_here)


@pytest.mark.parametrize("level", ["SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED", "READ UNCOMMITTED"])
def test_isolation_levels_are_those_of_the_database(app: TransactionApp, level: Any) -> None:
    @DBOS.transaction(level)
    def look() -> str:
        greet_here("anna")
        if app.application_url.startswith("sqlite"):
            return str(level)
        return str(DBOS.sql_session.execute(text("SHOW transaction_isolation")).scalar_one()).upper()

    assert look() == level
    assert len(app.greetings()) == 1


# -- exactly once


def test_a_recorded_transaction_never_runs_again(app: TransactionApp) -> None:
    roadblock = Roadblock()

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def workflow() -> list[str]:
        first = greet("anna")
        wait()
        return [first, greet("bert")]

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    interrupt_at(roadblock, app)
    assert DBOS.retrieve_workflow("w").get_result() == ["hello anna", "hello bert"]
    assert [name for name, _ in app.greetings()] == ["anna", "bert"]


def test_what_is_interrupted_in_a_transaction_starts_anew(unlaunched_app: TransactionApp) -> None:
    """The library's own writes cannot wait for the application's code, which has SQLite's file locked."""
    roadblock, calls = Roadblock(), list[int]()
    launch_with(unlaunched_app, lease_ttl_s=0.5)

    @DBOS.transaction()
    def stand() -> int:
        calls.append(1)
        roadblock.stop()
        greet_here("anna")
        return len(calls)

    @DBOS.workflow()
    def workflow() -> int:
        return stand()

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    roadblock.wait_until_reached()
    DBOS.destroy()
    roadblock.open()
    launch_with(unlaunched_app, lease_ttl_s=0.5)
    assert DBOS.retrieve_workflow("w").get_result() == 2
    assert len(unlaunched_app.greetings()) == 1


@everywhere
@pytest.mark.parametrize("moment", ["begin", "before_commit", "after_commit"])
def test_a_failure_that_passes_is_tried_again_and_commits_once(unlaunched_app: TransactionApp, moment: Any) -> None:
    """After the commit it is a lost acknowledgement."""
    gate = FailingGate("transaction", moment, TransientStorageError("made by the test"))
    launch_with(unlaunched_app, gate)
    with SetWorkflowID("w"):
        assert greet_all("anna", "bert") == ["hello anna", "hello bert"]
    assert [name for name, _ in unlaunched_app.greetings()] == ["anna", "bert"]
    assert gate.count("transaction", "begin") == (2 if moment == "after_commit" else 3)
    assert steps_of("w") == [(1, "greet"), (2, "greet")]


def launch_with(app: TransactionApp, gate: Gate | None = None, lease_ttl_s: float = 10.0) -> None:
    """Launch with a gate, or with leases that die soon."""
    DBOS(config=app.config())
    application = DBOS._application
    assert application is not None
    application.gate, application.lease_ttl_s, application.renew_interval_s = gate, lease_ttl_s, lease_ttl_s / 5
    DBOS.launch()


def test_an_acknowledgement_of_an_error_that_is_lost_changes_nothing(unlaunched_app: TransactionApp) -> None:
    launch_with(unlaunched_app, FailingGate("transaction", "after_commit", TransientStorageError("made by the test")))
    with SetWorkflowID("w"), pytest.raises(LookupError):
        greet_and_fail("anna")
    assert (unlaunched_app.greetings(), len(unlaunched_app.records("w"))) == ([], 1)


def test_a_refusal_that_stays_fails_the_workflow_by_name(unlaunched_app: TransactionApp) -> None:
    launch_with(unlaunched_app, FailingGate("transaction", "before_commit", ValueError("refused for good")))
    with SetWorkflowID("w"), pytest.raises(DBOSException, match="refused by the database: refused for good"):
        greet_all("anna")
    assert (status_of("w"), unlaunched_app.greetings()) == ("ERROR", [])


@postgres_only
def test_serialization_failures_are_tried_again(app: TransactionApp) -> None:
    """All read the same row and write it: of each pair one has to give way."""
    app.ask("INSERT INTO greetings VALUES ('counter', '0')")

    @DBOS.transaction()
    def count() -> None:
        number = int(note_here("counter"))
        DBOS.sql_session.execute(text(f"UPDATE greetings SET note = '{number + 1}' WHERE name = 'counter'"))

    @DBOS.transaction()
    def count_wrapped() -> None:
        """What the database says may come wrapped."""
        try:
            count.__wrapped__()  # type: ignore[attr-defined]
        except Exception as error:
            raise RuntimeError("could not count") from error

    def count_five_times(number: int) -> None:
        for _ in range(5):
            (count if number % 2 else count_wrapped)()

    in_threads([lambda number=number: count_five_times(number) for number in range(6)])
    assert app.greetings() == [("counter", "30")]


def note_here(name: str) -> str:
    """Read a row, in a transaction."""
    return str(DBOS.sql_session.execute(select(GREETINGS.c.note).where(GREETINGS.c.name == name)).scalar_one())


@postgres_only
def test_recording_makes_no_serialization_failures(app: TransactionApp) -> None:
    """Those who insert rows of their own do not get in each other's way."""
    tries: list[int] = []

    @DBOS.transaction()
    def add(name: str) -> None:
        tries.append(1)
        greet_here(name)

    in_threads([lambda number=number: [add(f"{number} {n}") for n in range(10)] for number in range(8)])
    assert (len(tries), len(app.greetings())) == (80, 80)


@postgres_only
def test_deadlocks_and_lost_connections_are_tried_again(app: TransactionApp) -> None:
    calls: list[int] = []

    @DBOS.transaction()
    def lose_connection() -> int:
        greet_here("anna")
        calls.append(1)
        if len(calls) == 1:
            DBOS.sql_session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return len(calls)

    assert lose_connection() == 2
    assert len(app.greetings()) == 1
    app.ask("INSERT INTO greetings VALUES ('one', ''), ('two', '')")
    both = threading.Barrier(2)
    tries: list[str] = []

    @DBOS.transaction("READ COMMITTED")
    def lock(first: str, second: str) -> None:
        tries.append(first)
        DBOS.sql_session.execute(text(f"UPDATE greetings SET note = note || '{first}' WHERE name = '{first}'"))
        if len(tries) <= 2:
            both.wait(10)
        DBOS.sql_session.execute(text(f"UPDATE greetings SET note = note || '{first}' WHERE name = '{second}'"))

    in_threads([lambda: lock("one", "two"), lambda: lock("two", "one")])
    assert len(tries) == 3, "one of them gave way"
    assert all(len(note or "") == 6 for name, note in app.greetings() if name in ("one", "two"))


def test_a_cancelled_workflow_stops_before_its_next_transaction(app: TransactionApp) -> None:
    roadblock = Roadblock()

    @DBOS.transaction()
    def stand(name: str) -> None:
        greet_here(name)

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def workflow() -> None:
        stand("anna")
        wait()
        stand("bert")

    with SetWorkflowID("w"):
        handle = DBOS.start_workflow(workflow)
    roadblock.wait_until_reached()
    DBOS.cancel_workflow("w")
    roadblock.open()
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        handle.get_result()
    eventually(lambda: DBOS._application.executor.run_count == 0, "the run has stopped")  # type: ignore[union-attr]
    assert [name for name, _ in app.greetings()] == ["anna"]
    DBOS.resume_workflow("w").get_result()
    assert [name for name, _ in app.greetings()] == ["anna", "bert"]


@while_others_write
def test_what_is_cancelled_in_a_transaction_is_rolled_back(app: TransactionApp) -> None:
    roadblock, ended = Roadblock(), list[BaseException]()

    @DBOS.transaction()
    def stand() -> str:
        greet_here("anna")
        roadblock.stop()
        return "done"

    @DBOS.workflow()
    def workflow() -> str:
        try:
            return stand()
        except BaseException as stop:
            ended.append(stop)
            raise

    with SetWorkflowID("w"):
        handle = DBOS.start_workflow(workflow)
    roadblock.wait_until_reached()
    DBOS.cancel_workflow("w")
    roadblock.open()
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        handle.get_result()
    eventually(lambda: len(ended) == 1, "the workflow is stopped in its transaction")
    assert isinstance(ended[0], DBOSWorkflowCancelledError)
    assert (app.greetings(), app.records("w")) == ([], [])
    assert DBOS.resume_workflow("w").get_result() == "done"
    assert len(app.greetings()) == 1


@while_others_write
async def test_a_task_that_its_workflow_left_behind_commits_nothing(app: TransactionApp) -> None:
    roadblock, left_behind = Roadblock(), list[asyncio.Task[Any]]()

    @DBOS.transaction()
    def stand() -> None:
        greet_here("anna")
        roadblock.stop()

    @DBOS.workflow()
    async def workflow() -> str:
        left_behind.append(asyncio.create_task(asyncio.to_thread(stand)))
        while not roadblock.reached.is_set():
            await asyncio.sleep(0.002)
        return "done"

    with SetWorkflowID("w"):
        handle = await DBOS.start_workflow_async(workflow)
    assert await handle.get_result() == "done"
    roadblock.open()
    with pytest.raises(DBOSException, match="has ended"):
        await left_behind[0]
    assert (app.greetings(), app.records("w")) == ([], [])


def test_another_step_under_its_number_is_a_loud_error(app: TransactionApp) -> None:
    with SetWorkflowID("w"):
        greet_all("anna")
    app.ask("UPDATE {schema}transaction_outputs SET function_name = 'another'")
    query(app.url, "UPDATE {schema}operation_outputs SET function_name = 'another'")
    forked = DBOS.fork_workflow("w", 2)
    with pytest.raises(DBOSUnexpectedStepError, match="another"):
        forked.get_result()


# -- management


@everywhere
def test_a_fork_keeps_the_transactions_before_its_first_step(app: TransactionApp) -> None:
    with SetWorkflowID("w"):
        greet_all("anna", "bert", "carl")
    forked = DBOS.fork_workflow("w", 3)
    assert forked.get_result() == ["hello anna", "hello bert", "hello carl"]
    assert [name for name, _ in app.greetings()] == ["anna", "bert", "carl", "carl"]
    assert [record[:2] for record in app.records(forked.workflow_id)] == [(3, "greet")]


@separate_only
def test_what_only_the_application_database_knows_is_replayed_and_forked(app: TransactionApp) -> None:
    """A process died between the commit there and the checkpoint here."""
    with SetWorkflowID("w"):
        greet_all("anna", "bert")
    query(app.url, "DELETE FROM {schema}operation_outputs")
    forked = DBOS.fork_workflow("w", 3)
    assert forked.get_result() == ["hello anna", "hello bert"]
    assert steps_of(forked.workflow_id) == [(1, "greet"), (2, "greet")]
    DBOS.destroy()
    query(app.url, "DELETE FROM {schema}operation_outputs")
    query(app.url, "UPDATE {schema}workflow_status SET status = 'PENDING', owner_xid = NULL WHERE workflow_uuid = 'w'")
    app.launch()
    assert eventually(lambda: status_of("w") == "SUCCESS", "it is recovered")
    assert steps_of("w") == [(1, "greet"), (2, "greet")]
    assert [name for name, _ in app.greetings()] == ["anna", "bert"], "nothing was done twice"


def test_a_deleted_workflow_leaves_no_transactions(app: TransactionApp) -> None:
    with SetWorkflowID("w"):
        greet_all("anna")
    DBOS.delete_workflow("w")
    assert app.records("w") == []
    with SetWorkflowID("w"):
        greet_all("anna")
    assert len(app.greetings()) == 2, "it was done again"


def test_a_reset_leaves_no_transactions(app: TransactionApp) -> None:
    with SetWorkflowID("w"):
        greet_all("anna")
    DBOS.destroy()
    DBOS(config=app.config())
    DBOS.reset_system_database()
    DBOS.launch()
    with SetWorkflowID("w"):
        assert greet_all("anna") == ["hello anna"]
    assert len(app.greetings()) == 2, "it was done again"


@shared_only
def test_a_client_sees_and_forks_it(app: TransactionApp) -> None:
    with SetWorkflowID("w"):
        greet_all("anna", "bert")
    with DBOSClient(system_database_url=app.url) as client:
        assert [step["function_name"] for step in client.list_workflow_steps("w")] == ["greet", "greet"]
        assert client.fork_workflow("w", 2).get_result() == ["hello anna", "hello bert"]
        client.delete_workflow("w")
    assert (app.records("w"), [name for name, _ in app.greetings()]) == ([], ["anna", "bert", "bert"])


# -- databases and connections


def test_many_at_once_on_a_pool_of_two(unlaunched_app: TransactionApp) -> None:
    unlaunched_app.launch(sys_db_pool_size=2)
    handles = [DBOS.start_workflow(greet_all, f"{number} a", f"{number} b") for number in range(30)]
    assert all(len(handle.get_result()) == 2 for handle in handles)
    assert len(unlaunched_app.greetings()) == 60


@DBOS.workflow()
def greet_nobody() -> list[str]:
    """It starts and ends, which takes two commits."""
    return []


@postgres_only
def test_the_library_has_a_connection_while_all_transactions_wait(unlaunched_app: TransactionApp) -> None:
    roadblock = Roadblock()

    @DBOS.transaction()
    def stand(name: str) -> None:
        greet_here(name)
        roadblock.stop()

    unlaunched_app.launch(sys_db_pool_size=2)
    standing = [DBOS.start_workflow(stand, str(number)) for number in range(3)]
    roadblock.wait_until_reached()
    assert [status_of(handle.workflow_id) for handle in standing] == ["PENDING"] * 3
    assert greet_nobody() == []
    roadblock.open()
    for handle in standing:
        handle.get_result()
    assert len(unlaunched_app.greetings()) == 3


@shared_only
def test_an_engine_of_the_application_serves_transactions_too(unlaunched_app: TransactionApp) -> None:
    url = unlaunched_app.url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url, poolclass=QueuePool, pool_size=2, max_overflow=0)
    unlaunched_app.launch(system_database_engine=engine)
    assert greet_all("anna", "bert") == ["hello anna", "hello bert"]
    with pytest.raises(LookupError):
        greet_and_fail("carl")
    DBOS.destroy()
    with engine.connect() as connection:
        connection.execute(insert(GREETINGS).values(name="mine"))
        connection.rollback()
    with engine.connect() as connection:
        assert sorted(connection.execute(select(GREETINGS.c.name)).scalars()) == ["anna", "bert"]
    engine.dispose()


def test_in_memory(unlaunched: Path) -> None:
    DBOS(config={"name": "app", "system_database_url": "sqlite://", "application_version": "test"})
    DBOS.launch()

    @DBOS.transaction()
    def make() -> None:
        DBOS.sql_session.execute(text("CREATE TABLE greetings (name TEXT, note TEXT)"))

    make()
    handles = [DBOS.start_workflow(greet, str(number)) for number in range(10)]
    assert [handle.get_result() for handle in handles] == [f"hello {number}" for number in range(10)]
    with pytest.raises(LookupError):
        greet_and_fail("anna")
    assert note_of("1") is None


def test_by_default_transactions_run_in_the_system_database(unlaunched: Path) -> None:
    DBOS(config={"name": "my-app"})
    DBOS.launch()

    @DBOS.transaction()
    def make() -> None:
        DBOS.sql_session.execute(text("CREATE TABLE greetings (name TEXT, note TEXT)"))

    make()
    greet("anna")
    assert [path.name for path in unlaunched.iterdir() if path.suffix == ".sqlite"] == ["my-app.sqlite"]


@pytest.mark.parametrize("key", ["database_url", "application_database_url"])
def test_only_the_application_database_is_given(postgres_admin: PostgresAdmin, postgres_url: str, key: str) -> None:
    """On PostgreSQL the system database is its neighbour; unknown ones are created."""
    app = TransactionApp(postgres_url, None)
    DBOS(config=cast(Any, {"name": "app", key: postgres_url, "application_version": "test", "run_admin_server": False}))
    DBOS.launch()
    try:
        with SetWorkflowID("w"):
            greet_all("anna")
        assert (len(app.records("w")), len(app.greetings())) == (1, 1)
        assert DBOS._application is not None
        assert DBOS._application.executor is not None
        system = DBOS._application.executor.database.engine.url
        assert system.database is not None
        assert system.database.endswith("_dbos_sys")
    finally:
        DBOS.destroy()
        postgres_admin.drop_database(system.set(drivername="postgresql").render_as_string(hide_password=False))


def test_application_database_url_wins_over_database_url(sqlite_url: str, tmp_path: Path) -> None:
    app = TransactionApp(sqlite_url, f"sqlite:///{tmp_path}/application.sqlite")
    app.launch(database_url=f"sqlite:///{tmp_path}/other.sqlite")
    greet("anna")
    DBOS.destroy()
    assert len(app.greetings()) == 1
    assert not (tmp_path / "other.sqlite").exists()


def test_an_application_database_that_cannot_be_used_is_named_at_launch(sqlite_url: str, tmp_path: Path) -> None:
    app = App(sqlite_url)
    with pytest.raises(DBOSInitializationError, match=r"nowhere/application\.sqlite.*cannot be used"):
        app.launch(application_database_url=f"sqlite:///{tmp_path}/nowhere/application.sqlite")
    app.launch()
    DBOS.destroy()
