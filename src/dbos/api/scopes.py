"""The ``Set…`` context managers: what is said about the workflows that are started inside them."""

from __future__ import annotations

import logging
from contextvars import Token
from dataclasses import replace
from types import TracebackType

from dbos.model.limits import check_timeout, check_workflow_id
from dbos.runtime.context import CONTEXT, Context, NextId, SetTimeout

_logger = logging.getLogger("dbos")


class SetWorkflowID:
    """Give the first workflow that is started inside the block this id.

    The id makes the start idempotent: a workflow is run once for each id, and every later start with the same id gets
    the recorded outcome of the first. A coroutine made inside the block keeps the id, whenever it is awaited.

    Args:
        workflow_id: Unique for the application; at most 1024 bytes of UTF-8.

    Raises:
        TypeError: The id is not a string.
        ValueError: It is empty, too long, or cannot be stored.
    """

    def __init__(self, workflow_id: str) -> None:
        self._workflow_id = check_workflow_id(workflow_id)
        self._tokens: list[Token[Context]] = []

    def __enter__(self) -> SetWorkflowID:
        self._tokens.append(CONTEXT.set(replace(CONTEXT.get(), next_id=NextId(self._workflow_id))))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        CONTEXT.reset(self._tokens.pop())


class SetWorkflowTimeout:
    """Give the workflows that are started inside the block this long to complete, from their start on.

    When the time is over, the workflow is cancelled, and with it its children, which have its deadline unless they are
    given a timeout of their own. It is durable: it passes also while no process runs.

    Args:
        workflow_timeout_sec: In seconds; ``None`` for no timeout, not even one that would be inherited.

    Raises:
        TypeError: It is no number.
        ValueError: It is not positive, not finite, or longer than a hundred years.
    """

    def __init__(self, workflow_timeout_sec: float | None) -> None:
        if workflow_timeout_sec is not None:
            workflow_timeout_sec = check_timeout(workflow_timeout_sec, "A workflow's timeout")
            if workflow_timeout_sec <= 0:
                raise ValueError("A workflow's timeout is 0, and must be positive.")
        self._timeout = SetTimeout(workflow_timeout_sec)
        self._tokens: list[Token[Context]] = []

    def __enter__(self) -> SetWorkflowTimeout:
        self._tokens.append(CONTEXT.set(replace(CONTEXT.get(), timeout=self._timeout)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        CONTEXT.reset(self._tokens.pop())


def take_next_id(context: Context, without: str = "a second workflow gets an id of its own") -> str | None:
    """The id that was set for the next workflow, once.

    Args:
        context: Where it was set.
        without: What becomes of the call for which it is used up, for the warning.
    """
    next_id = context.next_id
    if next_id is None:
        return None
    if next_id.is_used:
        if not next_id.is_of_request:
            _logger.warning(
                "SetWorkflowID(%r) was used up by the first call in its block; %s", next_id.workflow_id, without
            )
        return None
    next_id.is_used = True
    return next_id.workflow_id
