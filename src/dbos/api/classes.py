"""Classes whose methods are workflows: the decorator and the base class that make them known to recovery."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast, overload

from dbos.api.functions import marked_as
from dbos.model.limits import check_key
from dbos.model.queues import SEPARATOR
from dbos.runtime.classes import DecoratedClass, MethodKind
from dbos.runtime.registry import REGISTRY, WorkflowFunction

T = TypeVar("T")


class DBOSConfiguredInstance:
    """The base of classes whose instance methods are workflows: each instance has a name, by which recovery finds it.

    Make the instances before ``DBOS.launch()``, in every process: workflows of an instance run where there is one of
    its name only. They are kept until ``DBOS.destroy(destroy_registry=True)``.

    Args:
        instance_name: Unique among the instances of the class; at most 1024 bytes of UTF-8.
        config_name: Another word for it.

    Raises:
        DBOSConflictingRegistrationError: Another instance of the class has the name.
        TypeError, ValueError: There is no name, or there are two, or it cannot be stored.
    """

    config_name: str
    """The instance's name."""

    def __init__(self, instance_name: str | None = None, *, config_name: str | None = None) -> None:
        if (instance_name is None) == (config_name is None):
            raise TypeError(
                f"An instance of {type(self).__qualname__} needs one name: call super().__init__(instance_name=...)."
            )
        name = check_key(config_name if instance_name is None else instance_name, "An instance's name")
        if not name:
            raise ValueError("An instance's name must not be empty.")
        self.config_name = name
        REGISTRY.classes.add_instance(self, name)


class ClassMethods:
    """The part of ``DBOS`` that declares classes."""

    @overload
    @staticmethod
    def dbos_class(class_name: type[T], /) -> type[T]: ...

    @overload
    @staticmethod
    def dbos_class(class_name: str | None = None) -> Callable[[type[T]], type[T]]: ...

    @staticmethod
    def dbos_class(class_name: Any = None) -> Any:
        """Make a class known to recovery, so that its methods may be workflows; with or without parentheses.

        For workflows that are instance methods, the class also has to inherit from ``DBOSConfiguredInstance``. A class
        whose methods are only steps needs neither.

        Args:
            class_name: What is recorded, and what recovery looks the class up by. Default: its ``__qualname__``.

        Raises:
            DBOSConflictingRegistrationError: Another class has the name.
        """
        if isinstance(class_name, type):
            return _decorate(cast("type[Any]", class_name), None)
        name = None if class_name is None else check_key(class_name, "A class's name")

        def decorate(cls: type[T]) -> type[T]:
            return _decorate(cls, name)

        return decorate


def _decorate(cls: type[T], class_name: str | None) -> type[T]:
    if not isinstance(cast(object, cls), type):
        raise TypeError(f"@DBOS.dbos_class() decorates classes, and {cls!r} is none.")
    name = cls.__qualname__ if class_name is None else class_name
    if not name or SEPARATOR in name:
        raise ValueError(f"A class's name must not be empty, and not hold the character U+001F: {name!r}.")
    REGISTRY.classes.add(DecoratedClass(name, cls, _methods(cls), issubclass(cls, DBOSConfiguredInstance)))
    return cls


def _methods(cls: type) -> dict[str, MethodKind]:
    """The kinds of the methods that can run as workflows, by recorded name; also of those that others override."""
    kinds: dict[str, MethodKind] = {}
    for base in cls.__mro__:
        for workflow, kind in workflows_of(base):
            kinds.setdefault(workflow.name, kind)
    return kinds


def workflows_of(cls: type) -> Iterator[tuple[WorkflowFunction, MethodKind]]:
    """The methods that the class itself defines and that can run as workflows, each with its kind."""
    for member in vars(cls).values():
        kind = _kind_of(member)
        workflow = marked_as(member if kind is MethodKind.INSTANCE else member.__func__)
        if workflow is not None:
            yield workflow, kind


def _kind_of(member: object) -> MethodKind:
    if isinstance(member, staticmethod):
        return MethodKind.STATIC
    return MethodKind.CLASS if isinstance(member, classmethod) else MethodKind.INSTANCE
