"""Waits and deadlines that outlive their process: they end when it was recorded that they would."""

from __future__ import annotations

import base64
import os
import pickle
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crashpoints.sampling import program
from tests.support import ledger
from tests.support.waiting import wait_until
from tests.verify.crash import Nurseries
from tests.verify.gate import Plan
from tests.verify.invariants import check_finished, check_kept
from tests.verify.life import Life
from tests.verify.rows import query, read_rows


@pytest.mark.parametrize("wait", ["recv", "get_event", "sleep"])
def test_recovered_wait_ends_when_it_was_recorded_to(
    nurseries: Nurseries, tmp_path: Path, database_url: str, wait: str
) -> None:
    """Killed in a wait of an hour, of which less than a second is left when the next process takes it up."""
    life = _life(tmp_path, database_url, "long_wait", wait)
    output = tmp_path / "output.txt"
    with ThreadPoolExecutor(1) as pool:
        living = pool.submit(nurseries.run, life, output)
        wait_until(lambda: living.done() or _is_waiting(life), "the workflow waits")
        os.kill(ledger.read(life.ledger)[0]["pid"], signal.SIGKILL)
        assert living.result() == -9, output.read_text()
    ends_at = base64.b64encode(pickle.dumps(time.time() + 0.4)).decode()
    query(database_url, f"UPDATE {{schema}}operation_outputs SET output = '{ends_at}' WHERE {_IS_WAIT}")
    waiting = read_rows(database_url)

    assert nurseries.run(replace(life, number=2), output) == 0, output.read_text()
    ended, entries = read_rows(database_url), ledger.read(life.ledger)
    check_kept(waiting, ended, entries, life=2)
    check_finished(entries, ended, crashes=1)  # which also says that the last step did not run too early


def test_deadline_that_passes_while_nothing_runs_is_kept_by_the_next_process(
    nurseries: Nurseries, tmp_path: Path, database_url: str
) -> None:
    """Killed while parent and child wait, recovered after their deadline: both are cancelled and take no step."""
    life = _life(tmp_path, database_url, "deadlines")
    output = tmp_path / "output.txt"
    assert nurseries.run(replace(life, plan=Plan("kill", "begin", 1, ("cancel_overdue",))), output) == -9
    before = read_rows(database_url)
    deadline_ms = before.workflows["root"]["workflow_deadline_epoch_ms"]
    wait_until(lambda: time.time() * 1000 > deadline_ms, "the deadline has passed")

    assert nurseries.run(replace(life, number=2), output) == 0, output.read_text()
    after, entries = read_rows(database_url), ledger.read(life.ledger)
    check_kept(before, after, entries, life=2)
    check_finished(entries, after, crashes=1)
    assert not [e for e in entries if e["kind"] == "step" and e["life"] == 2 and e["workflow"] != "detached"]


def _is_waiting(life: Life) -> bool:
    entries = ledger.read(life.ledger)
    return len(entries) > 1 and bool(query(life.url, f"SELECT 1 FROM {{schema}}operation_outputs WHERE {_IS_WAIT}"))


_IS_WAIT = "function_name = 'DBOS.sleep'"


def _life(directory: Path, url: str, name: str, variant: str = "") -> Life:
    return Life(str(program(name)), url, str(directory / "ledger.jsonl"), variant=variant)
