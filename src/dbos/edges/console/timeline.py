"""The timeline of a workflow: what is recorded of it, as rows with bars along one axis of time.

Recorded is what has ended. A step that runs is not there yet, so what happens now is told by one more row, which is
open. A wait with a timeout is recorded twice, how it ended and, under the next number, when it is over at the latest:
here it is one row. While it lasts only the second is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dbos.model.durations import in_words
from dbos.model.status import ERROR, MAX_RECOVERY_ATTEMPTS_EXCEEDED
from dbos.runtime.children import GET_RESULT
from dbos.runtime.events import GET_EVENT, SET_EVENT
from dbos.runtime.messages import RECV, SEND
from dbos.runtime.sleeping import SLEEP
from dbos.runtime.streams import CLOSE_STREAM, WRITE_STREAM
from dbos.serialization.display import display
from dbos.storage.family import Relative
from dbos.storage.stored_values import StoredValue
from dbos.storage.timeline import TimelineStep

Kind = Literal["step", "call", "wait", "child", "queue", "now"]

_WAITS = frozenset({RECV, GET_EVENT})
"""Calls that record under the next number when they are over at the latest."""

_WORDS = {
    SEND: "send a message",
    SET_EVENT: "set an event",
    WRITE_STREAM: "write to a stream",
    CLOSE_STREAM: "close a stream",
}

_NICE = (1, 2, 5)
_UNITS_MS = (1, 10, 100, 1_000, 10_000, 60_000, 600_000, 3_600_000, 36_000_000, 86_400_000, 864_000_000, 8_640_000_000)
_STEPS_MS = tuple(unit * factor for unit in _UNITS_MS for factor in _NICE)
_LADDER = (10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120)
_MOST_TICKS = 6
_NARROWEST = 0.4
"""How wide a bar is at least, in percent, so that it can be seen."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        kind: What it shows.
        title: The same in words.
        number: The step's; ``None`` for what is not recorded as a step.
        start: When it began; ``None`` if that is not recorded.
        end: When it ended; ``None`` if that is not recorded, or it has not.
        is_open: Whether it has not ended.
        until: When a wait is over at the latest.
        step: What is recorded.
        child: The workflow that it started or waited for, if it is still there.
        rows: The child's own rows, as far as they are shown.
        more: How many more steps of the child are recorded.
        events: The events that it set.
    """

    kind: Kind
    title: str
    number: int | None = None
    start: int | None = None
    end: int | None = None
    is_open: bool = False
    until: int | None = None
    step: TimelineStep | None = None
    child: Relative | None = None
    rows: Sequence[Row] = ()
    more: int = 0
    events: Sequence[str] = ()

    @property
    def took_ms(self) -> int | None:
        """How long it took."""
        return None if self.start is None or self.end is None else max(0, self.end - self.start)

    @property
    def value(self) -> StoredValue | None:
        """What the step gave or raised; that of a wait says when it is over, and is no value of anybody's."""
        if self.step is None:
            return None
        return self.step.error or (None if self.step.name == SLEEP else self.step.output)

    @property
    def is_error(self) -> bool:
        """Whether it failed, or the child that it started did."""
        if self.kind == "child" and self.child is not None:
            return self.child.status in (ERROR, MAX_RECOVERY_ATTEMPTS_EXCEEDED)
        return self.step is not None and self.step.error is not None


@dataclass(frozen=True, slots=True)
class Bar:
    """Where a row's bar lies, in percent of the axis."""

    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Axis:
    """The axis of time that rows share. Times are epoch milliseconds."""

    start: int
    end: int

    def bar(self, row: Row) -> Bar | None:
        """The row's bar; ``None`` if it is not recorded when it was, or that is off the axis."""
        if row.start is None:
            return None
        end = self.end if row.is_open or row.end is None else row.end
        if end < self.start or row.start > self.end:
            return None
        x = min(self._place(row.start), 100 - _NARROWEST)
        return Bar(x, max(_NARROWEST, round(self._place(end) - x, 2)))

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Where there are marks, in percent, and what they say."""
        span = self.end - self.start
        step = next((step for step in _STEPS_MS if span / step <= _MOST_TICKS), None)
        if step is None or span <= 0:
            return [(0, "0")]
        return [(self._place(self.start + at), brief(at) if at else "0") for at in range(0, span + 1, step)]

    def _place(self, moment: int) -> float:
        if self.end <= self.start:
            return 0
        return round(min(max(100 * (moment - self.start) / (self.end - self.start), 0), 100), 2)


def axis_of(rows: Sequence[Row], now: int) -> Axis:
    """The axis on which all the rows are; if one is open, it goes on for a while, and changes only now and then."""
    starts = [row.start for row in rows if row.start is not None]
    if not starts:
        return Axis(now, now)
    start = min(starts)
    end = max(start, *(row.end for row in rows if row.end is not None), *starts)
    if any(row.is_open for row in rows):
        end = start + _round_up(max(now, end) - start)
    return Axis(start, end)


def _round_up(span: int) -> int:
    """A length of time that is a little longer, and the same for a while."""
    unit = int(f"1{'0' * max(2, len(str(span)) - 1)}")
    return next(length for factor in _LADDER if (length := unit * factor // 10) > span)


def brief(milliseconds: float) -> str:
    """A length of time as people say it, also a short one."""
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else in_words(milliseconds)


class Recorded:
    """Makes rows of what is recorded.

    Args:
        relatives: The workflows that steps started or waited for, by id.
        steps: Steps of some of them.
        last_numbers: The number of the last step of each.
        events: Which events steps set, by the ids of their workflows and their numbers.
        now: What time it is.
    """

    def __init__(
        self,
        relatives: Mapping[str, Relative],
        steps: Mapping[str, Sequence[TimelineStep]],
        last_numbers: Mapping[str, int],
        events: Mapping[tuple[str, int], Sequence[str]],
        now: int,
    ) -> None:
        self._relatives = relatives
        self._steps = steps
        self._last_numbers = last_numbers
        self._events = events
        self._now = now

    def rows(
        self,
        steps: Sequence[TimelineStep],
        *,
        ended_at: int | None,
        first: int | None = None,
        last: int | None = None,
        depth: int = 2,
    ) -> list[Row]:
        """The rows of steps.

        Args:
            steps: In order; with those beside the ones to be shown, as far as there are any.
            ended_at: When their workflow ended, if it has.
            first: The number of the first step to be shown.
            last: The number of the last one.
            depth: For how many generations rows of children are within their parents'.
        """
        by_number = {step.function_id: step for step in steps}
        rows: list[Row] = []
        for step in steps:
            number = step.function_id
            is_shown = (first is None or number >= first) and (last is None or number <= last)
            before = by_number.get(number - 1)
            if is_shown and not (step.name == SLEEP and before is not None and before.name in _WAITS):
                rows.append(self._row(step, before, by_number.get(number + 1), ended_at, depth))
        return rows

    def _row(
        self,
        step: TimelineStep,
        before: TimelineStep | None,
        after: TimelineStep | None,
        ended_at: int | None,
        depth: int,
    ) -> Row:
        number, start, end = step.function_id, step.started_at, step.completed_at
        if step.name == SLEEP:
            # The call that a wait belongs to has the number before, and is recorded when it is over.
            title = "sleep" if before is not None or number == 1 else "wait for a message or an event"
            until = _until(step)
            is_open = ended_at is None and until is not None and until > self._now
            over_at = until if ended_at is None or until is None else min(until, ended_at)
            end = None if is_open else over_at
            return Row("wait", title, number, start, end, is_open=is_open, until=until, step=step)
        if step.name in _WAITS:
            title = "receive a message" if step.name == RECV else "get an event"
            until = _until(after) if after is not None and after.name == SLEEP else None
            return Row("wait", title, number, start, end, until=until, step=step)
        child = self._relatives.get(step.child_workflow_id or "")
        if step.name == GET_RESULT:
            return Row("wait", "wait for a result", number, start, end, step=step, child=child)
        events = self._events.get((step.workflow_id, number), ())
        if step.child_workflow_id is None:
            kind: Kind = "call" if step.name.startswith("DBOS.") else "step"
            return Row(kind, _WORDS.get(step.name, step.name), number, start, end, step=step, events=events)
        if child is None:
            return Row("child", step.name, number, start, end, step=step)
        its_steps = self._steps.get(child.workflow_id, ()) if depth else ()
        rows = self.rows(its_steps, ended_at=child.ended_at, depth=depth - 1)
        more = self._last_numbers.get(child.workflow_id, 0) - (its_steps[-1].function_id if its_steps else 0)
        return Row(
            "child",
            step.name,
            number,
            child.created_at,
            child.ended_at,
            is_open=child.ended_at is None,
            step=step,
            child=child,
            rows=rows,
            more=max(0, more),
        )


def _until(step: TimelineStep) -> int | None:
    """When a recorded wait is over at the latest; ``None`` if that cannot be read."""
    if step.output is None or step.output.text is None:
        return None
    seconds = display(step.output.text, step.output.format)
    if not isinstance(seconds, int | float) or not 0 <= seconds < 1e12:
        return None
    return round(seconds * 1000)
