"""The database's clock as a process sees it: deadlines are never early, and hardly late."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

import pytest

from dbos.runtime.database_time import DatabaseTime
from dbos.storage.database import Database
from dbos.storage.errors import TransientStorageError
from tests.support.clock import ManualClock

BEGIN_MS = 1_700_000_000_000


class SlowDatabase:
    """Answers with its clock, which goes as the process's own does, after some time and some failures.

    Attributes:
        there_s, back_s: How long a question takes to get there, and its answer to get back.
        failures_s: How long each of the next tries takes that fails.
    """

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.there_s = self.back_s = 0.0
        self.failures_s: list[float] = []
        self.set_ahead_ms = 0.0

    @property
    def now_ms(self) -> float:
        """The true time of the database's clock."""
        return BEGIN_MS + self.set_ahead_ms + self._clock.monotonic() * 1000

    def run(self, operation: str, work: Callable[[Any], Any], scope: str) -> Any:
        """As `Database.run`: again, while it fails for now."""
        while True:
            try:
                return work(self)
            except TransientStorageError:
                continue

    def rows(self, statement: str) -> list[tuple[int]]:
        """As `Transaction.rows`."""
        if self.failures_s:
            self._clock.advance(self.failures_s.pop(0))
            raise TransientStorageError("cut")
        self._clock.advance(self.there_s)
        answer = round(self.now_ms)
        self._clock.advance(self.back_s)
        return [(answer,)]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def database(clock: ManualClock) -> SlowDatabase:
    return SlowDatabase(clock)


@pytest.fixture
def database_time(clock: ManualClock, database: SlowDatabase) -> DatabaseTime:
    return DatabaseTime(cast(Database, database), clock)


def test_no_deadline_is_early_and_none_later_than_the_answer_took(
    clock: ManualClock, database: SlowDatabase, database_time: DatabaseTime
) -> None:
    """Wherever in between the database looked at its clock."""
    chance = random.Random(7)
    for _ in range(500):
        database.there_s, database.back_s = chance.choice([0.0, 0.0003, 0.1]), chance.choice([0.0, 0.0003, 0.1])
        database_time.refresh()
        clock.advance(chance.random())
        took_ms = (database.there_s + database.back_s) * 1000
        wait_s = chance.choice([0.0, 0.001, 1.5, 86400.0])
        wanted_ms = database.now_ms + wait_s * 1000
        deadline_ms = database_time.in_ms(wait_s)
        assert wanted_ms <= deadline_ms <= wanted_ms + took_ms + 4
        left_s = database_time.seconds_until(deadline_ms)
        assert wait_s <= left_s <= wait_s + (2 * took_ms + 8) / 1000


def test_deadline_that_passed_is_over(clock: ManualClock, database: SlowDatabase, database_time: DatabaseTime) -> None:
    """Surely passed: not one that may still come."""
    database.there_s = database.back_s = 0.125
    database_time.refresh()
    now_ms = database.now_ms
    assert database_time.seconds_until(now_ms - 3600_000) == 0
    assert database_time.seconds_until(now_ms) > 0
    clock.advance(1.0)
    assert database_time.seconds_until(now_ms) == 0


def test_failures_before_the_answer_make_no_deadline_later(database: SlowDatabase, database_time: DatabaseTime) -> None:
    """How long it took counts from the try that succeeded."""
    database.failures_s = [5.0, 20.0]
    database_time.refresh()
    wanted_ms = database.now_ms + 1000
    deadline_ms = database_time.in_ms(1.0)
    assert wanted_ms <= deadline_ms <= wanted_ms + 10
    assert 1.0 <= database_time.seconds_until(deadline_ms) <= 1.02


@pytest.mark.parametrize("ahead_ms", [-3600_000, 3600_000])
def test_clock_of_the_database_that_was_set_is_followed(
    clock: ManualClock, database: SlowDatabase, database_time: DatabaseTime, ahead_ms: float
) -> None:
    """From the next time that it is asked."""
    database_time.refresh()
    database.set_ahead_ms = ahead_ms
    clock.advance(5.0)
    database_time.refresh()
    assert database_time.in_ms(10.0) == pytest.approx(database.now_ms + 10_000, abs=5)
