"""Whose end other processes wait for."""

from __future__ import annotations

import pytest

from dbos.runtime import waits
from dbos.runtime.interests import REMEMBER_S, Interests
from dbos.storage.waiting import hint
from tests.support.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    clock = ManualClock()
    clock.advance(1000.0)
    return clock


@pytest.fixture
def interests(clock: ManualClock) -> Interests:
    return Interests(clock)


def hints(*workflow_ids: str) -> list[str]:
    """The hints that these workflows have ended."""
    return [hint("outcome", workflow_id) for workflow_id in workflow_ids]


def test_ends_that_nobody_asked_for_are_not_told(interests: Interests) -> None:
    assert interests.ended(["a", "b"]) == []
    assert interests.asked(hints("c")) == []
    assert interests.ended(["d"]) == []


def test_ends_that_were_asked_for_are_told(interests: Interests) -> None:
    """Those and no others, each once: whoever waits for another end of it asks again."""
    assert interests.asked(hints("a", "b")) == []
    assert interests.asked(hints("c")) == []
    assert interests.ended(["a", "x", "c"]) == hints("a", "c")
    assert interests.ended(["a", "c"]) == []
    assert interests.ended(["b"]) == hints("b")
    interests.asked(hints("b"))
    assert interests.ended(["b"]) == hints("b")


def test_who_asks_for_what_has_just_ended_is_told_at_once(interests: Interests, clock: ManualClock) -> None:
    """The question was on its way, and so was the end."""
    interests.ended(["a", "b"])
    clock.advance(0.25)
    interests.ended(["c"])
    assert interests.asked(hints("b", "x", "c")) == hints("b", "c")
    assert interests.asked(hints("b")) == hints("b"), "another process may ask as well"


def test_what_ended_some_time_ago_is_found_by_who_looks(interests: Interests, clock: ManualClock) -> None:
    interests.ended(["a"])
    clock.advance(10.0)
    assert interests.asked(hints("a")) == []


def test_question_counts_for_as_long_as_it_is_asked_again(interests: Interests, clock: ManualClock) -> None:
    interests.asked(hints("a", "b"))
    for _ in range(10):
        clock.advance(REMEMBER_S / 2)
        interests.asked(hints("a"))
    assert interests.ended(["a", "b"]) == hints("a")
    interests.asked(hints("c"))
    clock.advance(REMEMBER_S * 2)
    assert interests.ended(["c"]) == []


def test_questions_are_asked_again_before_they_are_forgotten() -> None:
    """Also if one of the questions is lost."""
    assert waits._ASK_AGAIN_S * 2 <= REMEMBER_S


def test_memory_does_not_grow_with_what_has_been(interests: Interests, clock: ManualClock) -> None:
    """Neither with the questions of processes that have gone, nor with the ends."""
    for minute in range(50):
        interests.asked(hints(*(f"{minute} {number}" for number in range(100))))
        interests.ended([f"ended {minute} {number}" for number in range(100)])
        clock.advance(REMEMBER_S)
    remembered = interests._asked, interests._lately
    assert max(map(len, remembered)) <= 300
