"""Reads stored values that consist of plain data, exactly, where nothing may be run.

Of a pickle only the values are made that pickle has by itself (numbers, texts, lists, dicts, sets …): whatever it names
is not even looked up. ``display`` shows more, but as text.
"""

from __future__ import annotations

import base64
import io
import pickle
from typing import Any, NoReturn

from dbos.error import DBOSSerializationError
from dbos.serialization.codec import PICKLES, Codec


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it holds a {name} of {module}")

    def persistent_load(self, pid: Any, /) -> NoReturn:
        raise pickle.UnpicklingError("it refers to something outside")


_CODEC = Codec()


def read_plain(text: str | None, format: str | None) -> Any:
    """The value of a stored text.

    Args:
        text: What is stored.
        format: The format that its row names; ``None`` for rows of older libraries, which are pickles.

    Raises:
        DBOSSerializationError: It is no plain data, or of a format that not everybody knows.
    """
    if text is None:
        return None
    if format is not None and format not in PICKLES:
        return _CODEC.decode(text, format)
    try:
        return _PlainUnpickler(io.BytesIO(base64.b64decode(text, validate=True))).load()
    except Exception as error:
        raise DBOSSerializationError(f"A stored value is no plain data: {error}") from None
