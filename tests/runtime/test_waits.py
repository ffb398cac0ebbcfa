"""Waits, with a database and hints that the test plays, and with time by hand: nothing is lost, and looks are few."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from dbos.error import DBOSException
from dbos.model.clock import SystemClock
from dbos.runtime.waits import FIRST_INTERVAL_S, LONGEST_INTERVAL_S, Waits
from dbos.storage.hints import ASKING, EVERYTHING
from dbos.storage.promise import Bell
from dbos.storage.waiting import EventQuery, MessageQuery, OutcomeQuery, Query, StreamQuery
from tests.support.apps import in_threads
from tests.support.background import InBackground
from tests.support.clock import ManualClock
from tests.support.waiting import wait_until
from tests.support.waits import SENTINEL, WAIT_S, FakeHints, Finder

SELDOM_S = 600.0

ONE, OTHER = MessageQuery("one", "topic"), MessageQuery("other", "topic")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def finder(clock: ManualClock) -> Finder:
    return Finder(clock)


@pytest.fixture
def hints() -> FakeHints:
    """Not live: what comes from other processes is found by polls."""
    return FakeHints()


@pytest.fixture
def waits(finder: Finder, hints: FakeHints, clock: ManualClock) -> Iterator[Waits]:
    """Waits whose time stands still, so that nothing is polled by itself."""
    waits = Waits(finder, hints, clock)
    yield waits
    waits.stop()


@pytest.fixture
def hinted_waits(finder: Finder, clock: ManualClock) -> Iterator[Waits]:
    """Waits that count on hints, and look without one once in ten minutes."""
    waits = Waits(finder, FakeHints(is_live=True), clock, SELDOM_S)
    yield waits
    waits.stop()


def settle(waits: Waits) -> None:
    """Wait until all that is due now has been looked for."""
    assert waits.look(SENTINEL).block() is None


def attended(waits: Waits, attend: Callable[[bool], float]) -> None:
    """Have duties attended to, and wait for the first time."""
    done = threading.Event()

    def first(is_told: bool) -> float:
        seconds = attend(is_told)
        done.set()
        return seconds

    waits.start(first)
    assert done.wait(WAIT_S)


# -- found


def test_what_is_there_is_found_at_once(waits: Waits, finder: Finder) -> None:
    """By a thread of its own, so that event loops can wait for it."""
    finder.put(ONE, value=None)
    finder.put(OTHER)
    assert (waits.watch(ONE).block(), asyncio.run(waits.watch(OTHER).wait())) == (None, "value")
    assert threading.current_thread() not in finder.threads
    assert waits.is_empty


def test_what_comes_is_found_when_it_is_hinted_at(waits: Waits, finder: Finder) -> None:
    """Without a poll: time stands still."""
    promise = waits.watch(ONE)
    settle(waits)
    assert (promise.is_done, waits.is_empty) == (False, False)
    finder.put(ONE)
    settle(waits)
    assert not promise.is_done
    waits.wake(ONE.hints)
    assert promise.block() == "value"
    assert len(finder.looked_for(ONE)) == 2


def test_hints_are_for_those_whom_they_concern(waits: Waits, finder: Finder) -> None:
    queries: list[Query] = [ONE, OTHER, EventQuery("one", "key"), StreamQuery("one", "key", 0), OutcomeQuery("one")]
    for query in queries:
        waits.watch(query)
    settle(waits)
    for hinted, concerned in (
        (ONE.hints, {ONE}),
        (EventQuery("one", "another key").hints, {EventQuery("one", "key")}),
        (OutcomeQuery("one").hints, {OutcomeQuery("one"), StreamQuery("one", "key", 0)}),
        (("unknown",), set[Query]()),
        ((*ONE.hints, *OTHER.hints), {ONE, OTHER}),
        ((EVERYTHING,), set(queries)),
    ):
        before = len(finder.looks)
        waits.wake(hinted)
        settle(waits)
        assert {query for _, asked in finder.looks[before:] for query in asked} == concerned


def test_hint_that_comes_during_a_look_is_not_lost(waits: Waits, finder: Finder) -> None:
    """The look had seen the database as it was before."""

    def come() -> None:
        if not waits.is_empty:
            finder.put(ONE)
            waits.wake(ONE.hints)
            finder.meanwhile = lambda: None

    finder.meanwhile = come
    assert waits.watch(ONE).block() == "value"
    assert len(finder.looked_for(ONE)) == 2


def test_what_comes_between_a_look_and_the_wait_is_not_lost(waits: Waits, finder: Finder) -> None:
    """Its hint told nobody, as nobody waited."""
    assert waits.look(ONE).block() is None
    assert waits.look_here(ONE) is None
    finder.put(ONE)
    waits.wake(ONE.hints)
    assert waits.watch(ONE).block() == "value"


def test_watch_of_who_looks_by_itself_is_settled_by_what_comes(waits: Waits, finder: Finder) -> None:
    """Nothing is looked for at once, and whatever comes after the watch began is found."""
    with waits.watching(ONE, looks_now=False) as promise:
        settle(waits)
        assert finder.looked_for(ONE) == []
        finder.put(ONE)
        waits.wake(ONE.hints)
        assert promise.block() == "value"


def test_watch_that_others_have_begun_looks_at_once_for_who_wants_it(waits: Waits, finder: Finder) -> None:
    """The others look by themselves, and may not have done so yet."""
    with waits.watching(ONE, looks_now=False):
        finder.put(ONE)
        assert waits.watch(ONE).block() == "value"


def test_what_was_found_is_looked_for_anew_when_it_is_waited_for_again(waits: Waits, finder: Finder) -> None:
    finder.put(ONE, value=1)
    assert waits.watch(ONE).block() == 1
    finder.put(ONE, value=2)
    assert waits.watch(ONE).block() == 2


def test_nothing_is_lost_between_many_who_wait_and_many_who_write(waits: Waits, finder: Finder) -> None:
    """Time stands still: what is hinted at once is found, or never."""
    queries = [[MessageQuery(f"{thread}", f"{number}") for number in range(300)] for thread in range(4)]

    def write(its_queries: list[MessageQuery]) -> None:
        for query in its_queries:
            finder.put(query)
            waits.wake(query.hints)

    def wait(its_queries: list[MessageQuery]) -> None:
        for query in its_queries:
            promise = waits.watch(query)
            assert InBackground(promise.block).result() == "value"

    in_threads([partial(work, its_queries) for its_queries in queries for work in (write, wait)])
    assert waits.is_empty


# -- together


def test_all_that_is_waited_for_is_looked_for_at_once(waits: Waits, finder: Finder) -> None:
    """Watches and single looks; those who wait for the same share it."""
    begun, go = threading.Event(), threading.Event()

    def stand_still() -> None:
        begun.set()
        assert go.wait(WAIT_S)

    finder.meanwhile = stand_still
    plug = waits.watch(MessageQuery("plug", "topic"))
    assert begun.wait(WAIT_S)
    finder.meanwhile = lambda: None
    queries = [MessageQuery(f"w{number}", "topic") for number in range(1000)]
    finder.put(*queries)
    promises = [waits.watch(query) for query in queries for _ in range(2)]
    looks = [waits.look(query) for query in queries]
    go.set()
    assert [promise.block() for promise in (*promises, *looks)] == ["value"] * 3000
    assert not plug.is_done
    assert [len(asked) for _, asked in finder.looks] == [1, 1000]


def test_a_look_asks_once_and_is_over(waits: Waits, finder: Finder, clock: ManualClock) -> None:
    assert waits.look(ONE).block() is None
    finder.put(ONE)
    clock.advance(2 * LONGEST_INTERVAL_S)
    settle(waits)
    assert (len(finder.looked_for(ONE)), waits.is_empty) == (1, True)
    assert waits.look(ONE).block() == waits.look_here(ONE) == "value"


# -- polls


def polls(waits: Waits, finder: Finder, clock: ManualClock, query: Query, *, step_s: float, count: int) -> list[float]:
    """Move time on by small steps; the pauses between the looks for the query, in steps."""
    for _ in range(count):
        clock.advance(step_s)
        settle(waits)
    times = finder.looked_for(query)
    return [(later - earlier) / step_s for earlier, later in pairwise(times)]


def test_polls_grow_rarer_up_to_the_longest_interval(finder: Finder, hints: FakeHints, clock: ManualClock) -> None:
    """From the first one, which comes soon. They may come a little earlier than that, several together."""
    longest_s = 200 * FIRST_INTERVAL_S
    waits = Waits(finder, hints, clock, longest_s)
    waits.watch(ONE)
    settle(waits)
    step_s = FIRST_INTERVAL_S / 5
    pauses = polls(waits, finder, clock, ONE, step_s=step_s, count=6000)
    waits.stop()
    assert pauses[0] == pytest.approx(5, abs=1)
    assert max(pauses) <= 1000 + 1
    assert pauses[-1] >= 800
    assert len([pause for pause in pauses if pause < 799]) < 20, "they grow fast"


def test_polls_are_as_rare_as_can_be_while_hints_arrive(finder: Finder, clock: ManualClock) -> None:
    waits = Waits(finder, FakeHints(is_live=True), clock, 1.0)
    waits.watch(ONE)
    settle(waits)
    pauses = polls(waits, finder, clock, ONE, step_s=0.01, count=350)
    waits.stop()
    assert len(pauses) >= 3
    assert 80 <= min(pauses) <= max(pauses) <= 100 + 1


def test_who_wants_to_be_polled_for_more_often_is(hinted_waits: Waits, finder: Finder, clock: ManualClock) -> None:
    """Also if somebody else waits for the same already; a longer interval changes nothing."""
    hinted_waits.watch(ONE)
    hinted_waits.watch(OTHER)
    settle(hinted_waits)
    hinted_waits.watch(ONE, 0.05)
    hinted_waits.watch(ONE, 50.0)
    settle(hinted_waits)
    pauses = polls(hinted_waits, finder, clock, ONE, step_s=0.01, count=50)
    assert pauses[-5:] == [pytest.approx(5, abs=1)] * 5
    assert len(finder.looked_for(OTHER)) == 1


def test_each_is_polled_for_at_its_own_pace(waits: Waits, finder: Finder, clock: ManualClock) -> None:
    """Who has waited for long is not looked for as often as who has just begun."""
    waits.watch(ONE)
    settle(waits)
    polls(waits, finder, clock, ONE, step_s=LONGEST_INTERVAL_S / 4, count=40)
    waits.watch(OTHER)
    settle(waits)
    before = len(finder.looked_for(ONE))
    pauses = polls(waits, finder, clock, OTHER, step_s=FIRST_INTERVAL_S, count=20)
    assert len(pauses) >= 4
    assert len(finder.looked_for(ONE)) <= before + 1


def test_polls_find_what_nobody_hints_at(waits: Waits, finder: Finder, clock: ManualClock) -> None:
    promise = waits.watch(ONE)
    settle(waits)
    finder.put(ONE)
    clock.advance(LONGEST_INTERVAL_S)
    settle(waits)
    assert promise.is_done


def test_watch_of_who_looks_by_itself_is_polled(waits: Waits, finder: Finder, clock: ManualClock) -> None:
    with waits.watching(ONE, looks_now=False) as promise:
        finder.put(ONE)
        clock.advance(LONGEST_INTERVAL_S)
        assert InBackground(promise.block).result() == "value"


def test_watch_that_begins_just_before_the_thread_sleeps_is_polled(
    busy_waits: tuple[Waits, BusyHints], finder: Finder, clock: ManualClock
) -> None:
    """Nobody else rings the bell of a process that has nothing else to do, and gets no hints."""
    waits, hints = busy_waits
    before = waits.watch(OTHER)
    settle(waits)

    def begin() -> None:
        if waits.is_empty:
            hints.before_sleep = None
            waits.watching(ONE, looks_now=False).__enter__()

    hints.before_sleep = begin
    finder.put(OTHER)
    clock.advance(LONGEST_INTERVAL_S)
    before.block()
    wait_until(lambda: hints.before_sleep is None, "the watch has begun")
    clock.advance(LONGEST_INTERVAL_S)
    finder.wait_for_looks(ONE, 1, within_s=5.0)


class BusyHints(FakeHints):
    """Have something happen just before the thread sleeps: it asks them then for how long."""

    before_sleep: Callable[[], object] | None = None

    def __getattribute__(self, name: str) -> Any:
        if name == "peek_interval_s" and threading.current_thread().name == "dbos-waits" and self.before_sleep:
            self.before_sleep()
        return super().__getattribute__(name)


@pytest.fixture
def busy_waits(finder: Finder, clock: ManualClock) -> Iterator[tuple[Waits, BusyHints]]:
    hints = BusyHints()
    waits = Waits(finder, hints, clock)
    yield waits, hints
    waits.stop()


def test_looks_that_take_long_are_rare(waits: Waits, finder: Finder, clock: ManualClock) -> None:
    """Polls take a small share of the time; but what is hinted at is looked for at once."""
    finder.meanwhile = lambda: clock.advance(0.1)
    promise = waits.watch(ONE)
    settle(waits)
    pauses = polls(waits, finder, clock, ONE, step_s=0.1, count=100)
    assert pauses
    assert min(pauses) >= 10
    before = len(finder.looked_for(ONE))
    finder.put(ONE)
    waits.wake(ONE.hints)
    assert promise.block() == "value"
    assert len(finder.looked_for(ONE)) == before + 1


def test_look_that_failed_is_made_again(
    hinted_waits: Waits, finder: Finder, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Soon, although the hint that caused it does not come again, and polls are rare; who looks once is told."""
    promise = hinted_waits.watch(ONE)
    settle(hinted_waits)
    finder.failures = [ConnectionError("cut")]
    finder.put(ONE)
    with caplog.at_level(logging.WARNING, "dbos"):
        hinted_waits.wake(ONE.hints)
        finder.wait_for_looks(ONE, 2)
        finder.failures = [ConnectionError("cut again")]
        with pytest.raises(ConnectionError, match="cut again"):
            hinted_waits.look(OTHER).block()
    assert "cut" in caplog.text
    for _ in range(20):
        clock.advance(LONGEST_INTERVAL_S / 10)
        settle(hinted_waits)
    assert promise.is_done
    assert promise.result() == "value"


# -- forgetting


def test_what_nobody_watches_any_more_is_not_looked_for(waits: Waits, finder: Finder, clock: ManualClock) -> None:
    """Neither by polls nor for hints, from the moment when the last one has gone."""
    with waits.watching(ONE):
        with waits.watching(ONE):
            settle(waits)
        assert not waits.is_empty
        before = len(finder.looked_for(ONE))
        waits.wake(ONE.hints)
        settle(waits)
        assert len(finder.looked_for(ONE)) == before + 1
    assert waits.is_empty
    finder.put(ONE)
    waits.wake([*ONE.hints, EVERYTHING])
    clock.advance(SELDOM_S)
    settle(waits)
    assert len(finder.looked_for(ONE)) == before + 1


def test_what_somebody_still_watches_is_never_forgotten(waits: Waits, finder: Finder, clock: ManualClock) -> None:
    """Though nobody waits at the moment: a run looks at the clock, or asks whether it may go on, and waits again."""
    with waits.watching(ONE) as promise:
        settle(waits)
        for _ in range(20):
            clock.advance(SELDOM_S)
            settle(waits)
        finder.put(ONE)
        waits.wake(ONE.hints)
        settle(waits)
        assert promise.is_done


def test_end_of_an_old_watch_does_not_end_a_new_one(waits: Waits, finder: Finder) -> None:
    """It was settled, and somebody has begun to wait for the next one."""
    old = waits.watching(ONE)
    finder.put(ONE, value=1)
    with old as first:
        assert first.block() == 1
        finder.put(ONE, value=None)
        finder.remove(ONE)
        new = waits.watch(ONE)
        settle(waits)
    assert not waits.is_empty
    finder.put(ONE, value=2)
    waits.wake(ONE.hints)
    assert new.block() == 2


def test_watches_that_come_and_go_leave_little_behind(hinted_waits: Waits, finder: Finder) -> None:
    """Not one plan for each, until the time that they were planned for."""
    hinted_waits.watch(OTHER)
    for number in range(5000):
        with hinted_waits.watching(MessageQuery(f"w{number}", "topic"), looks_now=False):
            pass
    settle(hinted_waits)
    assert len(hinted_waits._looks) < 2000


# -- stopping


def test_stopping_tells_all_who_wait_and_all_who_come_later(waits: Waits, finder: Finder) -> None:
    waiting = [waits.watch(MessageQuery(f"w{number}", "topic")) for number in range(100)]
    settle(waits)
    waits.stop()
    for promise in (*waiting, waits.watch(ONE), waits.look(ONE)):
        with pytest.raises(DBOSException, match="shut down"):
            promise.block()
    assert "dbos-waits" not in {thread.name for thread in threading.enumerate()}
    waits.stop()
    before = len(finder.looks)
    waits.wake([EVERYTHING])
    waits.attend_in(0)
    assert (len(finder.looks), waits.is_empty) == (before, True)


def test_stopping_does_not_wait_for_a_database_that_is_away(waits: Waits, finder: Finder) -> None:
    go, looks = threading.Event(), threading.Event()

    def hang() -> None:
        looks.set()
        assert go.wait(WAIT_S)

    finder.meanwhile = hang
    promise = waits.watch(ONE)
    assert looks.wait(WAIT_S)
    began = time.monotonic()
    waits.stop()
    assert time.monotonic() - began < 5.0
    with pytest.raises(DBOSException, match="shut down"):
        promise.block()
    go.set()


def test_duty_may_stop_it(waits: Waits) -> None:
    """From its own thread."""

    def stop(_: bool) -> float:
        waits.stop()
        return 1.0

    attended(waits, stop)
    with pytest.raises(DBOSException, match="shut down"):
        waits.watch(ONE).block()


# -- duties


class Duty:
    """Counts how often it is attended to, and says when it wants to be next."""

    def __init__(self, clock: ManualClock, in_s: float = SELDOM_S) -> None:
        self._clock = clock
        self.in_s = in_s
        self.times: list[float] = []
        self.told: list[bool] = []
        """Each time whether something may have happened."""
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self, is_told: bool) -> float:
        self.told.append(is_told)
        self.times.append(self._clock.monotonic())
        self.meanwhile()
        return self.in_s


def test_duties_are_attended_to_when_they_want_to_be(waits: Waits, clock: ManualClock) -> None:
    """But not more seldom than the longest interval."""
    duty = Duty(clock, 0.25)
    attended(waits, duty)
    for _ in range(8):
        clock.advance(0.0625)
        settle(waits)
        settle(waits)
    wait_until(lambda: len(duty.times) == 3, "the time has come twice")
    assert duty.times == [0.0, 0.25, 0.5]
    duty.in_s = SELDOM_S
    clock.advance(0.25)
    waits.attend_in(SELDOM_S)
    wait_until(lambda: len(duty.times) == 4, "the time has come")
    clock.advance(LONGEST_INTERVAL_S)
    waits.attend_in(SELDOM_S)
    wait_until(lambda: len(duty.times) == 5, "the longest interval is over")


def test_duties_are_attended_to_though_somebody_waited_before(
    hinted_waits: Waits, finder: Finder, clock: ManualClock
) -> None:
    """A workflow that was recovered at launch, say: the thread sleeps already, with nothing to wake it."""
    finder.put(ONE)
    assert hinted_waits.watch(ONE).block() == "value"
    (thread,) = (thread.ident for thread in threading.enumerate() if thread.name == "dbos-waits")
    assert thread is not None
    wait_until(lambda: sys._current_frames()[thread].f_code is Bell.wait.__code__, "the thread sleeps")
    attended(hinted_waits, Duty(clock))


def test_duties_are_attended_to_earlier_if_somebody_says_so(waits: Waits, clock: ManualClock) -> None:
    """Also if that happens while they are attended to."""
    duty = Duty(clock)
    attended(waits, duty)
    waits.attend_in(0.25)
    settle(waits)
    assert len(duty.times) == 1
    clock.advance(0.25)
    waits.attend_in(0.5)
    wait_until(lambda: len(duty.times) == 2, "the time has come")

    def once_more() -> None:
        duty.meanwhile = lambda: None
        waits.attend_in(0)

    duty.meanwhile = once_more
    waits.attend_in(0)
    wait_until(lambda: len(duty.times) == 4, "it was attended to once more")


def test_duties_are_told_what_may_have_happened(waits: Waits, clock: ManualClock) -> None:
    """When nobody says more than that the time has come, there is no reason to look for anything else."""
    duty = Duty(clock)
    attended(waits, duty)
    for told, expected in ((lambda: waits.attend_in(0), False), (waits.attend_now, True), (waits.attend_now, True)):
        before = len(duty.times)
        told()
        wait_until(lambda: len(duty.times) == before + 1, "it was attended to")  # noqa: B023
        assert duty.told[before:] == [expected]


def test_duty_that_failed_is_attended_to_again(
    waits: Waits, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    duty = Duty(clock)

    def fail() -> None:
        duty.meanwhile = lambda: None
        raise ConnectionError("cut")

    attended(waits, duty)
    duty.meanwhile = fail
    with caplog.at_level(logging.WARNING, "dbos"):
        waits.attend_in(0)
        wait_until(lambda: len(duty.times) == 2, "it was attended to")
        clock.advance(LONGEST_INTERVAL_S)
        waits.attend_in(SELDOM_S)
        wait_until(lambda: len(duty.times) == 3, "it was attended to again")
    assert "cut" in caplog.text
    duty.meanwhile = fail
    waits.attend_now()
    wait_until(lambda: len(duty.times) == 4, "it was attended to")
    waits.attend_in(0)
    wait_until(lambda: len(duty.times) == 5, "it was attended to again")
    assert duty.told[3:] == [True, True], "what happened is not forgotten with the failure"


def test_duties_are_attended_however_much_there_is_to_look_for(
    waits: Waits, finder: Finder, clock: ManualClock
) -> None:
    """Whenever a look ends, the next one is due already."""
    duty = Duty(clock)
    attended(waits, duty)
    enough = threading.Event()

    def come_again() -> None:
        if len(finder.looks) > 1000 or len(duty.times) > 1:
            finder.meanwhile = lambda: None
            enough.set()
        waits.wake(ONE.hints)

    finder.meanwhile = come_again
    waits.watch(ONE)
    waits.attend_in(0)
    assert enough.wait(WAIT_S)
    assert len(duty.times) == 2
    assert len(finder.looks) < 100


# -- the file


@pytest.fixture
def file() -> FakeHints:
    """A file that is peeked at often."""
    return FakeHints(is_live=True, peek_interval_s=0.002)


@pytest.fixture
def file_waits(finder: Finder, file: FakeHints) -> Iterator[Waits]:
    """Waits that watch a file, while time passes."""
    waits = Waits(finder, file, SystemClock(), SELDOM_S)
    yield waits
    waits.stop()


def test_change_of_the_file_has_all_looked_for(file_waits: Waits, finder: Finder, file: FakeHints) -> None:
    """And a file that does not change nothing."""
    promises = {query: file_waits.watch(query) for query in (ONE, OTHER)}
    file.wait_for_peeks(10)
    assert len(finder.looks) <= 2
    finder.put(ONE)
    before = len(finder.looked_for(OTHER))
    file.has_changed = True
    assert promises[ONE].block() == "value"
    file.wait_for_peeks(10)
    assert (promises[OTHER].is_done, len(finder.looked_for(OTHER))) == (False, before + 1)


def test_change_of_the_file_has_duties_attended_to(file_waits: Waits, clock: ManualClock, file: FakeHints) -> None:
    """Also if nobody waits."""
    duty = Duty(clock)
    attended(file_waits, duty)
    file.wait_for_peeks(3)
    assert len(duty.times) == 1
    file.has_changed = True
    wait_until(lambda: len(duty.times) == 2, "it was attended to")
    file_waits.watch(ONE)
    file.wait_for_peeks(3)
    file.has_changed = True
    wait_until(lambda: len(duty.times) == 3, "it was attended to again")
    assert duty.told[1:] == [True, True]


def test_file_is_not_peeked_at_without_cause(file_waits: Waits, file: FakeHints) -> None:
    """A client that waits for nothing has no use for it."""
    assert file_waits.look(ONE).block() is None
    settle(file_waits)
    assert file.peeks == 0


def test_file_is_peeked_at_however_often_the_bell_rings(finder: Finder, file: FakeHints) -> None:
    """This process's own waits come and go faster than the peeks."""
    waits = Waits(finder, file, SystemClock(), SELDOM_S)
    queries = [MessageQuery(f"w{number}", "topic") for number in range(2000)]
    finder.put(*queries)
    waits.watch(ONE)
    began = time.monotonic()
    for query in queries:
        waits.watch(query).block()
    took_s = time.monotonic() - began
    waits.stop()
    assert file.peeks >= took_s / 0.002 / 10


# -- asking other processes


def test_ends_are_asked_for_as_long_as_somebody_waits_for_them(
    waits: Waits, finder: Finder, hints: FakeHints, clock: ManualClock
) -> None:
    """Messages and events are told anyway."""
    outcome, stream = OutcomeQuery("w"), StreamQuery("v", "key", 0)
    for query in (outcome, stream, ONE, EventQuery("w", "key")):
        waits.watch(query)
    asked = {ASKING + hint for query in (outcome, stream) for hint in query.interests}
    assert set(hints.published) == asked
    settle(waits)
    hints.published.clear()
    waiting = waits.watch(outcome)
    waiting.then(lambda: None)
    for _ in range(60):
        clock.advance(1.0)
        settle(waits)
    wait_until(lambda: set(hints.published) >= {ASKING + hint for hint in outcome.interests}, "it was asked again")
    finder.put(outcome)
    waits.wake(outcome.hints)
    waiting.block()
    settle(waits)
    hints.published.clear()
    for _ in range(60):
        clock.advance(1.0)
        settle(waits)
        settle(waits)
    assert not set(hints.published) & {ASKING + hint for hint in outcome.interests}
