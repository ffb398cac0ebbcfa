"""Alias for programs of version 2: housekeeping. See ``dbos.compat``."""

from dbos.compat.instance import garbage_collect

__all__ = ["garbage_collect"]
