"""Alias for programs of version 2: the exceptions. See ``dbos.compat``."""

from dbos.error import *  # noqa: F403 - all of them, also those to come
