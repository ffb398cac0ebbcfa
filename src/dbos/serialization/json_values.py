"""Python values as JSON and back, each as itself: what JSON lacks is written as an object that names its type.

::

    None, bool, int, float, str, list, dict     themselves
    a dict with other keys than str             {"$type": "dict", "value": [[key, value], ...]}
    float nan, inf, -inf                        {"$type": "float", "value": "nan"}
    tuple, set, frozenset                       {"$type": "tuple", "value": [...]}
    bytes                                       {"$type": "bytes", "value": "<Base64>"}
    datetime, date, time                        {"$type": "datetime", "value": "<ISO 8601>"}
    datetime in a zone of zoneinfo              the same, with "zone": "Europe/Rome"
    timedelta                                   {"$type": "timedelta", "value": <microseconds>}
    Decimal, UUID                               {"$type": "decimal", "value": "1.10"}
    the arguments of a workflow                 {"args": [...], "kwargs": {...}}

A dict that has a key "$type" of its own is written like one with other keys. Subclasses are other types, and are
refused like all that is not in the table: they would come back as something else.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

TYPE = "$type"

_PLAIN = frozenset({type(None), bool, int, str})
_TEXT = frozenset({str})

_CALL = {"args", "kwargs"}

_TYPED = f'{{"{TYPE}"'
"""How the text begins of a value that names its type."""

_MICROSECOND = timedelta(microseconds=1)

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class NotJSONError(TypeError):
    """A value that is not in the table."""


def to_json(value: Any) -> str:
    """The value as JSON, in ASCII.

    Raises:
        NotJSONError: The value, or one inside it, is not in the table; the message says where it is.
        RecursionError, ValueError: It holds itself, is too deep, or an int has too many digits.
    """
    try:
        return _encode(_call_as_json(value))
    except NotJSONError as error:
        raise NotJSONError(f"at {_place(value) or 'its top'} is {error}") from None


def from_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is no JSON, or names a type that is not in the table.
    """
    value = _decode(text)
    if _is_call(value) and _is(list, value["args"]) and not text.startswith(_TYPED):
        value["args"] = tuple(value["args"])
    return value


def as_json(value: Any) -> Any:
    """What ``json.dumps`` writes for the value.

    Raises:
        NotJSONError: It is not in the table.
    """
    kind = cast("type[object]", type(value))
    if kind in _PLAIN:
        return value
    encode = _ENCODERS.get(kind)
    if encode is None:
        raise NotJSONError(
            f"a {kind.__module__}.{kind.__qualname__}, which JSON cannot hold. Convert it to plain data "
            "(dataclasses.asdict, an enum's .value), or configure another serializer"
        )
    return encode(value)


def _call_as_json(value: Any) -> Any:
    """The arguments of a workflow are a dict with a tuple, and are to be plain to read and to write for everybody."""
    if not _is_call(value):
        return as_json(value)
    if _is(tuple, value["args"]):
        return {"args": _items(value["args"]), "kwargs": as_json(value["kwargs"])}
    return _pairs_as_json(value)


def _is_call(value: Any) -> bool:
    return _is(dict, value) and value.keys() == _CALL and _is(dict, value["kwargs"])


def _is(kind: type, value: object) -> bool:
    """Whether it is of this very type: a subclass is another."""
    return type(value) is kind


def _place(value: Any) -> str:
    """Where in the value that is which is not in the table; looked for only when it is known that there is one."""
    parts: list[tuple[str, Any]] = []
    if _is(dict, value):
        parts = [*((f" key {key!r}", key) for key in value), *((f"[{key!r}]", item) for key, item in value.items())]
    elif _is(list, value) or _is(tuple, value):
        parts = [(f"[{number}]", item) for number, item in enumerate(value)]
    for place, part in parts:
        try:
            as_json(part)
        except NotJSONError:
            return place + _place(part)
    return ""


def _items(values: Collection[Any]) -> Collection[Any]:
    if _PLAIN.issuperset(map(type, values)):
        return values
    return [item if type(item) in _PLAIN else as_json(item) for item in values]


def _dict_as_json(value: dict[Any, Any]) -> Any:
    """Plainly, if its keys are those of a JSON object."""
    if TYPE in value or not _TEXT.issuperset(map(type, value)):
        return _pairs_as_json(value)
    if _PLAIN.issuperset(map(type, value.values())):
        return value
    return {key: item if type(item) in _PLAIN else as_json(item) for key, item in value.items()}


def _pairs_as_json(value: Mapping[Any, Any]) -> Any:
    """The dict as its type and pairs, which holds any keys."""
    return _typed("dict", [[as_json(key), as_json(item)] for key, item in value.items()])


def _float_as_json(value: float) -> Any:
    return value if math.isfinite(value) else _typed("float", str(value))


def _set_as_json(name: str) -> Callable[[Any], Any]:
    # In the order of their texts: the same set is the same text in every process.
    return lambda value: _typed(name, sorted(_items(value), key=_encode))


def _datetime_as_json(value: datetime) -> Any:
    typed = _typed("datetime", value.isoformat())
    if isinstance(value.tzinfo, ZoneInfo) and value.tzinfo.key:
        typed["zone"] = value.tzinfo.key
    else:
        _check_zone(value.tzinfo)
    return {**typed, "fold": 1} if value.fold else typed


def _time_as_json(value: time) -> Any:
    _check_zone(value.tzinfo)
    typed = _typed("time", value.isoformat())
    return {**typed, "fold": 1} if value.fold else typed


def _check_zone(zone: object) -> None:
    if zone is not None and type(zone) is not timezone:
        raise NotJSONError(
            f"a time in a zone of type {type(zone).__qualname__}, which would come back as another. Use "
            "datetime.timezone, or for a datetime zoneinfo.ZoneInfo"
        )


def _typed(name: str, value: Any) -> dict[str, Any]:
    return {TYPE: name, "value": value}


_ENCODERS: dict[type, Callable[[Any], Any]] = {
    dict: _dict_as_json,
    list: _items,
    float: _float_as_json,
    tuple: lambda value: _typed("tuple", _items(value)),
    set: _set_as_json("set"),
    frozenset: _set_as_json("frozenset"),
    bytes: lambda value: _typed("bytes", base64.b64encode(value).decode("ascii")),
    datetime: _datetime_as_json,
    date: lambda value: _typed("date", value.isoformat()),
    time: _time_as_json,
    timedelta: lambda value: _typed("timedelta", value // _MICROSECOND),
    Decimal: lambda value: _typed("decimal", str(value)),
    UUID: lambda value: _typed("uuid", str(value)),
}


def _decoded_object(found: dict[str, Any]) -> Any:
    """Called for every object, the inner ones first."""
    if TYPE not in found:
        return found
    name = found[TYPE]
    decode = _DECODERS.get(name) if isinstance(name, str) else None
    if decode is None:
        raise ValueError(f"{TYPE} {name!r} is unknown")
    try:
        return decode(found["value"], found)
    except (KeyError, TypeError, ArithmeticError) as error:
        raise ValueError(f"what stands for a {name} is none: {json.dumps(found, default=str)[:200]}") from error


def _float(value: Any, _: Any) -> float:
    if value not in ("nan", "inf", "-inf"):
        raise ValueError(f"{value!r} is no float that JSON lacks")
    return float(value)


def _datetime(value: Any, found: Mapping[str, Any]) -> datetime:
    instant = datetime.fromisoformat(_with_offset(value)).replace(fold=found.get("fold", 0))
    if "zone" not in found:
        return instant
    local = instant.replace(tzinfo=ZoneInfo(found["zone"]))
    # If the zone's rules were changed meanwhile, it is the instant that counts.
    return local if local.utcoffset() == instant.utcoffset() else instant.astimezone(local.tzinfo)


def _time(value: Any, found: Mapping[str, Any]) -> time:
    return time.fromisoformat(_with_offset(value)).replace(fold=found.get("fold", 0))


def _with_offset(value: str) -> str:
    # Written by others; Python 3.10 does not know the Z.
    return re.sub("[Zz]$", "+00:00", value)


_DECODERS: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "dict": lambda value, _: dict(cast("list[tuple[Any, Any]]", value)),
    "float": _float,
    "tuple": lambda value, _: tuple(value),
    "set": lambda value, _: set(value),
    "frozenset": lambda value, _: frozenset(value),
    "bytes": lambda value, _: base64.b64decode(value, validate=True),
    "datetime": _datetime,
    "date": lambda value, _: date.fromisoformat(value),
    "time": _time,
    "timedelta": lambda value, _: value * _MICROSECOND,
    "decimal": lambda value, _: Decimal(value),
    "uuid": lambda value, _: UUID(value),
}

_decode = json.JSONDecoder(object_hook=_decoded_object).decode
