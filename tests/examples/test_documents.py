"""The document pipeline: killed in the middle of a document, with others done and others waiting."""

from __future__ import annotations

import runpy
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from dbos import DBOSClient
from tests.support import ledger
from tests.support.apps import eventually
from tests.support.processes import ROOT, Spawner

FOLDER = ROOT / "examples" / "documents"
LIBRARY = FOLDER / "library"

OUTPUT = [
    "1/8 alice.md: 3 chunks",
    "2/8 emma.txt: 1 chunks",
    "3/8 holmes.html: 2 chunks",
    "4/8 scan.pdf: FAILED, cannot read .pdf files",
    "5/8 telegram.txt: FAILED, not in UTF-8",
    "6/8 time-machine.txt: 2 chunks",
    "7/8 walden.md: 2 chunks",
    "8/8 whale.txt: 3 chunks",
    "6 documents indexed, 2 failed",
]
"""What a run prints, as the README says."""

WATCHED = f"""
    import os, runpy, sys, threading

    from tests.support import ledger

    sys.path.insert(0, {str(FOLDER)!r})
    import extract

    # Writes down whose text is extracted. One document may be held.
    text_of = extract.text_of

    def watch(document):
        ledger.record("ledger", document=document.name)
        if document.name == os.environ.get("HOLD"):
            print(f"holding {{document.name}}\\n", end="", flush=True)
            threading.Event().wait()
        return text_of(document)

    extract.text_of = watch
    runpy.run_path({str(FOLDER / "main.py")!r}, run_name="__main__")
"""


def chunks_in(index: Path) -> list[tuple[str, int, str]]:
    """All rows of an index."""
    if not index.exists():
        return []
    with closing(sqlite3.connect(index)) as connection:
        return connection.execute("SELECT document, number, text FROM chunks ORDER BY document, number").fetchall()


def test_killed_run_goes_on_and_indexes_each_document_once(
    database_url: str, spawn: Spawner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"DBOS_SYSTEM_DATABASE_URL": database_url, "EXTRACT_S": "0"}
    killed = spawn(WATCHED, "index", LIBRARY, "monday", env={**settings, "HOLD": "holmes.html"})
    killed.wait_for_line("holding")
    killed.wait_for_line("^2/8")
    done = {"alice.md", "emma.txt", "time-machine.txt", "walden.md", "whale.txt"}
    eventually(lambda: {row[0] for row in chunks_in(tmp_path / "index.sqlite")} == done, "all others are indexed")
    killed.kill()
    assert killed.stdout.splitlines().count("3/8 holmes.html: 2 chunks") == 0

    assert spawn(WATCHED, "index", LIBRARY, "monday", env=settings).succeed().splitlines() == OUTPUT
    with DBOSClient(system_database_url=database_url) as client:
        assert client.get_event("monday", "counts") == {"documents": 8, "done": 8, "failed": 2}
    extracted = Counter(entry["document"] for entry in ledger.read(tmp_path / "ledger"))
    assert extracted == {path.name: 2 if path.name == "holmes.html" else 1 for path in LIBRARY.iterdir()}

    monkeypatch.setenv("EXTRACT_S", "0")
    extract = runpy.run_path(str(FOLDER / "extract.py"))
    expected = [
        (document, number, chunk)
        for document in sorted(done | {"holmes.html"})
        for number, chunk in enumerate(extract["chunks_of"](extract["text_of"](LIBRARY / document)))
    ]
    assert chunks_in(tmp_path / "index.sqlite") == expected


def test_pipeline_without_a_crash(spawn: Spawner, tmp_path: Path) -> None:
    """As the example's README runs it: the default database, a second run, searching, and what is refused."""
    for run in ("monday", "tuesday"):
        output = spawn(FOLDER / "main.py", "index", LIBRARY, run, env={"EXTRACT_S": "0"}).succeed()
        assert output.splitlines() == OUTPUT
    assert len(chunks_in(tmp_path / "index.sqlite")) == 13, "the second run replaced what the first one indexed"
    found = spawn(FOLDER / "main.py", "search", "high", '"time"').succeed()
    assert found == "whale.txt: ...meet, then, I account it [high] [time] to get to sea as...\n"
    refused = spawn(FOLDER / "main.py", "index", "nowhere", "monday")
    assert refused.wait() == 2
    assert "nowhere is no folder" in refused.stderr
    assert (tmp_path / "documents.sqlite").exists()
