"""Executors that are given up for dead while their workflows talk, wait and are steered, and come back.

As in `test_zombies`, with processes that run several workflows: such a process changes nothing that can be seen, and
everybody who waits in it gets the recorded outcome.
"""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

from dbos import DBOSClient
from tests.crashpoints.sampling import RUNS_ALL, program, sampled, sampled_operations
from tests.crashpoints.test_exchange import SURVIVING
from tests.support import ledger
from tests.verify.crash import Nurseries
from tests.verify.gate import Moment, Plan
from tests.verify.invariants import check_finished, check_kept, check_unchanged
from tests.verify.rows import read_rows
from tests.verify.zombie import Zombie

PROGRAMS = (
    "streams",
    "siblings",
    "enqueued",
    *(("deadlines", "cancelled:race", "forks", "resumed", "deduplicated", "queued:serial") if RUNS_ALL else ()),
    *(name for name in SURVIVING if RUNS_ALL and name not in ("streams", "siblings", "enqueued")),
)
STEERING = (
    ("fork", "forks"),
    ("claim_enqueued", "resumed"),
    ("claim_enqueued", "queued:serial"),
    ("debounce", "debounced:workflow"),
    *([("claim_enqueued", "queued:rate"), ("release_delayed", "debounced")] if RUNS_ALL else []),
    *(
        [("resume", "resumed"), ("cancel", "resumed"), ("cancel_overdue", "deadlines"), ("send", "from_outside:client")]
        if RUNS_ALL
        else []
    ),
)
RENEWS_S = 0.5
"""Seldom enough for the stop not to fall into a renewal, whose lock would hold up the survivor."""


@sampled(PROGRAMS, ("begin",), all_moments=("begin",))
def test_zombie_delivers_and_publishes_nothing(
    nurseries: Nurseries, tmp_path: Path, k_url: str, name: str, moment: Moment
) -> None:
    """Stopped before each of its commits. A step that had begun beside it may go on to its end, and no other begins."""
    guards = _bring_back_from_every_commit(nurseries, tmp_path, k_url, name, moment, lease_ttl_s=0.4)
    assert "fenced" in guards, "no run was fenced, so nothing was proved"


@sampled_operations(STEERING, ("begin",), all_moments=("begin",))
def test_zombie_steers_nothing_that_was_steered_without_it(
    nurseries: Nurseries, tmp_path: Path, k_url: str, operation: str, name: str, moment: Moment
) -> None:
    """Stopped before it forks, resumes, cancels, claims, or sends as a client: all that was done meanwhile."""
    _bring_back_from_every_commit(nurseries, tmp_path, k_url, name, moment, 0.4, operation)


def test_zombie_of_a_workflow_that_was_cancelled_and_resumed_changes_nothing(
    nurseries: Nurseries, tmp_path: Path, k_url: str
) -> None:
    """Its lease is not even dead: the resumed workflow has another token."""
    name = "steered_elsewhere:resumed"
    guards = _bring_back_from_every_commit(nurseries, tmp_path, k_url, name, "begin", lease_ttl_s=60.0)
    assert "fenced" in guards, "no run was fenced, so nothing was proved"


def test_run_of_a_workflow_that_was_resumed_is_over_though_nobody_has_started_it_anew(
    nurseries: Nurseries, tmp_path: Path, k_url: str
) -> None:
    """What it has in flight comes too late. Its own process then starts the workflow anew."""
    plan = Plan("stop", "begin", 3)  # with the second step's checkpoint
    with _zombie(nurseries, tmp_path, k_url, "steered_elsewhere:resumed", plan, lease_ttl_s=60.0) as zombie:
        assert zombie.wait_until_stopped()
        with DBOSClient(system_database_url=zombie.life.url, dbos_system_schema=zombie.life.schema) as client:
            client.cancel_workflow("root")
            client.resume_workflow("root")
        assert read_rows(zombie.life.url, zombie.life.schema).workflows["root"]["status"] == "ENQUEUED"

        zombie.go_on()
        assert zombie.end() == 0, zombie.output.read_text()
        check_finished(ledger.read(zombie.entries), read_rows(zombie.life.url, zombie.life.schema), crashes=1)
        assert [step for _, step in zombie.steps_executed()] == [1, 2, 2, 3, 4]
        assert "fenced" in zombie.guards()


def _bring_back_from_every_commit(
    nurseries: Nurseries,
    directory: Path,
    url: str,
    name: str,
    moment: Moment,
    lease_ttl_s: float,
    operation: str = "journal",
) -> set[str]:
    """Stop a process before each of its commits, and bring it back when another one has done its work.

    Returns the guards that stopped a run in it.
    """
    guards: set[str] = set()
    for k in itertools.count(1):
        with _zombie(nurseries, directory, url, name, Plan("stop", moment, k, (operation,)), lease_ttl_s) as zombie:
            if not zombie.wait_until_stopped():
                break
            recorded, executed = read_rows(zombie.life.url, zombie.life.schema), zombie.steps_executed()
            assert zombie.start_survivor().result() == 0, zombie.output.with_suffix(".survivor.txt").read_text()
            finished = read_rows(zombie.life.url, zombie.life.schema)
            check_kept(recorded, finished, ledger.read(zombie.entries), life=2)

            zombie.go_on()
            assert zombie.end() == 0, zombie.output.read_text()
            check_unchanged(finished, read_rows(zombie.life.url, zombie.life.schema))
            begun = Counter(workflow for workflow, _ in zombie.steps_executed()[len(executed) :])
            assert set(begun.values()) <= {1}, f"it started steps after it came back: {begun}"
            check_finished(ledger.read(zombie.entries), finished, crashes=1)
            results = zombie.results()
            assert results[0] == results[1], "both callers got the recorded outcome"
            guards |= zombie.guards()
    entry = next(entry for entry in ledger.read(zombie.entries) if entry["kind"] == "program")
    assert k > entry["commits"][operation], "it was stopped less often than it commits, so nothing was proved"
    return guards


def test_zombie_of_a_cancelled_workflow_records_the_step_in_flight_and_stops(
    nurseries: Nurseries, tmp_path: Path, k_url: str
) -> None:
    """What was paid for is kept for a resume. The cancellation stays, whatever the zombie and its caller do."""
    plan = Plan("stop", "begin", 3)  # with the second step's checkpoint
    with _zombie(nurseries, tmp_path, k_url, "steered_elsewhere:cancelled", plan, lease_ttl_s=60.0) as zombie:
        assert zombie.wait_until_stopped()
        assert zombie.start_survivor().result() == 0, zombie.output.with_suffix(".survivor.txt").read_text()
        cancelled = read_rows(zombie.life.url, zombie.life.schema)
        assert cancelled.workflows["root"]["status"] == "CANCELLED"
        assert set(cancelled.steps) == {("root", 1)}, "the second step's record is not there yet"

        zombie.go_on()
        assert zombie.end() == 0, zombie.output.read_text()
        now, entries = read_rows(zombie.life.url, zombie.life.schema), ledger.read(zombie.entries)
        check_unchanged(cancelled, now)
        assert set(now.steps) == {("root", 1), ("root", 2)}, "the step in flight is recorded"
        check_finished(entries, now, crashes=0)
        assert zombie.steps_executed() == [("root", 1), ("root", 2)], "it started a step after it came back"
        assert "cancelled" in zombie.guards()
        assert {error.partition(":")[0] for _, error in zombie.results()} == {"DBOSAwaitedWorkflowCancelledError"}


def _zombie(nurseries: Nurseries, directory: Path, url: str, name: str, plan: Plan, lease_ttl_s: float) -> Zombie:
    return Zombie(nurseries, program(name), url, directory, plan, RENEWS_S, lease_ttl_s, name.partition(":")[2])
