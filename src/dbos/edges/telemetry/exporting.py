"""Telemetry of one launch: where spans and log records go, from the launch until the destroy."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator

from dbos.api.config import Settings
from dbos.edges.telemetry.logs import ExportHandler
from dbos.edges.telemetry.spans import ROOT_TRACE_ID, SCOPE, Spans

FLUSH_S = 3.0
"""How long a destroy waits, in seconds, for what is not exported yet; an endpoint that is down may cost that."""

_logger = logging.getLogger("dbos")


class _CanShutDown(Protocol):
    def shutdown(self) -> None: ...


def start(settings: Settings, version: str) -> Telemetry:
    """Begin to make spans, and to export what is to be exported.

    Args:
        settings: The application's, with telemetry.
        version: The application's version.
    """
    wanted = settings.telemetry
    assert wanted is not None
    telemetry = Telemetry()
    resource = Resource.create({"service.name": settings.name, "service.version": version, **wanted.attributes})
    telemetry.trace(resource, wanted.traces_endpoints, wanted.attributes)
    if wanted.logs_endpoints:
        telemetry.export_logs(resource, wanted.logs_endpoints, wanted.log_level)
    return telemetry


class Telemetry:
    """What was started, and has to be stopped."""

    def __init__(self) -> None:
        self._processors: list[Removable] = []
        self._exports: list[tuple[_CanShutDown, _CanShutDown]] = []
        """Processors, each with its exporter."""
        self._handler: ExportHandler | None = None

    def trace(self, resource: Resource, endpoints: tuple[str, ...], attributes: Mapping[str, str]) -> None:
        """Make spans with the application's provider, or else one of our own, and export them to the endpoints."""
        provider = trace.get_tracer_provider()
        if endpoints:
            if not isinstance(provider, TracerProvider):
                provider = TracerProvider(resource=resource, shutdown_on_exit=False)
                attributes = dict[str, str]()
            for endpoint in endpoints:
                exporter = OTLPSpanExporter(endpoint=endpoint)
                batches = BatchSpanProcessor(exporter)
                processor = Removable(batches, attributes)
                provider.add_span_processor(processor)
                self._processors.append(processor)
                self._exports.append((batches, exporter))
        tracer = provider.get_tracer(SCOPE)
        if isinstance(tracer, Tracer) and not isinstance(tracer.id_generator, TraceIds):
            tracer.id_generator = TraceIds(tracer.id_generator)
        self.tracing = Spans(tracer)

    def export_logs(self, resource: Resource, endpoints: tuple[str, ...], level: str) -> None:
        """Export what the logger ``dbos`` logs."""
        provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
        for endpoint in endpoints:
            exporter = OTLPLogExporter(endpoint=endpoint)
            batches = BatchLogRecordProcessor(exporter)
            provider.add_log_record_processor(batches)
            self._exports.append((batches, exporter))
        self._handler = ExportHandler(provider.get_logger(SCOPE), level)
        _logger.addHandler(self._handler)

    def stop(self) -> None:
        """Export what there is, for ``FLUSH_S`` at most, and nothing more."""
        self.abandon()
        threads = [
            threading.Thread(target=batches.shutdown, name="dbos-telemetry-flush", daemon=True)
            for batches, _ in self._exports
        ]
        for thread in threads:
            thread.start()
        give_up = time.monotonic() + FLUSH_S
        for thread, (_, exporter) in zip(threads, self._exports, strict=True):
            thread.join(max(0.0, give_up - time.monotonic()))
            if thread.is_alive():
                _logger.warning("Not all telemetry could be exported within %g s; the rest is dropped", FLUSH_S)
                # It wakes the exporter, which pauses before it tries again.
                threading.Thread(target=exporter.shutdown, daemon=True).start()

    def abandon(self) -> None:
        """Take no more spans and records."""
        for processor in self._processors:
            processor.remove()
        if self._handler is not None:
            _logger.removeHandler(self._handler)


class TraceIds(IdGenerator):
    """Gives the root span of a workflow the trace id that follows from the workflow's id; else as the inner one.

    Only the library's own tracer has it, so that it says nothing about the application's traces.
    """

    def __init__(self, inner: IdGenerator) -> None:
        self._inner = inner

    def generate_span_id(self) -> int:
        return self._inner.generate_span_id()

    def generate_trace_id(self) -> int:
        return ROOT_TRACE_ID.get() or self._inner.generate_trace_id()


class Removable(SpanProcessor):
    """A processor that can be taken off a provider, which knows no such thing: then it does nothing any more.

    Args:
        inner: What it does until then.
        attributes: What it gives to every span.
    """

    def __init__(self, inner: SpanProcessor, attributes: Mapping[str, str]) -> None:
        self._inner: SpanProcessor | None = inner
        self._attributes = attributes

    def remove(self) -> None:
        self._inner = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self._inner is not None:
            span.set_attributes(self._attributes)
            self._inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        inner = self._inner
        if inner is not None:
            inner.on_end(span)

    def shutdown(self) -> None:
        inner = self._inner
        if inner is not None:
            inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        inner = self._inner
        return inner is None or inner.force_flush(timeout_millis)
