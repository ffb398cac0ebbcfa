"""The seam for other formats, and the default one."""

from __future__ import annotations

import abc
import binascii
import pickle
from typing import Any


class Serializer(abc.ABC):
    """Turns values into text and back. Subclass it and pass an instance as ``serializer`` in the configuration.

    Rows name the format they were written with. A subclass is known by its ``format_name``, by default its module and
    class name; rows of a format that is not configured are shown as their stored text.
    """

    format_name: str | None = None

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
        return pickle.loads(binascii.a2b_base64(serialized_data))


def format_name(serializer: Serializer) -> str:
    """What rows call the serializer's format."""
    cls = type(serializer)
    return serializer.format_name or f"{cls.__module__}.{cls.__qualname__}"
