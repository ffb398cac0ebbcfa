"""The states of a workflow.

::

    ENQUEUED ──claim──▶ PENDING ──▶ SUCCESS | ERROR
        │                  │  └───▶ MAX_RECOVERY_ATTEMPTS_EXCEEDED ──resume──▶ ENQUEUED
        └───── cancel ─────┴──────▶ CANCELLED ──resume──▶ ENQUEUED
"""

from __future__ import annotations

from enum import Enum


class WorkflowStatusString(str, Enum):
    """The six statuses a workflow can have; each equals its name as a string.

    Attributes:
        ENQUEUED: It waits on a queue.
        PENDING: It runs, or is to be recovered.
        SUCCESS: It has returned.
        ERROR: It has raised.
        CANCELLED: It was cancelled, or its time was over; it may be resumed.
        MAX_RECOVERY_ATTEMPTS_EXCEEDED: It was recovered too often, and given up; it may be resumed.
    """

    ENQUEUED = "ENQUEUED"
    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"
    MAX_RECOVERY_ATTEMPTS_EXCEEDED = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"


# Plain strings for the hot path and for SQL parameters.
ENQUEUED = WorkflowStatusString.ENQUEUED.value
PENDING = WorkflowStatusString.PENDING.value
SUCCESS = WorkflowStatusString.SUCCESS.value
ERROR = WorkflowStatusString.ERROR.value
CANCELLED = WorkflowStatusString.CANCELLED.value
MAX_RECOVERY_ATTEMPTS_EXCEEDED = WorkflowStatusString.MAX_RECOVERY_ATTEMPTS_EXCEEDED.value

LIVE = frozenset({ENQUEUED, PENDING})
"""The statuses of workflows that have not ended."""
