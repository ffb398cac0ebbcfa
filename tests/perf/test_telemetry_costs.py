"""What telemetry costs, counted: nothing but a look where it is off, and no transaction where it is on."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dbos import DBOS
from dbos.runtime.executor import Executor
from tests.perf.test_commit_counts import Counter, sequence


def test_off_a_workflow_and_a_step_look_whether_it_is_on_and_that_is_all(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def look(executor: Executor) -> None:
        nonlocal looks
        looks += 1

    counter = Counter(sqlite_url)
    try:
        # A property of the class is found before what the instance has.
        monkeypatch.setattr(Executor, "tracing", property(look), raising=False)
        counter.transactions(lambda: sequence(0))
        assert looks == 2, "one where the workflow starts, one where it is run"
        looks = 0
        counter.transactions(lambda: sequence(10))
        assert looks == 12
    finally:
        monkeypatch.undo()
        DBOS.destroy()


def test_on_it_costs_no_transaction(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    counter = Counter(database_url, enable_otlp=True)
    try:
        assert counter.transactions(lambda: sequence(5)) == {"journal": 6}
        assert counter.transactions(lambda: DBOS.start_workflow(sequence, 5).get_result()) == {"journal": 6}
        assert len(exporter.get_finished_spans()) == 12
    finally:
        DBOS.destroy()
