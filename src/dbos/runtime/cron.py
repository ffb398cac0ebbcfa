"""Cron expressions: what they may be, and when they fire. All times are UTC.

The parsing is ``cronsim``'s. What it understands in other ways than programs of version 2 expect is rewritten for it:
names for whole expressions, ``?``, ``L5``, and steps of days, which together with days of the week mean either of both,
as all other restrictions of days do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from dbos.error import DBOSException
from dbos.model.schedules import MAX_CRON_CHARS, to_datetime, to_ms

if TYPE_CHECKING:
    from cronsim import CronSim

_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_DAYS, _WEEKDAYS = -3, -1
"""Where the fields of the days are, with seconds or without."""

_ALL = {_DAYS: ("?", "*/1", "1-31"), _WEEKDAYS: ("?", "*/1", "0-6", "0-7", "1-7")}
"""What restricts these fields no more than a star does."""

_STEP = re.compile(r"(?<![^,])\*/0*([2-9]|[1-9][0-9]+)(?![^,])")
_LAST_WEEKDAY = re.compile(r"(?<![^,])L([0-7])(?![^,])", re.IGNORECASE)

_SAMPLE = datetime(2024, 1, 1, tzinfo=timezone.utc)


class Cron:
    """A cron expression of five fields, or of six with the seconds first.

    Raises:
        DBOSException: It is none, or asks for a day that no month has.
    """

    __slots__ = ("_fields", "expression")

    def __init__(self, expression: object) -> None:
        if not isinstance(expression, str):
            raise TypeError(f"A cron expression must be a str, not {type(expression).__name__}.")
        self.expression = str.__str__(expression)
        self._fields = _normalized(self.expression)
        try:
            self._times(_SAMPLE)
        except ValueError as error:
            raise invalid(self.expression, str(error)) from None

    def next_after_ms(self, time_ms: int) -> int | None:
        """The first fire time after this one, in epoch milliseconds; ``None`` if there is none within 50 years."""
        for at in self.times_after(to_datetime(time_ms)):
            return to_ms(at)
        return None

    def times_after(self, time: datetime) -> Iterator[datetime]:
        """The fire times after this one, in UTC; none beyond the end of the calendar."""
        try:
            yield from self._times(time.astimezone(timezone.utc))
        except OverflowError:
            return

    def _times(self, time: datetime) -> CronSim:
        from cronsim import CronSim, CronSimError

        try:
            return CronSim(self._fields, time)
        except CronSimError as error:
            raise ValueError(str(error)) from None


def invalid(expression: str, reason: str) -> DBOSException:
    """The error for what is no cron expression."""
    return DBOSException(
        f"The cron expression {expression[:100]!r} is invalid: {reason[:1].lower()}{reason[1:]}. It must have five "
        "fields (minute, hour, day of the month, month, day of the week), or six with the second first: '0 3 * * 1-5', "
        "'*/10 * * * * *'."
    )


def _normalized(expression: str) -> str:
    """The expression in ``cronsim``'s words."""
    if len(expression) > MAX_CRON_CHARS:
        raise invalid(expression, f"it is longer than {MAX_CRON_CHARS} characters")
    text = _ALIASES.get(expression.strip().lower(), expression)
    if not text.isascii():
        raise invalid(expression, "it holds letters or digits that are not ASCII")
    fields = text.split()
    if len(fields) not in (5, 6):
        raise invalid(expression, f"it has {len(fields)} fields")
    for number, unrestricted in _ALL.items():
        fields[number] = "*" if fields[number] in unrestricted else fields[number]
    fields[_WEEKDAYS] = _LAST_WEEKDAY.sub(r"\1L", fields[_WEEKDAYS])
    if fields[_DAYS] != "*" and fields[_WEEKDAYS] != "*":
        # A field that begins with a star is no restriction for Debian's cron, and its days must then match both.
        fields[_DAYS] = _STEP.sub(r"1-31/\1", fields[_DAYS])
        fields[_WEEKDAYS] = _STEP.sub(r"0-6/\1", fields[_WEEKDAYS])
    return " ".join(fields)
