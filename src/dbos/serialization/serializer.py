"""The seam for other formats, and the default one."""

from __future__ import annotations

import abc
import binascii
import pickle
from collections.abc import Sequence
from typing import Any

_OLDER_ERRORS = b"dbos._error"
"""Stands in every pickle of an exception of the older library."""


class Serializer(abc.ABC):
    """Turns values into text and back. Subclass it and pass an instance as ``serializer`` in the configuration.

    Rows name the format they were written with. A subclass is known by its ``format_name``, by default its module and
    class name; rows of a format that is not configured are shown as their stored text. What this library wrote by
    itself, pickle and JSON, is always read, and so is what the serializers in ``also_reads`` wrote.

    Attributes:
        format_name: What rows name as their format. Default: the module and the name of the class.
        also_reads: Those that were configured before, while there are rows of theirs to be read.
    """

    format_name: str | None = None
    also_reads: Sequence[Serializer] = ()

    @abc.abstractmethod
    def serialize(self, data: Any) -> str:
        """The value as text. What it raises makes the value unstorable."""

    @abc.abstractmethod
    def deserialize(cls, serialized_data: str) -> Any:
        """The value of a text that ``serialize`` made."""


class DefaultSerializer(Serializer):
    """Pickle in Base64."""

    format_name = "pickle"

    def serialize(self, data: Any) -> str:
        return binascii.b2a_base64(pickle.dumps(data, protocol=4), newline=False).decode("ascii")

    def deserialize(self, serialized_data: str) -> Any:
        data = binascii.a2b_base64(serialized_data)
        if _OLDER_ERRORS in data:
            from dbos.serialization.older import load_older

            return load_older(data)
        return pickle.loads(data)


class JSONSerializer(Serializer):
    """JSON, for values that other programs are to read and write, and that are never to be unpickled.

    It stores None, bool, int, float, str, list, dict, tuple, set, frozenset, bytes, datetime, date, time, timedelta,
    Decimal and UUID, each of which comes back as itself; see docs/serialization.md for how they look. It refuses
    everything else, subclasses of these too. Exceptions are stored by type name, text and arguments; those of Python
    and of this library come back as themselves, others as a ``dbos.error.DBOSPortableError``.

    Args:
        also_reads: The serializers that wrote before; pickled rows are read anyway.
    """

    format_name = "portable_json"

    def __init__(self, *, also_reads: Sequence[Serializer] = ()) -> None:
        self.also_reads = also_reads

    # Imported when needed: the types it knows take their time to be imported.

    def serialize(self, data: Any) -> str:
        from dbos.serialization.json_values import to_json

        return to_json(data)

    def deserialize(self, serialized_data: str) -> Any:
        from dbos.serialization.json_values import from_json

        return from_json(serialized_data)


def format_name(serializer: Serializer) -> str:
    """What rows call the serializer's format."""
    cls = type(serializer)
    own_name = f"{cls.__module__}.{cls.__qualname__}"
    if serializer.format_name is None:
        return own_name
    for known in (DefaultSerializer, JSONSerializer):
        if serializer.format_name == known.format_name and cls.deserialize is not known.deserialize:
            # Whoever has not this class would read what it cannot.
            return own_name
    return serializer.format_name
