"""Exceptions by type name, text and arguments, as JSON: always possible, and readable for every program.

Those that are built into Python, and the library's own, come back as themselves; for all others stands a
``DBOSPortableError``, which has their name, text and arguments.
"""

from __future__ import annotations

import builtins
import contextlib
import json
from collections.abc import Mapping
from typing import Any, cast

from dbos import error as own_errors
from dbos.error import DBOSPortableError
from dbos.model.limits import MAX_VALUE_CHARS
from dbos.serialization.serializer import Serializer

PORTABLE_ERROR = "portable_error"
"""The name of the format."""

MAX_TEXT_CHARS = 100_000
"""How much of an exception's text is kept."""

_OWN = own_errors.__name__


class PortableErrors(Serializer):
    """See the module's description."""

    format_name = PORTABLE_ERROR

    def serialize(self, data: BaseException) -> str:
        message = error_text(data)
        try:
            text = json.dumps(_parts(data))
        except (TypeError, ValueError, RecursionError):
            text = ""
        if text and len(text) <= min(2 * MAX_TEXT_CHARS, MAX_VALUE_CHARS):
            return text
        return json.dumps({"type": type_name(data), "message": message, "args": [message]})

    def deserialize(self, serialized_data: str) -> BaseException:
        from dbos.serialization.json_values import from_json

        return _rebuilt(from_json(serialized_data))


def type_name(error: BaseException) -> str:
    """The qualified name of its class."""
    return f"{type(error).__module__}.{type(error).__qualname__}"


def error_text(error: BaseException) -> str:
    """The exception's text, made storable and cut to the limit; its type's name if it has none."""
    try:
        text = str(error)
    except Exception:
        text = f"<{type_name(error)} without a text>"
    return _storable(text)


def _parts(error: BaseException) -> dict[str, Any]:
    from dbos.serialization.json_values import as_json

    args = [_storable(arg) if isinstance(arg, str) else arg for arg in error.args]
    parts: dict[str, Any] = {
        "type": type_name(error),
        "message": error_text(error),
        "args": [as_json(arg) for arg in args],
    }
    if type(error).__module__ == _OWN:
        parts["attributes"] = {name: _attribute(value) for name, value in error.__dict__.items()}
    return parts


def _attribute(value: Any) -> Any:
    """What the library's own exceptions hold: plain values, and the exceptions that led to them."""
    from dbos.serialization.json_values import as_json

    items = cast("list[object]", value) if isinstance(value, list) else []
    errors = [item for item in items if isinstance(item, BaseException)]
    if errors and len(errors) == len(items):
        return {"errors": [json.loads(PortableErrors().serialize(error)) for error in errors]}
    return {"value": as_json(value)}


def _rebuilt(parts: Mapping[str, Any]) -> BaseException:
    module, _, name = str(parts["type"]).rpartition(".")
    message, args = str(parts["message"]), tuple(parts["args"])
    if module == "builtins":
        cls = getattr(builtins, name, None)
        if isinstance(cls, type) and issubclass(cls, Exception):
            with contextlib.suppress(TypeError):
                return cls(*args)
    elif module == _OWN and name in own_errors.__all__ and "attributes" in parts:
        cls = getattr(own_errors, name)
        if issubclass(cls, Exception):
            # Their constructors take other arguments than they keep.
            error: Exception = cls.__new__(cls, *args)
            error.args = args
            error.__dict__.update({key: _value(item) for key, item in parts["attributes"].items()})
            return error
    return DBOSPortableError(str(parts["type"]), message, args)


def _value(attribute: Mapping[str, Any]) -> Any:
    if "errors" in attribute:
        return [_rebuilt(parts) for parts in attribute["errors"]]
    return attribute["value"]


def _storable(text: str) -> str:
    text = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
    limit = min(MAX_TEXT_CHARS, MAX_VALUE_CHARS // 4)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
