"""Who calls: said by the program that has authenticated somebody, kept by workflows, asked for by functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextvars import Token
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar, cast

from dbos.api.classes import workflows_of
from dbos.api.classproperty import classproperty
from dbos.api.functions import Decorator, is_coroutine_function, marked_as, on_methods_too
from dbos.api.roles import check_roles, guarded
from dbos.error import DBOSException
from dbos.model.authentication import Authentication
from dbos.model.limits import check_key
from dbos.runtime.context import CONTEXT, OUTSIDE, Context, Identity

T = TypeVar("T")


class DBOSContextEnsure:
    """A block in which ``DBOS.set_authentication`` holds, and at whose end it is over.

    Where there is one already, as in a workflow, in a request of a web framework that DBOS is hooked into, or in
    another such block, it changes nothing.
    """

    def __init__(self) -> None:
        self._tokens: list[Token[Context] | None] = []

    def __enter__(self) -> DBOSContextEnsure:
        is_there = CONTEXT.get() is not OUTSIDE
        self._tokens.append(None if is_there else CONTEXT.set(Context(identity=Identity())))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        token = self._tokens.pop()
        if token is not None:
            CONTEXT.reset(token)


class DBOSContextSetAuth:
    """Call what is in the block for a user that the program has authenticated.

    Workflows that are started inside keep the user and the roles: in their steps and children, on queues, and when
    they are recovered, resumed or forked.

    Args:
        user: The user's name; ``None`` for nobody.
        roles: What the user may act as; ``None``: nobody is authenticated.

    Raises:
        TypeError, ValueError: They are no strings, or cannot be stored.
    """

    def __init__(self, user: str | None, roles: Sequence[str] | None) -> None:
        self._authentication = _authentication(user, roles)
        self._tokens: list[Token[Context]] = []

    def __enter__(self) -> DBOSContextSetAuth:
        self._tokens.append(CONTEXT.set(replace(CONTEXT.get(), identity=Identity(self._authentication))))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        CONTEXT.reset(self._tokens.pop())


class AuthenticationMethods:
    """Who calls, and who may."""

    @staticmethod
    def required_roles(roles: list[str]) -> Decorator:
        """Let only users call a function who have one of these roles; it runs as the first of them that they have.

        It goes above or below the other decorators, on workflows, steps and any other function. Workflows are refused
        when they are called, started, enqueued or debounced, before anything is recorded; those that a ``DBOSClient``
        has enqueued, when they are about to run.

        Args:
            roles: Empty: the function requires none, whatever ``default_required_roles`` says for its class.

        Raises:
            TypeError, ValueError: They are no list of strings, or one cannot be stored.
        """
        required = check_roles(roles, "required_roles")

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            workflow = marked_as(function)
            if workflow is None:
                _require_function(function)
                return guarded(function, function.__qualname__, required, is_coroutine_function(function))
            workflow.required_roles = required
            return function

        return on_methods_too(decorate)

    @staticmethod
    def default_required_roles(roles: list[str]) -> Callable[[type[T]], type[T]]:
        """Require one of these roles for all workflows and steps that a class defines and that do not say their own.

        Args:
            roles: See ``required_roles``.

        Raises:
            TypeError, ValueError: They are no list of strings, or one cannot be stored.
        """
        required = check_roles(roles, "default_required_roles")

        def decorate(cls: type[T]) -> type[T]:
            if not isinstance(cast(object, cls), type):
                raise TypeError(f"@DBOS.default_required_roles() decorates classes, and {cls!r} is none.")
            for workflow, _ in workflows_of(cls):
                if workflow.required_roles is None:
                    workflow.required_roles = required
            return cls

        return decorate

    @classmethod
    def set_authentication(cls, user: str | None, roles: Sequence[str] | None) -> None:
        """From here on, call for a user that the program has authenticated: until the end of the surrounding workflow,
        request, or ``with`` block. See ``DBOSContextSetAuth``.

        In a workflow that concerns the steps and children that follow. Its own row keeps whom it was started for.

        Raises:
            DBOSException: There is none around.
            TypeError, ValueError: User or roles are no strings, or cannot be stored.
        """
        authentication, context = _authentication(user, roles), CONTEXT.get()
        if context is OUTSIDE:
            raise DBOSException(
                "DBOS.set_authentication() was called where nothing would ever end it. Call it inside of `with "
                "DBOSContextEnsure():`, or use `with DBOSContextSetAuth(user, roles):`."
            )
        if context.identity is None:
            CONTEXT.set(replace(context, identity=Identity(authentication)))
        else:
            # Threads and tasks that copied the context are of the same request.
            context.identity.authentication = authentication

    @classproperty
    def authenticated_user(cls) -> str | None:
        """The user that the running code acts for; ``None`` if nobody is authenticated."""
        return CONTEXT.get().authentication.user

    @classproperty
    def authenticated_roles(cls) -> list[str] | None:
        """The roles that this user has; ``None`` if nobody is authenticated."""
        roles = CONTEXT.get().authentication.roles
        return None if roles is None else list(roles)

    @classproperty
    def assumed_role(cls) -> str | None:
        """The role by which the running code, or else what called it, was let in; ``None`` if none was required."""
        return CONTEXT.get().authentication.assumed_role


def _require_function(function: Any) -> None:
    if not callable(function) or not hasattr(function, "__qualname__"):
        raise TypeError(f"@DBOS.required_roles() decorates functions, and {function!r} is none.")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{function.__qualname__} is a generator function, of which @DBOS.required_roles() cannot say as whom it "
            "runs: its code runs when it is iterated over. Require the roles of what iterates."
        )


def _authentication(user: str | None, roles: Sequence[str] | None) -> Authentication:
    return Authentication(
        None if user is None else check_key(user, "The authenticated user"),
        None if roles is None else check_roles(roles, "The authenticated roles"),
    )
