"""Schedules under kills and failures of every commit.

Whatever is killed: a fire time that is settled has its workflow, once; one that is not can be backfilled. What a
workflow does to schedules happens once.
"""

from __future__ import annotations

from tests.crashpoints.sampling import sampled, sampled_operations, scenario
from tests.verify.crash import Runner
from tests.verify.gate import Moment

OPERATIONS = [
    ("fire", "scheduled"),
    ("fire", "scheduled"),
    ("backfill", "scheduled"),
    ("create_schedule", "scheduled:workflow"),
    ("delete_schedule", "scheduled:workflow"),
]


@sampled(("scheduled", "scheduled:workflow"), ("after_commit", "before_commit"))
def test_scheduled_workflow_survives_a_kill_at_every_commit(
    run_scenario: Runner, k_url: str, name: str, moment: Moment
) -> None:
    run_scenario(scenario(name, k_url, "kill", moment))


@sampled_operations(OPERATIONS)
def test_firing_and_managing_survive_a_kill(
    run_scenario: Runner, k_url: str, operation: str, name: str, moment: Moment
) -> None:
    run_scenario(scenario(name, k_url, "kill", moment, operation))


@sampled_operations(OPERATIONS[1:], moments=("after_commit", "begin"), first=1)
def test_firing_and_managing_happen_once_when_their_commit_fails_once(
    run_scenario: Runner, k_url: str, operation: str, name: str, moment: Moment
) -> None:
    run_scenario(scenario(name, k_url, "transient", moment, operation))
