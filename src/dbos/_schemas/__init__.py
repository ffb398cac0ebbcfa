"""Alias for programs of version 2: schemas. See ``dbos.compat``."""
