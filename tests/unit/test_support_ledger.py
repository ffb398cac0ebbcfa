"""The ledger file."""

from __future__ import annotations

from pathlib import Path

from tests.support import ledger
from tests.support.processes import Spawner


def test_a_ledger_that_was_never_written_is_empty(tmp_path: Path) -> None:
    assert ledger.read(tmp_path / "ledger") == []


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger.record(path, step="charge", n=1)
    ledger.record(path, path="a field may have this name too", text="zwei\nZeilen")
    ledger.record(path)
    assert ledger.read(path) == [
        {"step": "charge", "n": 1},
        {"path": "a field may have this name too", "text": "zwei\nZeilen"},
        {},
    ]


def test_entries_of_concurrent_processes_do_not_mix(tmp_path: Path, spawn: Spawner) -> None:
    program = """
        import sys
        from tests.support import ledger
        for n in range(50):
            ledger.record(sys.argv[1], who=sys.argv[2], n=n, padding="x" * 5000)
    """
    path = tmp_path / "ledger"
    for child in [spawn(program, path, who) for who in "abc"]:
        child.succeed()
    entries = ledger.read(path)
    assert len(entries) == 150
    for who in "abc":
        assert [entry["n"] for entry in entries if entry["who"] == who] == list(range(50))


def test_an_entry_outlives_a_kill_of_its_writer(tmp_path: Path, spawn: Spawner) -> None:
    path = tmp_path / "ledger"
    child = spawn(
        """
        import os, signal, sys
        from tests.support import ledger
        ledger.record(sys.argv[1], alive=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        path,
    )
    assert child.wait() == -9
    assert ledger.read(path) == [{"alive": True}]


def test_the_beginning_of_an_entry_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger.record(path, step="charge")
    with path.open("a") as file:
        file.write('{"step": "sh')
    assert ledger.read(path) == [{"step": "charge"}]
