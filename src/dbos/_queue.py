"""Alias for programs of version 2: queues. See ``dbos.compat``."""

from dbos.api.queues import Queue, QueueRateLimit

__all__ = ["Queue", "QueueRateLimit"]
