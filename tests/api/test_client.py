"""`DBOSClient`: what an application offers to programs that do not run it.

Most tests run with the client in the application's process and in another one, by its methods and by their `_async`
twins.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy
from sqlalchemy import event

from dbos import DBOS, DBOSClient, Serializer, SetWorkflowID, SetWorkflowTimeout, error
from tests.support.apps import App, eventually, status_of
from tests.support.background import InBackground
from tests.support.postgres import PostgresAdmin
from tests.support.processes import ROOT, Spawner
from tests.support.puppets import Puppet
from tests.support.remote import Remote
from tests.support.twins import Twins
from tests.verify.rows import query

PEER = ROOT / "tests/runtime/programs/wake_peer.py"
every_way = pytest.mark.parametrize(
    ("database_url", "client_kind"),
    [
        ("sqlite", "here"),
        ("sqlite", "elsewhere-async"),
        pytest.param("postgres", "here-async", marks=pytest.mark.postgres),
        pytest.param("postgres", "elsewhere", marks=pytest.mark.postgres),
    ],
    indirect=["database_url"],
)
"""The test runs with every kind of database, and with every kind of `client`."""
END = "the end of the stream"

NOTED: list[tuple[str | None, str]] = []
"""Which workflow really executed which step."""


@DBOS.step(name="note")
def note(text: str) -> str:
    NOTED.append((DBOS.workflow_id, text))
    return text


def noted_by(workflow_id: str) -> list[str]:
    return [text for id, text in NOTED if id == workflow_id]


@pytest.fixture(autouse=True)
def notes() -> Iterator[None]:
    yield
    NOTED.clear()


@pytest.fixture
def app(app: App) -> Iterator[App]:
    """As for all tests of the public API; no puppet outlives its test."""
    yield app
    Puppet.end_all()


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Remote]]:
    """Gives a process without an application, the same each time as long as it lives."""
    spawner = Spawner(tmp_path_factory.mktemp("peers"))
    running: list[Remote] = []

    def peer() -> Remote:
        if not running or running[-1].child.returncode is not None:
            running.append(Remote(spawner(PEER)))
        return running[-1]

    yield peer
    spawner.close()


@pytest.fixture
def client(app: App, client_kind: str, peers: Callable[[], Remote]) -> Iterator[DBOSClient]:
    """A client of the launched application."""
    made: Any
    uses_twins = client_kind.endswith("async")
    if client_kind.startswith("here"):
        made = DBOSClient(system_database_url=app.url)
        made = Twins(made) if uses_twins else made
    else:
        peer = peers()
        assert not peer.new("is_launched")
        made = peer.new("client", system_database_url=app.url, uses_twins=uses_twins)
    yield cast(DBOSClient, made)
    made.destroy()


# -- results


@every_way
def test_result_of_a_workflow_arrives_when_it_ends(app: App, client: DBOSClient) -> None:
    puppet = Puppet("w")
    handle: Any = client.retrieve_workflow("w")
    assert handle.get_workflow_id() == "w"
    status = handle.get_status()
    assert (status.workflow_id, status.status, status.name) == ("w", "PENDING", "puppet")
    assert status.input == {"args": ("w",), "kwargs": {}}
    result = InBackground(handle.get_result)
    puppet.end({"x": (1, None)})
    assert result.result() == {"x": (1, None)} == handle.get_result() == puppet.handle.get_result()
    assert (handle.get_status().status, handle.get_status().output) == ("SUCCESS", {"x": (1, None)})


@every_way
def test_exception_of_a_workflow_is_raised_as_itself(app: App, client: DBOSClient) -> None:
    puppet = Puppet("w")
    result = InBackground(client.retrieve_workflow("w").get_result)
    puppet.fail(LookupError("nothing", 7))
    for call in (result.result, client.retrieve_workflow("w").get_result):
        with pytest.raises(LookupError) as info:
            call()
        assert info.value.args == ("nothing", 7)


@every_way
def test_result_of_a_cancelled_workflow_is_an_error_at_once(app: App, client: DBOSClient) -> None:
    Puppet("w")
    result = InBackground(client.retrieve_workflow("w").get_result)
    DBOS.cancel_workflow("w")
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError, match="'w'"):
        result.result()


@every_way
def test_unknown_ids(app: App, client: DBOSClient) -> None:
    """Those who need the workflow say which one there is not; cancelling and deleting nothing is nothing."""
    for call in (
        lambda: client.retrieve_workflow("nobody"),
        lambda: client.send("nobody", "x"),
        lambda: client.resume_workflow("nobody"),
        lambda: client.fork_workflow("nobody", 1),
        lambda: list(client.read_stream("nobody", "k")),
    ):
        with pytest.raises(error.DBOSNonExistentWorkflowError, match="'nobody'") as info:
            call()
        assert info.value.dbos_error_code == 5
    client.cancel_workflow("nobody")
    client.delete_workflow("nobody")
    assert client.get_event("nobody", "k", timeout_seconds=0) is None
    assert client.get_all_events("nobody") == {}
    assert client.list_workflow_steps("nobody") == []
    assert client.list_workflows() == []


# -- messages


@every_way
def test_messages_arrive_by_topic_in_order(app: App, client: DBOSClient) -> None:
    puppet = Puppet("w")
    waiting = puppet.tell("recv")
    client.send("w", "to one who waits")
    assert waiting.result() == "to one who waits"
    for message in ({"n": 1}, None, [3]):
        client.send("w", message, "topic")
    client.send("w", "no topic")
    assert [puppet.do("recv", "topic") for _ in range(2)] == [{"n": 1}, None]
    assert puppet.do("recv") == "no topic"
    assert puppet.do("recv", topic="topic") == [3]
    assert [workflow.workflow_id for workflow in client.list_workflows()] == ["w"], "sending makes no workflows"


@every_way
def test_message_with_an_idempotency_key_is_delivered_once(app: App, client: DBOSClient) -> None:
    """Also after it was received, and for each receiver."""
    first, second = Puppet("w1"), Puppet("w2")
    for _ in range(2):
        client.send("w1", "once", idempotency_key="key")
    assert first.do("recv", timeout_seconds=0) == "once"
    client.send("w1", "once", idempotency_key="key")
    client.send("w2", "for the other", idempotency_key="key")
    client.send("w1", "another", idempotency_key="other key")
    client.send("w1", "last")
    assert [first.do("recv", timeout_seconds=0) for _ in range(3)] == ["another", "last", None]
    assert [second.do("recv", timeout_seconds=0) for _ in range(2)] == ["for the other", None]


# -- events


@every_way
def test_events_are_read_and_waited_for(app: App, client: DBOSClient) -> None:
    puppet = Puppet("w")
    puppet.do("set_event", "ready", None)
    assert client.get_event("w", "missing", timeout_seconds=0.01) is None
    waiting = InBackground(client.get_event, "w", "key")
    puppet.do("set_event", "key", [1])
    assert waiting.result() == [1]
    puppet.do("set_event", "key", [2])
    eventually(lambda: client.get_event("w", "key", timeout_seconds=0) == [2], "the new value is durable")
    assert client.get_all_events("w") == {"ready": None, "key": [2]}


# -- streams


@every_way
def test_stream_is_read_live(app: App, client: DBOSClient) -> None:
    """Each value comes before the next is written."""
    puppet = Puppet("w")
    values = iter(client.read_stream("w", "k"))
    for value in (1, None, {"x": 3}):
        arriving = InBackground(next, values, END)
        puppet.do("write_stream", "k", value)
        assert arriving.result() == value
    arriving = InBackground(next, values, END)
    puppet.do("close_stream", "k")
    assert arriving.result() == END
    assert list(client.read_stream("w", "k")) == [1, None, {"x": 3}], "a late reader gets all of it"


@every_way
def test_stream_ends_with_its_workflow(app: App, client: DBOSClient) -> None:
    puppet = Puppet("w")
    puppet.do("write_stream", "k", "first")
    values = iter(client.read_stream("w", "k"))
    assert next(values) == "first"
    arriving: InBackground[list[Any]] = InBackground(list, values)
    never: InBackground[list[Any]] = InBackground(list, client.read_stream("w", "never written"))
    puppet.tell("write_stream", "k", "last")
    puppet.end()
    assert arriving.result() == ["last"]
    assert never.result() == []


# -- cancelling, resuming, forking, deleting


@every_way
def test_cancelled_workflow_stops_before_its_next_step(app: App, client: DBOSClient) -> None:
    puppet = Puppet("w")
    assert puppet.do(note, "before") == "before"
    client.cancel_workflow("w")
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        puppet.handle.get_result()
    with pytest.raises(error.DBOSWorkflowCancelledError):
        puppet.do(note, "after")
    assert noted_by("w") == ["before"]
    assert status_of("w") == "CANCELLED"


@every_way
@pytest.mark.parametrize("wait", ["sleep", "recv", "get_event"])
def test_cancelled_workflow_is_woken(app: App, client: DBOSClient, wait: str) -> None:
    arguments = {"sleep": (600,), "recv": ("topic", 600), "get_event": ("nobody", "k", 600)}
    puppet, async_puppet = Puppet("w"), Puppet("v", is_async=True)
    waits = [one.tell(wait, *arguments[wait]) for one in (puppet, async_puppet)]
    for one in (puppet, async_puppet):
        client.cancel_workflow(one.workflow_id)
    for told in waits:
        with pytest.raises(error.DBOSWorkflowCancelledError):
            told.result()


@every_way
def test_cancelling_a_finished_workflow_changes_nothing(app: App, client: DBOSClient) -> None:
    puppet = Puppet("w")
    puppet.end("done")
    puppet.handle.get_result()
    before = DBOS.get_workflow_status("w")
    client.cancel_workflow("w")
    assert DBOS.get_workflow_status("w") == before


@every_way
def test_resumed_workflow_is_picked_up_by_the_application(app: App, client: DBOSClient) -> None:
    """It goes on after its last step; handles from before give the new outcome."""
    puppet = Puppet("w")
    early: Any = client.retrieve_workflow("w")
    puppet.do(note, "paid once")
    waiting = puppet.tell("recv", timeout_seconds=600)
    eventually(lambda: client.list_workflow_steps("w"), "the step is recorded")
    client.cancel_workflow("w")
    with pytest.raises(error.DBOSWorkflowCancelledError):
        waiting.result()
    handle: Any = client.resume_workflow("w")
    client.send("w", "go on")
    assert waiting.result() == "go on"
    puppet.end("done")
    assert handle.get_workflow_id() == "w"
    assert handle.get_result() == early.get_result() == puppet.handle.get_result() == "done"
    assert noted_by("w") == ["paid once"]
    assert client.resume_workflow("w").get_result() == "done", "resuming a finished one changes nothing"


@every_way
def test_run_that_was_cancelled_stops_though_its_workflow_was_resumed_at_once(app: App, client: DBOSClient) -> None:
    """Before the application may have noticed that it was cancelled."""
    puppets = [Puppet("w"), Puppet("v", is_async=True)]
    naps = [puppet.tell("sleep", 600) for puppet in puppets]
    for puppet in puppets:
        eventually(lambda puppet=puppet: client.list_workflow_steps(puppet.workflow_id), "it sleeps")  # type: ignore[misc]
        client.cancel_workflow(puppet.workflow_id)
        client.resume_workflow(puppet.workflow_id)
    for nap in naps:
        assert nap.ended() is not None
    for puppet in puppets:
        assert status_of(puppet.workflow_id) in ("ENQUEUED", "PENDING"), "it goes on in another run"
        client.cancel_workflow(puppet.workflow_id)
        with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
            puppet.handle.get_result()


@every_way
def test_workflow_that_was_given_up_is_resumed(app: App, client: DBOSClient) -> None:
    puppet = Puppet("w")
    waiting = puppet.tell("recv", timeout_seconds=600)
    client.cancel_workflow("w")
    with pytest.raises(error.DBOSWorkflowCancelledError):
        waiting.result()
    query(app.url, "UPDATE {schema}workflow_status SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'")
    handle: Any = client.retrieve_workflow("w")
    with pytest.raises(error.DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded):
        handle.get_result()
    client.resume_workflow("w")
    client.send("w", "go on")
    assert waiting.result() == "go on"
    puppet.end("done after all")
    assert handle.get_result() == "done after all"


@every_way
def test_forked_workflow_is_picked_up_by_the_application(app: App, client: DBOSClient) -> None:
    puppet = Puppet("w")
    for text in ("a", "b", "c"):
        puppet.do(note, text)
    puppet.end("done")
    handle: Any = client.fork_workflow("w", 3)
    assert handle.get_result() == "done"
    status = handle.get_status()
    assert (status.forked_from, status.status, status.app_version) == ("w", "SUCCESS", "test")
    assert noted_by(handle.get_workflow_id()) == ["c"], "steps before the third are not executed again"
    assert [(step["function_id"], step["output"]) for step in client.list_workflow_steps(status.workflow_id)] == [
        (1, "a"),
        (2, "b"),
        (3, "c"),
    ]
    assert [one.workflow_id for one in client.list_workflows(forked_from="w")] == [status.workflow_id]


@every_way
def test_fork_for_another_version_waits_for_that(app: App, client: DBOSClient) -> None:
    Puppet("w").end("done")
    DBOS.get_result("w")
    handle: Any = client.fork_workflow("w", 1, application_version="next")
    client.fork_workflow("w", 1).get_result()
    status = handle.get_status()
    assert (status.status, status.app_version) == ("ENQUEUED", "next")
    app.relaunch(application_version="next")
    assert handle.get_result() == "done"


@every_way
def test_deleted_workflow_is_gone_with_all_that_belongs_to_it(app: App, client: DBOSClient) -> None:
    puppet, other = Puppet("w"), Puppet("other")
    puppet.do(note, "a")
    puppet.do("set_event", "k", 1)
    puppet.do("write_stream", "k", 1)
    puppet.end()
    puppet.handle.get_result()
    client.send("w", "too late")
    client.delete_workflow("w")
    tables = ("workflow_status", "operation_outputs", "notifications", "workflow_events", "streams")
    ids = {table: "destination_uuid" if table == "notifications" else "workflow_uuid" for table in tables}
    for table, column in ids.items():
        rows = query(app.url, f"SELECT count(*) FROM {{schema}}{table} WHERE {column} = 'w'")
        assert rows == [(0,)], f"something is left in {table}"
    with pytest.raises(error.DBOSNonExistentWorkflowError):
        client.retrieve_workflow("w")
    assert status_of("other") == "PENDING"
    other.end()


@every_way
def test_children_are_deleted_only_when_asked(app: App, client: DBOSClient) -> None:
    for name in ("w", "v"):
        puppet = Puppet(name)
        Puppet(f"{name}-child", starts=False).end()
        puppet.do(start_puppet, f"{name}-child")
        puppet.end()
        puppet.handle.get_result()
    children = {
        name: [one.workflow_id for one in client.list_workflows(parent_workflow_id=name)] for name in ("w", "v")
    }
    assert [len(ids) for ids in children.values()] == [1, 1]
    client.delete_workflow("w")
    client.delete_workflow("v", delete_children=True)
    assert [one.workflow_id for one in client.list_workflows()] == children["w"]


def start_puppet(name: str) -> None:
    Puppet.named(name).start().get_result()


# -- listing


@every_way
def test_client_lists_what_the_application_lists(app: App, client: DBOSClient) -> None:
    for name in ("a-1", "a-2", "b-1"):
        puppet = Puppet(name)
        puppet.do(note, name)
        puppet.end(name)
        puppet.handle.get_result()
    running = Puppet("b-2")
    filters: list[dict[str, Any]] = [
        {},
        {"workflow_ids": ["b-1", "a-1"]},
        {"status": "PENDING"},
        {"status": ["SUCCESS", "ERROR"], "sort_desc": True},
        {"workflow_id_prefix": "a-"},
        {"name": "puppet", "limit": 2, "offset": 1},
        {"app_version": "another"},
        {"executor_id": "local", "user": None, "queue_name": None},
        {"start_time": "2020-01-01T00:00:00Z", "end_time": "2021-01-01T00:00:00Z"},
        {"load_input": False, "load_output": False},
    ]
    ids: list[list[str]] = []
    for one in filters:
        assert client.list_workflows(**one) == DBOS.list_workflows(**one), one
        ids.append([workflow.workflow_id for workflow in client.list_workflows(**one)])
    every = ["a-1", "a-2", "b-1", "b-2"]
    assert ids == [every, ["a-1", "b-1"], ["b-2"], every[2::-1], every[:2], every[1:3], [], every, [], every]
    assert client.list_workflow_steps("a-1") == DBOS.list_workflow_steps("a-1")
    assert [step["output"] for step in client.list_workflow_steps("a-1")] == ["a-1"]
    assert client.list_queued_workflows() == []
    running.end()


# -- while the application is down


@every_way
def test_client_needs_no_running_application(app: App, client: DBOSClient) -> None:
    """What it does then is there when the application comes back."""
    stays, cancelled, resumed = Puppet("stays"), Puppet("cancelled"), Puppet("resumed")
    message = stays.tell("recv", timeout_seconds=600)
    again = resumed.tell("recv", timeout_seconds=600)
    client.cancel_workflow("resumed")
    with pytest.raises(error.DBOSWorkflowCancelledError):
        again.result()
    DBOS.destroy()
    assert message.ended() is not None

    client.send("stays", "from meanwhile")
    client.cancel_workflow("cancelled")
    client.resume_workflow("resumed")
    queued = client.list_queued_workflows()
    assert [(one.workflow_id, one.status) for one in queued] == [("resumed", "ENQUEUED")]
    assert [one.workflow_id for one in client.list_workflows(queues_only=True)] == ["resumed"]
    assert queued[0].queue_name == "_dbos_internal_queue"
    client.send("resumed", "go on")

    app.launch()
    assert message.result() == "from meanwhile"
    assert again.result() == "go on"
    for puppet in (stays, cancelled, resumed):
        puppet.end("done")
    assert client.retrieve_workflow("stays").get_result() == "done"
    assert client.retrieve_workflow("resumed").get_result() == "done"
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        client.retrieve_workflow("cancelled").get_result()


# -- opening


class JsonSerializer(Serializer):
    def serialize(self, data: Any) -> str:
        return json.dumps(data)

    def deserialize(cls, serialized_data: str) -> Any:  # pyright: ignore[reportSelfClsParameterName]
        return json.loads(serialized_data)


def use(*args: Any, **kwargs: Any) -> None:
    """Open a client and do something with it."""
    with DBOSClient(*args, **kwargs) as client:
        client.list_workflows()


def test_empty_database_is_refused_and_stays_empty(database_url: str) -> None:
    engine = sqlalchemy.create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect():
        pass  # on SQLite, this makes the file
    with pytest.raises(error.DBOSInitializationError, match="none of the library's tables"):
        use(system_database_url=database_url)
    inspector = sqlalchemy.inspect(engine)
    assert {schema: inspector.get_table_names(schema) for schema in inspector.get_schema_names()}.get("dbos", []) == []
    assert inspector.get_table_names() == []
    engine.dispose()


def test_missing_database_is_refused_and_not_made(postgres_admin: PostgresAdmin, tmp_path: Path) -> None:
    missing = tmp_path / "missing.sqlite"
    with pytest.raises(error.DBOSInitializationError, match=r"missing\.sqlite"):
        use(system_database_url=f"sqlite:///{missing}")
    assert not missing.exists()
    with pytest.raises(error.DBOSInitializationError, match="client_missing"):
        use(system_database_url=postgres_admin.url_of("client_missing"))
    assert postgres_admin.execute("SELECT 1 FROM pg_database WHERE datname = 'client_missing'") == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "cannot be parsed"),
        ("mysql://user:secret@host/database", "mysql"),
        ("postgresql://user:secret@127.0.0.1:1/database", r"127\.0\.0\.1"),
        ("sqlite:////no/such/directory/file.sqlite", "no/such/directory"),
        ("", "."),
    ],
)
def test_wrong_url_is_an_error_that_says_what_is_wrong(url: str, says: str) -> None:
    with pytest.raises(error.DBOSInitializationError, match=says) as info:
        use(system_database_url=url)
    assert "secret" not in str(info.value)


def test_client_without_a_database_is_refused() -> None:
    with pytest.raises(error.DBOSInitializationError, match="system_database_url"):
        use()


def test_arguments_of_wrong_types_are_refused(sqlite_app: App) -> None:
    for arguments in ({"system_database_url": 5}, {"serializer": "json"}, {"system_database_engine": sqlite_app.url}):
        with pytest.raises((TypeError, error.DBOSInitializationError), match=next(iter(arguments))):
            use(**{"system_database_url": sqlite_app.url, **arguments})


def test_older_programs_give_the_application_database_by_position(database_url: str) -> None:
    """On Postgres the system database is its neighbour, on SQLite the same file."""
    app = App(database_url)
    app.launch(system_database_url=None, database_url=database_url)
    try:
        Puppet("w").end("done")
        DBOS.get_result("w")
        for client in (DBOSClient(database_url), DBOSClient(application_database_url=database_url)):
            with client:
                assert client.retrieve_workflow("w").get_result() == "done"
    finally:
        Puppet.end_all()
        DBOS.destroy()
        if database_url.startswith("postgres"):
            query(database_url, _drop_database(f"{sqlalchemy.make_url(database_url).database}_dbos_sys"))


def _drop_database(name: str) -> str:
    return f'DROP DATABASE "{name}" WITH (FORCE)'


def test_engine_of_the_program_is_used_and_stays_its_own(app: App) -> None:
    engine = sqlalchemy.create_engine(app.url.replace("postgresql://", "postgresql+psycopg://"), pool_size=2)
    opened: list[object] = []
    disposed: list[object] = []
    event.listen(engine, "connect", lambda *arguments: opened.append(arguments))
    event.listen(engine, "engine_disposed", disposed.append)
    puppet = Puppet("w")
    with DBOSClient(system_database_engine=engine) as client:
        client.send("w", "through the engine")
        assert puppet.do("recv") == "through the engine"
    assert opened
    assert not disposed
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
    engine.dispose()


def test_schema_of_any_name_is_found(postgres_url: str) -> None:
    App(postgres_url).launch(dbos_system_schema="my Schema")
    try:
        Puppet("w").end("done")
        with DBOSClient(system_database_url=postgres_url, dbos_system_schema="my Schema") as client:
            assert client.retrieve_workflow("w").get_result() == "done"
        with pytest.raises(error.DBOSInitializationError, match="dbos"):
            use(system_database_url=postgres_url)
    finally:
        Puppet.end_all()
        DBOS.destroy()


def test_values_go_through_the_serializer(app: App) -> None:
    """A client that lacks the application's shows stored text, and what it writes is understood all the same."""
    app.relaunch(serializer=JsonSerializer())
    puppet = Puppet("w")
    with (
        DBOSClient(system_database_url=app.url, serializer=JsonSerializer()) as alike,
        DBOSClient(system_database_url=app.url) as plain,
    ):
        alike.send("w", {"n": [1]})
        assert puppet.do("recv") == {"n": [1]}
        plain.send("w", ("a tuple", 1))
        assert puppet.do("recv") == ("a tuple", 1)
        puppet.do("set_event", "k", (1, 2))
        assert alike.get_event("w", "k") == [1, 2]
        puppet.end({"m": 2})
        assert alike.retrieve_workflow("w").get_result() == {"m": 2}
        assert [one.output for one in alike.list_workflows()] == [{"m": 2}]
        assert [one.output for one in plain.list_workflows()] == ['{"m": 2}']


# -- the client's own life


def test_destroyed_client_says_so(app: App) -> None:
    puppet = Puppet("w")
    client: Any = DBOSClient(system_database_url=app.url)
    handle = client.retrieve_workflow("w")
    stream = client.read_stream("w", "k")
    client.destroy()
    client.destroy()
    calls: list[Callable[[], Any]] = [
        lambda: client.retrieve_workflow("w"),
        lambda: client.send("w", 1),
        lambda: client.get_event("w", "k"),
        lambda: client.get_all_events("w"),
        lambda: list(client.read_stream("w", "k")),
        lambda: next(stream),
        lambda: client.cancel_workflow("w"),
        lambda: client.resume_workflow("w"),
        lambda: client.fork_workflow("w", 1),
        lambda: client.delete_workflow("w"),
        client.list_workflows,
        client.list_queued_workflows,
        lambda: client.list_workflow_steps("w"),
        handle.get_result,
        handle.get_status,
    ]
    for call in calls:
        with pytest.raises(error.DBOSException, match="destroy"):
            call()
    puppet.end("done")
    assert puppet.handle.get_result() == "done", "the application goes on"


def test_client_that_is_destroyed_lets_go_of_who_waits(app: App) -> None:
    Puppet("w")
    client = DBOSClient(system_database_url=app.url)
    waits: list[InBackground[Any]] = [
        InBackground(client.retrieve_workflow("w").get_result),
        InBackground(client.get_event, "w", "k", 600),
        InBackground(list, client.read_stream("w", "k")),
    ]
    client.destroy()
    for wait in waits:
        with pytest.raises(error.DBOSException, match="destroy"):
            wait.result()


def test_block_destroys_its_client(app: App) -> None:
    with DBOSClient(system_database_url=app.url) as client:
        assert client.list_workflows() == []
    with pytest.raises(error.DBOSException, match="destroy"):
        client.list_workflows()
    with pytest.raises(LookupError), DBOSClient(system_database_url=app.url) as client:
        raise LookupError
    with pytest.raises(error.DBOSException, match="destroy"):
        client.list_workflows()


def test_destroyed_client_leaves_no_connections_and_no_threads(
    postgres_url: str, postgres_admin: PostgresAdmin
) -> None:
    App(postgres_url).launch()
    Puppet("w").end()
    DBOS.get_result("w")
    Puppet.end_all()
    DBOS.destroy()
    before = set(threading.enumerate())
    with DBOSClient(system_database_url=postgres_url) as client:
        client.retrieve_workflow("w").get_result()
        client.get_event("w", "k", timeout_seconds=0.01)
        list(client.read_stream("w", "k"))

    def connections() -> int:
        name = sqlalchemy.make_url(postgres_url).database
        ((count,),) = postgres_admin.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (name,))
        return int(count)

    eventually(lambda: connections() == 0, "all connections are closed")
    left = {thread for thread in set(threading.enumerate()) - before if thread.is_alive()}
    assert not {thread.name for thread in left if not thread.name.startswith("dbos-worker")}


def test_clients_outlive_the_application_of_their_process(app: App) -> None:
    Puppet("w").end("done")
    DBOS.get_result("w")
    with DBOSClient(system_database_url=app.url) as one, DBOSClient(system_database_url=app.url) as other:
        DBOS.destroy()
        one.destroy()
        assert other.retrieve_workflow("w").get_result() == "done"


def call_and_read(client: Any, method: str, *arguments: Any) -> None:
    """Call a method; a stream refuses what is wrong when it is read, at the latest."""
    value = getattr(client, method)(*arguments)
    if method == "read_stream":
        list(value)


# -- in an event loop


async def test_blocking_calls_in_a_running_loop_name_their_async_twin(sqlite_app: App) -> None:
    client: Any = DBOSClient(system_database_url=sqlite_app.url)
    calls: dict[str, tuple[Any, ...]] = {
        "retrieve_workflow": ("w",),
        "send": ("w", 1),
        "get_event": ("w", "k"),
        "get_all_events": ("w",),
        "read_stream": ("w", "k"),
        "cancel_workflow": ("w",),
        "resume_workflow": ("w",),
        "fork_workflow": ("w", 1),
        "delete_workflow": ("w",),
        "list_workflows": (),
        "list_queued_workflows": (),
        "list_workflow_steps": ("w",),
    }
    for name, arguments in calls.items():
        with pytest.raises(RuntimeError, match=f"would block.*{name}_async"):
            call_and_read(client, name, *arguments)
        assert callable(getattr(client, f"{name}_async"))
    client.destroy()


async def test_coroutines_that_wait_hold_no_threads(app: App) -> None:
    puppet = Puppet("w")
    with DBOSClient(system_database_url=app.url) as client:
        handle = await client.retrieve_workflow_async("w")

        async def read_stream() -> list[Any]:
            return [value async for value in client.read_stream_async("w", "k")]

        before = threading.active_count()
        waits = [
            asyncio.ensure_future(wait())
            for _ in range(200)
            for wait in (
                lambda: client.get_event_async("w", "k"),
                handle.get_result,
                read_stream,
            )
        ]
        await client.get_event_async("w", "never set", timeout_seconds=0.2)
        during = threading.active_count()
        assert not any(wait.done() for wait in waits)
        await asyncio.to_thread(puppet.do, "set_event", "k", "set")
        puppet.end("done")
        results = await asyncio.wait_for(asyncio.gather(*waits), 30)
    assert results == ["set", "done", []] * 200
    assert during - before < 20


# -- scopes and nonsense


def test_scopes_apply_to_forks_of_a_client(app: App) -> None:
    Puppet("w").end("done")
    DBOS.get_result("w")
    with DBOSClient(system_database_url=app.url) as client:
        with SetWorkflowID("fork"), SetWorkflowTimeout(3600):
            handle: Any = client.fork_workflow("w", 1)
        assert handle.get_workflow_id() == "fork"
        assert handle.get_result() == "done"
        assert handle.get_status().workflow_timeout_ms == 3_600_000
        with SetWorkflowID("w"), pytest.raises(error.DBOSWorkflowConflictIDError, match="'w'"):
            client.fork_workflow("w", 1)


@pytest.mark.parametrize(
    ("method", "arguments", "expected", "says"),
    [
        ("send", (5, "x"), TypeError, "int"),
        ("send", ("w", "x", 5), TypeError, "topic"),
        ("send", ("w", "x", "nul\x00"), ValueError, "NUL"),
        ("send", ("w", lambda: None), error.DBOSSerializationError, "serialized"),
        ("send", ("w", "x", None, 5), TypeError, "idempotency key"),
        ("get_event", ("w", 5), TypeError, "key"),
        ("get_event", ("w", "k", -1), ValueError, "timeout_seconds"),
        ("get_event", ("w", "k", float("nan")), ValueError, "timeout_seconds"),
        ("get_event", ("w", "k", "1"), TypeError, "timeout_seconds"),
        ("get_event", ("w", "k", 101 * 365.25 * 86400), ValueError, "timeout_seconds"),
        ("read_stream", ("w", 5), TypeError, "key"),
        ("retrieve_workflow", (None,), TypeError, "NoneType"),
        ("cancel_workflow", (5,), TypeError, "int"),
        ("resume_workflow", ("nul\x00",), ValueError, "NUL"),
        ("fork_workflow", ("w", "1"), TypeError, "start_step"),
        ("delete_workflow", (None,), TypeError, "NoneType"),
        ("list_workflow_steps", (5,), TypeError, "int"),
        ("list_workflows", ("w",), TypeError, "positional"),
    ],
)
def test_nonsense_is_refused(
    sqlite_app: App, method: str, arguments: tuple[Any, ...], expected: type[Exception], says: str
) -> None:
    Puppet("w").end()
    DBOS.get_result("w")
    with DBOSClient(system_database_url=sqlite_app.url) as client:
        for made in (client, Twins(client)):
            with pytest.raises(expected, match=says):
                call_and_read(made, method, *arguments)


def test_nonsense_filters_are_refused(sqlite_app: App) -> None:
    filters: list[dict[str, Any]] = [{"status": "DONE"}, {"start_time": "yesterday"}, {"limit": -1}]
    with DBOSClient(system_database_url=sqlite_app.url) as client:
        for one in filters:
            with pytest.raises(ValueError, match=str(next(iter(one.values())))):
                client.list_workflows(**one)
            with pytest.raises(ValueError, match=str(next(iter(one.values())))):
                client.list_queued_workflows(**one)
