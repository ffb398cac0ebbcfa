"""Stored values as people get to see them: plain data where they can be read, and nothing is run for it."""

from __future__ import annotations

import base64
import collections
import dataclasses
import datetime
import decimal
import enum
import json
import os
import pickle
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbos.error import DBOSQueueDeduplicatedError
from dbos.serialization.codec import Codec
from dbos.serialization.display import MAX_ITEMS, display, display_text

CODEC = Codec()


def stored(value: Any, protocol: int = 4) -> str:
    return base64.b64encode(pickle.dumps(value, protocol=protocol)).decode()


def shown(value: Any) -> Any:
    return display(stored(value), "pickle")


@dataclasses.dataclass
class Point:
    x: int
    y: str


class Color(enum.Enum):
    RED = 1


class Odd(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)
        self.two = two


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(JSON, st.sampled_from([0, 1, 2, 3, 4, 5]))
def test_plain_data_is_shown_as_it_is(value: Any, protocol: int) -> None:
    assert display(stored(value, protocol), "pickle") == value


@given(st.binary(max_size=200))
def test_bytes_that_are_no_pickle_are_shown_as_stored(data: bytes) -> None:
    """Or as what they happen to say; whatever it is, JSON can write it."""
    text = base64.b64encode(data).decode()
    for format in ("pickle", None, "portable_error", "other"):
        json.dumps(display(text, format), allow_nan=False)


@given(st.binary(min_size=1, max_size=60), st.data())
def test_damaged_pickles_are_shown_as_stored(noise: bytes, data: st.DataObject) -> None:
    whole = pickle.dumps({"args": (1, [2, Point(1, "a")]), "kwargs": {"k": {3}}}, protocol=4)
    place = data.draw(st.integers(0, len(whole)))
    text = base64.b64encode(whole[:place] + noise + whole[place + len(noise) :]).decode()
    json.dumps(display(text, "pickle"), allow_nan=False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, (2,), []), [1, [2], []]),
        ({1: "a", (1, 2): "b", None: "c"}, {"1": "a", "[1, 2]": "b", "null": "c"}),
        ({5}, [5]),
        (frozenset([5]), [5]),
        (b"ab\x00", "b'ab\\x00'"),
        (float("nan"), "nan"),
        (datetime.datetime(2030, 1, 2, 3, 4, 5, 6), "2030-01-02T03:04:05.000006"),
        (datetime.datetime(2030, 1, 2, tzinfo=datetime.timezone.utc), "2030-01-02T00:00:00+00:00"),
        (datetime.date(2030, 1, 2), "2030-01-02"),
        (datetime.timedelta(days=1), "1 day, 0:00:00"),
        (decimal.Decimal("1.50"), "1.50"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (Point(1, "z"), {"type": f"{__name__}.Point", "state": {"x": 1, "y": "z"}}),
        (Color.RED, f"{__name__}.Color(1)"),
        (ValueError("boom", 2), 'ValueError("boom", 2)'),
        (
            DBOSQueueDeduplicatedError("w", "q", "d"),
            {
                "type": "dbos.error.DBOSQueueDeduplicatedError",
                "args": list(DBOSQueueDeduplicatedError("w", "q", "d").args),
                "state": vars(DBOSQueueDeduplicatedError("w", "q", "d")),
            },
        ),
        (collections.OrderedDict(a=1), {"type": "collections.OrderedDict", "state": {"a": 1}}),
        (range(3), "range(0, 3, 1)"),
        (len, "len"),
    ],
    ids=repr,
)
def test_other_values_are_shown_in_words(value: Any, expected: Any) -> None:
    assert shown(value) == expected


@pytest.mark.parametrize("error", [ValueError("boom"), Odd(1, 2), OSError(2, "gone")])
def test_recorded_exceptions_are_shown(error: Exception) -> None:
    encoded = CODEC.encode_error(error)
    assert type(error).__name__ in json.dumps(display(encoded.text, encoded.format))


def test_portable_errors_are_shown_as_type_and_message() -> None:
    text = json.dumps({"type": "app.Oops", "message": "broken", "args": ["broken"]})
    assert display(text, "portable_error") == "app.Oops: broken"


class Bomb:
    def __reduce__(self) -> Any:
        return os._exit, (7,)


def test_nothing_is_run() -> None:
    assert shown(Bomb()) == "posix._exit(7)"
    assert shown([Bomb()]) == ["posix._exit(7)"]
    assert display(stored(Bomb()), None) == "posix._exit(7)"


def test_what_is_too_large_is_shown_as_stored() -> None:
    """A small pickle may stand for a huge value: a list in a list in a list, each twice."""
    bomb: list[Any] = []
    for _ in range(60):
        bomb = [bomb, bomb]
    assert shown(bomb) == stored(bomb)
    endless: list[Any] = []
    endless.append(endless)
    assert shown(endless) == stored(endless)
    long = list(range(MAX_ITEMS))
    assert shown(long) == stored(long)
    assert shown(10**5000) == hex(10**5000)


def test_other_formats_are_json_or_text() -> None:
    assert display('{"a": [1]}', "app.Json") == {"a": [1]}
    assert display("plain", "app.Text") == "plain"
    assert display("NaN", "app.Json") == "nan"
    assert display("[" * 100_000, "app.Json") == "[" * 100_000
    assert display(None, "pickle") is None


def test_rows_of_older_libraries_are_pickles_or_json() -> None:
    assert display(stored({"a": 1}), None) == {"a": 1}
    assert display(stored({"a": 1}), "py_pickle") == {"a": 1}
    assert display('{"a": 1}', None) == {"a": 1}


def test_as_one_string() -> None:
    assert display_text(stored("text"), "pickle") == "text"
    assert display_text(stored({"a": (1,)}), "pickle") == '{"a": [1]}'
    assert display_text(None, "pickle") is None
