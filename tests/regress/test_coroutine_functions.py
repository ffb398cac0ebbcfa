"""Frameworks ask ``inspect`` whether to await a tool: before Python 3.12 it said no of decorated functions."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from dbos import DBOS


@DBOS.step()
async def a_step(n: int, *, more: str = "") -> str:
    """What it does."""
    return more * n


@DBOS.workflow()
async def a_workflow(n: int, *, more: str = "") -> str:
    """What it does."""
    return more * n


class Holder:
    @DBOS.step()
    async def method(self, n: int) -> int:
        return n


@pytest.mark.parametrize("function", [a_step, a_workflow])
def test_a_decorated_coroutine_function_is_one(function: Callable[..., Any]) -> None:
    assert inspect.iscoroutinefunction(function)
    assert asyncio.iscoroutinefunction(function)
    assert inspect.isfunction(function)
    assert (function.__name__, inspect.getdoc(function)) == (function.__qualname__, "What it does.")
    assert list(inspect.signature(function).parameters) == ["n", "more"]
    assert copy.deepcopy(function) is function
    assert pickle.loads(pickle.dumps(function)) is function


def test_a_decorated_method_is_one_too() -> None:
    assert inspect.iscoroutinefunction(Holder().method)
    assert asyncio.run(Holder().method(3)) == 3
