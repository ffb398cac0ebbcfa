"""The gate that an application under test commits through; when it is shut, nothing of it is recorded any more."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dbos.storage.gate import Moment

_logger = logging.getLogger("dbos")


class Crashed(Exception):
    """What writes of an application meet that the test has crashed."""

    def __init__(self) -> None:
        super().__init__("The application was crashed by its test: nothing of it is recorded any more.")


class CrashGate:
    """A ``Gate`` of one launch.

    Args:
        after_commit: Called with the operation when a transaction has been committed, before anybody learns of it. If
            it returns true, the gate shuts.
    """

    def __init__(self, after_commit: Callable[[str], bool] | None = None) -> None:
        self._after_commit = after_commit
        self.is_shut = False

    def __call__(self, operation: str, moment: Moment) -> None:
        asks = self._after_commit if moment == "after_commit" and not self.is_shut else None
        if asks is not None and asks(operation):
            self.shut()
        if self.is_shut:
            raise Crashed

    def shut(self) -> None:
        """Let nothing pass any more. What the library complains of until ``silence_ends`` is not worth telling."""
        if not self.is_shut:
            self.is_shut = True
            _logger.addFilter(_drop)

    def silence_ends(self) -> None:
        """All of the launch is over."""
        _logger.removeFilter(_drop)


def _drop(record: logging.LogRecord) -> bool:
    return False
