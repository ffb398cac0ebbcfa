"""Encodes values for the database and decodes them by the format that their row names.

An exception is stored as itself where that round-trips; else as its class, arguments and attributes, for classes whose
constructor takes other arguments than the exception keeps; else in a portable form, type name and message as JSON.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dbos.error import DBOSPortableError, DBOSSerializationError
from dbos.model.limits import MAX_VALUE_CHARS, check_storable
from dbos.serialization.serializer import DefaultSerializer, Serializer, format_name

PORTABLE_ERROR = "portable_error"
"""The format of exceptions that could not be stored as themselves."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A value at rest, and the name of its format."""

    text: str
    format: str


class Codec:
    """Encodes with the configured serializer; decodes whatever it knows the format of."""

    def __init__(self, serializer: Serializer | None = None) -> None:
        self._serializer = DefaultSerializer() if serializer is None else serializer
        self.format = format_name(self._serializer)
        self._by_format: dict[str, Serializer] = {"pickle": DefaultSerializer(), self.format: self._serializer}

    def encode(self, value: Any, what: Callable[[], str]) -> Encoded:
        """The value as text.

        Args:
            value: Anything.
            what: Tells what the value is, for the error's text: "The result of step f".

        Raises:
            DBOSSerializationError: It cannot be stored.
        """
        try:
            text = self._serializer.serialize(value)
        except Exception as error:
            raise DBOSSerializationError(
                f"{what()} cannot be serialized: {type(error).__name__}: {error}. "
                f"It is a {type(value).__module__}.{type(value).__qualname__}; return and pass plain data instead, or "
                "configure a serializer that can store it."
            ) from error
        return Encoded(_checked(text, what), self.format)

    def encode_error(self, error: BaseException) -> Encoded:
        """The exception as text; always possible."""
        for candidate in (error, _Rebuildable(error)):
            try:
                text = _checked(self._serializer.serialize(candidate), lambda: "An exception")
                if _is_same(error, self._serializer.deserialize(text)):
                    return Encoded(text, self.format)
            except Exception:  # whatever is wrong with it, there is another way
                continue
        return Encoded(_portable(error), PORTABLE_ERROR)

    def decode(self, text: str | None, format: str | None) -> Any:
        """The value of a text in the named format; a row without one was written by the configured serializer.

        Raises:
            DBOSSerializationError: The format is unknown here, or the text is not of it.
        """
        if text is None:
            return None
        if format == PORTABLE_ERROR:
            return _from_portable(text)
        serializer = self._serializer if format is None else self._by_format.get(format)
        if serializer is None:
            raise DBOSSerializationError(
                f"A value is stored in the format {format!r}, which this process does not know. Configure the "
                "serializer that wrote it."
            )
        try:
            return serializer.deserialize(text)
        except Exception as error:
            raise DBOSSerializationError(
                f"A stored value of the format {format or self.format!r} cannot be deserialized: "
                f"{type(error).__name__}: {error}"
            ) from error

    def decode_error(self, text: str, format: str | None) -> BaseException:
        """The exception of a text; one that stands for it if it cannot be decoded."""
        try:
            value = self.decode(text, format)
        except DBOSSerializationError as error:
            return error
        return value if isinstance(value, BaseException) else DBOSPortableError(type(value).__name__, str(value))

    def show(self, text: str | None, format: str | None) -> Any:
        """The value for a listing: the stored text if it cannot be decoded."""
        try:
            return self.decode(text, format)
        except DBOSSerializationError:
            return text


class _Rebuildable:
    """Pickles an exception by its parts, so that unpickling does not call its constructor."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return (rebuild_error, (type(self._error), self._error.args, self._error.__dict__))


def rebuild_error(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """Make an exception from its parts without calling its constructor. Stored pickles name this function."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _is_same(error: BaseException, copy: Any) -> bool:
    return type(copy) is type(error) and len(copy.args) == len(error.args) and str(copy) == str(error)


def _portable(error: BaseException) -> str:
    message = _storable(str(error))
    args = [_storable(arg) if isinstance(arg, str) else arg for arg in error.args]
    try:
        return json.dumps({"type": _type_name(error), "message": message, "args": args})
    except (TypeError, ValueError):
        return json.dumps({"type": _type_name(error), "message": message, "args": [message]})


def _from_portable(text: str) -> BaseException:
    parts = json.loads(text)
    module, _, name = str(parts["type"]).rpartition(".")
    cls = getattr(builtins, name, None) if module == "builtins" else None
    if isinstance(cls, type) and issubclass(cls, Exception):
        try:
            return cls(*parts["args"])
        except TypeError:
            pass
    return DBOSPortableError(parts["type"], parts["message"])


def _type_name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _storable(text: str) -> str:
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _checked(text: Any, what: Callable[[], str]) -> str:
    if not isinstance(text, str):
        raise DBOSSerializationError(f"{what()}: the serializer returned a {type(text).__name__}, not a str.")
    if len(text) > MAX_VALUE_CHARS:
        raise DBOSSerializationError(
            f"{what()} is {len(text)} characters long when serialized; the limit is {MAX_VALUE_CHARS}. Store large "
            "data elsewhere and pass a reference to it."
        )
    if not text.isascii():
        try:
            check_storable(text, what())
        except ValueError as error:
            raise DBOSSerializationError(str(error)) from error
    elif "\x00" in text:
        raise DBOSSerializationError(f"{what()} must not contain NUL characters when serialized.")
    return text
