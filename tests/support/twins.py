"""The `_async` twins of an object's methods, called as if they were the sync ones: one test holds for both."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, Iterator
from functools import cache
from typing import Any, cast

from dbos import WorkflowHandleAsync
from tests.support.apps import PATIENCE_S


class Twins:
    """Calls `method_async` for `method` where there is one, on an event loop of its own; handles come as twins too."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, f"{name}_async", None) or getattr(self._target, name)

        async def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            value = method(*args, **kwargs)
            return await value if inspect.isawaitable(value) else value

        def wait(*args: Any, **kwargs: Any) -> Any:
            value = asyncio.run_coroutine_threadsafe(call(args, kwargs), _loop()).result(PATIENCE_S)
            if inspect.isasyncgen(value):
                return _items(cast("AsyncGenerator[Any, None]", value))
            if isinstance(value, list):
                return [_twin(item) for item in value]
            return _twin(value)

        return wait if callable(method) else method


def _twin(value: Any) -> Any:
    return Twins(value) if isinstance(value, WorkflowHandleAsync) else value


def _items(values: AsyncGenerator[Any, None]) -> Iterator[Any]:
    async def next_item() -> Any:
        return await anext(values)

    try:
        while True:
            yield asyncio.run_coroutine_threadsafe(next_item(), _loop()).result(PATIENCE_S)
    except StopAsyncIteration:
        return


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="twins", daemon=True).start()
    return loop
