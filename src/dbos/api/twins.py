"""Public methods made from one core: blocking and awaited, of the application and of a client.

For methods with so many parameters that spelling them out for each of the four would drown the rest.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from dbos.api.instance import refuse_on_loop
from dbos.runtime.drivers import Core, Ending, drive, drive_async
from dbos.runtime.gateway import Gateway

P = ParamSpec("P")
T = TypeVar("T")

GatewayCore = Callable[Concatenate[Gateway | None, P], Core[Ending[T]]]
"""Its first argument is the client that calls, ``None`` for the application."""


class HasGateway(Protocol):
    """A client."""

    @property
    def gateway(self) -> Gateway: ...


def gateway_of(client: HasGateway) -> Gateway:
    """What the client calls through; not part of what it shows its users."""
    return client.gateway


def blocking(core: GatewayCore[P, T], *, on_loop: bool = False) -> Callable[P, T]:
    """The application's method that blocks.

    Args:
        core: What it does.
        on_loop: Whether it may be called in the thread of a running event loop, which it then holds up.
    """

    @functools.wraps(core)
    def method(*args: P.args, **kwargs: P.kwargs) -> T:
        if not on_loop:
            refuse_on_loop(f"DBOS.{core.__name__}")
        return drive(core(None, *args, **kwargs))

    return _with_signature(method, core, 1, "{}")


def awaited(core: GatewayCore[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The application's method that is awaited."""

    @functools.wraps(core)
    def method(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return drive_async(core(None, *args, **kwargs))

    return _with_signature(method, core, 1, "Coroutine[Any, Any, {}]")


def client_blocking(core: GatewayCore[P, T], *, on_loop: bool = False) -> Callable[Concatenate[Any, P], T]:
    """The client's method that blocks. (Arguments as for ``blocking``.)"""

    @functools.wraps(core)
    def method(self: HasGateway, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if not on_loop:
            refuse_on_loop(f"DBOSClient.{core.__name__}")
        return drive(core(gateway_of(self), *args, **kwargs))

    return _with_signature(method, core, 0, "{}")


def client_awaited(core: GatewayCore[P, T]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """The client's method that is awaited."""

    @functools.wraps(core)
    def method(self: HasGateway, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return drive_async(core(gateway_of(self), *args, **kwargs))

    return _with_signature(method, core, 0, "Coroutine[Any, Any, {}]")


M = TypeVar("M", bound=Callable[..., Any])


def _with_signature(method: M, core: Callable[..., Any], skipped: int, returns: str) -> M:
    """Show the method's own signature: the core's, without its gateway, and with what the method returns."""
    signature = inspect.signature(core)
    parameters = list(signature.parameters.values())[skipped:]
    if not skipped:
        parameters[0] = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    value = str(signature.return_annotation).removeprefix("Core[Ending[").removesuffix("]]")
    annotation = returns.format(value)
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=annotation
    )
    method.__annotations__ = {p.name: p.annotation for p in parameters if p.annotation is not p.empty}
    method.__annotations__["return"] = annotation
    return method
