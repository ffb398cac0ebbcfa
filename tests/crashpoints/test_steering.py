"""Deadlines, cancel, resume and fork under kills and failures of every commit.

Whatever is killed: an outcome is written once, a cancellation is never overwritten, and everybody sees who won; a
deadline is neither early nor lost; a fork is made once.
"""

from __future__ import annotations

from tests.crashpoints.sampling import sampled, sampled_operations, scenario
from tests.verify.crash import Runner
from tests.verify.gate import Moment

PROGRAMS = ("deadlines", "cancelled:cancelled", "cancelled:succeeded", "cancelled:race", "forks", "resumed")

OPERATIONS = [
    ("cancel", "cancelled:cancelled"),
    ("cancel", "cancelled:succeeded"),
    ("cancel", "resumed"),
    ("cancel_overdue", "deadlines"),
    ("resume", "resumed"),
    ("fork", "forks"),
    ("claim_enqueued", "forks"),
    ("claim_enqueued", "resumed"),
]


@sampled(PROGRAMS, ("after_commit", "before_commit"))
def test_steered_workflows_survive_a_kill_at_every_commit(
    run_scenario: Runner, k_url: str, name: str, moment: Moment
) -> None:
    run_scenario(scenario(name, k_url, "kill", moment))


@sampled((*PROGRAMS[1:], PROGRAMS[0]), ("after_commit", "begin"))
def test_steered_workflows_end_once_when_any_commit_fails_once(
    run_scenario: Runner, k_url: str, name: str, moment: Moment
) -> None:
    """After the commit, the failure is a lost acknowledgement: what is tried again has happened already."""
    run_scenario(scenario(name, k_url, "transient", moment))


@sampled_operations(OPERATIONS)
def test_steering_survives_a_kill(run_scenario: Runner, k_url: str, operation: str, name: str, moment: Moment) -> None:
    run_scenario(scenario(name, k_url, "kill", moment, operation))


@sampled_operations(OPERATIONS, first=1)
def test_steering_happens_once_when_its_commit_fails_once(
    run_scenario: Runner, k_url: str, operation: str, name: str, moment: Moment
) -> None:
    run_scenario(scenario(name, k_url, "transient", moment, operation))
