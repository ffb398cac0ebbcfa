"""Functions that require roles: whoever calls them must have one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

from dbos.model.authentication import Authentication
from dbos.model.limits import check_key
from dbos.runtime.context import CONTEXT, Context, Identity
from dbos.runtime.registry import TEMPORARY_PREFIX, WorkflowFunction

_REQUIRED = "__dbos_required_roles__"
"""The attribute of a function that requires roles and was not decorated otherwise before."""


def check_roles(roles: object, what: str) -> tuple[str, ...]:
    """The roles, if they can be stored.

    Raises:
        TypeError, ValueError: They are not a list of str, or one cannot be stored.
    """
    if not isinstance(roles, list | tuple) or not all(isinstance(role, str) for role in cast("list[object]", roles)):
        raise TypeError(f"{what} must be a list of str.")
    return tuple(check_key(role, f"{what}: a role") for role in cast("list[str]", roles))


def authorize(function: WorkflowFunction, context: Context) -> Authentication:
    """Who runs the function if it is called here.

    Raises:
        DBOSNotAuthorizedError: It requires a role that the user does not have.
    """
    if not function.required_roles:
        return context.authentication
    return context.authentication.entering(function.name.removeprefix(TEMPORARY_PREFIX), function.required_roles)


def call_plainly(step: WorkflowFunction, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call a step that is not recorded; with the role that it requires, if it does."""
    if not step.required_roles:
        return function(*args, **kwargs)
    name = step.name.removeprefix(TEMPORARY_PREFIX)
    return guarded(function, name, step.required_roles, step.is_async)(*args, **kwargs)


def guarded(function: Callable[..., Any], name: str, required: Sequence[str], is_async: bool) -> Callable[..., Any]:
    """The function, which is called only for users that have one of the roles, and has it then."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with _entering(name, required):
            return function(*args, **kwargs)

    async def call_async(*args: Any, **kwargs: Any) -> Any:
        with _entering(name, required):
            return await function(*args, **kwargs)

    guard = functools.wraps(function)(call_async if is_async else call)
    setattr(guard, _REQUIRED, (tuple(required), function))
    return guard


def without_guard(function: Callable[..., Any]) -> tuple[Callable[..., Any], tuple[str, ...] | None]:
    """The function as it was before roles were required of it, and the roles.

    Where another decorator is above the guard, the function stays as it is, guard and all.
    """
    marked: tuple[tuple[str, ...], Callable[..., Any]] | None = getattr(function, _REQUIRED, None)
    if marked is None:
        return function, None
    required, its_function = marked
    return its_function if getattr(function, "__wrapped__", None) is its_function else function, required


@contextmanager
def _entering(name: str, required: Sequence[str]) -> Generator[None]:
    context = CONTEXT.get()
    authentication = context.authentication.entering(name, required)
    token = CONTEXT.set(replace(context, identity=Identity(authentication)))
    try:
        yield
    finally:
        CONTEXT.reset(token)
