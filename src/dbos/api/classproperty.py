"""Properties that are read on a class as well as on its instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class classproperty(Generic[T]):
    """A read-only property of the class and of its instances."""

    def __init__(self, function: Callable[[Any], T]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: object, owner: type) -> T:
        return self._function(owner)
