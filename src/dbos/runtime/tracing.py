"""Tracing, as the engine sees it: somebody who is told of runs and steps, and wraps their code.

Usually there is nobody. What makes spans needs packages of its own, so it is in ``edges``, and ``Executor.tracing`` is
set where it is wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

    from dbos.runtime.drivers import Core, Ending
    from dbos.runtime.run import Run


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run comes from; known of runs that are traced.

    Attributes:
        context: What was current where the workflow was called or started, as the tracing has it; ``None`` if this
            process claimed it: from a queue, or because nobody ran it.
        queue: The queue that it was claimed from.
        recovery_attempts: How often it was begun, this time included.
    """

    context: Any = None
    queue: str | None = None
    recovery_attempts: int = 1


class Tracing(Protocol):
    """Makes spans of what the engine does."""

    @property
    def tracer(self) -> Tracer:
        """What the application's own spans are made with."""
        ...

    def current_span(self) -> Span | None:
        """The span that the running code belongs to."""
        ...

    def current_context(self) -> Any:
        """What a workflow that is started now is to have as its origin."""
        ...

    def workflow(self, run: Run, core: Core[Ending[Ending[Any]]]) -> Core[Ending[Ending[Any]]]:
        """The core of a run, in a span."""
        ...

    def step(self, run: Run, function_id: int, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function of a step, each of its calls in a span; it may be called in another thread."""
        ...

    def enqueued(self, workflow_id: str) -> None:
        """The running code has put a workflow on a queue."""
        ...
