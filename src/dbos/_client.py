"""Alias for programs of version 2: the client. See ``dbos.compat``."""

from dbos.api.client import DBOSClient
from dbos.api.client_queues import EnqueueOptions

__all__ = ["DBOSClient", "EnqueueOptions"]
