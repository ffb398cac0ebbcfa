"""The functions that can run as workflows, by the names that are recorded for them.

Filled by the decorators, before any ``DBOS`` object exists, and shared by all that exist later in this process.
"""

from __future__ import annotations

import hashlib
import inspect
import textwrap
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from dbos.error import DBOSConflictingRegistrationError, DBOSException
from dbos.model.queues import QueueRules
from dbos.runtime.classes import Classes

TEMPORARY_PREFIX = "<temp>."
"""Begins the name of the workflow that a step runs as when it is started on its own."""


@dataclass(slots=True, eq=False)
class WorkflowFunction:
    """A function that can run as a workflow.

    Attributes:
        name: What is recorded, and what recovery looks it up by.
        function: The user's function, undecorated.
        is_async: Whether it is a coroutine function.
        max_recovery_attempts: How often it is recovered before it is given up; ``None``: without limit.
        is_temporary: Whether it stands for a step that is run on its own.
        required_roles: Whoever calls it must have one of them; empty: none is required, ``None``: nothing was said.
            Decorators that are above this one's say it later.
    """

    name: str
    function: Callable[..., Any]
    is_async: bool
    max_recovery_attempts: int | None = 100
    is_temporary: bool = False
    required_roles: tuple[str, ...] | None = None


class Registry:
    """Workflow functions by name, and the classes whose methods some of them are."""

    def __init__(self) -> None:
        self._functions: dict[str, WorkflowFunction] = {}
        self.classes = Classes()

    def add(self, function: WorkflowFunction) -> None:
        """Register the function. The same function defined again (a reloaded module, a local function) replaces it.

        Raises:
            DBOSConflictingRegistrationError: Another function has the name.
        """
        known = self._functions.get(function.name)
        if known is not None and _place(known.function) != _place(function.function):
            raise DBOSConflictingRegistrationError(function.name)
        self._functions[function.name] = function

    def add_temporary(self, function: WorkflowFunction) -> None:
        """Register what a step runs as on its own. Two steps of one name are fine until one is run so."""
        known = self._functions.get(function.name)
        if known is None or _place(inspect.unwrap(known.function)) == _place(inspect.unwrap(function.function)):
            self._functions[function.name] = function

    def require(self, function: WorkflowFunction) -> None:
        """Make sure that recovery would find this function by its name.

        Raises:
            DBOSConflictingRegistrationError: It would find another.
        """
        if self._functions.setdefault(function.name, function) is not function:
            raise DBOSConflictingRegistrationError(function.name)

    def get(self, name: str) -> WorkflowFunction | None:
        return self._functions.get(name)

    def names(self) -> list[str]:
        return list(self._functions)

    def clear(self) -> None:
        self._functions.clear()
        self.classes.clear()

    def __iter__(self) -> Iterator[WorkflowFunction]:
        return iter(list(self._functions.values()))

    def source_hash(self) -> str:
        """A hash of the source of all workflows: the application's version, unless it says its own."""
        digest = hashlib.sha256()
        sources = sorted(_source(function.function) for function in self if not function.is_temporary)
        for source in sources:
            digest.update(source.encode("utf-8", "surrogatepass"))
            digest.update(b"\x00")
        return digest.hexdigest()[:32]


class QueueRegistry:
    """The rules of the declared queues by name, and which of them this process listens to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: dict[str, QueueRules] = {}
        self._listened: frozenset[str] | None = None
        self.on_declared: Callable[[], None] = lambda: None
        """Called when a queue was declared."""

    def add(self, rules: QueueRules) -> None:
        """Declare a queue.

        Raises:
            DBOSException: There is one of that name.
        """
        with self._lock:
            if rules.name in self._rules:
                raise DBOSException(
                    f"A queue named {rules.name!r} is declared already in this process. Declare each queue once, at "
                    "the top of a module, and import it where it is used."
                )
            self._rules[rules.name] = rules
        self.on_declared()

    def get(self, name: str) -> QueueRules | None:
        return self._rules.get(name)

    def declared(self) -> list[QueueRules]:
        """All declared queues."""
        with self._lock:
            return list(self._rules.values())

    def listen(self, names: Iterable[str] | None) -> None:
        """Listen to these queues only; ``None``: to all that are or will be declared."""
        self._listened = None if names is None else frozenset(names)

    def listened(self) -> list[QueueRules]:
        """The queues that this process starts workflows of."""
        return [
            its_rules for its_rules in self.declared() if self._listened is None or its_rules.name in self._listened
        ]

    def clear(self) -> None:
        """Forget all queues."""
        with self._lock:
            self._rules.clear()


@dataclass(frozen=True, slots=True)
class DeclaredSchedule:
    """A schedule that the program makes before the launch: it is stored then, unless there is one of its name."""

    name: str
    workflow_name: str
    class_name: str | None
    cron: str
    context: Any


class ScheduleRegistry:
    """The schedules that a program tells of in its code, before the launch.

    Attributes:
        declared: Those that are stored at the launch, by name.
        decorated: Functions that are decorated with the times at which they run, each with its cron expression.
    """

    def __init__(self) -> None:
        self.declared: dict[str, DeclaredSchedule] = {}
        self.decorated: list[tuple[Callable[..., Any], str]] = []

    def clear(self) -> None:
        """Forget all of them."""
        self.declared.clear()
        self.decorated.clear()


REGISTRY = Registry()

SCHEDULES = ScheduleRegistry()

QUEUES = QueueRegistry()


def _place(function: Callable[..., Any]) -> tuple[str, int] | Callable[..., Any]:
    code = getattr(function, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code is not None else function


def _source(function: Callable[..., Any]) -> str:
    """The function's source, however deep it is indented; its bytecode where there is no source."""
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        return repr(type(function)) if code is None else _code_text(code)


def _code_text(code: types.CodeType) -> str:
    """The code as a text that is the same in every process: without addresses, and sets in order."""

    def text(constant: object) -> str:
        if isinstance(constant, types.CodeType):
            return _code_text(constant)
        if isinstance(constant, frozenset | tuple):
            items = [text(item) for item in cast("Iterable[object]", constant)]
            return repr(sorted(items) if isinstance(constant, frozenset) else items)
        return repr(constant)

    return f"{code.co_code!r}{code.co_names!r}{[text(constant) for constant in code.co_consts]!r}"
