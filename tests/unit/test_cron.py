"""Cron expressions: what they mean, what is refused, and that no time zone changes anything."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbos.error import DBOSException
from dbos.model.schedules import MAX_CRON_CHARS
from dbos.runtime.cron import Cron

START = datetime(2024, 2, 27, 22, 59, 59, 500_000, tzinfo=timezone.utc)
"""Shortly before a leap day, and not on a whole second."""


def times(expression: str, count: int = 3, after: datetime = START) -> list[str]:
    """The first fire times."""
    return [at.isoformat() for at in itertools.islice(Cron(expression).times_after(after), count)]


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("* * * * *", ["2024-02-27T23:00:00", "2024-02-27T23:01:00", "2024-02-27T23:02:00"]),
        ("* * * * * *", ["2024-02-27T23:00:00", "2024-02-27T23:00:01", "2024-02-27T23:00:02"]),
        ("*/20 * * * * *", ["2024-02-27T23:00:00", "2024-02-27T23:00:20", "2024-02-27T23:00:40"]),
        ("30 0 0 * * *", ["2024-02-28T00:00:30", "2024-02-29T00:00:30", "2024-03-01T00:00:30"]),
        ("0 0 29 2 *", ["2024-02-29T00:00:00", "2028-02-29T00:00:00", "2032-02-29T00:00:00"]),
        (" 5\t4 * * *\n", ["2024-02-28T04:05:00", "2024-02-29T04:05:00", "2024-03-01T04:05:00"]),
        ("0 9 * jan-mar mon,FRI", ["2024-03-01T09:00:00", "2024-03-04T09:00:00", "2024-03-08T09:00:00"]),
        ("0 0 L * *", ["2024-02-29T00:00:00", "2024-03-31T00:00:00", "2024-04-30T00:00:00"]),
        ("0 0 * * 7", ["2024-03-03T00:00:00", "2024-03-10T00:00:00", "2024-03-17T00:00:00"]),
        ("0 0 * * 5#3", ["2024-03-15T00:00:00", "2024-04-19T00:00:00", "2024-05-17T00:00:00"]),
        ("0 0 ? * L5", ["2024-03-29T00:00:00", "2024-04-26T00:00:00", "2024-05-31T00:00:00"]),
        ("@hourly", ["2024-02-27T23:00:00", "2024-02-28T00:00:00", "2024-02-28T01:00:00"]),
        ("@Weekly", ["2024-03-03T00:00:00", "2024-03-10T00:00:00", "2024-03-17T00:00:00"]),
        ("@yearly", ["2025-01-01T00:00:00", "2026-01-01T00:00:00", "2027-01-01T00:00:00"]),
        # Restricted days of the month and of the week: either of both.
        ("0 0 1 * 5", ["2024-03-01T00:00:00", "2024-03-08T00:00:00", "2024-03-15T00:00:00"]),
        ("0 0 */20 * 5", ["2024-03-01T00:00:00", "2024-03-08T00:00:00", "2024-03-15T00:00:00"]),
        ("0 0 4 * 0-6", ["2024-03-04T00:00:00", "2024-04-04T00:00:00", "2024-05-04T00:00:00"]),
        ("0 0 */1 * 1", ["2024-03-04T00:00:00", "2024-03-11T00:00:00", "2024-03-18T00:00:00"]),
        ("0 0 4 * */3", ["2024-02-28T00:00:00", "2024-03-02T00:00:00", "2024-03-03T00:00:00"]),
    ],
)
def test_expression_fires_at_these_times(expression: str, first: list[str]) -> None:
    assert times(expression) == [f"{at}+00:00" for at in first]


@pytest.mark.parametrize(
    "expression",
    [
        "",
        " ",
        "bogus",
        "60 * * * *",
        "* 24 * * *",
        "0 0 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "-1 * * * *",
        "1.5 * * * *",
        "*/0 * * * *",
        "10-5 * * * *",
        "1,,2 * * * *",
        "* * * *",
        "* * * * * * *",
        "0 0 30 2 *",
        "0 0 31 2,4 *",
        "@every 5s",
        "@reboot",
        "R * * * *",
        "H * * * *",
        "١ * * * *",
        "* " * MAX_CRON_CHARS,
    ],
)
def test_nonsense_is_refused_and_named(expression: str) -> None:
    with pytest.raises(DBOSException, match=r"The cron expression .* is invalid: .*five fields") as refusal:
        Cron(expression)
    assert repr(expression[:100]) in refusal.value.message


@pytest.mark.parametrize("expression", [None, 5, b"* * * * *", ["*"] * 5])
def test_what_is_no_text_is_refused(expression: object) -> None:
    with pytest.raises(TypeError, match="must be a str"):
        Cron(expression)


def test_the_end_of_the_calendar_ends_the_times() -> None:
    end = datetime.max.replace(tzinfo=timezone.utc)
    assert len(list(itertools.islice(Cron("0 0 1 1 *").times_after(end - timedelta(days=800)), 5))) <= 3


@pytest.fixture(params=["America/New_York", "Australia/Lord_Howe", "UTC"])
def local_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The machine is in this zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.delenv("TZ")
    time.tzset()


@pytest.mark.parametrize("day", [datetime(2024, 3, 10), datetime(2024, 11, 3), datetime(2024, 4, 7)])
def test_no_zone_and_no_change_of_its_clocks_moves_a_fire_time(local_zone: str, day: datetime) -> None:
    """New York's clocks change on the first two of these days, Lord Howe's, by half an hour, on the third."""
    after = day.replace(tzinfo=timezone.utc) - timedelta(minutes=1)
    hourly = times("30 * * * *", 26, after)
    assert hourly == [(after + timedelta(minutes=31 + 60 * hour)).isoformat() for hour in range(26)]
    assert times("30 2 * * *", 1, after) == [day.replace(hour=2, minute=30, tzinfo=timezone.utc).isoformat()]


def test_a_start_in_another_zone_is_a_moment_as_any_other() -> None:
    there = timezone(timedelta(hours=-5))
    assert times("0 * * * *", 1, datetime(2024, 3, 10, 1, 59, tzinfo=there)) == ["2024-03-10T07:00:00+00:00"]


# -- compared with another implementation, that of version 2


def _field(low: int, high: int, most: int = 3) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    ranges = st.tuples(number, number).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: f"{pair[0]}-{pair[1]}")
    steps = st.tuples(st.just("*") | ranges, st.integers(2, 9)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    item = number.map(str) | ranges | steps
    return st.just("*") | st.lists(item, min_size=1, max_size=most).map(",".join)


FIELDS = (_field(0, 59), _field(0, 23), _field(1, 28), _field(1, 12), _field(1, 5, most=1))
"""Without weekdays that amount to all of them: the other takes some of them for a restriction."""


@settings(max_examples=200, deadline=None)
@given(st.tuples(*FIELDS), st.none() | _field(0, 59), st.integers(0, 4 * 366 * 86400))
def test_fires_when_the_other_implementation_does(fields: tuple[str, ...], seconds: str | None, later: int) -> None:
    from croniter import croniter

    expression = " ".join(fields if seconds is None else (seconds, *fields))
    after = datetime(2024, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=later)
    other = croniter(expression, after, second_at_beginning=True)
    expected = [other.get_next(datetime).isoformat() for _ in range(5)]
    assert times(expression, 5, after) == expected, expression
