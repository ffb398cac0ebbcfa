"""Both databases do what the oracle does, whatever they are told. `make differential` runs it for longer.

SECONDS in the environment says for how long; SEED names one run, to see a failure again. It goes on for longer if it
has not come to everything yet.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.differential.comparison import Comparison, Differs, database_with_clock
from tests.differential.operations import METHODS, expected
from tests.support.postgres import PostgresAdmin
from tests.verify.oracle import Oracle

SECONDS = float(os.environ.get("SECONDS", "15"))
RUN_LENGTH = 250
MOST_RUNS = 1_000_000
PATIENCE = 12
"""So many times the time may be taken to come to everything."""


@pytest.fixture
def comparison(tmp_path: Path, postgres_admin: PostgresAdmin) -> Iterator[Comparison]:
    url = postgres_admin.create_database()
    with (
        database_with_clock(f"sqlite:///{tmp_path / 'dbos.sqlite'}") as sqlite,
        database_with_clock(url) as postgres,
    ):
        yield Comparison([sqlite, postgres])
    postgres_admin.drop_database(url)


@pytest.mark.timeout(SECONDS * PATIENCE + 100)
def test_databases_do_what_the_oracle_does(comparison: Comparison) -> None:
    """After each of many thousand operations: the answer, and everything in the tables."""
    only = os.environ.get("SEED")
    first = int(only) if only else time.time_ns() % 10**9
    began = time.monotonic()
    for seed in range(first, first + (1 if only else MOST_RUNS)):
        try:
            comparison.run_random(seed, RUN_LENGTH)
        except Differs as difference:
            shortest = comparison.shortened(difference.operations)
            operations = "\n".join(f"  {operation}" for operation in shortest.operations)
            pytest.fail(f"{shortest}\nSEED={seed} make differential replays it. In short:\n{operations}", pytrace=False)
        unseen = expected() - comparison.seen
        if time.monotonic() - began > SECONDS * (PATIENCE if unseen else 1):
            break
    assert only or not unseen, f"it never came to this, so nothing was proved about it: {sorted(unseen)}"


def test_oracle_has_every_method_of_storage() -> None:
    """A method that comes new to these modules has to be described by the oracle, and drawn by the generator."""
    missing = [name for name in METHODS if not inspect.isfunction(getattr(Oracle, name, None))]
    assert not missing, f"tests.verify.oracle has no {missing}"
    drawn = {verdict.partition(" ")[0] for verdict in expected()}
    assert set(METHODS) <= drawn, f"nothing is expected of {set(METHODS) - drawn}, see tests.differential.operations"
