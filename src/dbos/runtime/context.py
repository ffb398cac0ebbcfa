"""What the running code belongs to: which run, which step, and what was set for the next workflow.

One context variable holds it all. It is replaced, never changed, so that tasks and threads that copied it keep what
they had.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbos.model.authentication import NOBODY, Authentication

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from dbos.runtime.run import Run


@dataclass(frozen=True, slots=True)
class StepStatus:
    """The attempt that a step is in.

    Attributes:
        step_id: The step's number in its workflow, from 1.
        current_attempt: From 0; ``None`` for steps that are not retried.
        max_attempts: All attempts, the first included; ``None`` for steps that are not retried.
    """

    step_id: int
    current_attempt: int | None
    max_attempts: int | None


class NextId:
    """The id that ``SetWorkflowID`` or a request set, used up by the first workflow.

    Attributes:
        workflow_id: The id.
        is_of_request: Whether a request brought it: then further workflows are as usual as the first.
        is_used: Whether a workflow has it.
    """

    __slots__ = ("is_of_request", "is_used", "workflow_id")

    def __init__(self, workflow_id: str, *, is_of_request: bool = False) -> None:
        self.workflow_id = workflow_id
        self.is_of_request = is_of_request
        self.is_used = False


@dataclass(frozen=True, slots=True)
class SetTimeout:
    """The timeout that ``SetWorkflowTimeout`` set, in seconds; ``None``: no timeout, not even an inherited one."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class SetEnqueuing:
    """What ``SetEnqueueOptions`` set; ``None`` where it set nothing."""

    deduplication_id: str | None = None
    priority: int | None = None
    app_version: str | None = None
    partition_key: str | None = None


class Identity:
    """Whom the running code acts for; changed by ``DBOS.set_authentication``, for all that copied the context."""

    __slots__ = ("authentication",)

    def __init__(self, authentication: Authentication = NOBODY) -> None:
        self.authentication = authentication


@dataclass(frozen=True, slots=True)
class Context:
    """Where the running code is: in a run, in a step of it, or in neither; and what was set for workflows it starts.

    Without an ``identity`` it acts for whom the run does. ``session`` is that of the transaction that the step is, if
    it is one.
    """

    run: Run | None = None
    step: StepStatus | None = None
    next_id: NextId | None = None
    timeout: SetTimeout | None = None
    enqueuing: SetEnqueuing = SetEnqueuing()
    identity: Identity | None = None
    session: Session | None = None

    @property
    def authentication(self) -> Authentication:
        """Whom the running code acts for."""
        if self.identity is not None:
            return self.identity.authentication
        return NOBODY if self.run is None else self.run.authentication


OUTSIDE = Context()

CONTEXT: ContextVar[Context] = ContextVar("dbos", default=OUTSIDE)
