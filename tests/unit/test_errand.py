"""Errands: done in the background one at a time, and never forgotten."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest

from dbos.runtime.threads import ElasticThreads, Errand
from dbos.storage.errors import JournalClosed
from tests.support.apps import eventually

WAIT_S = 30.0


class Work:
    """What an errand does: counts how often, and does meanwhile what the test wants."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.begun = 0
        self.done = 0
        self.running = 0
        self.most = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self) -> None:
        with self._changed:
            self.begun += 1
            self.running += 1
            self.most = max(self.most, self.running)
            self._changed.notify_all()
        try:
            self.meanwhile()
        finally:
            with self._changed:
                self.running -= 1
                self.done += 1
                self._changed.notify_all()

    def wait_until_done(self, times: int) -> None:
        """Wait until it was done so many times."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.done >= times, WAIT_S), f"it was done {self.done} times only"

    def wait_until_begun(self, times: int) -> None:
        """Wait until it was begun so many times."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.begun >= times, WAIT_S), f"it was begun {self.begun} times only"


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def errand(work: Work) -> Errand:
    return Errand(ElasticThreads("test"), work, "The errand")


def idle(errand: Errand) -> None:
    """Wait until it is not being done any more."""
    eventually(lambda: not errand.is_running, "the errand is over")


def test_errand_is_done_in_the_background_each_time(errand: Errand, work: Work) -> None:
    threads: list[threading.Thread] = []
    work.meanwhile = lambda: threads.append(threading.current_thread())
    for times in (1, 2, 3):
        errand.run_soon()
        work.wait_until_done(times)
        idle(errand)
    assert work.done == 3
    assert threading.current_thread() not in threads


def test_errand_asked_for_while_it_is_done_is_done_once_more(errand: Errand, work: Work) -> None:
    """And not more often, however often it was asked for: what it is asked for now may be too late for this time."""
    go = threading.Event()
    work.meanwhile = lambda: go.wait(WAIT_S)
    errand.run_soon()
    work.wait_until_begun(1)
    for _ in range(10):
        errand.run_soon()
    assert (work.begun, errand.is_running) == (1, True)
    go.set()
    work.wait_until_done(2)
    idle(errand)
    assert work.done == 2


def test_errand_of_many_threads_is_done_one_at_a_time_and_after_the_last_word(errand: Errand, work: Work) -> None:
    """Whoever asks can count on a run that begins after it asked."""

    def ask(number: int) -> None:
        for _ in range(200):
            before = work.begun
            errand.run_soon()
            eventually(lambda: work.begun > before, "it was begun after it was asked for")  # noqa: B023

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(4)))
    idle(errand)
    assert (work.most, work.done) == (1, work.begun)


def test_errand_that_failed_can_be_asked_for_again(
    errand: Errand, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("wrong")

    work.meanwhile = fail
    with caplog.at_level(logging.WARNING, "dbos"):
        errand.run_soon()
        work.wait_until_done(1)
        idle(errand)
    assert "The errand failed" in caplog.text
    assert "wrong" in caplog.text
    errand.run_soon()
    work.wait_until_done(2)


def test_errand_that_fails_while_it_is_asked_for_again_is_done_again(errand: Errand, work: Work) -> None:
    def fail() -> None:
        work.meanwhile = lambda: None
        errand.run_soon()
        raise ValueError("wrong")

    work.meanwhile = fail
    errand.run_soon()
    work.wait_until_done(2)


@pytest.mark.parametrize("error", [JournalClosed("closed"), SystemExit(), KeyboardInterrupt()])
def test_errand_can_be_done_again_whatever_it_raised(errand: Errand, work: Work, error: BaseException) -> None:
    def stop() -> None:
        work.meanwhile = lambda: None
        raise error

    work.meanwhile = stop
    errand.run_soon()
    work.wait_until_done(1)
    idle(errand)
    errand.run_soon()
    work.wait_until_done(2)


def test_shutdown_is_no_failure_of_an_errand(errand: Errand, work: Work, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the closed journal, nor whatever fails after it was stopped."""
    errors: list[BaseException] = [JournalClosed("closed"), ValueError("wrong")]

    def fail() -> None:
        error = errors.pop(0)
        if isinstance(error, ValueError):
            errand.stop()
        raise error

    work.meanwhile = fail
    with caplog.at_level(logging.DEBUG, "dbos"):
        for times in (1, 2):
            errand.run_soon()
            work.wait_until_done(times)
            idle(errand)
    assert caplog.records == []


def test_errand_that_was_stopped_is_not_done(errand: Errand, work: Work) -> None:
    """Nor once more, if it was being done and asked for again."""
    go = threading.Event()
    work.meanwhile = lambda: go.wait(WAIT_S)
    errand.run_soon()
    work.wait_until_begun(1)
    errand.run_soon()
    errand.stop()
    go.set()
    idle(errand)
    errand.run_soon()
    assert (work.begun, errand.is_running) == (1, False)


def test_errand_for_which_there_is_no_thread_is_put_off(
    errand: Errand, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    def start_none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with patch.object(threading.Thread, "start", start_none), caplog.at_level(logging.ERROR, "dbos"):
        errand.run_soon()
        errand.run_soon()
    assert "The errand is put off" in caplog.text
    assert (work.begun, errand.is_running) == (0, False)
    errand.run_soon()
    work.wait_until_done(1)
