"""Whatever goes wrong, nothing is lost, doubled or invented. `make chaos` runs it for longer.

SECONDS in the environment says for how long there is trouble; SEED repeats the programs and the order of the troubles
of a run that failed. It goes on for longer if it has not come to every guard yet.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.chaos.world import World
from tests.support import ledger
from tests.support.postgres import PostgresAdmin, PostgresServer
from tests.support.processes import Spawner
from tests.support.waiting import wait_until
from tests.verify.invariants import check_finished
from tests.verify.rows import read_rows

SECONDS = float(os.environ.get("SECONDS", "10"))
SEED = int(os.environ.get("SEED", time.time_ns() % 10**9))
PATIENCE = 4
"""So many times the time may be taken to come to every guard."""

BETWEEN_TROUBLES_S = 0.7
TO_SETTLE_S = 90.0

GUARDS = {"fenced", "adopted", "buried", "retried"}
"""A run was taken over, and its caller got the other one's outcome; an executor learned that it was taken for dead; a
transaction was tried again."""


@pytest.fixture
def make_world(spawn: Spawner, tmp_path: Path) -> Callable[..., World]:
    def make(url: str, server: PostgresServer | None = None) -> World:
        return World(Random(SEED), url, spawn, tmp_path / "ledger.jsonl", server)

    return make


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of its own, as it is restarted."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.mark.postgres
@pytest.mark.timeout(SECONDS * PATIENCE + 300)
def test_executors_on_postgres_survive_everything(make_world: Callable[..., World], server: PostgresServer) -> None:
    admin = PostgresAdmin(server.url)
    url = admin.create_database()
    admin.close()
    _run(make_world(url, server), GUARDS)


@pytest.mark.timeout(SECONDS * PATIENCE + 300)
def test_executors_on_one_file_survive_everything(make_world: Callable[..., World], sqlite_url: str) -> None:
    _run(make_world(sqlite_url), GUARDS)


def _run(world: World, guards: set[str]) -> None:
    try:
        _live_through(world, guards)
    except BaseException as error:
        raise AssertionError(
            f"{error}\nSEED={SEED} SECONDS={SECONDS:g} make chaos runs the same programs and troubles. The troubles "
            f"were {dict(world.troubles)}, the workflows {len(world.work)}."
        ) from error


def _live_through(world: World, guards: set[str]) -> None:
    world.launch()
    began = time.monotonic()
    next_trouble_at = began + 1.0
    first = ["stop", "kill", "cut connections", "restart"]
    while True:
        world.keep_busy()
        world.check_limits()
        world.tend()
        now = time.monotonic()
        if now > next_trouble_at:
            world.make_trouble(first.pop(0) if first else None)
            next_trouble_at = now + BETWEEN_TROUBLES_S * (0.5 + world.random.random())
            unseen = guards - _seen(world)
            if now - began > SECONDS * (PATIENCE if unseen else 1):
                break
    world.settle()
    wait_until(world.ask_again, "every workflow is acknowledged", TO_SETTLE_S)
    try:
        wait_until(lambda: not world.unfinished(), "every workflow has ended", TO_SETTLE_S)
    except AssertionError as error:
        rows = read_rows(world.url).workflows
        raise AssertionError(f"{error}\n" + "\n".join(str(rows[id]) for id in world.unfinished()[:10])) from None
    entries = world.story()
    world.end()
    check_finished(entries, read_rows(world.url), crashes=sum(world.disturbed.values()))
    world.check_executions()
    unseen = guards - _seen(world)
    assert not unseen, f"it never came to this, so nothing was proved about it: {sorted(unseen)}"
    recovered = [row for row in read_rows(world.url).workflows.values() if row["recovery_attempts"] > 1]
    assert recovered, "nothing was ever recovered, so nothing was proved"


def _seen(world: World) -> set[str]:
    return {entry["guard"] for entry in ledger.read(world.entries) if entry["kind"] == "guard"}
