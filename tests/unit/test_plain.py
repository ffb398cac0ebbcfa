"""Stored plain data is read exactly, and nothing that a stored text names is run."""

from __future__ import annotations

import base64
import copyreg
import pickle
from collections import OrderedDict
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dbos.error import DBOSSerializationError
from dbos.serialization.plain import read_plain
from dbos.serialization.serializer import DefaultSerializer, JSONSerializer

LIST: list[Any] = [1]
PLAIN = [
    None,
    True,
    -(2**200),
    1.5,
    "größe \x00 🎉",
    b"bytes",
    [1, (2, (), (3,)), {"key": {4: None}}],
    {1, "two"},
    frozenset({3}),
    [LIST, LIST],
]


@pytest.mark.parametrize("value", PLAIN)
@pytest.mark.parametrize("format", ["pickle", "py_pickle", None])
def test_plain_data_is_read_as_it_was(value: Any, format: str | None) -> None:
    text = DefaultSerializer().serialize(value)
    assert read_plain(text, format) == value
    assert type(read_plain(text, format)) is type(value)


def test_json_is_read_as_the_codec_reads_it() -> None:
    value = {"at": datetime(2024, 1, 1), "set": {1}}
    assert read_plain(JSONSerializer().serialize(value), "portable_json") == value
    assert read_plain(None, "pickle") is None


class Writing:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_what_would_have_to_be_called_is_refused(tmp_path: Path) -> None:
    copyreg.add_extension("builtins", "open", 0x7F01)
    try:
        texts = [encoded(pickle.dumps([Writing(tmp_path / "made")], protocol)) for protocol in range(6)]
    finally:
        copyreg.remove_extension("builtins", "open", 0x7F01)
    texts += [encoded(pickle.dumps(value)) for value in (datetime(2024, 1, 1), OrderedDict(), ValueError("x"), len)]
    texts += ["", "no Base64!", encoded(b""), encoded(b"garbage"), encoded(b"\x80\x04Pidentity\n.")]
    for text in texts:
        with pytest.raises(DBOSSerializationError, match="no plain data"):
            read_plain(text, "pickle")
    assert list(tmp_path.iterdir()) == []


def test_a_format_of_the_application_is_refused() -> None:
    with pytest.raises(DBOSSerializationError, match=r"my\.own"):
        read_plain("text", "my.own")
