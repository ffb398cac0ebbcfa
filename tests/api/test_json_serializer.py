"""The JSON serializer in an application: rows that every program can read and write, beside rows of other formats."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dbos import DBOS, DBOSClient, JSONSerializer, Queue, Serializer, SetWorkflowID, error
from tests.support.apps import App, Roadblock, eventually, status_of
from tests.verify.rows import query

VALUE: dict[str, Any] = {
    "when": datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc),
    "how long": timedelta(hours=1),
    "price": Decimal("9.90"),
    "id": UUID(int=7),
    "raw": b"\x00\xff",
    "pair": (1, "ä"),
    "tags": {"a", "b"},
    "by number": {1: "one"},
}


class Reversed(Serializer):
    """A format of the application's own."""

    def serialize(self, data: Any) -> str:
        return json.dumps(data)[::-1]

    def deserialize(cls, serialized_data: str) -> Any:
        return json.loads(serialized_data[::-1])


class Refusal(Exception):
    """An exception of the application's own."""


@pytest.fixture
def json_app(app: App) -> App:
    app.relaunch(serializer=JSONSerializer())
    return app


@pytest.fixture
def client(app: App) -> Iterator[DBOSClient]:
    """It has no serializer of its own."""
    with DBOSClient(system_database_url=app.url) as its_client:
        yield its_client


@DBOS.step()
def pass_on(value: Any) -> Any:
    return value


def test_values_of_all_kinds_go_everywhere_and_come_back_as_themselves(json_app: App, client: DBOSClient) -> None:
    """Arguments, results, messages, events, streams; through a queue, and through an interruption."""
    queue = Queue("json values")
    roadblock = Roadblock()

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def child(value: Any) -> Any:
        return value

    @DBOS.workflow()
    def workflow(value: Any, *, copy: Any) -> list[Any]:
        DBOS.set_event("event", value)
        DBOS.write_stream("stream", value)
        DBOS.close_stream("stream")
        found = [value, copy, pass_on(value), child(value), queue.enqueue(child, value).get_result(), DBOS.recv()]
        wait()
        return found

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow, VALUE, copy=VALUE)
    DBOS.send("w", VALUE)
    roadblock.wait_until_reached()
    DBOS.destroy()
    roadblock.open()
    json_app.launch(serializer=JSONSerializer())
    assert DBOS.get_result("w") == [VALUE] * 6
    for api in (DBOS, client):
        (status,) = api.list_workflows(workflow_ids=["w"])
        assert status.input == {"args": (VALUE,), "kwargs": {"copy": VALUE}}
        assert status.output == [VALUE] * 6
        assert api.get_event("w", "event", 0) == VALUE
        assert list(api.read_stream("w", "stream")) == [VALUE]
        outputs = [step["output"] for step in api.list_workflow_steps("w") if step["function_name"] == "pass_on"]
        assert outputs == [VALUE]


def test_rows_are_plain_json_for_other_programs(json_app: App) -> None:
    """To read, and to write: here one enqueues a workflow by SQL."""
    queue = Queue("written by others")

    @DBOS.workflow(name="json.order")
    def order(item: str, amount: int = 1) -> dict[str, Any]:
        return {"item": item, "amount": amount}

    with SetWorkflowID("own"):
        order("book", amount=2)
    ((inputs, output, *formats),) = query(
        json_app.url,
        "SELECT inputs, output, serialization, outcome_serialization FROM {schema}workflow_status "
        "WHERE workflow_uuid = 'own'",
    )
    assert json.loads(inputs) == {"args": ["book"], "kwargs": {"amount": 2}}
    assert json.loads(output) == {"item": "book", "amount": 2}
    assert formats == ["portable_json", "portable_json"]
    query(
        json_app.url,
        "INSERT INTO {schema}workflow_status (workflow_uuid, status, name, queue_name, inputs, serialization, "
        f"created_at, updated_at) SELECT 'theirs', 'ENQUEUED', 'json.order', '{queue.name}', "
        "replace(replace(inputs, 'book', 'cup'), '2', '3'), 'portable_json', 1, 1 FROM {schema}workflow_status",
    )
    handle: Any = DBOS.retrieve_workflow("theirs")
    assert handle.get_result() == {"item": "cup", "amount": 3}


def test_rows_of_all_formats_stand_in_one_database_and_are_recovered(app: App, client: DBOSClient) -> None:
    """What was begun under one serializer goes on under the next, each value in the format that its row names."""
    roadblocks = {name: Roadblock() for name in ("pickle", "own", "json")}

    @DBOS.step()
    def wait(name: str) -> None:
        roadblocks[name].stop()

    @DBOS.workflow()
    def workflow(name: str, value: list[Any]) -> list[Any]:
        first = pass_on(value)
        wait(name)
        return [first, pass_on(value)]

    serializers = {"pickle": None, "own": Reversed(), "json": JSONSerializer(also_reads=[Reversed()])}
    for name, serializer in serializers.items():
        app.relaunch(serializer=serializer)
        with SetWorkflowID(name):
            DBOS.start_workflow(workflow, name, [name, 1])
        roadblocks[name].wait_until_reached()
        DBOS.destroy()
        if name == "pickle":
            # So that the next one cannot take it up.
            query(app.url, "UPDATE {schema}workflow_status SET application_version = 'later'")
    query(app.url, "UPDATE {schema}workflow_status SET application_version = 'test'")
    for roadblock in roadblocks.values():
        roadblock.open()
    app.launch(serializer=JSONSerializer(also_reads=[Reversed()]))
    for name in serializers:
        assert DBOS.get_result(name) == [[name, 1], [name, 1]]
        assert DBOS.list_workflow_steps(name)[0]["output"] == [name, 1]
        assert client.list_workflows(workflow_ids=[name])[0].output == [[name, 1], [name, 1]]
    formats = query(
        app.url,
        "SELECT workflow_uuid, serialization, outcome_serialization FROM {schema}workflow_status "
        "ORDER BY workflow_uuid",
    )
    own = f"{__name__}.Reversed"
    began = {"json": "portable_json", "own": own, "pickle": "pickle"}
    assert formats == [(name, format, "portable_json") for name, format in began.items()]
    app.relaunch()
    assert DBOS.get_result("json") == [["json", 1], ["json", 1]], "JSON is always read"


def test_errors_are_caught_alike_live_and_replayed_where_json_can_tell(json_app: App) -> None:
    roadblock = Roadblock()

    @DBOS.step()
    def fail() -> None:
        raise ValueError("no", 7)

    @DBOS.step(retries_allowed=True, max_attempts=2, interval_seconds=0)
    def retried() -> None:
        raise KeyError("k")

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def workflow() -> list[str]:
        caught: list[str] = []
        for call in (fail, retried):
            try:
                call()
            except (ValueError, error.DBOSMaxStepRetriesExceeded) as failure:
                caught.append(f"{failure!r} {getattr(failure, 'errors', '')}")
        wait()
        return caught

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    roadblock.wait_until_reached()
    DBOS.destroy()
    roadblock.open()
    json_app.launch(serializer=JSONSerializer())
    first, second = DBOS.get_result("w")
    assert first == "ValueError('no', 7) "
    assert second.endswith("[KeyError('k'), KeyError('k')]")


def test_exception_of_the_applications_own_keeps_name_text_and_arguments(json_app: App) -> None:
    """The raising process sees the original, everybody later one that stands for it."""

    @DBOS.step()
    def fail() -> None:
        raise Refusal("no", 7)

    @DBOS.workflow()
    def refusing() -> None:
        fail()

    with SetWorkflowID("refused"), pytest.raises(Refusal):
        refusing()
    with pytest.raises(error.DBOSPortableError, match=r"Refusal: \('no', 7\)") as caught:
        DBOS.get_result("refused")
    assert caught.value.original_args == ("no", 7)
    texts = query(json_app.url, "SELECT error FROM {schema}workflow_status WHERE workflow_uuid = 'refused'")
    assert json.loads(texts[0][0])["type"] == f"{__name__}.Refusal"


def test_value_that_json_cannot_hold_is_refused_with_its_place(json_app: App) -> None:
    @DBOS.workflow(name="json.path")
    def workflow(value: Any) -> Any:
        return {"found": [Path("a")]}

    with pytest.raises(error.DBOSSerializationError, match=r"arguments of workflow json\.path.*\['args'\]\[0\].*Path"):
        workflow(Path("a"))
    with SetWorkflowID("w"), pytest.raises(error.DBOSSerializationError, match=r"at \['found'\]\[0\] is a .*Path"):
        workflow(1)
    assert status_of("w") == "ERROR"


def test_listing_shows_what_it_cannot_read_as_text_with_one_warning(
    app: App, client: DBOSClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Here and at a client; who waits for a result is told what is missing."""

    @DBOS.workflow()
    def workflow(number: int) -> list[int]:
        return [pass_on(number)]

    app.relaunch(serializer=Reversed())
    for number in range(3):
        with SetWorkflowID(f"w{number}"):
            workflow(number)
    app.relaunch()
    for api in (DBOS, client):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "dbos"):
            shown = [*api.list_workflows(), *api.list_workflows(limit=1)]
            steps = api.list_workflow_steps("w1")
        assert [(one.input, one.output) for one in shown[:2]] == [
            (json.dumps({"args": [n], "kwargs": {}})[::-1], f"[{n}]"[::-1]) for n in range(2)
        ]
        assert steps[0]["output"] == "1"
        warnings = [record.getMessage() for record in caplog.records]
        assert len(warnings) == 1
        assert f"{__name__}.Reversed" in warnings[0]
        assert "also_reads" in warnings[0]
        handle: Any = api.retrieve_workflow("w1")
        with pytest.raises(error.DBOSSerializationError, match=r"\.Reversed'"):
            handle.get_result()


def test_serializer_that_raises_ends_its_workflow_with_what_it_said(app: App) -> None:
    """When it writes and when it reads; nothing is left PENDING, and what was recorded can be forked."""
    broken = [True]

    class Moody(Reversed):
        def serialize(self, data: Any) -> str:
            if "unlucky" in str(data):
                raise RuntimeError("not today")
            return super().serialize(data)

        def deserialize(cls, serialized_data: str) -> Any:
            if broken[0] and "ylrae" in serialized_data:
                raise RuntimeError("nor now")
            return super().deserialize(serialized_data)

    roadblock = Roadblock()

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def workflow(value: str) -> str:
        if value == "early":
            wait()
        return "unlucky" if value == "late" else value

    app.relaunch(serializer=Moody())
    with pytest.raises(error.DBOSSerializationError, match=r"arguments.*RuntimeError: not today"):
        workflow("unlucky")
    with SetWorkflowID("late"), pytest.raises(error.DBOSSerializationError, match=r"result.*RuntimeError: not today"):
        workflow("late")
    with SetWorkflowID("early"):
        DBOS.start_workflow(workflow, "early")
    roadblock.wait_until_reached()
    DBOS.destroy()
    roadblock.open()
    app.launch(serializer=Moody())
    eventually(lambda: status_of("early") == "ERROR", "its arguments cannot be read")
    with pytest.raises(error.DBOSSerializationError, match="RuntimeError: nor now"):
        DBOS.get_result("early")
    broken[0] = False
    assert DBOS.fork_workflow("early", 1).get_result() == "early"


def test_wait_of_the_older_library_goes_on_under_the_serializer_that_wrote_it(app: App) -> None:
    """Its rows name no format, and also its moments of waking were written by the configured serializer."""
    roadblock = Roadblock()

    @DBOS.step()
    def wait() -> str:
        roadblock.stop()
        return "woken"

    @DBOS.workflow()
    def workflow() -> str:
        DBOS.sleep(0.001)
        return wait()

    app.relaunch(serializer=Reversed())
    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    roadblock.wait_until_reached()
    DBOS.destroy()
    query(
        app.url,
        "UPDATE {schema}operation_outputs SET serialization = NULL, output = '5.1' WHERE function_name = 'DBOS.sleep'",
    )
    roadblock.open()
    app.launch(serializer=Reversed())
    assert DBOS.get_result("w") == "woken"
