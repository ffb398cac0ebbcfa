"""Schedules: starts workflows at their fire times.

Each executor knows the schedules that fire, and when the next time of each is; the thread that attends to duties wakes
for the earliest one. What is due is settled in the database, where the first executor that comes starts the workflow
(see ``dbos.storage.fires``). Changes come as hints; in case that one is lost, the ids of the schedules that fire are
looked at now and then: what is new, changed or resumed since is read then.

A fire time counts from the launch of this executor on: those before it, others were there for, or nobody.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbos.error import DBOSException
from dbos.model.queues import INTERNAL_QUEUE
from dbos.model.schedules import MAX_LATE_MS, Schedule, ScheduleRow, run_id, to_datetime
from dbos.model.values import owner_key
from dbos.runtime.classes import describe
from dbos.runtime.cron import Cron
from dbos.runtime.scheduling import scheduled_start
from dbos.runtime.threads import Errand
from dbos.storage.fires import (
    DECORATED,
    NOTHING_FIRED,
    STORED,
    Fire,
    fire,
    note_decorated,
    read_active,
    read_active_ids,
)

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor

_logger = logging.getLogger("dbos")

POLL_INTERVAL_S = 2.0
"""How often the schedules are looked at without a hint, unless the configuration says otherwise."""

_RETRY_S = 1.0
"""How soon to try again what failed."""

_BITE = 1000
"""How many workflows are started in one transaction."""


@dataclass(frozen=True, slots=True)
class Decorated:
    """A function whose decorator says when it runs, by its name and that of its class."""

    name: str
    class_name: str | None
    cron: Cron


@dataclass(slots=True, eq=False)
class _Planned:
    """A schedule that this executor fires. ``due_ms`` is its next fire time; ``None``: there is none."""

    kind: str
    schedule: Schedule
    cron: Cron
    due_ms: int | None
    is_reported: bool = False


@dataclass(frozen=True, slots=True)
class _Due:
    """What is due of one schedule: what it starts, and the fire time after that.

    ``left_out_ms``: the first of the times that are too long ago, if there are such.
    """

    planned: _Planned
    fires: Sequence[Fire]
    next_ms: int | None
    left_out_ms: int | None


class Schedules:
    """See the module's description."""

    def __init__(self, executor: Executor, poll_interval_s: float) -> None:
        self._executor = executor
        self._poll_interval_s = poll_interval_s
        self._serve = Errand(executor.threads, self._look_and_fire, "Firing schedules")
        self._launched_ms = 0
        self._stored: dict[str, _Planned | None] = {}
        """The schedules that fire, by their ids; ``None`` for those that cannot be understood."""
        self._decorated: list[_Planned] = []
        self._is_stopped = False
        self._looks_at = -math.inf
        self._serves_at = -math.inf
        """When there is something to do."""

    # -- life cycle

    def begin(self, decorated: Iterable[Decorated] = ()) -> None:
        """Fire from now on, also functions whose decorators say when they run."""
        executor = self._executor
        now_ms = self._launched_ms = executor.time.in_ms(0.0)
        for each in decorated:
            schedule = Schedule(each.name, each.name, each.name, each.class_name, each.cron.expression, "", None)
            self._decorated.append(_Planned(DECORATED, schedule, each.cron, each.cron.next_after_ms(now_ms)))
        if self._decorated:
            note_decorated(executor.database, sorted({planned.schedule.name for planned in self._decorated}))

    def stop(self) -> None:
        """Fire no more."""
        self._is_stopped = True
        self._serve.stop()

    def changed(self) -> None:
        """Schedules were made, changed or deleted."""
        self._looks_at = -math.inf
        self._serve.run_soon()

    def attend(self) -> None:
        """Have done what there is to do."""
        if self._is_stopped:
            return
        now = self._executor.clock.monotonic()
        if now >= self._serves_at:
            # Unless it says otherwise when it is done: maybe it fails.
            self._serves_at = now + min(_RETRY_S, self._poll_interval_s)
            self._serve.run_soon()
        self._executor.waits.attend_in(self._serves_at - now)

    @property
    def next_ms(self) -> int | None:
        """The next fire time; ``None``: there is none."""
        return min((planned.due_ms for planned in self._planned() if planned.due_ms is not None), default=None)

    # -- in the background, one at a time

    def _look_and_fire(self) -> None:
        executor = self._executor
        now = executor.clock.monotonic()
        if now >= self._looks_at:
            self._looks_at = now + self._poll_interval_s
            self._look()
        while not self._is_stopped and (due := self._find_due()):
            self._fire(due)
        now = executor.clock.monotonic()
        wait_s = self._looks_at - now
        first_ms = self.next_ms
        if first_ms is not None:
            wait_s = min(wait_s, executor.time.seconds_until(first_ms))
        self._serves_at = now + wait_s
        executor.waits.attend_in(max(0.0, wait_s))

    def _planned(self) -> list[_Planned]:
        return [*self._decorated, *(planned for planned in self._stored.values() if planned is not None)]

    def _look(self) -> None:
        """Learn of what is new, and forget what is gone."""
        database = self._executor.database
        ids = read_active_ids(database)
        for gone in self._stored.keys() - ids:
            del self._stored[gone]
        new = sorted(ids - self._stored.keys())
        for first in range(0, len(new), _BITE):
            for row in read_active(database, new[first : first + _BITE]):
                self._stored[row.schedule_id] = self._plan(row)

    def _plan(self, row: ScheduleRow) -> _Planned | None:
        try:
            cron = Cron(row.cron)
        except DBOSException as error:
            _logger.warning("Schedule %r, as it is stored, never fires: %s", *(row.name, error))
            return None
        now_ms = int(self._executor.time.passed_ms())
        settled_ms = now_ms if row.fired_until_ms is None else row.fired_until_ms
        due_ms = cron.next_after_ms(max(settled_ms, self._launched_ms, now_ms - MAX_LATE_MS))
        return _Planned(STORED, row.schedule, cron, due_ms)

    def _find_due(self) -> list[_Due]:
        """What is due, as far as one transaction is to fire it, the earliest first."""
        now_ms = self._executor.time.passed_ms()
        planned = [(each.due_ms, each) for each in self._planned() if each.due_ms is not None]
        due: list[_Due] = []
        left = _BITE
        for due_ms, each in sorted((one for one in planned if one[0] <= now_ms), key=lambda one: one[0]):
            if left <= 0:
                break
            due.append(self._due(each, due_ms, now_ms, left))
            left -= max(1, len(due[-1].fires))
        return due

    def _due(self, planned: _Planned, due_ms: int, now_ms: float, limit: int) -> _Due:
        """What the schedule starts now, at the time that is due and others until now, so many at most."""
        next_ms: int | None = due_ms
        left_out_ms = None
        if due_ms < now_ms - MAX_LATE_MS:
            left_out_ms = due_ms
            next_ms = planned.cron.next_after_ms(int(now_ms - MAX_LATE_MS))
        times_ms: list[int] = []
        while next_ms is not None and next_ms <= now_ms and len(times_ms) < limit:
            times_ms.append(next_ms)
            next_ms = planned.cron.next_after_ms(next_ms)
        return _Due(planned, self._fires(planned, times_ms), next_ms, left_out_ms)

    def _fires(self, planned: _Planned, times_ms: Sequence[int]) -> list[Fire]:
        """What the schedule starts at these times; nothing if this executor does not know how."""
        executor, schedule = self._executor, planned.schedule
        if not self._is_known(schedule):
            its_function = describe(schedule.workflow_name, schedule.class_name, None)
            self._report(planned, f"its function {its_function} is not registered in this process")
            return []
        fires: list[Fire] = []
        try:
            for at_ms in times_ms:
                at = to_datetime(at_ms)
                start = scheduled_start(
                    executor.codec,
                    schedule,
                    run_id(schedule.name, at),
                    at,
                    self._second_argument(planned),
                    application_id=executor.application_id,
                )
                fires.append(Fire(planned.kind, schedule.schedule_id, at_ms, start))
        except DBOSException as error:
            self._report(planned, str(error))
            return []
        return fires

    def _is_known(self, schedule: Schedule) -> bool:
        registry = self._executor.registry
        if registry.get(schedule.workflow_name) is None:
            return False
        return schedule.class_name is None or owner_key(schedule.class_name, None) in registry.classes.owners()

    def _second_argument(self, planned: _Planned) -> Any:
        if planned.kind == DECORATED:
            return to_datetime(self._executor.time.passed_ms())
        return self._executor.codec.decode(planned.schedule.context, planned.schedule.serialization)

    def _report(self, planned: _Planned, why: str) -> None:
        """Say once of a schedule why it is not fired by this process."""
        if not planned.is_reported:
            planned.is_reported = True
            _logger.warning(
                "Schedule %r is not fired by this process, only by others that can: %s", *(planned.schedule.name, why)
            )

    def _fire(self, due: Sequence[_Due]) -> None:
        executor = self._executor
        fires = [each for its_due in due for each in its_due.fires]
        fired = fire(executor.database, fires) if fires else NOTHING_FIRED
        if fired.has_started:
            executor.enqueued([INTERNAL_QUEUE])
        if fired.early:
            # The database's clock was set back.
            executor.time.refresh()
        for its_due in due:
            early_ms = [each.at_ms for each in its_due.fires if each in fired.early]
            its_due.planned.due_ms = min(early_ms, default=its_due.next_ms)
            if its_due.left_out_ms is not None:
                _logger.warning(
                    "Schedule %r could not fire for more than %d minutes, from %s on. Those times are left out; "
                    "DBOS.backfill_schedule makes them good.",
                    *(
                        its_due.planned.schedule.name,
                        MAX_LATE_MS // 60_000,
                        to_datetime(its_due.left_out_ms).isoformat(),
                    ),
                )
