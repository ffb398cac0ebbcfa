"""Hands the records of the logger ``dbos`` on to OpenTelemetry."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.context import get_current

_SEVERITIES = (
    (logging.CRITICAL, SeverityNumber.FATAL),
    (logging.ERROR, SeverityNumber.ERROR),
    (logging.WARNING, SeverityNumber.WARN),
    (logging.INFO, SeverityNumber.INFO),
)


class ExportHandler(logging.Handler):
    """Emits each record with its workflow, its step, and the span in which it was logged."""

    def __init__(self, logger: Logger, level: str) -> None:
        super().__init__(level)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._logger.emit(
                LogRecord(
                    timestamp=int(record.created * 1e9),
                    context=get_current(),
                    severity_text=record.levelname,
                    severity_number=_severity(record.levelno),
                    body=record.getMessage(),
                    attributes=_attributes(record),
                )
            )
        except Exception:
            self.handleError(record)


def _severity(level: int) -> SeverityNumber:
    return next((number for lowest, number in _SEVERITIES if level >= lowest), SeverityNumber.DEBUG)


def _attributes(record: logging.LogRecord) -> dict[str, Any]:
    fields = record.__dict__
    attributes = {
        "code.file.path": record.pathname,
        "code.function.name": record.funcName,
        "code.line.number": record.lineno,
        "dbos.workflow.id": fields.get("workflow_id"),
        "dbos.step.id": fields.get("step_id"),
    }
    if record.exc_info is not None and record.exc_info[0] is not None:
        kind, error, _ = record.exc_info
        attributes["exception.type"] = kind.__qualname__
        attributes["exception.message"] = str(error)
        attributes["exception.stacktrace"] = "".join(traceback.format_exception(error))
    return {key: value for key, value in attributes.items() if value is not None}
