"""An append-only ledger: what really happened, written down by several processes into one file.

Each entry is one line of JSON, written by a single `write` to a file opened with O_APPEND and then synced. Entries of
different processes therefore never mix, and an entry that was recorded outlives a kill of its writer.
"""

from __future__ import annotations

import json
import os
from typing import Any


def record(path: str | os.PathLike[str], /, **fields: Any) -> None:
    """Append `fields` as one entry; it is on disk when this returns."""
    line = (json.dumps(fields) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        written = os.write(descriptor, line)
        if written != len(line):
            raise OSError(f"short write to the ledger {os.fspath(path)}: {written} of {len(line)} bytes")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: str | os.PathLike[str], /) -> list[dict[str, Any]]:
    """All entries in the order they were written; empty while nothing has been recorded.

    A reader may see the beginning of an entry that is being written; it is left out.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.endswith("\n")]
    except FileNotFoundError:
        return []
