"""The index: an SQLite file with a full-text table, which has a row for each chunk. Knows nothing of workflows."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager


def put(document: str, chunks: Sequence[str]) -> None:
    """Have the index hold these chunks of a document and no others, however often it is called."""
    with index() as connection:
        connection.execute("DELETE FROM chunks WHERE document = ?", (document,))
        rows = [(document, number, chunk) for number, chunk in enumerate(chunks)]
        connection.executemany("INSERT INTO chunks (document, number, text) VALUES (?, ?, ?)", rows)


def search(words: Sequence[str]) -> list[tuple[str, str]]:
    """The chunks that hold all the words, best first, each with its document."""
    expression = " ".join('"' + word.replace('"', '""') + '"' for word in words)
    with index() as connection:
        return connection.execute(
            "SELECT document, snippet(chunks, 2, '[', ']', '...', 12) FROM chunks WHERE text MATCH ? ORDER BY rank",
            (expression,),
        ).fetchall()


@contextmanager
def index() -> Generator[sqlite3.Connection, None, None]:
    """A connection and a transaction. Several threads may write: each waits until the one before has committed."""
    with closing(sqlite3.connect(os.environ.get("INDEX_FILE", "index.sqlite"), timeout=30)) as connection, connection:
        connection.execute("CREATE VIRTUAL TABLE IF NOT EXISTS chunks USING fts5(document, number UNINDEXED, text)")
        yield connection
