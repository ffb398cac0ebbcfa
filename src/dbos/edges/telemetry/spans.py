"""The spans of workflows and steps.

A workflow that is called or started here has its span under that of the caller. One that this process claims, from a
queue or because its process died, has a caller that may be long gone, in another process: its span is the root of a
trace whose id is derived from the workflow's id. So whoever knows the workflow knows its trace, and can link to it.

Nothing in here may make a workflow fail: what goes wrong with a span costs that span.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanContext,
    StatusCode,
    TraceFlags,
    Tracer,
    get_current_span,
    get_tracer,
    set_span_in_context,
)

from dbos.error import DBOSAwaitedWorkflowCancelledError
from dbos.model.status import CANCELLED, ERROR, PENDING, SUCCESS
from dbos.runtime.drivers import Core, Ending, Raised
from dbos.runtime.run import Run
from dbos.runtime.tracing import Origin

SCOPE = "dbos"
"""The instrumentation scope of the spans."""

_logger = logging.getLogger("dbos")

ROOT_TRACE_ID: ContextVar[int | None] = ContextVar("dbos_root_trace_id", default=None)
"""The id of the trace whose root is being made; see ``exporting.TraceIds``."""


def process_tracer() -> Tracer:
    """The tracer of the provider that the application has set up, now or later."""
    return get_tracer(SCOPE)


def trace_of(workflow_id: str) -> SpanContext:
    """Where the spans of a workflow are to be found that have no caller: a place in a trace derived from its id."""
    digest = hashlib.blake2b(
        workflow_id.encode("utf-8", "surrogatepass"), digest_size=24, person=b"dbos trace"
    ).digest()
    return SpanContext(
        trace_id=int.from_bytes(digest[:16], "big") or 1,
        span_id=int.from_bytes(digest[16:], "big") or 1,
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


class Spans:
    """Implements ``runtime.tracing.Tracing``."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self._has_failed = False

    def current_span(self) -> Span | None:
        span = get_current_span()
        return None if span is INVALID_SPAN else span

    def current_context(self) -> Context:
        return get_current()

    def workflow(self, run: Run, core: Core[Ending[Ending[Any]]]) -> Core[Ending[Ending[Any]]]:
        origin = run.origin or Origin()
        context = Context() if origin.context is None else origin.context
        span = self._start_workflow(run, origin, context)
        status, error = PENDING, None
        try:
            with _Current(set_span_in_context(span, context)):
                ended = yield from core
                status, error = _how(run, ended.unwrap())
                return ended
        finally:
            # Without an end it was interrupted, and others go on with the workflow.
            self._end(span, error, {"dbos.workflow.status": status})

    def step(self, run: Run, function_id: int, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        parent = get_current()
        attempts = itertools.count(1)

        def call(*args: Any, **kwargs: Any) -> Any:
            attributes = {
                "dbos.workflow.id": run.workflow_id,
                "dbos.step.id": function_id,
                "dbos.step.attempt": next(attempts),
            }
            span = self._start(name, parent, attributes)
            context = set_span_in_context(span, parent)
            try:
                with _Current(context):
                    value = function(*args, **kwargs)
            except BaseException as error:
                self._end(span, error)
                raise
            if asyncio.iscoroutine(value):
                return self._follow(value, span, context)
            self._end(span)
            return value

        return call

    def enqueued(self, workflow_id: str) -> None:
        with contextlib.suppress(Exception):
            get_current_span().add_link(trace_of(workflow_id), {"dbos.workflow.id": workflow_id})

    async def _follow(self, coroutine: Coroutine[Any, Any, Any], span: Span, context: Context) -> Any:
        try:
            with _Current(context):
                value = await coroutine
        except BaseException as error:
            self._end(span, error)
            raise
        self._end(span)
        return value

    def _start_workflow(self, run: Run, origin: Origin, context: Context) -> Span:
        executor = run.executor
        is_claimed = origin.context is None
        attributes = {
            "dbos.workflow.id": run.workflow_id,
            "dbos.executor.id": executor.executor_id,
            "dbos.application.version": executor.application_version,
            "dbos.workflow.recovery_attempts": origin.recovery_attempts,
            "dbos.workflow.recovered": is_claimed and (origin.recovery_attempts > 1 or bool(run.recorded)),
        }
        if origin.queue is not None:
            attributes["dbos.queue.name"] = origin.queue
        own_trace = trace_of(run.workflow_id)
        is_root = not get_current_span(context).get_span_context().is_valid
        # In its caller's trace it leads to where it is found if it has to be recovered.
        links = [] if is_root else [Link(own_trace, {"dbos.workflow.id": run.workflow_id})]
        token = ROOT_TRACE_ID.set(own_trace.trace_id)
        try:
            return self._start(run.function.name, context, attributes, links)
        finally:
            ROOT_TRACE_ID.reset(token)

    def _start(
        self, name: str, context: Context, attributes: Mapping[str, Any], links: list[Link] | None = None
    ) -> Span:
        try:
            return self.tracer.start_span(name, context, attributes=attributes, links=links)
        except Exception:
            self._report()
            return INVALID_SPAN

    def _end(self, span: Span, error: BaseException | None = None, attributes: Mapping[str, Any] | None = None) -> None:
        try:
            if attributes is not None:
                span.set_attributes(attributes)
            if error is not None:
                span.record_exception(error)
                span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")
        except Exception:
            self._report()
        try:
            span.end()
        except Exception:
            self._report()

    def _report(self) -> None:
        """Once, as it may be so with every span."""
        if not self._has_failed:
            self._has_failed = True
            _logger.warning("OpenTelemetry failed, so spans are missing; workflows go on", exc_info=True)


class _Current:
    """A context that is current meanwhile."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = attach(self._context)

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        # The garbage collector closes what is left of a loop, in somebody else's context.
        if kind is not GeneratorExit:
            detach(self._token)


def _how(run: Run, ending: Ending[Any]) -> tuple[str, BaseException | None]:
    """The status with which the workflow ended, and with which error."""
    if not isinstance(ending, Raised):
        return SUCCESS, None
    error = ending.error
    if isinstance(error, DBOSAwaitedWorkflowCancelledError) and error.workflow_id == run.workflow_id:
        return CANCELLED, error
    return ERROR, error
