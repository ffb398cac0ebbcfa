"""Plain functions that return coroutines, for Python before 3.12, which has no way to mark them.

Frameworks ask ``inspect.iscoroutinefunction`` whether to await what a function returns. It looks for a function with a
coroutine's code, so this is an object that passes for one.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any


class CoroutineFunction:
    """Calls a plain function, and looks like a coroutine function of its name, signature and documentation."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__dict__.update(function.__dict__)
        self._call = function
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__
        self.__annotations__ = function.__annotations__
        original = inspect.unwrap(function)
        self.__defaults__ = getattr(original, "__defaults__", None)
        self.__kwdefaults__ = getattr(original, "__kwdefaults__", None)
        self.__globals__ = getattr(original, "__globals__", {})
        self.__code__ = original.__code__ if inspect.iscoroutinefunction(original) else _coroutine.__code__

    @property  # type: ignore[misc]  # what it is taken for, not what it is
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]
        return types.FunctionType

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<function {self.__qualname__}>"

    # As functions are copied and pickled: not at all, and by name.

    def __copy__(self) -> CoroutineFunction:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> CoroutineFunction:
        return self

    def __reduce__(self) -> str:
        return self.__qualname__


async def _coroutine() -> None:
    """Its code stands for that of functions that have none."""
