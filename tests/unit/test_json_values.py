"""JSON: what goes in comes out as itself, what would come out as something else is refused with its place."""

from __future__ import annotations

import collections
import dataclasses
import enum
import fractions
import json
import math
import pathlib
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbos.error import (
    DBOSMaxStepRetriesExceeded,
    DBOSNonExistentWorkflowError,
    DBOSPortableError,
    DBOSQueueDeduplicatedError,
    DBOSSerializationError,
)
from dbos.serialization.codec import Codec
from dbos.serialization.json_values import NotJSONError, from_json, to_json
from dbos.serialization.portable_errors import PORTABLE_ERROR
from dbos.serialization.serializer import DefaultSerializer, JSONSerializer, Serializer, format_name


@dataclasses.dataclass
class Point:
    """A value of the application's own."""

    x: int


class Pair(NamedTuple):
    """A tuple that is more than that."""

    a: int


class Colour(str, enum.Enum):
    """A text that is more than that."""

    RED = "red"


class Refusal(Exception):
    """An exception of the application's own."""


def what() -> str:
    return "The result of step f"


ROME = ZoneInfo("Europe/Rome")

TABLE = [
    (None, "null"),
    (True, "true"),
    (-7, "-7"),
    (2**80, str(2**80)),
    (1.5, "1.5"),
    (1.0, "1.0"),
    ("größe \x00 \ud800", '"gr\\u00f6\\u00dfe \\u0000 \\ud800"'),
    ([1, [2]], "[1,[2]]"),
    ({"a": {"b": None}}, '{"a":{"b":null}}'),
    ({1: "x", None: "y"}, '{"$type":"dict","value":[[1,"x"],[null,"y"]]}'),
    ({(1, 2): 3}, '{"$type":"dict","value":[[{"$type":"tuple","value":[1,2]},3]]}'),
    ({"$type": "tuple"}, '{"$type":"dict","value":[["$type","tuple"]]}'),
    (math.inf, '{"$type":"float","value":"inf"}'),
    (-math.inf, '{"$type":"float","value":"-inf"}'),
    ((1, (2,)), '{"$type":"tuple","value":[1,{"$type":"tuple","value":[2]}]}'),
    ({3, 1, 2}, '{"$type":"set","value":[1,2,3]}'),
    (frozenset({"b", "a"}), '{"$type":"frozenset","value":["a","b"]}'),
    (b"\x00\xff", '{"$type":"bytes","value":"AP8="}'),
    (datetime(2026, 1, 2, 3, 4, 5, 6), '{"$type":"datetime","value":"2026-01-02T03:04:05.000006"}'),
    (datetime(2026, 1, 2, tzinfo=timezone.utc), '{"$type":"datetime","value":"2026-01-02T00:00:00+00:00"}'),
    (
        datetime(2026, 7, 2, tzinfo=ROME),
        '{"$type":"datetime","value":"2026-07-02T00:00:00+02:00","zone":"Europe/Rome"}',
    ),
    (date(2026, 1, 2), '{"$type":"date","value":"2026-01-02"}'),
    (time(3, 4), '{"$type":"time","value":"03:04:00"}'),
    (timedelta(days=-1, microseconds=1), '{"$type":"timedelta","value":-86399999999}'),
    (Decimal("1.10"), '{"$type":"decimal","value":"1.10"}'),
    (UUID(int=7), '{"$type":"uuid","value":"00000000-0000-0000-0000-000000000007"}'),
    ({"args": (1, (2,)), "kwargs": {"a": 3}}, '{"args":[1,{"$type":"tuple","value":[2]}],"kwargs":{"a":3}}'),
    ({"args": [1], "kwargs": {}}, '{"$type":"dict","value":[["args",[1]],["kwargs",{}]]}'),
    ([{"args": (1,), "kwargs": {}}], '[{"args":{"$type":"tuple","value":[1]},"kwargs":{}}]'),
]


@pytest.mark.parametrize(("value", "text"), TABLE, ids=[text[:40] for _, text in TABLE])
def test_values_are_written_as_documented_and_come_back_as_themselves(value: Any, text: str) -> None:
    assert to_json(value) == text
    assert_same(from_json(text), value)


def assert_same(copy: Any, value: Any) -> None:
    """Equal, of the same types all through, in the same zone."""
    assert copy == value
    assert shape(copy) == shape(value)


def shape(value: Any) -> Any:
    """The value with the types of all that is in it."""
    if isinstance(value, dict):
        return [(shape(key), shape(item)) for key, item in value.items()]
    if isinstance(value, set | frozenset):
        return type(value), sorted(repr(shape(item)) for item in value)
    if isinstance(value, list | tuple):
        return type(value), [shape(item) for item in value]
    return type(value), repr(value)


keys = st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.sampled_from(["$type", "value", "args"]))
zones = st.sampled_from([None, timezone.utc, timezone(timedelta(hours=-3, minutes=-30)), ROME, ZoneInfo("UTC")])
scalars = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()),
    *(st.dates(), st.times(), st.timedeltas(), st.decimals(allow_nan=False), st.uuids()),
    st.datetimes(timezones=zones, allow_imaginary=False),
)
hashables = st.recursive(st.one_of(st.text(), st.integers(), st.uuids()), lambda inner: st.tuples(inner, inner))
values = st.recursive(
    st.one_of(scalars, st.frozensets(hashables), st.sets(hashables)),
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(keys, inner), st.tuples(inner, inner), st.dictionaries(hashables, inner)
    ),
    max_leaves=20,
)


@settings(deadline=None, max_examples=150)
@given(values)
def test_any_value_of_the_table_comes_back_as_itself(value: Any) -> None:
    assert_same(from_json(to_json(value)), value)
    arguments = {"args": (value,), "kwargs": {"a": value}}
    assert_same(from_json(to_json(arguments)), arguments)
    json.loads(to_json(value), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_nan_comes_back() -> None:
    assert math.isnan(from_json(to_json(math.nan)))
    assert from_json(to_json(Decimal("NaN"))).is_nan()


def test_both_hours_of_a_changing_clock_come_back() -> None:
    for fold in (0, 1):
        moment = datetime(2026, 10, 25, 2, 30, tzinfo=ROME, fold=fold)
        copy = from_json(to_json(moment))
        assert (copy.utcoffset(), copy.tzinfo, copy.fold) == (moment.utcoffset(), ROME, fold)
    changed = to_json(datetime(2026, 7, 2, tzinfo=ROME)).replace("+02:00", "+03:00")
    assert from_json(changed) == datetime(2026, 7, 1, 21, tzinfo=timezone.utc), "if its rules change: the instant"


@pytest.mark.parametrize("text", ['{"$type":"datetime","value":"2026-01-02T03:04:05.678Z"}', '{"args":[],"kwargs":{}}'])
def test_what_other_programs_write_is_read(text: str) -> None:
    assert from_json(text) in (datetime(2026, 1, 2, 3, 4, 5, 678000, timezone.utc), {"args": (), "kwargs": {}})


class OwnZone(tzinfo):
    """A zone that only this program knows."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=1)


REFUSED: list[tuple[Any, str]] = [
    (Point(1), "its top is a .*Point"),
    ([0, {"a": Point(1)}], r"\[1\]\['a'\] is a .*Point.*dataclasses.asdict"),
    ({"args": (1, Point(1)), "kwargs": {}}, r"\['args'\]\[1\] is a .*Point"),
    (Colour.RED, "Colour.*value"),
    (Pair(1), "Pair"),
    (collections.OrderedDict(a=1), "OrderedDict"),
    (collections.Counter("a"), "Counter"),
    ({1: {Colour.RED: 1}}, r"key <Colour.RED.*Colour"),
    (bytearray(b"x"), "bytearray"),
    (fractions.Fraction(1, 2), "Fraction"),
    (pathlib.PurePosixPath("a"), "PurePosixPath"),
    (ValueError("x"), "ValueError"),
    (1j, "complex"),
    (Point, "type"),
    (datetime(2026, 1, 1, tzinfo=OwnZone()), "OwnZone"),
    (time(1, tzinfo=ROME), "ZoneInfo"),
]


@pytest.mark.parametrize(("value", "text"), REFUSED, ids=[text[-20:] for _, text in REFUSED])
def test_what_would_come_back_as_something_else_is_refused_with_its_place(value: Any, text: str) -> None:
    with pytest.raises(NotJSONError, match=text):
        to_json(value)
    with pytest.raises(DBOSSerializationError, match=f"^DBOS Error 16: The result of step f cannot.*{text}"):
        Codec(JSONSerializer()).encode(value, what)


def test_what_holds_itself_or_is_too_large_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in (endless, {1: endless}, 10**10_000):
        with pytest.raises(DBOSSerializationError, match="The result of step f cannot be serialized"):
            Codec(JSONSerializer()).encode(value, what)


@pytest.mark.parametrize(
    "text",
    [
        *("", "no json", "{", '{"$type": "unheard of", "value": 1}', '{"$type": 7, "value": 1}', '{"$type": "tuple"}'),
        *('{"$type": "set", "value": [[1]]}', '{"$type": "decimal", "value": "x"}', '{"$type":"float","value":"1"}'),
        *('{"$type": "bytes", "value": "?"}', '{"$type": "datetime", "value": 1}', '{"$type": "dict", "value": [1]}'),
        *('{"$type": "timedelta", "value": "1"}', '{"$type": "uuid", "value": "x"}', '{"$type":"tuple","value":1}'),
        '{"$type": "datetime", "value": "2026-01-01T00:00:00+01:00", "zone": "Nowhere/Land"}',
    ],
)
def test_damaged_texts_are_refused_and_shown_as_they_are(text: str) -> None:
    codec = Codec()
    with pytest.raises(DBOSSerializationError, match="portable_json"):
        codec.decode(text, "portable_json")
    assert codec.show(text, "portable_json") == text


def test_what_is_named_json_is_never_unpickled(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "made by the pickle"

    class Bomb:
        def __reduce__(self) -> Any:
            return pathlib.Path.touch, (target,)

    text = DefaultSerializer().serialize(Bomb())
    for codec in (Codec(), Codec(JSONSerializer())):
        for format in ("portable_json", PORTABLE_ERROR):
            with pytest.raises(DBOSSerializationError):
                codec.decode(text, format)
            assert codec.show(text, format) == text
            assert isinstance(codec.decode_error(text, format), DBOSSerializationError)
    assert not target.exists()


# -- formats


class Reversed(Serializer):
    """A format of the application's own."""

    def serialize(self, data: Any) -> str:
        return json.dumps(data)[::-1]

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data[::-1])


class CompressedPickle(DefaultSerializer):
    """Reads something else than the class whose format's name it inherits."""

    def deserialize(self, serialized_data: str) -> Any:
        return super().deserialize(serialized_data[1:])


class ReadsAlike(JSONSerializer):
    """Writes fewer values, and reads them alike."""

    def serialize(self, data: Any) -> str:
        assert data is not None
        return super().serialize(data)


def test_every_process_reads_json_and_pickle_whatever_it_writes() -> None:
    texts = [Codec(serializer).encode((1, 2), what) for serializer in (None, JSONSerializer(), ReadsAlike())]
    assert [text.format for text in texts] == ["pickle", "portable_json", "portable_json"]
    for reader in (None, JSONSerializer(), Reversed()):
        assert [Codec(reader).decode(text.text, text.format) for text in texts] == [(1, 2)] * 3


def test_serializers_of_before_are_read_while_they_are_named() -> None:
    encoded = Codec(Reversed()).encode([1], what)
    with pytest.raises(DBOSSerializationError, match="also_reads"):
        Codec(JSONSerializer()).decode(encoded.text, encoded.format)
    codec = Codec(JSONSerializer(also_reads=[Reversed()]))
    assert codec.decode(encoded.text, encoded.format) == [1]
    assert codec.encode([1], what).format == "portable_json"


def test_a_format_is_named_like_a_known_one_only_if_it_is_read_like_that() -> None:
    assert format_name(CompressedPickle()) == f"{__name__}.CompressedPickle"
    assert format_name(ReadsAlike()) == "portable_json"


def test_texts_that_cannot_be_read_are_shown_with_one_warning_for_each_format(
    caplog: pytest.LogCaptureFixture,
) -> None:
    codec = Codec()
    for text in ("[1]", "[2]"):
        for format in ("own.Serializer", "pickle", "portable_json", "own.Serializer"):
            codec.show(text + "?", format)
    messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(messages) == 3
    for message, format in zip(messages, ("own.Serializer", "pickle", "portable_json"), strict=True):
        assert format in message
        assert "stored text" in message


# -- exceptions


def round_trip(error: Exception) -> BaseException:
    codec = Codec(JSONSerializer())
    encoded = codec.encode_error(error)
    assert encoded.format == PORTABLE_ERROR
    json.loads(encoded.text)
    return Codec().decode_error(encoded.text, encoded.format)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("wrong", 7, (1, Decimal("1.0"))),
        KeyError("key"),
        OSError(2, "No such file"),
        DBOSNonExistentWorkflowError("w"),
        DBOSQueueDeduplicatedError("w", "queue", "id"),
        DBOSSerializationError("cannot"),
        DBOSMaxStepRetriesExceeded("f", 3, [ValueError("one"), KeyError("two")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_of_python_and_of_the_library_come_back_as_themselves(error: Exception) -> None:
    copy = round_trip(error)
    assert (type(copy), copy.args, str(copy)) == (type(error), error.args, str(error))
    assert {**vars(copy), "errors": []} == {**vars(error), "errors": []}
    if isinstance(error, DBOSMaxStepRetriesExceeded):
        assert isinstance(copy, DBOSMaxStepRetriesExceeded)
        assert list(map(repr, copy.errors)) == list(map(repr, error.errors))


def test_other_exceptions_come_back_by_name_text_and_arguments() -> None:
    copy = round_trip(Refusal("no", {"code": 7}))
    assert isinstance(copy, DBOSPortableError)
    assert copy.type_name == f"{__name__}.Refusal"
    assert (copy.original_message, copy.original_args) == ("('no', {'code': 7})", ("no", {"code": 7}))
    retried = round_trip(DBOSMaxStepRetriesExceeded("f", 2, [Refusal("no")]))
    assert isinstance(retried, DBOSMaxStepRetriesExceeded)
    assert isinstance(retried.errors[0], DBOSPortableError)
