"""Alias for programs of version 2: the application. See ``dbos.compat``."""

from __future__ import annotations

from typing import Any

from dbos.api.authentication import DBOSContextEnsure, DBOSContextSetAuth
from dbos.api.classes import DBOSConfiguredInstance
from dbos.api.config import DBOSConfig
from dbos.api.dbos import DBOS
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos.api.transactions import IsolationLevel
from dbos.compat.instance import current_instance
from dbos.compat.instance import get_instance as _get_dbos_instance

__all__ = [
    "DBOS",
    "DBOSConfig",
    "DBOSConfiguredInstance",
    "DBOSContextEnsure",
    "DBOSContextSetAuth",
    "IsolationLevel",
    "WorkflowHandle",
    "WorkflowHandleAsync",
    "_get_dbos_instance",
]


def __getattr__(name: str) -> Any:
    if name == "_dbos_global_instance":
        return current_instance()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
