"""Tells when a guard stops a run: a test in which the guard that it is about was never hit has proved nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dbos.error import DBOSWorkflowCancelledError
from dbos.runtime.run import RunFenced, RunOutdated

_GUARDS: dict[str, type[BaseException]] = {
    "fenced": RunFenced,
    "outdated": RunOutdated,
    "cancelled": DBOSWorkflowCancelledError,
}
"""The exceptions that stop a run, by the guards' names."""


def watch_guards(note: Callable[..., None]) -> None:
    """Have each guard that stops a run of this process noted, as `note("guard", guard=name)`."""
    for name, stop in _GUARDS.items():
        watch(stop, name, note)


def watch(stop: type[BaseException], name: str, note: Callable[..., None]) -> None:
    """Have each exception of this type that is made in this process noted."""
    made = stop.__init__

    def make(self: BaseException, *args: Any, **kwargs: Any) -> None:
        note("guard", guard=name)
        made(self, *args, **kwargs)

    stop.__init__ = make  # type: ignore[method-assign]
