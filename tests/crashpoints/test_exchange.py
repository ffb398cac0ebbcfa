"""Messages, events, streams and waits under kills and failures of every commit.

Whatever is killed: a message is delivered once and in order, and consumed in the commit that records its receipt; what
a workflow publishes stands once, without gaps; a wait goes on for the time that is left.
"""

from __future__ import annotations

from dataclasses import replace

from tests.crashpoints.sampling import RUNS_ALL, sampled, sampled_operations, scenario
from tests.verify.crash import Runner
from tests.verify.gate import Moment

SURVIVING = (
    "mailbox",
    "siblings",
    "offspring",
    "from_outside",
    "from_outside:client",
    "events",
    "timed_waits",
    "gathered_waits",
    "streams",
)
"""Programs that end as if nothing had happened, also in another process."""


@sampled(SURVIVING, ("after_commit", "before_commit"))
def test_exchange_survives_a_kill_at_every_commit(run_scenario: Runner, k_url: str, name: str, moment: Moment) -> None:
    run_scenario(scenario(name, k_url, "kill", moment))


@sampled((*SURVIVING[1:], SURVIVING[0], "without_key"), ("after_commit", "begin"))
def test_exchange_happens_once_when_any_commit_fails_once(
    run_scenario: Runner, k_url: str, name: str, moment: Moment
) -> None:
    """After the commit, the failure is a lost acknowledgement: what is tried again has happened already."""
    run_scenario(scenario(name, k_url, "transient", moment))


@sampled(("siblings", "from_outside", "gathered_waits") if RUNS_ALL else ("from_outside",), ("after_commit",))
def test_exchange_survives_a_kill_in_its_recovery_too(
    run_scenario: Runner, k_url: str, name: str, moment: Moment
) -> None:
    run_scenario(replace(scenario(name, k_url, "kill", moment), also_kill_second_life=True))


@sampled(("mailbox", "streams"), ("before_commit",), all_moments=("before_commit",))
def test_exchange_refused_for_good_leaves_nothing_pending(
    run_scenario: Runner, k_url: str, name: str, moment: Moment
) -> None:
    """What was recorded before has happened, and nothing else."""
    run_scenario(scenario(name, k_url, "final", moment))


@sampled_operations([("send", "from_outside:client")])
def test_message_of_a_client_that_is_killed_is_sent_once(
    run_scenario: Runner, k_url: str, operation: str, name: str, moment: Moment
) -> None:
    run_scenario(scenario(name, k_url, "kill", moment, operation))


@sampled_operations([("send", "without_key"), ("send", "from_outside:client")])
def test_message_of_a_client_is_sent_once_when_its_commit_fails_once(
    run_scenario: Runner, k_url: str, operation: str, name: str, moment: Moment
) -> None:
    run_scenario(scenario(name, k_url, "transient", moment, operation))
