"""The guide's blocks that show how something is called, and what a class holds: the same as the live objects."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Generator
from dataclasses import replace
from typing import Any, Dict, List, Optional, TypedDict, TypeVar, Union, get_args, get_type_hints  # noqa: UP035

import pytest
import sqlalchemy

import dbos
from dbos import DBOS, DBOSClient, Debouncer, Queue, QueueRateLimit, Serializer, WorkflowHandle
from dbos.api.debouncer import P
from dbos.api.status import WorkflowInputs
from tests.support.guide import Place, execute, guide_blocks
from tests.support.signatures import differences, members, shown_class, shown_function

METHODS: dict[str, Place] = {
    "send": ("Send", 1),
    "recv": ("Recv", 1),
    "set_event": ("set_event", 1),
    "get_event": ("get_event", 1),
    "get_all_events": ("get_all_events", 1),
    "write_stream": ("Writing to Streams", 1),
    "close_stream": ("Writing to Streams", 2),
    "read_stream": ("Reading from Streams", 1),
    "list_workflows": ("list_workflows", 1),
    "list_queued_workflows": ("list_queued_workflows", 1),
    "list_workflow_steps": ("list_workflow_steps", 1),
    "cancel_workflow": ("cancel_workflow", 1),
    "resume_workflow": ("resume_workflow", 1),
    "fork_workflow": ("fork_workflow", 1),
}
"""Of `DBOS`."""

OF_CLIENTS = [name for name in METHODS if name not in ("recv", "set_event", "write_stream", "close_stream")]
"""Which of them `DBOSClient` has too."""

HANDLE: dict[str, Place] = {name: (name, 1) for name in ("get_workflow_id", "get_result", "get_status")}

DEBOUNCER: dict[str, Place] = {
    "create": ("Debouncer.create", 1),
    "create_async": ("Debouncer.create_async", 1),
    "debounce": ("debounce", 1),
    "debounce_async": ("debounce_async", 1),
}

CLASSES: dict[str, Place] = {
    "StepInfo": ("list_workflow_steps", 2),
    "WorkflowStatus": ("Workflow Status", 1),
    "DBOSConfig": ("Configuring DBOS", 2),
}

STEP: Place = ("Configurable Retries", 1)
QUEUE: Place = ("DBOS Queues", 1)
SERIALIZER: Place = ("Custom Serialization", 1)

COMPARED: list[Place] = [
    *METHODS.values(),
    *HANDLE.values(),
    *DEBOUNCER.values(),
    *CLASSES.values(),
    *(STEP, QUEUE, SERIALIZER),
]
"""The blocks that a test of this module compares."""

TYPES: dict[str, Any] = {
    **{name: getattr(dbos, name) for name in dbos.__all__},
    "ABC": ABC,
    "Any": Any,
    "Callable": Callable,
    "Coroutine": Coroutine,
    "Dict": Dict,  # noqa: UP006
    "Generator": Generator,
    "List": List,  # noqa: UP006
    "Optional": Optional,
    "P": P,
    "R": TypeVar("R"),
    "TypedDict": TypedDict,
    "Union": Union,
    "WorkflowInputs": WorkflowInputs,
    "abstractmethod": abstractmethod,
    "sqlalchemy": sqlalchemy,
}
"""What the names in these blocks mean."""


def wrong_with(place: Place, ours: Callable[..., Any]) -> list[str]:
    return differences(shown_function(guide_blocks()[place], TYPES), ours)


def shown_defaults(name: str) -> dict[str, Any]:
    """Every parameter that the guide shows for a method of `DBOS`, with the default that it shows."""
    shown = inspect.signature(shown_function(guide_blocks()[METHODS[name]], TYPES)).parameters
    return {key: parameter.default for key, parameter in shown.items()}


@pytest.mark.parametrize("name", list(METHODS))
def test_method_is_called_as_the_guide_says(name: str) -> None:
    wrong = wrong_with(METHODS[name], getattr(DBOS, name))
    if name == "get_event":  # a slip of the guide: it returns the value, as its text says
        (slip,) = wrong
        assert slip.startswith("it returns typing.Any, and not ")
        wrong = []
    assert wrong == []


@pytest.mark.parametrize("name", OF_CLIENTS)
def test_client_is_called_as_the_guide_says(name: str) -> None:
    wrong = wrong_with(METHODS[name], _bound(getattr(DBOSClient, name)))
    assert [one for one in wrong if name != "get_event" or not one.startswith("it returns")] == []


@pytest.mark.parametrize(
    ("owner", "name"), [*((DBOS, name) for name in METHODS), *((DBOSClient, name) for name in OF_CLIENTS)]
)
def test_async_twin_takes_the_same(owner: type, name: str) -> None:
    twin, ours = getattr(owner, name + "_async"), getattr(owner, name)
    assert inspect.signature(twin).parameters == inspect.signature(ours).parameters


@pytest.mark.parametrize("name", list(HANDLE))
def test_handle_is_called_as_the_guide_says(name: str) -> None:
    handle: WorkflowHandle[Any] = WorkflowHandle("w")
    assert wrong_with(HANDLE[name], getattr(handle, name)) == []


@pytest.mark.parametrize("name", list(DEBOUNCER))
def test_debouncer_is_called_as_the_guide_says(name: str) -> None:
    ours: Any = getattr(Debouncer, name)
    if name.startswith("debounce"):
        ours = _bound(ours)
    wrong = wrong_with(DEBOUNCER[name], ours)
    if name == "debounce_async":  # the guide shows what it gives when it is awaited
        (awaited,) = wrong
        assert awaited.startswith("it returns ")
        assert members(get_args(get_type_hints(ours)["return"])[2]) == members(dbos.WorkflowHandleAsync[TYPES["R"]])
        wrong = []
    assert wrong == []


def test_steps_are_declared_as_the_guide_says() -> None:
    """The options of retries are given by their names."""
    assert [one for one in wrong_with(STEP, DBOS.step) if not one.startswith("positional parameters: ")] == []


def test_queue_is_declared_as_the_guide_says() -> None:
    """But for its name, which is required; the guide shows a default of `None`."""
    block = guide_blocks()[QUEUE]
    imports, declared, limit = block.code.split("\n\n")
    execute(imports, block, {})
    wrong = differences(shown_function(replace(block, code=declared), TYPES), _bound(Queue.__init__))
    assert len(wrong) == 1
    assert wrong[0].startswith("name has the default ")
    names = {key: value for key, value in TYPES.items() if key != "QueueRateLimit"}
    assert get_type_hints(shown_class(replace(block, code=limit), names)) == get_type_hints(QueueRateLimit)


@pytest.mark.parametrize("name", list(CLASSES))
def test_class_has_the_fields_that_the_guide_shows(name: str) -> None:
    names = {key: value for key, value in TYPES.items() if key != name}
    shown = get_type_hints(shown_class(guide_blocks()[CLASSES[name]], names))
    ours = get_type_hints(getattr(dbos, name), localns={"sqlalchemy": sqlalchemy, "Required": _Bare})
    assert len(shown) > 5
    assert {field: members(ours.get(field)) for field in shown} == {
        field: members(type_) for field, type_ in shown.items()
    }


def test_name_is_the_only_field_of_the_configuration_that_is_required() -> None:
    with pytest.raises(dbos.error.DBOSInitializationError, match="name"):
        DBOS(config={})  # type: ignore[typeddict-item]
    shown = shown_class(guide_blocks()[CLASSES["DBOSConfig"]], {k: v for k, v in TYPES.items() if k != "DBOSConfig"})
    config: Any = {field: "app" if field == "name" else None for field in get_type_hints(shown)}
    DBOS(config=config)
    DBOS.destroy()


def test_serializer_has_the_methods_that_the_guide_shows() -> None:
    names = {key: value for key, value in TYPES.items() if key != "Serializer"}
    shown: Any = shown_class(guide_blocks()[SERIALIZER], names)
    assert shown.__abstractmethods__ == Serializer.__abstractmethods__ == {"serialize", "deserialize"}
    for method in shown.__abstractmethods__:
        assert differences(_bound(getattr(shown, method)), _bound(getattr(Serializer, method))) == []


def _bound(function: Callable[..., Any]) -> Callable[..., Any]:
    """The method as it is seen when it is called."""
    bound: Callable[..., Any] = function.__get__(object())
    return bound


class _Bare:
    """`Required[str]` is `str`."""

    def __class_getitem__(cls, item: Any) -> Any:
        return item
