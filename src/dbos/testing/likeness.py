"""Values that were made twice, by the same code: whether they are alike, and how to show them if they are not."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

_DEEPEST = 20

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 120


def shown(value: object) -> str:
    """The value for a message: all of it, unless it is long."""
    return _repr.repr(value)


def is_alike(one: Any, other: Any, depth: int = 0) -> bool:
    """Whether two values are equal; objects that have no equality of their own are, if their attributes are alike.

    What cannot be told counts as alike, if it is of one type.
    """
    try:
        if one is other or bool(one == other):
            return True
    except Exception:
        # As arrays do, whose equality is an array.
        return _are_of_one_type(one, other)
    if not _are_of_one_type(one, other):
        return False
    if depth > _DEEPEST or (one != one and other != other):
        return True
    if isinstance(one, BaseException):
        return str(one) == str(other)
    return _are_parts_alike(one, other, depth + 1)


def _are_parts_alike(one: Any, other: Any, depth: int) -> bool:
    if _is(one, Mapping):
        return one.keys() == other.keys() and all(is_alike(one[key], other[key], depth) for key in one)
    if _is(one, list) or _is(one, tuple):
        return len(one) == len(other) and all(map(is_alike, one, other, [depth] * len(one)))
    if _has_equality(one):
        return False
    return is_alike(getattr(one, "__dict__", None), getattr(other, "__dict__", None), depth)


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind)


def _are_of_one_type(one: object, other: object) -> bool:
    return type(one) is type(other)


def _has_equality(value: object) -> bool:
    """Whether it has an equality of its own, and not that of all objects, which is identity."""
    return any("__eq__" in vars(kind) for kind in type(value).__mro__[:-1])
