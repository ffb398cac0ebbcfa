"""What storage raises beside the drivers' own errors."""

from __future__ import annotations

CONTENTION_PAUSE_S = 0.003
"""The longest pause before a transaction that another writer held up is tried again: whoever pauses for longer than
others write never gets in."""


class TransientStorageError(Exception):
    """The transaction failed for now: tried again, it may succeed. Its cause is the driver's error.

    Attributes:
        longest_pause_s: How long to pause at most before it is tried again.
        is_held_up: Whether it has waited in vain for a lock that somebody else holds.
    """

    def __init__(self, message: str, longest_pause_s: float = 60.0, *, is_held_up: bool = False) -> None:
        super().__init__(message)
        self.longest_pause_s = longest_pause_s
        self.is_held_up = is_held_up


class JournalClosed(BaseException):
    """The journal records nothing more, as the executor shuts down. User code must not catch it."""
