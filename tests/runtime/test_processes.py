"""Several processes on one database: who runs what."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.conftest import PROGRAMS
from tests.support import ledger
from tests.support.processes import ROOT, Spawner
from tests.support.waiting import wait_until
from tests.verify.crash import Nurseries
from tests.verify.gate import Plan
from tests.verify.invariants import check_kept, check_records
from tests.verify.life import Life
from tests.verify.rows import query, read_rows

RUN_LIFE = ROOT / "tests/verify/run_life.py"


def test_two_hundred_interrupted_workflows_are_recovered(
    nurseries: Nurseries, database_url: str, tmp_path: Path
) -> None:
    output = tmp_path / "output.txt"
    life = Life(str(PROGRAMS / "many.py"), database_url, str(tmp_path / "ledger.jsonl"))
    assert nurseries.run(life, output) == -9, output.read_text()
    before = read_rows(database_url)
    assert [row["status"] for row in before.workflows.values()] == ["PENDING"] * 200

    assert nurseries.run(replace(life, number=2), output) == 0, output.read_text()
    after, entries = read_rows(database_url), ledger.read(life.ledger)
    assert [row["status"] for row in after.workflows.values()] == ["SUCCESS"] * 200
    assert len(after.steps) == 400
    check_kept(before, after, entries, life=2)
    check_records(entries, after)
    assert len([entry for entry in entries if entry["kind"] == "step"]) == 400, "each step ran once"


def test_launching_beside_a_live_process_of_the_same_label_leaves_its_work_alone(
    nurseries: Nurseries, database_url: str, tmp_path: Path
) -> None:
    """Both are labelled `local`; the second is launched and destroyed twice while the first runs."""
    output = tmp_path / "output.txt"
    life = Life(
        str(PROGRAMS / "neighbours.py"), database_url, str(tmp_path / "ledger"), renew_interval_s=0.05, lease_ttl_s=30
    )
    fifo = Path(life.ledger + ".fifo")
    os.mkfifo(fifo)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(nurseries.run, life, output)
        wait_until(Path(life.ledger + ".running").exists, "the first process runs its workflow")
        running = read_rows(database_url).workflows["life-1"]
        for number in (2, 3):
            assert nurseries.run(replace(life, number=number), tmp_path / f"output-{number}.txt") == 0
        assert read_rows(database_url).workflows["life-1"] == running
        fifo.write_text("go on")
        assert first.result() == 0, output.read_text()

    steps = [(entry["life"], entry["workflow"]) for entry in ledger.read(life.ledger) if entry["kind"] == "step"]
    assert sorted(steps) == sorted((number, f"life-{number}") for number in (1, 2, 3) for _ in range(2))
    rows = read_rows(database_url).workflows.values()
    assert {(row["status"], row["recovery_attempts"], row["executor_id"]) for row in rows} == {("SUCCESS", 1, "local")}


@pytest.mark.postgres
def test_process_stopped_in_an_open_transaction_delays_the_recovery_of_nobody_else(
    nurseries: Nurseries, postgres_url: str, spawn: Spawner, tmp_path: Path
) -> None:
    """Stopped while it starts a workflow it holds its lease's row locked, so that nobody can bury it."""
    life = Life(
        str(PROGRAMS / "survivor.py"), postgres_url, str(tmp_path / "ledger"), renew_interval_s=0.05, lease_ttl_s=0.3
    )
    stopped = spawn(RUN_LIFE, replace(life, plan=Plan("stop", "before_commit", 1), renew_interval_s=60).to_json())
    os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    with ThreadPoolExecutor(1) as pool:
        survivor = pool.submit(nurseries.run, replace(life, number=3), tmp_path / "survivor.txt")
        renewed = "SELECT 1 FROM {schema}executors WHERE renewals > 20"
        wait_until(lambda: _finds(postgres_url, renewed), "the survivor goes on renewing beside the stopped process")
        killed = replace(life, number=2, plan=Plan("kill", "after_commit", 2))
        assert nurseries.run(killed, tmp_path / "killed.txt") == -9
        assert survivor.result() == 0, (tmp_path / "survivor.txt").read_text()
    assert read_rows(postgres_url).workflows["life-2"]["status"] == "SUCCESS"

    stopped.send_signal(signal.SIGCONT)
    stopped.succeed()
    assert {row["status"] for row in read_rows(postgres_url).workflows.values()} == {"SUCCESS"}


def _finds(url: str, statement: str) -> bool:
    return bool(query(url, statement))
