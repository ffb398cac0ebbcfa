"""Random operations on schedules, and their fires."""

from __future__ import annotations

from typing import Any

from dbos.model.schedules import ACTIVE, PAUSED, Schedule, ScheduleRow
from dbos.storage.fires import DECORATED, STORED, Fire
from dbos.storage.schedules import ScheduleFilter
from tests.differential.draws import FORMATS, NAMES, Draws
from tests.differential.operations import Operation

SCHEDULES = ("daily", "day_%", "Day", "täglich")
"""Their order, their prefixes and their case are not the same to all databases."""


class ScheduleDraws(Draws):
    """Draws what is done to schedules, and what executors do for them."""

    def _schedule(self, name: str) -> Schedule:
        """Sometimes the definition that stands, with or without its id."""
        schedule_id = self._new("schedule")
        if name in self.oracle.schedules and self._is(40):
            standing = ScheduleRow(*self.oracle.schedules[name].values()).schedule
            changed: dict[str, Any] = {"schedule_id": self._one(schedule_id, standing.schedule_id)}
            changed |= {"workflow_name": self._one(standing.workflow_name, *NAMES)}
            names = ("name", "class_name", "cron", "context", "serialization")
            return Schedule(**{field: getattr(standing, field) for field in names}, **changed)
        function = (self._one(*NAMES), self._one(None, "Shop"))
        cron, context = self._one("* * * * *", "@hourly"), self._one("context", "other")
        return Schedule(schedule_id, name, *function, cron, context, self._one(None, *FORMATS))

    def _schedules(self) -> list[Schedule]:
        return [self._schedule(name) for name in SCHEDULES if self._is(35)]

    def _change_schedules(self) -> Operation:
        name = self._one(*SCHEDULES)
        match self.random.randrange(6):
            case 0:
                return Operation("create", {"schedule": self._schedule(name)})
            case 1:
                return Operation("create_missing", {"schedules": self._schedules()})
            case 2:
                deleted = [name for name in SCHEDULES if self._is(15)]
                return Operation("apply", {"schedules": self._schedules(), "deleted": deleted})
            case 3:
                return Operation("delete_schedule", {"name": name})
            case _:
                return Operation("set_status", {"name": name, "status": self._one(ACTIVE, PAUSED)})

    def _read_schedules(self) -> Operation:
        if self._is(10):
            return Operation("read_decorated", {})
        if self._is(25):
            return Operation("read_active_ids", {})
        if self._is(30):
            return Operation("read_active", {"schedule_ids": [self._schedule_id() for _ in range(2)]})
        filters: dict[str, Any] = {
            "names": [self._one(*SCHEDULES), self._one(*SCHEDULES)],
            "statuses": self._one([ACTIVE], [PAUSED], [ACTIVE, PAUSED], []),
            "workflow_names": [self._one(*NAMES)],
            "name_prefixes": self._one(["da"], ["day_"], ["D", "t"], ["tä"], [""], []),
        }
        chosen = {name: value for name, value in filters.items() if self._is(25)}
        return Operation("read_schedules", {"wanted": ScheduleFilter(**chosen)})

    def _schedule_id(self) -> str:
        ids = [row["schedule_id"] for row in self.oracle.schedules.values()]
        return self._one(*ids) if ids and self._is(85) else "schedule-0"

    def _note_decorated(self) -> Operation:
        return Operation("note_decorated", {"names": [self._one(*NAMES) for _ in range(self._one(0, 1, 1, 2))]})

    def _fire(self) -> Operation:
        """Those of one schedule are in their order."""
        fires = [self._fire_of(self._one(STORED, STORED, DECORATED)) for _ in range(self._one(1, 1, 2, 4))]
        return Operation("fire", {"fires": sorted(fires, key=lambda fire: fire.at_ms)})

    def _fire_of(self, kind: str) -> Fire:
        schedule_id = self._schedule_id() if kind == STORED else self._one(*NAMES)
        marks = [row["fired_until_epoch_ms"] for row in self.oracle.schedules.values()]
        marks += self.oracle.decorated.values()
        near = self._one(*marks) + self._one(-1, 0, 1, 20) if marks else self.oracle.now
        at_ms = self._one(near, self.oracle.now - 10, self.oracle.now, self.oracle.now + 1)
        return Fire(kind, schedule_id, at_ms, self._start(f"sched-{schedule_id}-{at_ms}", must_wait=True))
