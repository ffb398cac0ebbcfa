"""OpenTelemetry: spans of workflows and steps, and the export of traces and logs."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from sqlalchemy import text

from dbos import DBOS, Queue, SetWorkflowID, WorkflowLogFilter
from dbos.edges.telemetry.exporting import FLUSH_S
from dbos.edges.telemetry.logs import ExportHandler
from dbos.edges.telemetry.spans import trace_of
from dbos.error import DBOSAwaitedWorkflowCancelledError, DBOSMaxStepRetriesExceeded
from tests.support.apps import App, Roadblock, eventually
from tests.support.otlp import OtlpReceiver, values
from tests.support.processes import Spawner

PROGRAM = Path(__file__).parent / "programs" / "traced.py"


class Spans:
    """The spans that have ended, as the application's own exporter got them."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name.rpartition(".")[2] == name]

    def one(self, name: str) -> ReadableSpan:
        return eventually(lambda: self.all(name), f"there is a span {name}")[0]

    def parent(self, name: str) -> str | None:
        """The name of a span's parent, which has to be of the same trace."""
        child = self.one(name)
        if child.parent is None:
            return None
        for span in self._exporter.get_finished_spans():
            if span.context.span_id == child.parent.span_id:
                assert span.context.trace_id == child.context.trace_id == child.parent.trace_id
                return span.name.rpartition(".")[2]
        return None


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> TracerProvider:
    """The provider that the application has set up."""
    provider = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return provider


@pytest.fixture
def spans(provider: TracerProvider) -> Spans:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Spans(exporter)


@pytest.fixture
def traced(spans: Spans, application: App) -> App:
    """An application whose spans go to the provider of its own."""
    application.launch(enable_otlp=True)
    return application


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    receiver = OtlpReceiver()
    yield receiver
    receiver.close()


# -- the workflows

queue = Queue("traced")
roadblock = Roadblock()
seen: dict[str, Any] = {}


@DBOS.step()
def step(number: int) -> int:
    seen["span in step"] = DBOS.span
    with DBOS.tracer.start_as_current_span("own"):
        return number


@DBOS.step()
async def step_async(number: int) -> int:
    await asyncio.sleep(0)
    with DBOS.tracer.start_as_current_span("own_async"):
        await asyncio.sleep(0)
        return number


@DBOS.workflow(name="telemetry.child")
def child() -> int:
    return step(2)


@DBOS.workflow(name="telemetry.parent")
def parent() -> int:
    seen["span in workflow"] = DBOS.span
    return child()


@DBOS.step()
def plain_step() -> int:
    return 5


@DBOS.workflow(name="telemetry.child_async")
async def child_async() -> int:
    return plain_step()


@DBOS.workflow(name="telemetry.parent_async")
async def parent_async() -> int:
    return sum(await asyncio.gather(step_async(1), child_async()))


@DBOS.workflow(name="telemetry.background_child")
async def background_child() -> int:
    return await step_async(1)


@DBOS.workflow(name="telemetry.starting_parent")
async def starting_parent() -> int:
    return await (await DBOS.start_workflow_async(background_child)).get_result()


@DBOS.step(retries_allowed=True, interval_seconds=0, max_attempts=2)
def failing_step() -> None:
    raise ValueError("wrong")


@DBOS.workflow(name="telemetry.failing")
def failing() -> None:
    failing_step()


@DBOS.transaction()
def select_one() -> Any:
    with DBOS.tracer.start_as_current_span("statement"):
        return DBOS.sql_session.execute(text("SELECT 1")).scalar()


@DBOS.workflow(name="telemetry.transacting")
def transacting() -> Any:
    return select_one()


@DBOS.workflow(name="telemetry.transacting_async")
async def transacting_async() -> Any:
    return await asyncio.to_thread(select_one)


@DBOS.workflow(name="telemetry.enqueueing")
def enqueueing() -> str:
    return queue.enqueue(child).workflow_id


@DBOS.step()
def standing() -> None:
    seen["roadblock"].stop()


@DBOS.workflow(name="telemetry.interrupted")
def interrupted() -> int:
    result = step(1)
    standing()
    return result


@DBOS.step()
def logging_step() -> None:
    DBOS.logger.info("in %s", "a step")
    DBOS.logger.debug("hidden")
    try:
        raise KeyError("lost")
    except KeyError:
        DBOS.logger.exception("failed")


@DBOS.workflow(name="telemetry.logging_workflow")
def logging_workflow() -> None:
    DBOS.logger.warning("in a workflow")
    logging_step()


# -- spans


def test_children_steps_and_own_spans_nest(traced: App, spans: Spans) -> None:
    with SetWorkflowID("w"):
        assert parent() == 2
    assert [spans.parent(name) for name in ("parent", "child", "step", "own")] == [None, "parent", "child", "step"]
    assert seen["span in workflow"].get_span_context() == spans.one("parent").context
    assert seen["span in step"].get_span_context() == spans.one("step").context
    assert dict(spans.one("parent").attributes or {}) == {
        "dbos.workflow.id": "w",
        "dbos.workflow.status": "SUCCESS",
        "dbos.workflow.recovery_attempts": 1,
        "dbos.workflow.recovered": False,
        "dbos.executor.id": "local",
        "dbos.application.version": "test",
    }
    assert dict(spans.one("step").attributes or {}) == {
        "dbos.workflow.id": "w-1",
        "dbos.step.id": 1,
        "dbos.step.attempt": 1,
    }
    assert spans.one("parent").context.trace_id == trace_of("w").trace_id
    assert DBOS.span is None


async def test_coroutines_nest_too_also_side_by_side(traced: App, spans: Spans) -> None:
    assert await parent_async() == 6
    names = ("parent_async", "child_async", "plain_step", "step_async", "own_async")
    parents = [None, "parent_async", "child_async", "parent_async", "step_async"]
    assert [spans.parent(name) for name in names] == parents


async def test_child_in_the_background_is_under_its_parent(traced: App, spans: Spans) -> None:
    assert await starting_parent() == 1
    assert [spans.parent(name) for name in ("background_child", "step_async")] == [
        "starting_parent",
        "background_child",
    ]


async def test_transactions_have_spans_in_whatever_thread(traced: App, spans: Spans) -> None:
    assert await asyncio.to_thread(transacting) == 1
    assert [spans.parent(name) for name in ("select_one", "statement")] == ["transacting", "select_one"]
    assert await transacting_async() == 1
    first, second = spans.all("select_one")
    assert second.parent == spans.one("transacting_async").context != first.parent


def test_errors_and_attempts_are_recorded(traced: App, spans: Spans) -> None:
    with pytest.raises(DBOSMaxStepRetriesExceeded):
        failing()
    attempts = spans.all("failing_step")
    assert [(span.attributes or {})["dbos.step.attempt"] for span in attempts] == [1, 2]
    for span in attempts:
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValueError: wrong")
        assert [event.name for event in span.events] == ["exception"]
    workflow = spans.one("failing")
    assert (workflow.attributes or {})["dbos.workflow.status"] == "ERROR"
    assert workflow.status.status_code is StatusCode.ERROR
    assert (workflow.events[0].attributes or {})["exception.type"] == "dbos.error.DBOSMaxStepRetriesExceeded"


def test_cancelled_workflow_says_so(traced: App, spans: Spans) -> None:
    seen["roadblock"] = block = Roadblock()
    handle = DBOS.start_workflow(interrupted)
    block.wait_until_reached()
    DBOS.cancel_workflow(handle.workflow_id)
    block.open()
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        handle.get_result()
    assert (spans.one("interrupted").attributes or {})["dbos.workflow.status"] == "CANCELLED"


def test_workflow_called_in_a_span_is_in_its_trace_and_linked_to_its_own(
    traced: App, spans: Spans, provider: TracerProvider
) -> None:
    with provider.get_tracer("app").start_as_current_span("request"), SetWorkflowID("w"):
        DBOS.start_workflow(child).get_result()
    assert spans.parent("child") == "request"
    assert [link.context for link in spans.one("child").links] == [trace_of("w")]


def test_what_comes_from_a_queue_is_a_root_that_its_enqueuer_links_to(traced: App, spans: Spans) -> None:
    workflow_id = enqueueing()
    DBOS.retrieve_workflow(workflow_id).get_result()
    root = spans.one("child")
    assert root.parent is None
    assert root.context.trace_id == trace_of(workflow_id).trace_id
    assert (root.attributes or {})["dbos.queue.name"] == "traced"
    assert (root.attributes or {})["dbos.workflow.recovered"] is False
    assert [link.context for link in spans.one("enqueueing").links] == [trace_of(workflow_id)]


def test_replayed_steps_have_no_span(traced: App, spans: Spans) -> None:
    seen["roadblock"] = block = Roadblock()
    with SetWorkflowID("w"):
        DBOS.start_workflow(interrupted)
    block.wait_until_reached()
    DBOS.destroy()
    block.open()
    eventually(lambda: spans.all("interrupted"), "the interrupted run has ended")
    traced.launch(enable_otlp=True)
    assert DBOS.retrieve_workflow("w").get_result() == 1
    first, second = eventually(lambda: spans.all("interrupted")[1:] and spans.all("interrupted"), "it ran twice")
    assert [(span.attributes or {})["dbos.workflow.status"] for span in (first, second)] == ["PENDING", "SUCCESS"]
    assert (second.attributes or {})["dbos.workflow.recovered"] is True
    assert first.context.trace_id == second.context.trace_id
    assert (len(spans.all("step")), len(spans.all("standing"))) == (1, 2)


class _Failing(SpanProcessor):
    def on_start(self, span: Span, parent_context: Any = None) -> None:
        raise RuntimeError("cannot start")

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("cannot end")


def test_tracing_that_fails_makes_no_workflow_fail(
    provider: TracerProvider, traced: App, caplog: pytest.LogCaptureFixture
) -> None:
    provider.add_span_processor(_Failing())
    with caplog.at_level(logging.WARNING, "dbos"):
        assert asyncio.run(background_child_without_own_spans()) == 5
    assert [record.message for record in caplog.records if "OpenTelemetry failed" in record.message] != []


@DBOS.workflow(name="telemetry.background_child_without_own_spans")
async def background_child_without_own_spans() -> int:
    return plain_step()


# -- export


def test_traces_and_logs_are_exported(application: App, receiver: OtlpReceiver) -> None:
    application.launch(
        enable_otlp=True,
        otlp_traces_endpoints=[receiver.traces_url],
        otlp_logs_endpoints=[receiver.logs_url],
        otlp_attributes={"deployment.environment": "test"},
        otlp_log_level="WARNING",
        log_level="INFO",
    )
    with SetWorkflowID("w"):
        logging_workflow()
    DBOS.destroy()
    assert not [handler for handler in DBOS.logger.handlers if isinstance(handler, ExportHandler)]
    sent = {span.name.rpartition(".")[2]: (resource, span) for resource, span in receiver.spans}
    assert set(sent) == {"logging_workflow", "logging_step"}
    for resource, _ in (*sent.values(), *receiver.records):
        assert {"service.name": "app", "service.version": "test", "deployment.environment": "test"}.items() <= (
            resource.items()
        )
    workflow, step_span = sent["logging_workflow"][1], sent["logging_step"][1]
    assert step_span.parent_span_id == workflow.span_id
    assert int.from_bytes(workflow.trace_id, "big") == trace_of("w").trace_id
    records = {record.body.string_value: record for _, record in receiver.records}
    assert set(records) >= {"in a workflow", "failed"}
    assert not {"in a step", "hidden"} & set(records), "they are below the level"
    in_workflow, in_step = records["in a workflow"], records["failed"]
    assert (in_workflow.span_id, in_workflow.trace_id) == (workflow.span_id, workflow.trace_id)
    assert in_step.span_id == step_span.span_id
    assert (in_workflow.severity_text, in_step.severity_text) == ("WARNING", "ERROR")
    assert values(in_workflow.attributes)["dbos.workflow.id"] == "w"
    assert "dbos.step.id" not in values(in_workflow.attributes)
    attributes = values(in_step.attributes)
    assert (attributes["dbos.step.id"], attributes["exception.type"]) == (1, "KeyError")
    assert "lost" in attributes["exception.stacktrace"]


def test_endpoints_are_added_to_the_applications_provider_and_taken_off_again(
    application: App, receiver: OtlpReceiver, provider: TracerProvider, spans: Spans
) -> None:
    for launch in (1, 2):
        application.launch(enable_otlp=True, otlp_traces_endpoints=[receiver.traces_url], otlp_attributes={"team": "a"})
        child()
        DBOS.destroy()
        names = [span.name.rpartition(".")[2] for _, span in receiver.spans]
        assert sorted(names) == sorted(["child", "own", "step"] * launch)
    assert all(values(span.attributes)["team"] == "a" for _, span in receiver.spans)
    assert len(spans.all("child")) == 2
    with provider.get_tracer("app").start_as_current_span("afterwards"):
        pass
    (afterwards,) = spans.all("afterwards")
    assert dict(afterwards.attributes or {}) == {}, "nothing of the library is left at the provider"
    provider.force_flush()
    assert len(receiver.spans) == 6


def test_recovery_after_a_kill_shows_in_the_trace(spawn: Spawner, database_url: str, receiver: OtlpReceiver) -> None:
    killed = spawn(PROGRAM, database_url, receiver.traces_url, "stands")
    killed.wait_for_line("standing")
    killed.kill()
    assert receiver.spans == []
    assert "done" in spawn(PROGRAM, database_url, receiver.traces_url).succeed()
    sent = {span.name: span for _, span in receiver.spans}
    assert set(sent) == {"work", "second"}
    attributes = values(sent["work"].attributes)
    assert attributes["dbos.workflow.recovered"] is True
    assert attributes["dbos.workflow.recovery_attempts"] == 2
    assert attributes["dbos.workflow.status"] == "SUCCESS"
    assert int.from_bytes(sent["work"].trace_id, "big") == trace_of("w").trace_id
    assert sent["second"].parent_span_id == sent["work"].span_id


@pytest.mark.parametrize("listens", [True, False], ids=["hanging", "down"])
def test_endpoint_that_does_not_answer_holds_nobody_up(application: App, listens: bool) -> None:
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        if listens:
            hanging.listen()
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        application.launch(enable_otlp=True, otlp_traces_endpoints=[url], otlp_logs_endpoints=[url])
        assert child() == 2
        logging_workflow()
        began = time.monotonic()
        DBOS.destroy()
        assert time.monotonic() - began < FLUSH_S + 5.0


# -- log records


def test_log_records_tell_their_workflow_and_step(application: App, caplog: pytest.LogCaptureFixture) -> None:
    application.launch()
    caplog.handler.addFilter(WorkflowLogFilter())
    with SetWorkflowID("w"), caplog.at_level(logging.INFO, "dbos"):
        logging_workflow()
    logging.getLogger("other").warning("outside")
    logging.getLogger("other").warning("of its own", extra={"workflow_id": "mine"})
    told = {record.message: (vars(record)["workflow_id"], vars(record)["step_id"]) for record in caplog.records}
    assert told["in a workflow"] == ("w", None)
    assert told["in a step"] == ("w", 1)
    assert told["outside"] == (None, None)
    assert told["of its own"] == ("mine", None)


# -- off


def test_without_telemetry_the_tracer_leads_nowhere(application: App) -> None:
    application.launch()
    assert child() == 2
    assert seen["span in step"] is None
    assert not DBOS.tracer.start_span("x").is_recording()


OFF = """
import sys
from dbos import DBOS

@DBOS.step()
def step() -> None: ...

@DBOS.workflow()
def work() -> str:
    step()
    return str(DBOS.span)

DBOS(config={"name": "off", "system_database_url": "sqlite:///off.sqlite", "otlp_traces_endpoints": ["http://x"]})
DBOS.launch()
print(work())
DBOS.destroy()
print([name for name in sys.modules if name.startswith(("opentelemetry", "dbos.edges.telemetry"))])
"""


def test_off_nothing_is_imported(spawn: Spawner, tmp_path: Path) -> None:
    script = tmp_path / "off.py"
    script.write_text(OFF, encoding="utf-8")
    assert spawn(script).succeed() == "None\n[]\n"


MISSING = """
import sys
sys.modules["opentelemetry"] = None
from dbos import DBOS
from dbos.error import DBOSInitializationError

DBOS(config={"name": "missing", "system_database_url": "sqlite:///missing.sqlite", "enable_otlp": True})
for use in (DBOS.launch, lambda: DBOS.tracer):
    try:
        use()
    except DBOSInitializationError as error:
        print(error)
"""


def test_missing_packages_are_named(spawn: Spawner, tmp_path: Path) -> None:
    script = tmp_path / "missing.py"
    script.write_text(MISSING, encoding="utf-8")
    launch, tracer = spawn(script).succeed().splitlines()
    for line, what in ((launch, "enable_otlp"), (tracer, "DBOS.tracer")):
        assert f"{what} needs" in line
        assert line.endswith("pip install 'dbos[otel]'")
