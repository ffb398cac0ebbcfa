"""Shows stored values to people without running anything: as plain data for JSON, else as their stored text.

A pickle is a program, and unpickling runs it; a console, a command line or an HTTP server must not. Here its
instructions are read instead: what builds plain data is followed, and what would call something is shown as the name of
what it calls, with its arguments. A format that nobody here knows is shown as JSON if it is some.

A few instructions can say that a long text is meant a million times, or a name that is a list of lists of lists. So all
that is made of a value is counted, and a value that grows beyond its bounds is shown as its stored text.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import math
import pickletools
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from dbos.serialization.codec import PICKLES
from dbos.serialization.portable_errors import PORTABLE_ERROR

MAX_ITEMS = 20_000
"""How many values a shown value may consist of; one that is larger is shown as its stored text."""

MAX_SHOWN_CHARS = 4 * 1024 * 1024
"""How long a stored text may be to be read at all."""

_REBUILD_ERRORS = frozenset({"dbos.serialization.codec.rebuild_error", "dbos.error._rebuild"})
"""What rebuilds an exception of its class, its arguments and its attributes."""

_MAX_OPCODES = 10 * MAX_ITEMS
"""How many instructions of a pickle are followed; plain data takes some three for each value."""

_GROWTH = 16
_SHORT_CHARS = 100_000
"""How much longer than its stored text a shown value may be; and what any value may have."""

_MAX_DEPTH = 100
_MAX_INT_BITS = 10_000

JsonValue = Any


class _Unreadable(Exception):
    """It is no pickle, or one that says something that is not followed here."""


@dataclass(slots=True, eq=False)
class _Name:
    """A class or function that the pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return self.name if self.module == "builtins" else f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class _Made:
    """What a call would make."""

    maker: Any
    args: Any
    options: Any = None
    state: Any = None

    @property
    def made_by(self) -> str | None:
        """The name of what makes it, if it is one."""
        return str(self.maker) if isinstance(self.maker, _Name) else None


class _Mark:
    """The place on the stack where a list of arguments begins."""


class _Pairs(list[tuple[Any, Any]]):
    """A dict as it was pickled; its keys may be anything, also what is not hashable here."""


def display(text: str | None, format: str | None) -> JsonValue:
    """The value of a stored text as plain data that ``json`` can write; the text itself where it cannot be read.

    Args:
        text: What is stored.
        format: The format that its row names; ``None`` for rows of older libraries, which are pickles mostly.
    """
    if text is None:
        return None
    if len(text) > MAX_SHOWN_CHARS:
        return text
    if format is None or format in PICKLES:
        try:
            return _plain(_read_pickle(base64.b64decode(text, validate=True)), len(text))
        except (_Unreadable, binascii.Error, ValueError, RecursionError):
            if format is not None:
                return text
    try:
        plain = _plain(json.loads(text), len(text))
    except (_Unreadable, ValueError, RecursionError):
        return text
    if format == PORTABLE_ERROR and isinstance(plain, dict):
        error = cast("dict[str, object]", plain)
        return f"{error.get('type')}: {error.get('message')}"
    return plain


def display_text(text: str | None, format: str | None) -> str | None:
    """The value of a stored text as one string: a string as it is, anything else as JSON."""
    value = display(text, format)
    return value if value is None or isinstance(value, str) else json.dumps(value)


# -- reading a pickle


def _read_pickle(data: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > _MAX_OPCODES:
                raise _Unreadable
            if opcode.name == "STOP":
                return stack.pop()
            if opcode.name in _IGNORED:
                continue
            if opcode.name in _MEMOIZED:
                memo[len(memo) if opcode.name == "MEMOIZE" else argument] = stack[-1]
            elif opcode.name in _RECALLED:
                stack.append(memo[argument])
            elif opcode.name in _CONSTANTS:
                stack.append(_CONSTANTS[opcode.name])
            elif opcode.name in _LITERALS:
                stack.append(argument)
            else:
                _ACTIONS[opcode.name](stack, argument)
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise _Unreadable from error
    raise _Unreadable


_IGNORED = frozenset({"PROTO", "FRAME"})
_MEMOIZED = frozenset({"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"})
_RECALLED = frozenset({"GET", "BINGET", "LONG_BINGET"})
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    {
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
    }
)


def _since_mark(stack: list[Any]) -> list[Any]:
    """Take what lies above the topmost mark off the stack, and the mark."""
    for index in range(len(stack) - 1, -1, -1):
        if isinstance(stack[index], _Mark):
            items = stack[index + 1 :]
            del stack[index:]
            return items
    raise _Unreadable


def _pairs(items: list[Any]) -> _Pairs:
    return _Pairs(zip(items[::2], items[1::2], strict=True))


def _last(stack: list[Any], count: int) -> list[Any]:
    items = stack[len(stack) - count :]
    if len(items) != count:
        raise _Unreadable
    del stack[len(stack) - count :]
    return items


def _extend(stack: list[Any], items: list[Any] | _Pairs) -> None:
    target = stack[-1]
    if isinstance(target, _Made):
        # A subclass of list or dict: what it holds comes after what makes it.
        target.state = items if target.state is None else [target.state, items]
    elif isinstance(target, _Pairs) == isinstance(items, _Pairs):
        target.extend(items)
    else:
        raise _Unreadable


def _build(stack: list[Any]) -> None:
    state = stack.pop()
    made = stack[-1]
    if not isinstance(made, _Made):
        raise _Unreadable
    made.state = state if made.state is None else [made.state, state]


def _made(stack: list[Any], count: int) -> _Made:
    return _Made(*_last(stack, count))


def _named(module: object, name: object) -> _Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise _Unreadable
    return _Name(module, name)


_ACTIONS: dict[str, Callable[[list[Any], Any], Any]] = {
    "MARK": lambda stack, _: stack.append(_Mark()),
    "POP": lambda stack, _: stack.pop(),
    "POP_MARK": lambda stack, _: _since_mark(stack),
    "DUP": lambda stack, _: stack.append(stack[-1]),
    "EMPTY_LIST": lambda stack, _: stack.append([]),
    "LIST": lambda stack, _: stack.append(_since_mark(stack)),
    "APPEND": lambda stack, _: _extend(stack, [stack.pop()]),
    "APPENDS": lambda stack, _: _extend(stack, _since_mark(stack)),
    "EMPTY_TUPLE": lambda stack, _: stack.append(()),
    "TUPLE": lambda stack, _: stack.append(tuple(_since_mark(stack))),
    "TUPLE1": lambda stack, _: stack.append(tuple(_last(stack, 1))),
    "TUPLE2": lambda stack, _: stack.append(tuple(_last(stack, 2))),
    "TUPLE3": lambda stack, _: stack.append(tuple(_last(stack, 3))),
    "EMPTY_DICT": lambda stack, _: stack.append(_Pairs()),
    "DICT": lambda stack, _: stack.append(_pairs(_since_mark(stack))),
    "SETITEM": lambda stack, _: _extend(stack, _pairs(_last(stack, 2))),
    "SETITEMS": lambda stack, _: _extend(stack, _pairs(_since_mark(stack))),
    "EMPTY_SET": lambda stack, _: stack.append([]),
    "ADDITEMS": lambda stack, _: _extend(stack, _since_mark(stack)),
    "FROZENSET": lambda stack, _: stack.append(_since_mark(stack)),
    "GLOBAL": lambda stack, argument: stack.append(_named(*argument.split(" ", 1))),
    "STACK_GLOBAL": lambda stack, _: stack.append(_named(*_last(stack, 2))),
    "REDUCE": lambda stack, _: stack.append(_made(stack, 2)),
    "NEWOBJ": lambda stack, _: stack.append(_made(stack, 2)),
    "NEWOBJ_EX": lambda stack, _: stack.append(_made(stack, 3)),
    "BUILD": lambda stack, _: _build(stack),
}


# -- as plain data


def _plain(value: Any, stored_chars: int) -> JsonValue:
    """The value as JSON has it; what JSON has not, as text.

    Raises:
        _Unreadable: It has too many values or letters (what is shared counts wherever it shows), or is too deep.
    """
    items_left = MAX_ITEMS
    chars_left = _SHORT_CHARS + _GROWTH * stored_chars

    def counted(text: str) -> str:
        nonlocal chars_left
        chars_left -= len(text)
        if chars_left < 0:
            raise _Unreadable
        return text

    def plain(value: Any, depth: int) -> JsonValue:
        nonlocal items_left
        items_left -= 1
        if items_left < 0 or depth > _MAX_DEPTH:
            raise _Unreadable
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return counted(value)
        if isinstance(value, int):
            return value if value.bit_length() <= _MAX_INT_BITS else counted(hex(value))
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, bytes | bytearray):
            return counted(repr(bytes(value)))
        if isinstance(value, dict):
            value = _Pairs(cast("dict[object, object]", value).items())
        if isinstance(value, _Pairs):
            return {counted(_key(plain(key, depth + 1))): plain(item, depth + 1) for key, item in value}
        if isinstance(value, list | tuple):
            return [plain(item, depth + 1) for item in cast("list[Any]", value)]
        if isinstance(value, _Name):
            return counted(str(value))
        if isinstance(value, _Made):
            shown = _shown(value) or _object(value, lambda part: plain(part, depth + 1))
            return counted(shown) if isinstance(shown, str) else shown
        raise _Unreadable

    return plain(value, 0)


def _key(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _object(made: _Made, plain: Callable[[Any], JsonValue]) -> JsonValue:
    """An object of any class: its name and what it was made of, as a call or with what it holds."""
    parts = _tuple(made.args)
    if made.made_by in _REBUILD_ERRORS and parts and len(parts) == 3:
        # An exception whose constructor takes other arguments than it keeps.
        made = _Made(parts[0], parts[1], state=parts[2] or None)
        parts = _tuple(made.args)
    if parts is None:
        raise _Unreadable
    name = str(plain(made.maker))
    arguments: list[JsonValue] = plain(parts)
    if made.options is not None:
        arguments.append(plain(made.options))
    if made.state is None:
        return f"{name}({', '.join(map(json.dumps, arguments))})"
    state = plain(made.state)
    shown: dict[str, JsonValue] = {"type": name}
    if arguments:
        shown["args"] = arguments
    shown["state"] = state
    return shown


def _shown(made: _Made) -> str | None:
    """A value of a common type of the standard library as people write it; ``None`` for all others."""
    try:
        name, args = made.made_by, _tuple(made.args)
        if args is None:
            return None
        if name == "datetime.datetime":
            zone = _zone(args[1]) if len(args) > 1 else None
            moment = _bytes(args[0])
            return datetime.datetime(*_date(moment[:4]), *_time(moment[4:]), zone).isoformat()
        if name == "datetime.date":
            return datetime.date(*_date(_bytes(args[0]))).isoformat()
        if name == "datetime.timedelta":
            return str(datetime.timedelta(*args))
        if name == "decimal.Decimal" and isinstance(args[0], str):
            return args[0]
        if name == "uuid.UUID" and not args and isinstance(made.state, _Pairs):
            return str(uuid.UUID(int=dict(made.state)["int"]))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError):
        pass
    return None


def _tuple(value: object) -> Sequence[Any] | None:
    return cast("Sequence[Any]", value) if isinstance(value, tuple) else None


def _zone(made: _Made) -> datetime.timezone:
    (offset,) = made.args
    if made.made_by != "datetime.timezone":
        raise ValueError("a zone with rules of its own")
    return datetime.timezone(datetime.timedelta(*offset.args))


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("no moment that is written as such")
    return value


def _date(data: bytes) -> tuple[int, int, int]:
    high, low, month, day = data
    return high * 256 + low, month, day


def _time(data: bytes) -> tuple[int, int, int, int]:
    hour, minute, second, high, middle, low = data
    return hour, minute, second, (high * 256 + middle) * 256 + low
