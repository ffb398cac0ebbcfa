"""Alias for programs of version 2: the context of the running code. See ``dbos.compat``."""

from dbos.api.authentication import DBOSContextEnsure, DBOSContextSetAuth
from dbos.api.queues import SetEnqueueOptions
from dbos.api.scopes import SetWorkflowID, SetWorkflowTimeout
from dbos.compat.context import DBOSContext, get_local_dbos_context, snapshot_step_context
from dbos.compat.context import dbos_context_var as _dbos_context_var
from dbos.compat.context import set_local_dbos_context as _set_local_dbos_context

__all__ = [
    "DBOSContext",
    "DBOSContextEnsure",
    "DBOSContextSetAuth",
    "SetEnqueueOptions",
    "SetWorkflowID",
    "SetWorkflowTimeout",
    "_dbos_context_var",
    "_set_local_dbos_context",
    "get_local_dbos_context",
    "snapshot_step_context",
]
