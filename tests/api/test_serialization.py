"""Values at rest as users meet them: other serializers, and values that cannot be stored."""

from __future__ import annotations

import builtins
import json
import sys
import threading
from typing import Any

import pytest

from dbos import DBOS, Serializer, SetWorkflowID, error
from tests.support.apps import App, Roadblock, interrupt_at, status_of


class JsonSerializer(Serializer):
    """The guide's example."""

    def serialize(self, data: Any) -> str:
        return json.dumps(data)

    def deserialize(cls, serialized_data: str) -> Any:
        return json.loads(serialized_data)


class Unpicklable(Exception):
    """Carries something that no serializer stores."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def test_custom_serializer_stores_everything_and_reads_it_back(app: App) -> None:
    """Arguments, results of steps, children and workflows, errors; also by the process that recovers."""
    roadblock = Roadblock()

    @DBOS.step()
    def step(value: dict[str, Any]) -> dict[str, Any]:
        return {**value, "step": True}

    @DBOS.step()
    def failing() -> None:
        raise ValueError("no", 1)

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def child(n: int) -> list[int]:
        return [n]

    @DBOS.workflow()
    def workflow(value: dict[str, Any], *, flag: bool) -> list[Any]:
        result: list[Any] = [step(value), child(3), flag]
        try:
            failing()
        except ValueError as caught:
            result.append(list(caught.args))
        wait()
        status = DBOS.get_workflow_status("w-2")
        return [*result, None if status is None else status.output]

    app.relaunch(serializer=JsonSerializer())
    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow, {"a": "ä"}, flag=True)
    roadblock.wait_until_reached()
    DBOS.destroy()
    roadblock.open()
    app.launch(serializer=JsonSerializer())
    assert DBOS.get_result("w") == [{"a": "ä", "step": True}, [3], True, ["no", 1], [3]]
    (status,) = DBOS.list_workflows(workflow_ids=["w"])
    assert status.input == {"args": [{"a": "ä"}], "kwargs": {"flag": True}}
    app.relaunch()
    (status,) = DBOS.list_workflows(workflow_ids=["w"])
    assert isinstance(status.input, str), "without the serializer the stored text shows"
    assert json.loads(status.input)["kwargs"] == {"flag": True}
    assert json.loads(status.output) == [{"a": "ä", "step": True}, [3], True, ["no", 1], [3]]


def test_errors_under_a_custom_serializer_keep_type_and_text(app: App) -> None:
    @DBOS.workflow()
    def workflow() -> None:
        raise ValueError("not", "json", 1)

    @DBOS.workflow()
    def own() -> None:
        raise Unpicklable("own text")

    app.relaunch(serializer=JsonSerializer())
    for number, function in enumerate((workflow, own)):
        with SetWorkflowID(f"w{number}"), pytest.raises((ValueError, Unpicklable)):
            function()
    with pytest.raises(ValueError, match="not") as info:
        DBOS.get_result("w0")
    assert info.value.args == ("not", "json", 1)
    with pytest.raises(error.DBOSException, match="Unpicklable: own text"):
        DBOS.get_result("w1")


def test_values_of_either_format_are_read_after_the_serializer_was_changed(app: App) -> None:
    @DBOS.workflow()
    def workflow(n: int) -> tuple[int, int]:
        return n, n

    with SetWorkflowID("pickled"):
        workflow(1)
    app.relaunch(serializer=JsonSerializer())
    with SetWorkflowID("jsonned"):
        workflow(2)
    with SetWorkflowID("pickled"):
        assert workflow(3) == (1, 1)
    assert DBOS.get_result("jsonned") == [2, 2]


def test_argument_that_cannot_be_stored_starts_nothing(app: App) -> None:
    runs: list[int] = []

    @DBOS.workflow(name="takes.anything")
    def workflow(value: Any) -> None:
        runs.append(1)

    @DBOS.workflow()
    def parent() -> str:
        try:
            workflow(threading.Lock())
        except error.DBOSException as refusal:
            return str(refusal)
        return "started"

    text = "arguments of workflow takes.anything .*cannot be serialized"
    with SetWorkflowID("w"), pytest.raises(error.DBOSException, match=text):
        workflow(threading.Lock())
    with SetWorkflowID("w"), pytest.raises(error.DBOSException, match=text):
        DBOS.start_workflow(workflow, value=lambda: 1)
    assert status_of("w") is None
    assert "cannot be serialized" in parent()
    assert DBOS.list_workflows(name="takes.anything") == []
    assert runs == []
    with SetWorkflowID("w"):
        workflow(1)
    assert status_of("w") == "SUCCESS"


def test_step_result_that_cannot_be_stored_is_an_error_that_names_the_step_live_and_replayed(app: App) -> None:
    roadblock, runs = Roadblock(), list[int]()

    @DBOS.step(name="make.lock")
    def make_lock() -> Any:
        runs.append(1)
        return threading.Lock()

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def workflow() -> str:
        try:
            make_lock()
        except error.DBOSException as refusal:
            wait()
            return str(refusal)
        return "stored"

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    interrupt_at(roadblock, app)
    text = DBOS.get_result("w")
    assert "The result of step make.lock" in text
    assert "'w'" in text
    assert "cannot be serialized" in text
    assert "lock" in text
    assert runs == [1]
    recorded = DBOS.list_workflow_steps("w")[0]
    assert str(recorded["error"]) == text


def test_workflow_result_that_cannot_be_stored_ends_it_in_error(app: App) -> None:
    """Never in PENDING: caller, handle and record agree."""

    @DBOS.workflow(name="return.lock")
    def workflow() -> Any:
        return threading.Lock()

    with SetWorkflowID("w"), pytest.raises(error.DBOSException, match=r"result of workflow return\.lock"):
        workflow()
    assert status_of("w") == "ERROR"
    with pytest.raises(error.DBOSException, match=r"result of workflow return\.lock"):
        DBOS.get_result("w")
    with pytest.raises(error.DBOSException, match=r"return\.lock"):
        DBOS.start_workflow(workflow).get_result()


async def test_coroutine_results_that_cannot_be_stored(app: App) -> None:
    @DBOS.step(name="async.lock")
    async def step() -> Any:
        return threading.Lock()

    @DBOS.workflow()
    async def workflow() -> Any:
        return await step()

    with SetWorkflowID("w"), pytest.raises(error.DBOSException, match=r"result of step async\.lock"):
        await workflow()
    status = await DBOS.get_workflow_status_async("w")
    assert status is not None
    assert status.status == "ERROR"


def test_exception_that_cannot_be_stored_keeps_its_name_and_text(app: App) -> None:
    """The raising process sees the original, everybody later one that stands for it."""

    class Local(Exception):
        pass

    @DBOS.step()
    def step() -> None:
        raise Unpicklable("in a step")

    @DBOS.workflow()
    def workflow(kind: str) -> None:
        if kind == "step":
            step()
        raise Local("in a workflow") if kind == "local" else Unpicklable("in a workflow")

    for kind, original, text in (
        ("step", Unpicklable, "Unpicklable: in a step"),
        ("local", Local, "Local: in a workflow"),
        ("workflow", Unpicklable, "Unpicklable: in a workflow"),
    ):
        with SetWorkflowID(kind), pytest.raises(original):
            workflow(kind)
        with pytest.raises(error.DBOSException, match=text):
            DBOS.get_result(kind)
        status = DBOS.get_workflow_status(kind)
        assert status is not None
        assert status.status == "ERROR"
        assert text in str(status.error)
    assert "Unpicklable: in a step" in str(DBOS.list_workflow_steps("step")[0]["error"])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="ExceptionGroup is new in Python 3.11")
def test_exception_groups_travel(app: App) -> None:
    group = getattr(builtins, "ExceptionGroup")("several", [ValueError(1), KeyError("k")])  # noqa: B009

    @DBOS.workflow()
    def workflow() -> None:
        raise group

    with SetWorkflowID("w"), pytest.raises(type(group)):
        workflow()
    with pytest.raises(type(group)) as info:
        DBOS.get_result("w")
    assert info.value.message == "several"
    assert [repr(one) for one in info.value.exceptions] == ["ValueError(1)", "KeyError('k')"]


def test_large_values_and_awkward_texts_come_back_whole(app: App) -> None:
    """A megabyte, NUL and lone surrogates inside a pickled text, an empty result, a huge int."""

    @DBOS.step()
    def step(value: Any) -> Any:
        return value

    @DBOS.workflow()
    def workflow(value: Any) -> Any:
        return step(value)

    values = ["x" * 1_000_000, "a\x00b", "\ud800", "", b"\x00\xff", 10**1000, float("inf"), None, {"ä": ("🦆",)}]
    for number, value in enumerate(values):
        with SetWorkflowID(f"w{number}"):
            assert workflow(value) == value
    for number, value in enumerate(values):
        assert DBOS.get_result(f"w{number}") == value
        assert DBOS.list_workflow_steps(f"w{number}")[0]["output"] == value


def test_text_that_the_databases_refuse_ends_the_workflow_in_error(app: App) -> None:
    """A serializer's own text with a NUL, alike on both databases."""

    class Plain(JsonSerializer):
        def serialize(self, data: Any) -> str:
            return json.dumps(data, ensure_ascii=False).replace("NUL", "\x00")

    @DBOS.workflow()
    def workflow() -> str:
        return "NUL"

    app.relaunch(serializer=Plain())
    with SetWorkflowID("w"), pytest.raises(error.DBOSException, match="NUL characters"):
        workflow()
    assert status_of("w") == "ERROR"


def test_serializer_that_returns_no_text_or_raises_is_named(app: App) -> None:
    class Bytes(JsonSerializer):
        def serialize(self, data: Any) -> Any:
            return b"bytes"

    @DBOS.workflow()
    def workflow() -> None: ...

    app.relaunch(serializer=Bytes())
    with pytest.raises(error.DBOSException, match="returned a bytes, not a str"):
        workflow()
    assert DBOS.list_workflows() == []
