"""The seam for tests: a gate that every transaction passes at its begin, before its commit and after it.

Product code knows only this protocol. The tests that kill, pause and fail transactions hang on it.
"""

from __future__ import annotations

from typing import Literal, Protocol

Moment = Literal["begin", "before_commit", "after_commit"]


class Gate(Protocol):
    """Called in the thread that runs the transaction. What it raises, the transaction raises."""

    def __call__(self, operation: str, moment: Moment) -> None: ...
