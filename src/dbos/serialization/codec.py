"""Encodes values for the database and decodes them by the format that their row names.

An exception is stored as itself where that round-trips; else as its class, arguments and attributes, for classes whose
constructor takes other arguments than the exception keeps; else in a portable form, type name and message as JSON.
"""

from __future__ import annotations

import base64
import io
import logging
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dbos.error import DBOSPortableError, DBOSSerializationError
from dbos.model.limits import MAX_VALUE_CHARS, check_storable
from dbos.serialization.portable_errors import PORTABLE_ERROR, PortableErrors, error_text, type_name
from dbos.serialization.serializer import DefaultSerializer, JSONSerializer, Serializer, format_name

_logger = logging.getLogger("dbos")

PICKLE = "pickle"
"""The format of the default serializer."""

PICKLES = frozenset({PICKLE, "py_pickle"})
"""The formats that are pickles in Base64, here and in a later library of version 2."""

_KNOWN: dict[str, Serializer] = {
    **{format_name(one): one for one in (DefaultSerializer(), JSONSerializer(), PortableErrors())},
    "py_pickle": DefaultSerializer(),
}
"""What every process reads; one name is that of pickle in databases of an older library."""


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
        earlier = {format_name(one): one for one in self._serializer.also_reads}
        self._by_format: dict[str, Serializer] = {**_KNOWN, **earlier, self.format: self._serializer}
        self._warned: set[str] = set()
        """The formats of which was said that their values are shown as their stored text."""

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
            text = f"{what()} cannot be serialized: {type(error).__name__}: {error}."
            if not isinstance(self._serializer, JSONSerializer):  # which says itself what is to be done
                text += (
                    f" It is a {type(value).__module__}.{type(value).__qualname__}; return and pass plain data "
                    "instead, or configure a serializer that can store it."
                )
            raise DBOSSerializationError(text) from error
        return Encoded(_checked(text, what), self.format)

    def encode_error(self, error: BaseException) -> Encoded:
        """The exception as text; always possible."""
        ways: list[tuple[str, Callable[[Any], str]]] = []
        if not isinstance(self._serializer, JSONSerializer):
            ways.append((self.format, self._serializer.serialize))
        if self.format == PICKLE or (ways and type(error).__module__ == DBOSPortableError.__module__):
            # The library's own exceptions are pickled: the application's serializer need not know them.
            ways.append((PICKLE, pickle_by_parts))
        for format, serialize in ways:
            try:
                text = _checked(serialize(error), lambda: "An exception")
                if _is_same(error, self._by_format[format].deserialize(text)):
                    return Encoded(text, format)
            except Exception:  # whatever is wrong with it, there is another way
                continue
        return Encoded(self._by_format[PORTABLE_ERROR].serialize(error), PORTABLE_ERROR)

    def decode(self, text: str | None, format: str | None) -> Any:
        """The value of a text in the named format; a row without one was written by the configured serializer.

        Raises:
            DBOSSerializationError: The format is unknown here, or the text is not of it.
        """
        if text is None:
            return None
        serializer = self._serializer if format is None else self._by_format.get(format)
        if serializer is None:
            raise DBOSSerializationError(
                f"A value is stored in the format {format!r}, which this process does not know. Configure the "
                "serializer that wrote it, or name it in the also_reads of the one that is configured."
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
        """The value for a listing: the stored text if it cannot be decoded, which is said once of each format."""
        if text is None:
            return None
        try:
            return self.decode(text, format)
        except DBOSSerializationError as error:
            format = format or self.format
            if format not in self._warned:
                self._warned.add(format)
                _logger.warning("Values that cannot be read are shown as their stored text: %s", error.message)
            return text


class _ByParts(pickle.Pickler):
    """Pickles every exception by its class, arguments and attributes; unpickling it does not call its constructor."""

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, BaseException):
            return NotImplemented
        parts = (type(obj), obj.args, obj.__dict__)
        try:
            pickle_by_parts(parts)
        except Exception:
            return DBOSPortableError, (type_name(obj), error_text(obj))
        return rebuild_error, parts


def pickle_by_parts(value: Any) -> str:
    """Pickle a value so that all exceptions in it can be unpickled; those that cannot be pickled leave a stand-in."""
    buffer = io.BytesIO()
    _ByParts(buffer, protocol=4).dump(value)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


class PickleByParts(DefaultSerializer):
    """Pickle that keeps exceptions in it readable; see ``pickle_by_parts``."""

    def serialize(self, data: Any) -> str:
        return pickle_by_parts(data)


def rebuild_error(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """Make an exception from its parts without calling its constructor. Stored pickles name this function."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _is_same(error: BaseException, copy: Any) -> bool:
    return type(copy) is type(error) and len(copy.args) == len(error.args) and str(copy) == str(error)


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
