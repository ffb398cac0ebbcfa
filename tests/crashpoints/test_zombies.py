"""Executors that are given up for dead, and come back.

A process is stopped in the middle of its k-th commit. A survivor buries its lease, takes the workflow over and ends it.
Then the process goes on: it changes nothing durable, starts no further step, and its caller gets the recorded outcome.
"""

from __future__ import annotations

import itertools
import os
from functools import partial
from pathlib import Path

import pytest

from tests.crashpoints.sampling import RUNS_ALL
from tests.crashpoints.sampling import program as program_file
from tests.support import ledger
from tests.support.postgres import PostgresAdmin
from tests.support.waiting import wait_until
from tests.verify.crash import Nurseries
from tests.verify.gate import Plan
from tests.verify.invariants import check_finished, check_kept, check_unchanged
from tests.verify.rows import query, read_rows
from tests.verify.zombie import Zombie


@pytest.mark.parametrize(
    ("program", "in_flight"),
    [
        ("sync_steps", set()),
        ("gathered_steps", {2, 3, 4, 5}),
        *([("async_steps", set()), ("started", set())] if RUNS_ALL else []),
    ],
)
def test_zombie_changes_nothing_and_adopts_the_recorded_outcome(
    nurseries: Nurseries, tmp_path: Path, k_url: str, program: str, in_flight: set[int]
) -> None:
    """Stopped before each of its commits; `in_flight` are the steps that may have begun before the stop.

    It does not renew its lease, or its stop might fall into a renewal, whose lock would hold up the survivor.
    """
    for k in itertools.count(1):
        plan = Plan("stop", "begin", k)
        with Zombie(nurseries, program_file(program), k_url, tmp_path, plan, renew_interval_s=60.0) as zombie:
            if not zombie.wait_until_stopped():
                break
            recorded, executed = read_rows(zombie.life.url, zombie.life.schema), zombie.steps_executed()
            assert zombie.start_survivor().result() == 0
            finished = read_rows(zombie.life.url, zombie.life.schema)
            check_kept(recorded, finished, ledger.read(zombie.entries), life=2)

            zombie.go_on()
            assert zombie.end() == 0, zombie.output.read_text()
            check_unchanged(finished, read_rows(zombie.life.url, zombie.life.schema))
            begun = {step for _, step in zombie.steps_executed()[len(executed) :]}
            assert begun <= in_flight, "it started a step after it came back"
            check_finished(ledger.read(zombie.entries), finished, crashes=1)
            results = zombie.results()
            assert results[0] == results[1], "both callers got the recorded outcome"
    program_entry = next(entry for entry in ledger.read(zombie.entries) if entry["kind"] == "program")
    assert k > program_entry["commits"]["journal"], "it was stopped less often than it commits, so nothing was proved"


def test_zombie_writes_nothing_while_its_successor_still_runs(nurseries: Nurseries, tmp_path: Path, k_url: str) -> None:
    """It comes back with the checkpoint of a step that its successor is just running: that one's value counts."""
    plan = Plan("stop", "begin", 3)  # after the start and the first step's checkpoint
    with Zombie(nurseries, program_file("slow_survivor"), k_url, tmp_path, plan, renew_interval_s=60.0) as zombie:
        assert zombie.wait_until_stopped()
        fifo = Path(f"{zombie.entries}.fifo")
        os.mkfifo(fifo)
        survivor = zombie.start_survivor()
        wait_until(Path(f"{zombie.entries}.standing").exists, "the survivor runs the second step")
        before = read_rows(zombie.life.url, zombie.life.schema)
        assert set(before.steps) == {("root", 1)}, "the zombie's write is not there yet"

        zombie.go_on()
        wait_until(lambda: any(e["kind"] == "came_back" for e in ledger.read(zombie.entries)), "the zombie has written")
        check_unchanged(before, read_rows(zombie.life.url, zombie.life.schema))
        fifo.write_text("go on")
        assert (zombie.end(), survivor.result()) == (0, 0), zombie.output.read_text()
        check_finished(ledger.read(zombie.entries), read_rows(zombie.life.url, zombie.life.schema), crashes=1)
        assert zombie.steps_executed() == [("root", 1), ("root", 2)], "it started a step after it came back"
        results = zombie.results()
        assert results[0] == results[1], "both callers got the recorded outcome"


@pytest.mark.postgres
@pytest.mark.parametrize(
    "program", ["sync_steps", *(["gathered_steps", "parent", "mailbox", "siblings", "streams"] if RUNS_ALL else [])]
)
def test_write_in_flight_when_the_lease_dies_is_kept_or_undone_but_never_torn(
    nurseries: Nurseries, postgres_admin: PostgresAdmin, postgres_url: str, tmp_path: Path, program: str
) -> None:
    """Stopped between its writes and their commit, the zombie holds locks: the take-over sees the writes or waits."""
    for k in itertools.count(1):
        with Zombie(
            nurseries,
            program_file(program),
            postgres_url,
            tmp_path,
            Plan("stop", "before_commit", k),
            renew_interval_s=0.05,
        ) as zombie:
            if not zombie.wait_until_stopped():
                break
            survivor = zombie.start_survivor()
            wait_until(partial(_is_buried_or_awaited, postgres_admin, zombie), "the survivor has buried the lease")

            zombie.go_on()
            assert (zombie.end(), survivor.result()) == (0, 0), zombie.output.read_text()
            check_finished(ledger.read(zombie.entries), read_rows(zombie.life.url, zombie.life.schema), crashes=1)
            results = zombie.results()
            assert results[0] == results[1], "both callers got the recorded outcome"
    program_entry = next(entry for entry in ledger.read(zombie.entries) if entry["kind"] == "program")
    assert k > program_entry["commits"]["journal"], "it was stopped less often than it commits, so nothing was proved"


def _is_buried_or_awaited(admin: PostgresAdmin, zombie: Zombie) -> bool:
    dead = query(zombie.life.url, "SELECT 1 FROM {schema}executors WHERE state = 'DEAD'", zombie.life.schema)
    waiting = admin.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return bool(dead or waiting)
