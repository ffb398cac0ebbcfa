"""Queues and debouncing under kills and failures of every commit.

Whatever is killed: what was enqueued runs, each once; a queue's limits and deduplication ids stay with nobody who is
dead; a debounced call is neither lost nor doubled.
"""

from __future__ import annotations

from dataclasses import replace

from tests.crashpoints.sampling import RUNS_ALL, sampled, sampled_operations, scenario
from tests.verify.crash import Runner
from tests.verify.gate import Moment

PROGRAMS = (
    "enqueued",
    "deduplicated",
    "queued",
    "queued:serial",
    "queued:rate",
    "debounced:workflow",
    *(("queued:client", "debounced", "debounced:client") if RUNS_ALL else ()),
)

OPERATIONS = [
    ("claim_enqueued", "queued:rate"),
    ("claim_enqueued", "queued:serial"),
    ("claim_enqueued", "deduplicated"),
    ("note_starts", "queued:rate"),
    ("debounce", "debounced:workflow"),
    ("debounce", "debounced"),
    ("debounce", "debounced:client"),
    ("release_delayed", "debounced"),
    ("start", "queued:client"),
    *([("claim_enqueued", "enqueued"), ("claim_enqueued", "debounced:workflow")] if RUNS_ALL else []),
]


@sampled(PROGRAMS, ("after_commit", "before_commit"))
def test_queued_work_survives_a_kill_at_every_commit(
    run_scenario: Runner, k_url: str, name: str, moment: Moment
) -> None:
    run_scenario(scenario(name, k_url, "kill", moment))


@sampled((*PROGRAMS[1:], PROGRAMS[0]), ("after_commit", "begin"))
def test_queued_work_runs_once_when_any_commit_fails_once(
    run_scenario: Runner, k_url: str, name: str, moment: Moment
) -> None:
    """After the commit, the failure is a lost acknowledgement: what is tried again has happened already."""
    run_scenario(scenario(name, k_url, "transient", moment))


@sampled(("enqueued", "queued:serial") if RUNS_ALL else ("queued:serial",), ("after_commit",))
def test_queued_work_survives_a_kill_in_its_recovery_too(
    run_scenario: Runner, k_url: str, name: str, moment: Moment
) -> None:
    run_scenario(replace(scenario(name, k_url, "kill", moment), also_kill_second_life=True))


@sampled_operations(OPERATIONS)
def test_dispatching_survives_a_kill(
    run_scenario: Runner, k_url: str, operation: str, name: str, moment: Moment
) -> None:
    run_scenario(scenario(name, k_url, "kill", moment, operation))


@sampled_operations(OPERATIONS, first=1)
def test_dispatching_happens_once_when_its_commit_fails_once(
    run_scenario: Runner, k_url: str, operation: str, name: str, moment: Moment
) -> None:
    run_scenario(scenario(name, k_url, "transient", moment, operation))
