"""What the type checkers know of telemetry."""

from __future__ import annotations

import logging

from opentelemetry.trace import Span, Tracer
from prometheus_client import REGISTRY
from typing_extensions import assert_type

from dbos import DBOS, WorkflowLogFilter

assert_type(DBOS.span, Span | None)
assert_type(DBOS.tracer, Tracer)

logging.StreamHandler().addFilter(WorkflowLogFilter())

REGISTRY.register(DBOS.metrics_collector())


@DBOS.alert_handler
def on_alert(name: str, message: str, metadata: dict[str, str]) -> None: ...


assert_type(on_alert("name", "message", {}), None)
