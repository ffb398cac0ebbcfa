"""The program that the README opens with does what the README says, under real signals."""

from __future__ import annotations

import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.docs.documents import README, blocks_of
from tests.support.processes import ROOT, Spawner

PROGRAM = ROOT / "examples" / "first_program" / "main.py"


def test_readme_opens_with_the_example() -> None:
    first = next(blocks_of(README, README.read_text(encoding="utf-8")))
    assert first.code == PROGRAM.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_program_goes_on_after_its_last_recorded_step(
    spawn: Spawner, tmp_path: Path, number: signal.Signals
) -> None:
    first = spawn(PROGRAM)
    first.wait_for_line("^step 4$")
    first.send_signal(number)
    assert first.wait() != 0
    recorded = _recorded_steps(tmp_path)
    assert recorded[:3] == [1, 2, 3], "a step begins when all before it are recorded"
    assert len(recorded) < 10, "it was interrupted too late to prove anything"

    second = spawn(PROGRAM).succeed()
    assert _steps(second) == [step for step in range(1, 11) if step not in recorded]
    assert second.endswith("result 55\n")

    third = spawn(PROGRAM).succeed()
    assert third == "result 55\n", "a workflow that has ended never runs again"


def _steps(output: str) -> list[int]:
    return [int(number) for number in re.findall(r"^step (\d+)$", output, re.MULTILINE)]


def _recorded_steps(directory: Path) -> list[int]:
    with closing(sqlite3.connect(directory / "first-program.sqlite")) as connection:
        rows = connection.execute("SELECT function_id FROM operation_outputs ORDER BY function_id").fetchall()
    return [row[0] for row in rows]
