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

    separates_end = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, list[str]] = {}
        """The names of the steps whose code runs, by the token of their run."""

    def steps_of(self, run: Run) -> list[str]:
        """The names of the run's steps whose code runs at the moment."""
        with self._lock:
            return list(self._running.get(run.log.token, ()))

    @property
    def is_any_running(self) -> bool:
        """Whether the code of some step runs, also of a launch that has crashed."""
        return bool(self._running)

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
            self.begun(run, function_id, name)
            try:
                value = function(*args, **kwargs)
            except BaseException:
                self._end(token, name)
                raise
            if asyncio.iscoroutine(value):
                return until_awaited(value)
            self.returned(run, function_id, name, value)
            self._end(token, name)
            return value

        async def until_awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
            try:
                value = await coroutine
                self.returned(run, function_id, name, value)
                return value
            finally:
                self._end(token, name)

        return watched

    def begun(self, run: Run, function_id: int, name: str) -> None:
        """The code of a step is about to be run."""

    def returned(self, run: Run, function_id: int, name: str, value: Any) -> None:
        """The code of a step has returned a value."""

    def _begin(self, token: str, name: str) -> None:
        with self._lock:
            self._running.setdefault(token, []).append(name)

    def _end(self, token: str, name: str) -> None:
        with self._lock:
            names = self._running[token]
            names.remove(name)
            if not names:
                del self._running[token]
