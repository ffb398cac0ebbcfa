"""The way up: how the public functions reach the adapters in ``edges``, which are in a layer above them."""

from __future__ import annotations

import importlib
import shlex
from types import ModuleType

from dbos.error import DBOSInitializationError


def load_edge(name: str, package: str, what: str) -> ModuleType:
    """Import an adapter, now that somebody asks for it.

    It is imported by its name, as this layer knows nothing about it but the function that its caller calls.

    Args:
        name: Its module in ``dbos.edges``.
        package: The package that it needs, as pip takes it: "flask", "dbos[otel]".
        what: Who asks, for the error's text: "DBOS(fastapi=...)".

    Raises:
        DBOSInitializationError: The package is not installed.
    """
    try:
        return importlib.import_module(f"dbos.edges.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("dbos."):
            raise
        raise DBOSInitializationError(
            f"{what} needs the package {package!r}, which cannot be imported ({error}). Install it: "
            f"pip install {shlex.quote(package)}"
        ) from error
