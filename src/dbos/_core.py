"""Alias for programs of version 2: steps and streams. See ``dbos.compat``."""

from dbos.compat.context import run_step_async, write_stream

__all__ = ["run_step_async", "write_stream"]
