"""Limits, statuses and the clock."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from dbos.model.clock import SystemClock
from dbos.model.limits import MAX_DERIVED_ID_BYTES, MAX_ID_BYTES, check_storable, check_workflow_id
from dbos.model.status import LIVE, PENDING, SUCCESS, WorkflowStatusString
from dbos.model.values import Outcome, RunWrites
from tests.support.clock import ManualClock
from tests.support.storage import checkpoint


@pytest.mark.parametrize(
    "good", ["a", " ", "größe 🎉", "with 'quotes' and \"\\\"", "x" * MAX_ID_BYTES, "é" * (MAX_ID_BYTES // 2)]
)
def test_an_id_may_be_any_text_within_the_limit(good: str) -> None:
    assert check_workflow_id(good) == good


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("", "must not be empty"),
        ("x" * (MAX_ID_BYTES + 1), f"at most {MAX_ID_BYTES} bytes.*'xxx.*has {MAX_ID_BYTES + 1}"),
        ("é" * MAX_ID_BYTES, f"has {2 * MAX_ID_BYTES}"),
        ("a\x00b", "NUL"),
        ("a\ud800", "surrogates"),
    ],
)
def test_a_bad_id_is_refused_with_the_reason(bad: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_workflow_id(bad)


@pytest.mark.parametrize("bad", [None, 7, b"bytes", ["a"]])
def test_an_id_is_a_text(bad: Any) -> None:
    with pytest.raises(TypeError, match=f"must be a str, not {type(bad).__name__}"):
        check_workflow_id(bad)


def test_what_is_not_storable_is_named_and_shortened() -> None:
    with pytest.raises(ValueError, match=r"^The topic must not contain NUL") as caught:
        check_storable("x" * 10_000 + "\x00", "The topic")
    assert len(str(caught.value)) < 200


def test_ids_of_many_generations_fit_into_an_index() -> None:
    """A PostgreSQL index entry holds some 2700 bytes."""
    assert MAX_ID_BYTES < MAX_DERIVED_ID_BYTES <= 2600


def test_statuses_are_their_names() -> None:
    names = {"ENQUEUED", "PENDING", "SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"}
    assert (
        {status.value for status in WorkflowStatusString} == {status.name for status in WorkflowStatusString} == names
    )
    assert WorkflowStatusString.SUCCESS == "SUCCESS" == SUCCESS
    assert json.dumps(WorkflowStatusString.PENDING) == f'"{PENDING}"'
    assert {"ENQUEUED", "PENDING"} == LIVE


def test_only_a_run_without_writes_is_a_check() -> None:
    assert RunWrites("w", "t").is_check
    assert not RunWrites("w", "t", [checkpoint(1)]).is_check
    assert not RunWrites("w", "t", outcome=Outcome("SUCCESS", None, None, None)).is_check


def test_the_clock_counts_milliseconds_since_the_epoch_and_never_goes_back() -> None:
    clock = SystemClock()
    before, now, after = time.time(), clock.now_ms(), time.time()
    assert int(before * 1000) - 1 <= now <= int(after * 1000) + 1
    readings = [clock.monotonic() for _ in range(1000)]
    assert readings == sorted(readings)


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only some systems have this clock")
def test_durations_count_on_while_the_machine_is_suspended() -> None:
    low = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert low <= SystemClock().monotonic() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_a_manual_clock_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(now_ms=1000)
    assert [clock.monotonic(), clock.monotonic(), clock.now_ms()] == [0.0, 0.0, 1000]
    clock.advance(1.5)
    assert [clock.monotonic(), clock.now_ms()] == [1.5, 2500]
