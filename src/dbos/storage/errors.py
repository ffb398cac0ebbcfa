"""What storage raises beside the drivers' own errors."""

from __future__ import annotations


class TransientStorageError(Exception):
    """The transaction failed for now: tried again, it may succeed. Its cause is the driver's error."""


class JournalClosed(BaseException):
    """The journal records nothing more, as the executor shuts down. User code must not catch it."""
