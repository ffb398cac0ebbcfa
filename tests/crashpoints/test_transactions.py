"""Transactions under kills and failures of every commit, in the system database and in one of their own.

Whatever is killed: the statements of a transaction, its record and what its workflow makes of it agree, and it has
happened once.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.crashpoints.sampling import MOMENTS, RUNS_ALL, program
from tests.support import ledger
from tests.support.postgres import PostgresAdmin
from tests.support.transactions import MIXED_PLACES, PLACES
from tests.support.waiting import wait_until
from tests.verify.crash import Nurseries, Runner, Scenario
from tests.verify.effects import check_effects, read_effects
from tests.verify.gate import Action, Moment, Plan
from tests.verify.invariants import check_finished, check_kept, check_unchanged
from tests.verify.life import HELD
from tests.verify.rows import query, read_rows
from tests.verify.zombie import Zombie

PROGRAM = program("transactions")


def places(*names: str) -> pytest.MarkDecorator:
    """The parameter `urls`: by default these places of the two databases, all with CRASH=all."""
    chosen = (*PLACES, *MIXED_PLACES) if RUNS_ALL else names
    values = [pytest.param(name, marks=[pytest.mark.postgres] * ("postgres" in name)) for name in chosen]
    return pytest.mark.parametrize("urls", values, indirect=True)


@pytest.fixture
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """The system database, and the application database or `""`. For SQLite each k has files of its own."""
    kinds = request.param.split("-")
    fixtures = ("postgres_url", "second_postgres_url")
    found = [
        f"sqlite:///{tmp_path}/{number}-k{{k}}.sqlite"
        if kind == "sqlite"
        else request.getfixturevalue(fixtures[number])
        for number, kind in enumerate(kinds)
    ]
    return found[0], found[1] if len(found) > 1 else ""


@pytest.fixture
def second_postgres_url(postgres_admin: PostgresAdmin) -> object:
    """Another fresh database."""
    url = postgres_admin.create_database()
    yield url
    postgres_admin.drop_database(url)


def scenario(urls: tuple[str, str], action: Action, moment: Moment, operation: str = "transaction") -> Scenario:
    """What goes wrong in the program. Nothing is held back by time, so that every run has the same commits."""
    variant = "separate" if urls[1] else ""
    return Scenario(PROGRAM, urls[0], action, moment, HELD, False, operation, variant, urls[1])


@places("sqlite", "postgres-postgres")
@pytest.mark.parametrize("moment", MOMENTS if RUNS_ALL else ("before_commit",))
def test_transaction_survives_a_kill_before_every_commit(
    run_scenario: Runner, urls: tuple[str, str], moment: Moment
) -> None:
    run_scenario(scenario(urls, "kill", moment))


@places("postgres", "sqlite-sqlite")
def test_transaction_survives_a_kill_after_every_commit(run_scenario: Runner, urls: tuple[str, str]) -> None:
    run_scenario(scenario(urls, "kill", "after_commit"))


@places("sqlite-sqlite")
@pytest.mark.parametrize("moment", MOMENTS if RUNS_ALL else ("after_commit",))
def test_transaction_survives_a_kill_at_every_commit_of_the_journal(
    run_scenario: Runner, urls: tuple[str, str], moment: Moment
) -> None:
    run_scenario(scenario(urls, "kill", moment, "journal"))


@places("postgres-postgres")
def test_transaction_survives_a_kill_in_its_recovery_too(run_scenario: Runner, urls: tuple[str, str]) -> None:
    run_scenario(replace(scenario(urls, "kill", "after_commit"), also_kill_second_life=True))


@places("sqlite", "postgres-postgres")
@pytest.mark.parametrize("moment", ["begin", "after_commit"] if RUNS_ALL else ["after_commit"])
def test_transaction_happens_once_when_any_commit_fails_once(
    run_scenario: Runner, urls: tuple[str, str], moment: Moment
) -> None:
    """After the commit, the failure is a lost acknowledgement."""
    run_scenario(scenario(urls, "transient", moment))


@places("sqlite")
def test_transaction_refused_for_good_leaves_nothing_pending(run_scenario: Runner, urls: tuple[str, str]) -> None:
    run_scenario(scenario(urls, "final", "before_commit"))


@places("sqlite", "postgres")
@pytest.mark.parametrize("operation", ["transaction", "journal"] if RUNS_ALL else ["transaction"])
def test_zombie_commits_nothing_and_adopts_the_recorded_outcome(
    nurseries: Nurseries, tmp_path: Path, urls: tuple[str, str], operation: str
) -> None:
    """Stopped before each of its transactions begins, or before each commit of its journal; its successor ends."""
    reached = run_zombies(nurseries, tmp_path, urls, Plan("stop", "begin", 1, (operation,)))
    assert reached >= 4, "it was stopped less often than it commits, so nothing was proved"


@places("sqlite-sqlite")
def test_zombie_that_comes_too_late_commits_nothing_in_a_database_of_its_own(
    nurseries: Nurseries, tmp_path: Path, urls: tuple[str, str]
) -> None:
    """Its successor has recorded the transaction by then: the zombie rolls back, and adopts what is recorded."""
    assert run_zombies(nurseries, tmp_path, urls, Plan("stop", "begin", 1, ("transaction",))) >= 4


def run_zombies(nurseries: Nurseries, directory: Path, urls: tuple[str, str], plan: Plan) -> int:
    """Stop it at each k, end it in another process, let it go on: nothing changes any more; how many k there were."""
    for k in itertools.count(1):
        with Zombie(
            nurseries,
            PROGRAM,
            urls[0],
            directory,
            replace(plan, k=k),
            renew_interval_s=60.0,
            variant="separate" if urls[1] else "",
            application_url=urls[1],
        ) as zombie:
            life = zombie.life
            if not zombie.wait_until_stopped():
                return k - 1
            recorded = read_rows(life.url, life.schema)
            assert zombie.start_survivor().result() == 0
            finished, effects = read_rows(life.url, life.schema), read_effects(life)
            check_kept(recorded, finished, ledger.read(zombie.entries), life=2)

            zombie.go_on()
            assert zombie.end() == 0, zombie.output.read_text()
            check_unchanged(finished, read_rows(life.url, life.schema))
            assert read_effects(life) == effects, "it committed a transaction after it came back"
            check_effects(life)
            check_finished(ledger.read(zombie.entries), finished, crashes=1)
            results = zombie.results()
            assert results[0] == results[1], "both callers got the recorded outcome"
    raise AssertionError


@places("postgres")
def test_transaction_in_flight_when_the_lease_dies_is_kept_or_undone_but_never_torn(
    nurseries: Nurseries, postgres_admin: PostgresAdmin, tmp_path: Path, urls: tuple[str, str]
) -> None:
    """Stopped between its record and the commit: its successor waits for it, or does it again in its stead."""
    if urls[0].startswith("sqlite") or urls[1].startswith("sqlite"):
        pytest.skip("on SQLite it keeps everybody from writing")
    for k in itertools.count(1):
        with Zombie(
            nurseries,
            PROGRAM,
            urls[0],
            tmp_path,
            Plan("stop", "before_commit", k, ("transaction",)),
            renew_interval_s=0.05,
            variant="separate" if urls[1] else "",
            application_url=urls[1],
        ) as zombie:
            life = zombie.life
            if not zombie.wait_until_stopped():
                break
            survivor = zombie.start_survivor()
            wait_until(partial(_is_buried_or_awaited, postgres_admin, zombie), "the survivor has buried the lease")

            zombie.go_on()
            assert (zombie.end(), survivor.result()) == (0, 0), zombie.output.read_text()
            check_effects(life)
            check_finished(ledger.read(zombie.entries), read_rows(life.url, life.schema), crashes=1)
            results = zombie.results()
            assert results[0] == results[1], "both callers got the recorded outcome"
    assert k > 4, "it was stopped less often than it commits, so nothing was proved"


def _is_buried_or_awaited(admin: PostgresAdmin, zombie: Zombie) -> bool:
    dead = query(zombie.life.url, "SELECT 1 FROM {schema}executors WHERE state = 'DEAD'", zombie.life.schema)
    waiting = admin.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return bool(dead or waiting)
