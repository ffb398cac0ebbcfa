"""Alias for programs of version 2: what this process is called. See ``dbos.compat``."""

from dbos.compat.instance import GlobalParams
from dbos.model.queues import INTERNAL_QUEUE as INTERNAL_QUEUE_NAME

__all__ = ["INTERNAL_QUEUE_NAME", "GlobalParams"]
