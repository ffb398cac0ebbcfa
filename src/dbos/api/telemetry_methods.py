"""What of ``DBOS`` leads to OpenTelemetry, and to metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos.api.classproperty import classproperty
from dbos.api.instance import find_executor
from dbos.api.seams import load_edge

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer
    from prometheus_client.registry import Collector

OTEL_PACKAGE = "dbos[otel]"
METRICS_PACKAGE = "dbos[metrics]"


class TelemetryMethods:
    """Part of ``DBOS``; see docs/telemetry.md."""

    @classproperty
    def span(cls) -> Span | None:
        """The OpenTelemetry span that the running code belongs to: of its step, its workflow, or the application's own.

        ``None`` outside of spans, and without ``enable_otlp``.
        """
        executor = find_executor()
        return None if executor is None or executor.tracing is None else executor.tracing.current_span()

    @classproperty
    def tracer(cls) -> Tracer:
        """The OpenTelemetry tracer for the application's own spans, which nest under those of its workflows and steps.

        Without ``enable_otlp`` it is that of the process: if the application has set up nothing, its spans lead
        nowhere and cost little.

        Raises:
            DBOSInitializationError: OpenTelemetry is not installed.
        """
        executor = find_executor()
        if executor is not None and executor.tracing is not None:
            return executor.tracing.tracer
        tracer: Tracer = load_edge("telemetry.spans", OTEL_PACKAGE, "DBOS.tracer").process_tracer()
        return tracer

    @classmethod
    def metrics_collector(cls) -> Collector:
        """The library's metrics, for a registry of ``prometheus_client``: ``REGISTRY.register(...)``.

        It may be called before the launch, and then everything is measured from the launch on; otherwise from the first
        call or scrape on. It gives the same object each time.

        Raises:
            DBOSInitializationError: prometheus_client is not installed.
        """
        collector: Collector = load_edge("metrics.collector", METRICS_PACKAGE, "DBOS.metrics_collector()").collector()
        return collector
