"""Alias for programs of version 2: serializers. See ``dbos.compat``."""

from dbos.serialization.serializer import DefaultSerializer, Serializer

__all__ = ["DefaultSerializer", "Serializer"]
