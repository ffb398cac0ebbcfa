"""Values at rest: what goes in comes out, and what cannot be stored is refused by name."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import json
import pickle
import threading
import uuid
from typing import Any

import pytest

from dbos.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSMaxStepRetriesExceeded,
    DBOSPortableError,
    DBOSSerializationError,
)
from dbos.model.status import WorkflowStatusString
from dbos.serialization import codec as codec_module
from dbos.serialization import portable_errors
from dbos.serialization.codec import PORTABLE_ERROR, Codec
from dbos.serialization.serializer import DefaultSerializer, Serializer, format_name


class JsonSerializer(Serializer):
    """Plain data only."""

    def serialize(self, data: Any) -> str:
        return json.dumps(data)

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)


class NamedSerializer(JsonSerializer):
    """Its format has a name of its own."""

    format_name = "json-1"


class RawSerializer(Serializer):
    """Stores a text as it is, whatever is in it."""

    def serialize(self, data: Any) -> str:
        return data  # type: ignore[no-any-return]

    def deserialize(self, serialized_data: str) -> Any:
        return serialized_data


@dataclasses.dataclass
class Point:
    """A value of the application's own."""

    x: int
    y: list[str]


def what() -> str:
    return "The result of step f"


# -- values


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        -(2**100),
        1.5,
        float("inf"),
        "",
        "NUL \x00, a lone surrogate \ud800, größe 🎉",
        b"\x00\xff",
        [1, (2, {3})],
        {"args": (1,), "kwargs": {"a": None}},
        datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
        decimal.Decimal("1.10"),
        uuid.UUID(int=7),
        Point(1, ["a"]),
        WorkflowStatusString.SUCCESS,
        Point,
        "x" * 1_000_000,
    ],
)
def test_values_round_trip_in_the_default_format(value: Any) -> None:
    codec = Codec()
    encoded = codec.encode(value, what)
    assert encoded.format == "pickle"
    assert encoded.text.isascii()
    decoded = codec.decode(encoded.text, encoded.format)
    assert decoded == value
    assert type(decoded) is type(value)


def test_the_default_format_is_pickle_in_base64() -> None:
    """The contract: other programs read and write it."""
    text = Codec().encode({"a": 1}, what).text
    assert pickle.loads(base64.b64decode(text)) == {"a": 1}
    assert Codec().decode(base64.b64encode(pickle.dumps({"b": 2}, protocol=2)).decode(), "pickle") == {"b": 2}


def test_no_text_is_no_value() -> None:
    assert Codec().decode(None, "pickle") is None
    assert Codec().decode(None, "whatever") is None


@pytest.mark.parametrize("value", [lambda: 1, threading.Lock(), (n for n in ())])
def test_a_value_that_cannot_be_stored_is_refused_by_name(value: Any) -> None:
    with pytest.raises(DBOSSerializationError) as caught:
        Codec().encode(value, what)
    text = str(caught.value)
    assert text.startswith("DBOS Error 16: The result of step f cannot be serialized: ")
    assert type(value).__qualname__ in text
    assert caught.value.__cause__ is not None


def test_what_a_value_is_called_is_asked_only_when_it_is_refused() -> None:
    def explode() -> str:
        raise AssertionError("nobody needs to know")

    Codec().encode("größe", explode)
    Codec(JsonSerializer()).encode(["plain"], explode)


# -- formats


def test_every_format_is_decoded_by_its_name() -> None:
    """Never by guessing: the same text means something else in another format."""
    codec = Codec(NamedSerializer())
    assert codec.encode([1], what) == codec_module.Encoded("[1]", "json-1")
    assert codec.decode("[1]", "json-1") == [1]
    assert codec.decode(Codec().encode([1], what).text, "pickle") == [1], "rows from before the serializer was set"
    assert codec.decode("[1]", None) == [1], "rows without a format: the configured one"


def test_a_format_without_a_name_is_known_by_its_class() -> None:
    assert format_name(JsonSerializer()) == f"{__name__}.JsonSerializer"
    assert format_name(NamedSerializer()) == "json-1"
    assert format_name(DefaultSerializer()) == "pickle"


def test_an_unknown_format_is_refused_by_name_and_shown_as_it_is() -> None:
    codec = Codec()
    with pytest.raises(DBOSSerializationError, match="json-9"):
        codec.decode("[1]", "json-9")
    assert codec.show("[1]", "json-9") == "[1]"
    assert isinstance(codec.decode_error("[1]", "json-9"), DBOSSerializationError)


@pytest.mark.parametrize("text", ["", "not base64!", "AAAA", base64.b64encode(b"cno_such_module\nThing\n.").decode()])
def test_a_text_that_is_not_of_its_format_is_refused_and_shown_as_it_is(text: str) -> None:
    codec = Codec()
    with pytest.raises(DBOSSerializationError, match="pickle"):
        codec.decode(text, "pickle")
    assert codec.show(text, "pickle") == text
    assert isinstance(codec.decode_error(text, "pickle"), DBOSSerializationError)


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}", "null", '{"type": 1}', '{"type": "builtins.ValueError"}'])
def test_a_damaged_portable_error_never_breaks_a_listing(text: str) -> None:
    codec = Codec()
    assert codec.show(text, PORTABLE_ERROR) == text
    assert isinstance(codec.decode_error(text, PORTABLE_ERROR), BaseException)
    with pytest.raises(DBOSSerializationError):
        codec.decode(text, PORTABLE_ERROR)


# -- what no database can hold


@pytest.mark.parametrize("text", ["a\x00b", "größe\x00", "\ud800", "ascii \udfff"])
def test_texts_that_a_database_cannot_hold_are_refused_by_name(text: str) -> None:
    with pytest.raises(DBOSSerializationError, match=r"^DBOS Error 16: The result of step f must"):
        Codec(RawSerializer()).encode(text, what)


@pytest.mark.parametrize("text", ["", "größe 🎉", "\ufeff \u2028 \x01\x7f \\u0000"])
def test_all_other_texts_are_stored(text: str) -> None:
    codec = Codec(RawSerializer())
    assert codec.decode(codec.encode(text, what).text, codec.format) == text


def test_a_text_beyond_the_limit_is_refused_with_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_module, "MAX_VALUE_CHARS", 1000)
    codec = Codec(RawSerializer())
    assert len(codec.encode("x" * 1000, what).text) == 1000
    with pytest.raises(DBOSSerializationError, match=r"The result of step f is 1001 characters .* limit is 1000"):
        codec.encode("x" * 1001, what)


def test_a_serializer_that_returns_no_text_is_refused() -> None:
    with pytest.raises(DBOSSerializationError, match=r"The result of step f: the serializer returned a bytes"):
        Codec(RawSerializer()).encode(b"bytes", what)


# -- exceptions


class PlainError(Exception):
    """Takes what it keeps."""


class TwoPartsError(Exception):
    """Its constructor takes other arguments than it keeps: pickle alone cannot rebuild it."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{detail} ({code})")
        self.code = code
        self.detail = detail


class KeywordError(Exception):
    """Its constructor takes keywords only."""

    def __init__(self, *, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NoArgumentsError(Exception):
    """Its text comes from elsewhere."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __str__(self) -> str:
        return f"number {self.number}"


class ForgetfulError(Exception):
    """Pickle rebuilds it, but as another one."""

    def __init__(self, text: str = "nothing") -> None:
        super().__init__(f"<{text}>")


class HoldsALock(Exception):
    """Has an attribute that nothing can store."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class NoText(HoldsALock):
    """Cannot even be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def round_trip(error: BaseException, codec: Codec | None = None) -> BaseException:
    codec = codec or Codec()
    encoded = codec.encode_error(error)
    return codec.decode_error(encoded.text, encoded.format)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("wrong", 7, None),
        KeyError("key"),
        PlainError("größe", [1]),
        TwoPartsError(7, "bad"),
        KeywordError(reason="because"),
        NoArgumentsError(7),
        ForgetfulError("text"),
        OSError(2, "No such file", "name"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        StopIteration("end"),
        DBOSMaxStepRetriesExceeded("f", 3, [ValueError("one"), TwoPartsError(1, "two")]),
        json.JSONDecodeError("bad", "[", 1),
        RuntimeError("NUL \x00 and surrogate \ud800"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_round_trip_with_type_arguments_and_attributes(error: Exception) -> None:
    copy = round_trip(error)
    assert type(copy) is type(error)
    assert (str(copy), repr(copy)) == (str(error), repr(error))
    plain = {name: value for name, value in vars(error).items() if name != "errors"}
    assert plain == {name: value for name, value in vars(copy).items() if name != "errors"}
    if isinstance(copy, DBOSMaxStepRetriesExceeded):
        assert [repr(one) for one in copy.errors] == [repr(one) for one in error.errors]  # type: ignore[attr-defined]


def test_an_exception_keeps_its_notes() -> None:
    error = TwoPartsError(7, "bad")
    error.__notes__ = ["a note"]
    assert getattr(round_trip(error), "__notes__", None) == ["a note"]


def test_a_local_exception_class_is_stored_by_name_and_text() -> None:
    """Nobody could find its class again."""

    class LocalError(Exception):
        pass

    copy = round_trip(LocalError("wrong", 7))
    assert isinstance(copy, DBOSPortableError)
    assert copy.type_name.endswith("test_a_local_exception_class_is_stored_by_name_and_text.<locals>.LocalError")
    assert copy.original_message == "('wrong', 7)"
    assert "LocalError: ('wrong', 7)" in str(copy)


def test_an_exception_that_holds_something_unstorable_is_stored_by_name_and_text() -> None:
    copy = round_trip(HoldsALock("größe \x00 \ud800"))
    assert isinstance(copy, DBOSPortableError)
    assert (copy.type_name, copy.original_message) == (f"{__name__}.HoldsALock", "größe \\x00 \\ud800")


def test_an_exception_without_a_text_is_stored_too() -> None:
    """Always possible: whatever is wrong with it, the workflow must end."""
    copy = round_trip(NoText("hidden"))
    assert isinstance(copy, DBOSPortableError)
    assert copy.type_name == f"{__name__}.NoText"


@pytest.mark.parametrize("serializer", [JsonSerializer(), RawSerializer()])
@pytest.mark.parametrize("error", [ValueError("wrong", 7), KeyError("key"), ZeroDivisionError(), LookupError("größe")])
def test_builtin_exceptions_come_back_through_a_serializer_for_plain_data(
    serializer: Serializer, error: Exception
) -> None:
    encoded = Codec(serializer).encode_error(error)
    assert encoded.format == PORTABLE_ERROR
    copy = Codec(serializer).decode_error(encoded.text, encoded.format)
    assert (type(copy), copy.args) == (type(error), error.args)


@pytest.mark.parametrize(
    "error",
    [
        DBOSMaxStepRetriesExceeded("f", 3, [ValueError("one"), TwoPartsError(1, "two")]),
        DBOSAwaitedWorkflowCancelledError("w"),
        DBOSSerializationError("cannot be serialized"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_librarys_own_exceptions_come_back_through_a_serializer_for_plain_data(error: Exception) -> None:
    """So that a workflow that catches one of them goes the same way when it is replayed."""
    copy = round_trip(error, Codec(JsonSerializer()))
    assert (type(copy), str(copy)) == (type(error), str(error))


@pytest.mark.parametrize(
    "error",
    [
        TwoPartsError(7, "bad"),
        ValueError(object()),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        SystemExit(3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_exceptions_come_back_by_name_and_text_through_a_serializer_for_plain_data(
    error: BaseException,
) -> None:
    """Readable for every program, and for whoever looks into the table."""
    codec = Codec(JsonSerializer())
    encoded = codec.encode_error(error)
    stored = json.loads(encoded.text)
    assert stored["type"].rpartition(".")[2] == type(error).__name__
    assert stored["message"] == str(error)
    copy = codec.decode_error(encoded.text, encoded.format)
    assert str(error) in str(copy)
    assert isinstance(copy, DBOSPortableError | ValueError), "never one that ends the process"


def test_a_portable_exception_is_read_whatever_the_serializer_is() -> None:
    encoded = Codec(JsonSerializer()).encode_error(ValueError("wrong"))
    copy = Codec().decode_error(encoded.text, encoded.format)
    assert (type(copy), copy.args) == (ValueError, ("wrong",))


def test_an_exception_of_too_many_characters_is_cut_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by name and text it must fit into the table."""
    for module in (codec_module, portable_errors):
        monkeypatch.setattr(module, "MAX_VALUE_CHARS", 1000)
    codec = Codec()
    encoded = codec.encode_error(ValueError("x" * 5000))
    assert len(encoded.text) <= 1000
    assert "x" * 100 in str(codec.decode_error(encoded.text, encoded.format))


def test_what_stands_for_an_error_and_is_none_is_still_an_exception() -> None:
    codec = Codec(JsonSerializer())
    error = codec.decode_error('"a text"', codec.format)
    assert isinstance(error, DBOSPortableError)
    assert "a text" in str(error)
