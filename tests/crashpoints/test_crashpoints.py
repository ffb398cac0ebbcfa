"""Kills and fails every commit of every program, one at a time, and checks what comes of it.

By default a part of the combinations runs; CRASH=all runs all of them. A failure prints the line that replays it.
"""

from __future__ import annotations

import pytest

from tests.crashpoints.sampling import MOMENTS, RUNS_ALL, program
from tests.verify.crash import Runner, Scenario
from tests.verify.gate import Moment

ALL = ("sync_steps", "async_steps", "gathered_steps", "parent", "async_parent", "started", "patched", "methods")


def programs(*by_default: str, of: tuple[str, ...] = ALL) -> pytest.MarkDecorator:
    """The parameter `name`: those programs that run by default, or all of them with CRASH=all."""
    return pytest.mark.parametrize("name", of if RUNS_ALL else by_default)


def moments(*by_default: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("moment", MOMENTS if RUNS_ALL else by_default)


@programs(*ALL)
@moments("before_commit", "after_commit")
def test_workflow_survives_a_kill_at_every_commit(run_scenario: Runner, k_url: str, name: str, moment: Moment) -> None:
    run_scenario(Scenario(program(name), k_url, "kill", moment))


@programs("sync_steps", "gathered_steps", "parent", "started", "patched")
@moments("begin", "after_commit")
def test_same_process_finishes_when_any_commit_fails_once(
    run_scenario: Runner, k_url: str, name: str, moment: Moment
) -> None:
    """After the commit, the failure is a lost acknowledgement: nothing may run or be recorded twice."""
    run_scenario(Scenario(program(name), k_url, "transient", moment))


@programs("parent")
def test_workflow_survives_a_kill_in_its_recovery_too(run_scenario: Runner, k_url: str, name: str) -> None:
    run_scenario(Scenario(program(name), k_url, "kill", "after_commit", also_kill_second_life=True))


@programs("gathered_steps")
def test_workflow_survives_a_kill_when_nothing_is_held_back(run_scenario: Runner, k_url: str, name: str) -> None:
    run_scenario(Scenario(program(name), k_url, "kill", "after_commit", hold_back_s=0.0))


@programs("sync_steps", of=("sync_steps", "async_steps", "gathered_steps", "started"))
def test_commit_refused_for_good_leaves_nothing_pending(run_scenario: Runner, k_url: str, name: str) -> None:
    run_scenario(Scenario(program(name), k_url, "final", "before_commit"))
