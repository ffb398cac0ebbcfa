"""Watches what workflows call: which steps run at the moment."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbos.runtime.run import Run


class CallWatch:
    """The ``Overseer`` of an application under test."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, list[str]] = {}
        """The names of the steps whose code runs, by the token of their run."""

    def steps_of(self, run: Run) -> list[str]:
        """The names of the run's steps whose code runs at the moment."""
        with self._lock:
            return list(self._running.get(run.log.token, ()))

    def called(
        self,
        run: Run,
        function_id: int,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Callable[..., Any]:
        token = run.log.token

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._begin(token, name)
            try:
                value = function(*args, **kwargs)
            except BaseException:
                self._end(token, name)
                raise
            if asyncio.iscoroutine(value):
                return self._until_awaited(token, name, value)
            self._end(token, name)
            return value

        return watched

    async def _until_awaited(self, token: str, name: str, coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await coroutine
        finally:
            self._end(token, name)

    def _begin(self, token: str, name: str) -> None:
        with self._lock:
            self._running.setdefault(token, []).append(name)

    def _end(self, token: str, name: str) -> None:
        with self._lock:
            names = self._running[token]
            names.remove(name)
            if not names:
                del self._running[token]
