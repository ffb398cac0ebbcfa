"""Stored values that say much with little, or what no pickle of a value says: shown as stored, whoever wrote them."""

from __future__ import annotations

import base64
import pickle
import tracemalloc

import pytest

from dbos.serialization.display import MAX_ITEMS, display

DOUBLINGS = 23
_QUOTE = b'X\x01\0\0\0"'
_LISTS = b"]\x94" + b"".join(b"]\x94(h" + bytes([i]) + b"h" + bytes([i]) + b"e" for i in range(DOUBLINGS))
"""A list of lists of lists, each twice the one before."""


def nested(begin: bytes, end: bytes) -> bytes:
    return begin * DOUBLINGS + _QUOTE + end * DOUBLINGS


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(b"\x80\x04" + _LISTS + b")R.", id="a name that is a list"),
        pytest.param(b"\x80\x04" + _LISTS + b"X\x01\0\0\0a\x93.", id="a module that is a list"),
        pytest.param(
            b"\x80\x04" + _LISTS + b"cdecimal\nDecimal\nh" + bytes([DOUBLINGS]) + b"\x85R.", id="a number that is one"
        ),
        pytest.param(nested(b"cm\nf\n", b"\x85R") + b".", id="calls in calls"),
        pytest.param(nested(b"}", b"Ns") + b".", id="keys in keys"),
        pytest.param(pickle.dumps(["a" * 10_000] * 5_000), id="a long text many times"),
        pytest.param(
            b"\x80\x04(" + b"N" * MAX_ITEMS + b"t\x94(" + b"cm\nf\nh\0}\x92" * 500 + b"t.", id="many arguments"
        ),
        pytest.param(b"\x80\x04(" + b"]" * 1_000_000 + b"l.", id="many values"),
    ],
)
def test_what_is_shown_is_no_bomb(program: bytes) -> None:
    text = base64.b64encode(program).decode()
    tracemalloc.start()
    try:
        shown = display(text, "pickle")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert shown == text
    assert peak < 32 * 1024 * 1024


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(b"cm\nf\nK\x01R.", id="arguments that are a number"),
        pytest.param(b"cm\nf\nNR.", id="arguments that are none"),
        pytest.param(b"}K\x01a.", id="a dict with an item that is no pair"),
    ],
)
def test_what_no_value_says_is_shown_as_stored(program: bytes) -> None:
    text = base64.b64encode(program).decode()
    assert display(text, "pickle") == text


def test_a_moment_is_made_of_bytes_alone() -> None:
    long = b"X" + (1_000_000).to_bytes(4, "little") + b"a" * 1_000_000
    program = b"\x80\x04cdatetime\ndate\n((" + long + long + b"K\x01K\x01ttR."
    tracemalloc.start()
    try:
        display(base64.b64encode(program).decode(), "pickle")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000_000
