"""Methods as workflows: what a call is made on, how that is recorded, and where recovery finds it again.

A method's row names its function as any other, and besides the class, and for instance methods the instance. What it is
called on (``self`` or ``cls``) is not among the recorded arguments: recovery looks it up by these names, among the
classes that were decorated and the instances that were made in this process.
"""

from __future__ import annotations

import enum
import inspect
import threading
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dbos.error import DBOSConflictingRegistrationError, DBOSConflictingWorkflowError, DBOSException
from dbos.model.values import AlreadyExists, WorkflowStart, owner_key

if TYPE_CHECKING:
    from dbos.runtime.registry import WorkflowFunction

_DECORATED = "__dbos_class__"
"""The attribute of a decorated class, which its subclasses inherit."""


class MethodKind(enum.Enum):
    """What a method is called on."""

    INSTANCE = enum.auto()
    CLASS = enum.auto()
    STATIC = enum.auto()


@dataclass(frozen=True, slots=True)
class Target:
    """What a call is made on.

    Attributes:
        class_name: The recorded name of the class; ``None`` for functions and static methods.
        config_name: The name of the instance; ``None`` for class methods too.
        passed: What the function gets before its arguments: ``self`` or ``cls``, or nothing.
    """

    class_name: str | None = None
    config_name: str | None = None
    passed: tuple[Any, ...] = ()


NO_TARGET = Target()


@dataclass(frozen=True, slots=True)
class DecoratedClass:
    """A class whose methods may be workflows.

    Attributes:
        name: What is recorded, and what recovery looks it up by.
        cls: The class.
        methods: The kinds of its workflow functions, inherited ones too, by their recorded names.
        has_instances: Whether its instances have names, so that recovery can find them.
        instances: The instances by name; those of subclasses that are not decorated too.
    """

    name: str
    cls: type
    methods: Mapping[str, MethodKind]
    has_instances: bool
    instances: dict[str, object] = field(default_factory=dict[str, object])


class Classes:
    """The decorated classes by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._classes: dict[str, DecoratedClass] = {}
        self._owners: list[str] | None = None
        """What ``owners`` has returned since the last change."""

    def add(self, decorated: DecoratedClass) -> None:
        """Register the class. The same class defined again (a reloaded module, a local class) replaces it.

        Raises:
            DBOSConflictingRegistrationError: Another class has the name.
        """
        with self._lock:
            known = self._classes.get(decorated.name)
            if known is not None and _place(known.cls) != _place(decorated.cls):
                raise DBOSConflictingRegistrationError(
                    decorated.name,
                    f"Two classes are registered under the name {decorated.name!r}, {known.cls!r} and "
                    f"{decorated.cls!r}. Names tell recovery whose methods to call, so they must be unique: give one "
                    "of them another, with @DBOS.dbos_class('name').",
                )
            self._classes[decorated.name] = decorated
            self._owners = None
        setattr(decorated.cls, _DECORATED, decorated)

    def add_instance(self, instance: object, name: str) -> None:
        """Register an instance, if its class is decorated.

        Raises:
            DBOSConflictingRegistrationError: Another instance of the class has the name.
        """
        decorated = _decorated(type(instance))
        if decorated is None:
            return
        with self._lock:
            self._owners = None
            if decorated.instances.setdefault(name, instance) is not instance:
                raise DBOSConflictingRegistrationError(
                    name,
                    f"Two instances of class {decorated.name} are named {name!r}. Names tell recovery on which one to "
                    "call a workflow, so they must be unique in their class: give one of them another.",
                )

    def find(self, function: WorkflowFunction, class_name: str | None, config_name: str | None) -> Target:
        """What recovery is to call the function on.

        Raises:
            DBOSException: The function is no method of that. (Or that is not registered, and was not to be claimed.)
        """
        if class_name is None:
            if not function.is_temporary and _scope_of(function) is not None and self._is_bound(function.name):
                raise DBOSException(
                    f"{function.name} is a method, and is recorded without what to call it on. Whoever enqueues it has "
                    "to give class_name, and for an instance method instance_name."
                )
            return NO_TARGET
        decorated = self._classes.get(class_name)
        kind = None if decorated is None else decorated.methods.get(function.name)
        if decorated is not None and kind is MethodKind.STATIC:
            return NO_TARGET
        if decorated is not None and kind is MethodKind.CLASS and config_name is None:
            return Target(class_name, None, (decorated.cls,))
        if decorated is not None and kind is MethodKind.INSTANCE and config_name in decorated.instances:
            return Target(class_name, config_name, (decorated.instances[config_name],))
        raise DBOSException(f"There is no method {describe(function.name, class_name, config_name)}.")

    def owner_of(self, name: str) -> str | None:
        """The class that a function is to be called on where nobody says which; ``None`` if it is no class method.

        Raises:
            DBOSException: It is a method of instances.
        """
        for decorated in list(self._classes.values()):
            kind = decorated.methods.get(name)
            if kind is MethodKind.INSTANCE:
                raise method_of_instances(name)
            if kind is MethodKind.CLASS:
                return decorated.name
        return None

    def owners(self) -> Sequence[str]:
        """The keys of all that methods can be called on in this process; see ``owner_key``."""
        with self._lock:
            if self._owners is None:
                self._owners = [
                    owner_key(decorated.name, name)
                    for decorated in self._classes.values()
                    for name in (None, *decorated.instances)
                ]
            return self._owners

    def clear(self) -> None:
        """Forget all classes, and their instances."""
        with self._lock:
            for decorated in self._classes.values():
                decorated.instances.clear()
            self._classes.clear()
            self._owners = None

    def _is_bound(self, name: str) -> bool:
        kinds = {decorated.methods.get(name) for decorated in list(self._classes.values())}
        return not kinds.isdisjoint((MethodKind.INSTANCE, MethodKind.CLASS))


def target_of(function: WorkflowFunction, args: tuple[Any, ...]) -> Target:
    """What a call with these arguments is made on: the first of them, if the function is a method.

    Raises:
        DBOSException: The function is a workflow, and recovery could not find what it is called on.
    """
    if not args:
        return NO_TARGET
    first = args[0]
    is_class = isinstance(first, type)
    cls: type = first if is_class else type(first)
    decorated = _decorated(cls)
    kind = None if decorated is None else decorated.methods.get(function.name)
    if decorated is None or kind is None:
        if not function.is_temporary and _is_bound_method(function, cls):
            raise DBOSException(
                f"Workflow {function.name} was called on {_described(first)}, which is not decorated with "
                "@DBOS.dbos_class(): recovery would not find what to call it on."
            )
        return NO_TARGET
    if kind is MethodKind.CLASS and is_class:
        if decorated.cls is first:
            return Target(decorated.name, None, (first,))
        raise DBOSException(
            f"{function.name} was called on the class {cls.__qualname__}, which is not decorated with "
            f"@DBOS.dbos_class(), though {decorated.cls.__qualname__} is, from which it inherits: recovery would call "
            "it on that."
        )
    if kind is MethodKind.INSTANCE and not is_class:
        name = getattr(first, "config_name", None) if decorated.has_instances else None
        if isinstance(name, str):
            return Target(decorated.name, name, (first,))
        if not function.is_temporary:
            raise DBOSException(
                f"Workflow {function.name} was called on {_described(first)}, which has no name by which recovery "
                "could find it. Its class must inherit from DBOSConfiguredInstance, and its __init__ must call "
                "super().__init__(instance_name=...)."
            )
    return NO_TARGET


def method_of_instances(name: str) -> DBOSException:
    """The error for a schedule of a method that is called on instances."""
    return DBOSException(
        f"{name} is a method of instances, which cannot be scheduled. Schedule a function, a static method or a class "
        "method."
    )


def conflict_of(existing: AlreadyExists, start: WorkflowStart) -> DBOSConflictingWorkflowError | None:
    """The error if the id of the start belongs to a workflow of another function, class or instance."""
    if existing.runs_as(start):
        return None
    recorded = describe(existing.name, existing.class_name, existing.config_name)
    called = describe(start.name, start.class_name, start.config_name)
    return DBOSConflictingWorkflowError(start.workflow_id, recorded, called)


def describe(function_name: str, class_name: str | None, config_name: str | None) -> str:
    """A function and what it is called on, for messages."""
    if class_name is None:
        return repr(function_name)
    if config_name is None:
        return f"{function_name!r} of class {class_name!r}"
    return f"{function_name!r} of instance {config_name!r} of class {class_name!r}"


def _decorated(cls: type) -> DecoratedClass | None:
    """What is known of the class, or of the nearest one from which it inherits."""
    decorated = getattr(cls, _DECORATED, None)
    return decorated if isinstance(decorated, DecoratedClass) else None


def _is_bound_method(function: WorkflowFunction, cls: type) -> bool:
    """Whether the function is defined in the class, or in one from which it inherits, and not as a static method."""
    scope, code = _scope_of(function), function.function
    name = code.__qualname__.rpartition(".")[2]
    return scope is not None and any(
        base.__qualname__ == scope
        and base.__module__ == code.__module__
        and not isinstance(vars(base).get(name), staticmethod)
        for base in cls.__mro__
    )


def _scope_of(function: WorkflowFunction) -> str | None:
    """The qualified name of the class in whose body the function is defined, if it is in one."""
    scope = function.function.__qualname__.rpartition(".")[0]
    return None if not scope or scope.endswith("<locals>") else scope


def _place(cls: type) -> object:
    """What tells a class from another one of its name: where it is, and where its first method is."""
    members: list[Any] = [
        member for member in vars(cls).values() if isinstance(member, types.FunctionType | staticmethod | classmethod)
    ]
    codes = [getattr(inspect.unwrap(member), "__code__", None) for member in members]
    lines = [(code.co_filename, code.co_firstlineno) for code in codes if code is not None]
    return cls.__module__, cls.__qualname__, min(lines, default=None)


def _described(target: object) -> str:
    kind = "the class" if isinstance(target, type) else "an instance of class"
    cls = target if isinstance(target, type) else type(target)
    return f"{kind} {cls.__qualname__}"
