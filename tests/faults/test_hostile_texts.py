"""Every text that a program may give: SQL, placeholders, paths, control characters, what no database stores, too much.

Each is stored and comes back as it is, or is refused in words that say what is wrong with it; and afterwards all is
still there and works.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from dbos import DBOS, DBOSClient, DBOSContextSetAuth, Queue, SetEnqueueOptions, SetWorkflowID
from dbos.error import DBOSException, DBOSInitializationError
from tests.support.apps import App
from tests.verify.rows import query

TEXTS = {
    "quotes": "'; DROP TABLE workflow_status; --",
    "double quotes": '"; DROP SCHEMA dbos CASCADE; --',
    "placeholders": "%s %(name)s :name {schema} {now} ANY_OF(:x) ROWS_OF(:x, y) $1 ? \\",
    "patterns": "%_*?[a-z]",
    "path": "../../../etc/passwd",
    "control characters": "\x01\x1b[31m\r\n\t\x7f",
    "other directions": "\u202e\U0001f600\u00e9\ufeff",
    "blank": " ",
}
IMPOSSIBLE = {"nul": "a\x00b", "surrogate": "\ud800"}
TOO_LONG = "x" * 300_000


class Uses:
    """What a program may do with a text: each method does so, and checks that it has come back as it was."""

    def __init__(self, client: DBOSClient) -> None:
        self.client = client

        @DBOS.workflow(name="hostile.echo")
        def echo(value: object) -> object:
            return value

        @DBOS.workflow(name="hostile.receive")
        def receive(topic: str) -> object:
            return DBOS.recv(topic, timeout_seconds=30)

        @DBOS.workflow(name="hostile.publish")
        def publish(key: str) -> None:
            DBOS.set_event(key, key)
            DBOS.write_stream(key, key)
            DBOS.close_stream(key)

        @DBOS.workflow(name="hostile.call")
        def call(name: str) -> str:
            return DBOS.run_step({"name": name}, lambda: name)

        self.echo, self.receive, self.publish, self.call = echo, receive, publish, call
        self.queue = Queue("hostile.queue")
        self.partitioned = Queue("hostile.partitioned", partition_queue=True)

    def workflow_id(self, text: str) -> None:
        with SetWorkflowID(text):
            handle = DBOS.start_workflow(self.echo, 1)
        assert handle.get_result() == 1
        assert DBOS.retrieve_workflow(text).get_status().workflow_id == text
        assert [found.workflow_id for found in DBOS.list_workflows(workflow_ids=[text])] == [text]
        assert [found.workflow_id for found in self.client.list_workflows(workflow_id_prefix=text)] == [text]
        assert DBOS.fork_workflow(text, 1).get_result() == 1
        DBOS.delete_workflow(text)
        assert DBOS.list_workflows(workflow_ids=[text]) == []

    def topic(self, text: str) -> None:
        handle = DBOS.start_workflow(self.receive, text)
        self.client.send(handle.workflow_id, text, text)
        assert handle.get_result() == text

    def idempotency_key(self, text: str) -> None:
        handle = DBOS.start_workflow(self.receive, "topic")
        try:
            for _ in range(2):
                self.client.send(handle.workflow_id, "message", "topic", text)
            assert handle.get_result() == "message"
        finally:
            DBOS.cancel_workflow(handle.workflow_id)

    def key(self, text: str) -> None:
        handle = DBOS.start_workflow(self.publish, text)
        handle.get_result()
        assert DBOS.get_event(handle.workflow_id, text) == text
        assert self.client.get_event(handle.workflow_id, text) == text
        assert DBOS.get_all_events(handle.workflow_id) == {text: text}
        assert list(DBOS.read_stream(handle.workflow_id, text)) == [text]
        assert list(self.client.read_stream(handle.workflow_id, text)) == [text]

    def step_name(self, text: str) -> None:
        handle = DBOS.start_workflow(self.call, text)
        assert handle.get_result() == text
        assert [step["function_name"] for step in DBOS.list_workflow_steps(handle.workflow_id)] == [text]

    def workflow_name(self, text: str) -> None:
        @DBOS.workflow(name=text)
        def named() -> str:
            return text

        handle = DBOS.start_workflow(named)
        assert handle.get_result() == text
        assert handle.workflow_id in [found.workflow_id for found in DBOS.list_workflows(name=text)]

    def queue_name(self, text: str) -> None:
        assert Queue(text).enqueue(self.echo, text).get_result() == text

    def deduplication_id(self, text: str) -> None:
        with SetEnqueueOptions(deduplication_id=text):
            assert self.queue.enqueue(self.echo, text).get_result() == text

    def partition_key(self, text: str) -> None:
        with SetEnqueueOptions(queue_partition_key=text):
            assert self.partitioned.enqueue(self.echo, text).get_result() == text

    def user(self, text: str) -> None:
        with DBOSContextSetAuth(text, [text]):
            handle = DBOS.start_workflow(self.echo, text)
        assert handle.get_result() == text
        assert [found.workflow_id for found in DBOS.list_workflows(user=text)] == [handle.workflow_id]

    def clients_queue(self, text: str) -> None:
        handle = self.client.enqueue({"queue_name": text, "workflow_name": "hostile.echo"}, text)
        assert [found.queue_name for found in DBOS.list_workflows(workflow_ids=[handle.workflow_id])] == [text]

    def clients_workflow(self, text: str) -> None:
        handle = self.client.enqueue({"queue_name": "nobody's", "workflow_name": text, "app_version": text}, text)
        assert [found.name for found in DBOS.list_workflows(workflow_ids=[handle.workflow_id])] == [text]

    def destination(self, text: str) -> None:
        for send in (DBOS.send, self.client.send):
            with pytest.raises(DBOSException, match="no workflow"):
                send(f"no {text}", "message")

    def unknown_id(self, text: str) -> None:
        DBOS.cancel_workflow(f"no {text}")
        DBOS.delete_workflow(f"no {text}")
        assert self.client.list_workflow_steps(f"no {text}") == []
        with pytest.raises(DBOSException, match="no workflow"):
            DBOS.fork_workflow(f"no {text}", 1)

    def filters(self, text: str) -> None:
        assert DBOS.list_workflows(app_version=text) == []
        assert DBOS.list_workflows(queue_name=f"no {text}") == []
        assert DBOS.list_workflows(executor_id=text) == []
        assert DBOS.list_workflows(forked_from=f"no {text}") == []

    def value(self, text: str) -> None:
        assert DBOS.start_workflow(self.echo, {text: [text]}).get_result() == {text: [text]}


STORES_ANYTHING = {"value"}
NAMES = [name for name in vars(Uses) if not name.startswith("_")]


@pytest.fixture
def uses(database_url: str) -> Iterator[Uses]:
    client: DBOSClient | None = None
    try:
        App(database_url).launch()
        client = DBOSClient(system_database_url=database_url)
        yield Uses(client)
    finally:
        DBOS.destroy()
        if client is not None:
            client.destroy()


@pytest.mark.parametrize("name", NAMES)
def test_hostile_text_comes_back_or_is_refused(uses: Uses, name: str, database_url: str) -> None:
    use: Callable[[str], None] = getattr(uses, name)
    for text in TEXTS.values():
        use(text)
    for kind, text in IMPOSSIBLE.items():
        if name in STORES_ANYTHING:
            use(text)
            continue
        with pytest.raises((ValueError, DBOSException), match="NUL" if kind == "nul" else "Unicode") as refusal:
            use(text)
        assert not isinstance(refusal.value, UnicodeError), "the library has not seen it"
    words = ""
    try:
        use(TOO_LONG)
    except (ValueError, DBOSException) as error:
        words = str(error)
    assert words == "" or ("at most" in words and len(words) < 500)
    assert DBOS.start_workflow(uses.echo, "still").get_result() == "still"
    assert query(database_url, "SELECT count(*) FROM {schema}workflow_status WHERE status = 'PENDING'") == [(0,)]


@pytest.mark.postgres
def test_hostile_names_of_schemas_are_names_or_refused(postgres_url: str) -> None:
    """Names that PostgreSQL would cut off are refused, as two of them may mean one schema."""

    @DBOS.workflow(name="hostile.simple")
    def simple() -> str:
        return "simple"

    for text in [*(text[:60] for text in TEXTS.values()), "x" * 63]:
        App(postgres_url).launch(dbos_system_schema=text)
        assert simple() == "simple"
        DBOS.destroy()
        assert (text,) in query(postgres_url, "SELECT nspname FROM pg_namespace")
    for text in [*IMPOSSIBLE.values(), "x" * 64, "\u00e9" * 32, "pg_x"]:
        with pytest.raises(DBOSInitializationError):
            App(postgres_url).launch(dbos_system_schema=text)
        DBOS.destroy()


def test_hostile_labels_of_executors_are_labels_or_refused(database_url: str) -> None:
    for text in TEXTS.values():
        App(database_url).launch(executor_id=text, application_version=text)
        assert query(database_url, "SELECT executor_id, application_version FROM {schema}executors") == [(text, text)]
        DBOS.destroy()
    for key in ("executor_id", "application_version", "system_database_url"):
        for text in IMPOSSIBLE.values():
            with pytest.raises(DBOSInitializationError, match=key):
                App(database_url).launch(**{key: text})


def test_huge_values_are_stored(uses: Uses) -> None:
    """Twenty megabytes as an argument, a result and a message, and 200 000 small values at once."""
    huge = "\u00e9\x00" * 5_000_000
    assert DBOS.start_workflow(uses.echo, huge).get_result() == huge
    many = list(range(200_000))
    handle = DBOS.start_workflow(uses.receive, "topic")
    DBOS.send(handle.workflow_id, many, "topic")
    assert handle.get_result() == many


def test_values_that_refuse_everything_end_their_workflow(uses: Uses) -> None:
    """No value leaves its workflow without an end, nor harms another one."""

    class Hostile:
        def __reduce__(self) -> str:
            raise SystemError("no")

        def __repr__(self) -> str:
            raise ValueError("no")

    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]

    @DBOS.workflow(name="hostile.returning")
    def returning(number: int) -> object:
        return [Hostile(), deep, threading.Lock(), lambda: None][number]

    for number in range(4):
        handle = DBOS.start_workflow(returning, number)
        with pytest.raises(DBOSException):
            handle.get_result()
        assert handle.get_status().status == "ERROR"
    assert DBOS.start_workflow(uses.echo, 1).get_result() == 1
