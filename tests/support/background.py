"""Calls that block, made in a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from tests.support.apps import PATIENCE_S

T = TypeVar("T")


class InBackground(Generic[T]):
    """A call in a thread of its own; `result` waits for its end."""

    def __init__(self, function: Callable[..., T], *args: object, **kwargs: object) -> None:
        self._value: list[T] = []
        self._error: BaseException | None = None

        def call() -> None:
            try:
                self._value.append(function(*args, **kwargs))
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=call, name="in-background", daemon=True)
        self._thread.start()

    def is_done(self, within_s: float = 0.0) -> bool:
        """Whether the call has ended, or does so within a while."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def result(self) -> T:
        """Wait for the end of the call; return or raise what it did."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the call did not come to its end"
        if self._error is not None:
            raise self._error
        return self._value[0]
