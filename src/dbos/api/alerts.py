"""The application's alert handler."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from dbos.api.instance import is_launched
from dbos.error import DBOSException

if TYPE_CHECKING:
    from dbos.runtime.alerts import AlertHandler

H = TypeVar("H", bound=Callable[[str, str, dict[str, str]], Any])


class AlertRegistry:
    """The handler that the program tells of before the launch."""

    def __init__(self) -> None:
        self.handler: AlertHandler | None = None

    def add(self, handler: AlertHandler) -> None:
        """Register the handler. The same function defined again (a reloaded module) replaces it.

        Raises:
            DBOSException: There is another one, or DBOS is launched.
            TypeError: It cannot be called with a name, a message and metadata.
        """
        if not callable(handler):
            raise TypeError(f"@DBOS.alert_handler decorates a function, not {type(handler).__name__}.")
        if not _takes_three(handler):
            raise TypeError(
                f"{_name(handler)} cannot be an alert handler: it has to take three arguments: (name: str, "
                "message: str, metadata: dict[str, str])."
            )
        if is_launched():
            raise DBOSException(
                f"{_name(handler)} was registered by @DBOS.alert_handler after DBOS.launch(). Register it before."
            )
        if self.handler is not None and _name(self.handler) != _name(handler):
            raise DBOSException(
                f"{_name(handler)} cannot be an alert handler, as {_name(self.handler)} is it already. There is one; "
                "it may call others."
            )
        self.handler = handler

    def clear(self) -> None:
        """Forget the handler."""
        self.handler = None


ALERTS = AlertRegistry()


class AlertMethods:
    """Part of ``DBOS``; see docs/alerts.md."""

    @staticmethod
    def alert_handler(handler: H) -> H:
        """Decorate the function that is told of what somebody should look at: failures, and work that nobody does.

        It is called with the alert's name, a message for people, and metadata, in a thread of its own; it may be a
        coroutine function. What it raises is logged. Names and metadata: docs/alerts.md.

        Raises:
            DBOSException: There is another handler, or DBOS is launched.
            TypeError: It cannot be called with three arguments.
        """
        ALERTS.add(handler)
        return handler


def _takes_three(handler: AlertHandler) -> bool:
    try:
        inspect.signature(handler).bind("", "", {})
    except TypeError:
        return False
    except ValueError:
        # A callable that was not written in Python may not tell.
        return True
    return True


def _name(handler: AlertHandler) -> str:
    return f"{getattr(handler, '__module__', '')}.{getattr(handler, '__qualname__', repr(handler))}"
