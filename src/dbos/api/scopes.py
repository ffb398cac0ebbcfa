"""The ``Set…`` context managers: what is said about the workflows that are started inside them."""

from __future__ import annotations

import logging
from contextvars import Token
from dataclasses import replace
from types import TracebackType

from dbos.model.limits import check_workflow_id
from dbos.runtime.context import CONTEXT, Context, NextId

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


def take_next_id(context: Context) -> str | None:
    """The id that was set for the next workflow, once."""
    next_id = context.next_id
    if next_id is None:
        return None
    if next_id.is_used:
        _logger.warning(
            "A second workflow was started inside SetWorkflowID(%r); it gets an id of its own", next_id.workflow_id
        )
        return None
    next_id.is_used = True
    return next_id.workflow_id
