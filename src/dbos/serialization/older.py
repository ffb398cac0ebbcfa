"""Exceptions that the older library pickled: they name its private module, and come back as those of ``dbos.error``.

Its classes and ours have the same names, but may take other arguments. So ours are made without their constructor,
with what an exception keeps: its arguments, of which the first is the message. Only where there are several arguments,
as many as our constructor takes, it is called.
"""

from __future__ import annotations

import inspect
import io
import pickle
from functools import partial
from typing import Any

from dbos import error as own_errors

_MODULE = "dbos._error"


def load_older(data: bytes) -> Any:
    """Unpickle what names the older library's exceptions."""
    return _Unpickler(io.BytesIO(data)).load()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module != _MODULE:
            return super().find_class(module, name)
        known: Any = getattr(own_errors, name, None)
        if isinstance(known, type) and issubclass(known, BaseException):
            return partial(_made, known)
        return super().find_class(own_errors.__name__, name)


def _made(cls: Any, *args: Any) -> Any:
    """The exception of these arguments; what else it has, the pickle sets afterwards."""
    parameters = inspect.signature(cls).parameters.values()
    needed = [parameter for parameter in parameters if parameter.default is parameter.empty]
    if len(needed) > 1 and len(args) == len(needed):
        return cls(*args)
    error = cls.__new__(cls, *args)
    error.args = args
    error.message = str(args[0]) if args else ""
    error.dbos_error_code = cls.code
    return error
