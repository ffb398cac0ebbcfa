"""What the hooks for web frameworks share: when to launch, the id that a request brings, and errors as answers."""

from __future__ import annotations

import logging
from http import HTTPStatus

from dbos.error import (
    DBOSConflictingWorkflowError,
    DBOSException,
    DBOSNonExistentWorkflowError,
    DBOSNotAuthorizedError,
    DBOSQueueDeduplicatedError,
    DBOSWorkflowConflictIDError,
)
from dbos.model.limits import check_workflow_id
from dbos.runtime.context import Context, Identity, NextId

_logger = logging.getLogger("dbos")

HEADER = "dbos-idempotency-key"
"""The header that brings the id of a request's first workflow."""

_STATUSES: dict[type[DBOSException], HTTPStatus] = {
    DBOSNotAuthorizedError: HTTPStatus.FORBIDDEN,
    DBOSNonExistentWorkflowError: HTTPStatus.NOT_FOUND,
    DBOSConflictingWorkflowError: HTTPStatus.CONFLICT,
    DBOSWorkflowConflictIDError: HTTPStatus.CONFLICT,
    DBOSQueueDeduplicatedError: HTTPStatus.CONFLICT,
}
"""The errors that are the client's; all others are the server's."""

Answer = tuple[HTTPStatus, dict[str, str | None]]
"""A status, and the body to be sent as JSON."""


def context_of_request(key: str | None) -> Context:
    """The context that a request begins with: nothing of another request's, and the id that it brings.

    Args:
        key: The value of the header ``HEADER``; ``None`` or empty: no id.

    Raises:
        ValueError: The key cannot be the id of a workflow.
    """
    next_id = NextId(check_workflow_id(key), is_of_request=True) if key else None
    return Context(next_id=next_id, identity=Identity())


def answer_to_bad_key(error: ValueError) -> Answer:
    """What a request is answered whose key cannot be the id of a workflow."""
    return HTTPStatus.BAD_REQUEST, {
        "message": f"Header {HEADER}: {error}",
        "dbos_error_code": None,
        "dbos_error": type(error).__name__,
    }


def answer_to(error: DBOSException) -> Answer:
    """What a request is answered whose handler raised the error.

    What went wrong in the server is logged; its details are not sent, as they may hold what only the server may know.
    """
    status = _status_of(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        _logger.error("A request failed: %s", error, exc_info=error)
    return status, {
        "message": status.phrase if status == HTTPStatus.INTERNAL_SERVER_ERROR else error.message,
        "dbos_error_code": None if error.dbos_error_code is None else str(error.dbos_error_code),
        "dbos_error": type(error).__name__,
    }


def _status_of(error: DBOSException) -> HTTPStatus:
    for type_, status in _STATUSES.items():
        if isinstance(error, type_):
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR
