"""Alias for programs of version 2: recovery. See ``dbos.compat``."""

from dbos.compat.instance import startup_recovery_thread

__all__ = ["startup_recovery_thread"]
