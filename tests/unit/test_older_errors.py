"""Exceptions that the older library pickled come back as those of `dbos.error`, whatever their constructors took."""

from __future__ import annotations

import base64
import pickle
from typing import Any

import pytest

from dbos import error
from dbos.serialization.codec import Codec


def pickled(name: str, args: tuple[Any, ...], state: dict[str, Any] | None = None) -> str:
    """What `pickle` writes for an exception of the module `dbos._error`: its class, its arguments, its attributes."""

    def piece(value: Any) -> bytes:
        return pickle.dumps(value, protocol=2)[2:-1]  # without the protocol before it and the end behind it

    made = b"cdbos._error\n" + name.encode() + b"\n" + piece(args) + b"R"
    return base64.b64encode(b"\x80\x02" + made + (b"" if state is None else piece(state) + b"b") + b".").decode()


@pytest.mark.parametrize("serialization", ["pickle", None])
@pytest.mark.parametrize(
    ("name", "args", "state"),
    [
        ("DBOSException", ("it failed",), {"message": "it failed", "dbos_error_code": None}),
        ("DBOSNonExistentWorkflowError", ("no such workflow w",), {"message": "no such workflow w"}),
        ("DBOSNonExistentWorkflowError", ("no such workflow w",), None),
        ("DBOSQueueDeduplicatedError", ("id d is taken",), {"workflow_id": "w", "queue_name": "q"}),
        ("DBOSUnexpectedStepError", ("another step",), {"dbos_error_code": 11}),
        ("DBOSConflictingWorkflowError", ("it is another's",), None),
        ("DBOSAwaitedWorkflowCancelledError", ("w was cancelled",), {"workflow_id": "w"}),
        ("DBOSInitializationError", ("wrong",), None),
    ],
)
def test_message_and_attributes_are_kept(
    name: str, args: tuple[Any, ...], state: dict[str, Any] | None, serialization: str | None
) -> None:
    loaded: Any = Codec().decode_error(pickled(name, args, state), serialization)
    assert type(loaded) is getattr(error, name)
    assert loaded.args == args
    assert str(loaded).endswith(args[0])
    assert vars(loaded).items() >= (state or {}).items()
    with pytest.raises(error.DBOSException):
        raise loaded
    again: Any = Codec().decode_error(Codec().encode_error(loaded).text, "pickle")
    assert (type(again), str(again)) == (type(loaded), str(loaded))


def test_arguments_of_the_constructor_are_taken_as_such() -> None:
    loaded: Any = Codec().decode(pickled("DBOSMaxStepRetriesExceeded", ("f", 3, [ValueError("x")])), "pickle")
    assert isinstance(loaded, error.DBOSMaxStepRetriesExceeded)
    assert (loaded.step_name, loaded.max_retries, repr(loaded.errors)) == ("f", 3, "[ValueError('x')]")
    assert "maximum of 3 retries" in str(loaded)


def test_exceptions_inside_other_values_come_back_too() -> None:
    inner = base64.b64decode(pickled("DBOSException", ("it failed",)))[2:-1]
    (loaded,) = Codec().decode(base64.b64encode(b"\x80\x02(" + inner + b"l.").decode(), "pickle")
    assert (type(loaded), str(loaded)) == (error.DBOSException, "it failed")


def test_name_that_is_no_exception_of_ours_is_shown_as_its_text() -> None:
    text = pickled("DBOSUnheardOf", ("x",))
    with pytest.raises(error.DBOSSerializationError, match="DBOSUnheardOf"):
        Codec().decode(text, "pickle")
    assert Codec().show(text, "pickle") == text


def test_text_that_only_mentions_the_module_is_left_alone() -> None:
    encoded = Codec().encode({"text": "dbos._error", "error": ValueError("x")}, str)
    assert repr(Codec().decode(encoded.text, encoded.format)) == "{'text': 'dbos._error', 'error': ValueError('x')}"
