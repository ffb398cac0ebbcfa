"""Alias for programs of version 2: the tables. See ``dbos.compat``."""

from dbos.compat.tables import SystemSchema

__all__ = ["SystemSchema"]
