"""Schedules, and the workflows that they start."""

from __future__ import annotations

from collections.abc import Sequence

from dbos.model.schedules import ACTIVE, PAUSED, Schedule, ScheduleRow
from dbos.storage.fires import DECORATED, STORED, Fire, Fired
from dbos.storage.schedules import ScheduleFilter
from tests.verify.oracle.journal import Journal
from tests.verify.oracle.tables import Row


class Schedules(Journal):
    """What fires at which times."""

    # -- stored schedules

    def create(self, schedule: Schedule) -> bool:
        """An earlier try whose answer was lost counts as this one."""
        if schedule.name not in self.schedules:
            self._store(schedule, self.now)
        return bool(self.schedules[schedule.name]["schedule_id"] == schedule.schedule_id)

    def create_missing(self, schedules: Sequence[Schedule]) -> list[ScheduleRow]:
        standing = self.read_schedules(ScheduleFilter(names=[schedule.name for schedule in schedules]))
        for schedule in schedules:
            self.create(schedule)
        return standing

    def apply(self, schedules: Sequence[Schedule], deleted: Sequence[str]) -> None:
        """One that says what stands, and is active, changes nothing; one that only starts something else at the same
        times loses none of them, and repeats none."""
        for name in deleted:
            self.schedules.pop(name, None)
        for schedule in schedules:
            standing = self.schedules.get(schedule.name)
            if standing is None or standing["status"] != ACTIVE:
                self._store(schedule, self.now)
            elif _definition(standing) != _definition(_row(schedule, None)):
                is_same_cron = standing["schedule"] == schedule.cron
                self._store(schedule, standing["fired_until_epoch_ms"] if is_same_cron else self.now)

    def _store(self, schedule: Schedule, fired_until_ms: int) -> None:
        self.schedules[schedule.name] = _row(schedule, fired_until_ms)

    def set_status(self, name: str, status: str) -> None:
        """The times while it was paused are not made good."""
        row = self.schedules.get(name)
        if row is None or row["status"] == status:
            return
        row["status"] = status
        if status == ACTIVE:
            row["fired_until_epoch_ms"] = self.now

    def delete_schedule(self, name: str) -> None:
        self.schedules.pop(name, None)

    def read_schedules(self, wanted: ScheduleFilter) -> list[ScheduleRow]:
        return [
            ScheduleRow(*row.values())
            for name, row in sorted(self.schedules.items())
            if (wanted.names is None or name in wanted.names)
            and (wanted.statuses is None or row["status"] in wanted.statuses)
            and (wanted.workflow_names is None or row["workflow_name"] in wanted.workflow_names)
            and (wanted.name_prefixes is None or name.startswith(tuple(wanted.name_prefixes)))
        ]

    # -- fires

    def read_active_ids(self) -> set[str]:
        return {row["schedule_id"] for row in self.schedules.values() if row["status"] == ACTIVE}

    def read_active(self, schedule_ids: Sequence[str]) -> list[ScheduleRow]:
        active = self.read_schedules(ScheduleFilter(statuses=[ACTIVE]))
        return [row for row in active if row.schedule_id in schedule_ids]

    def note_decorated(self, names: Sequence[str]) -> None:
        for name in names:
            self.decorated.setdefault(name, self.now)

    def read_decorated(self) -> dict[str, int]:
        return dict(self.decorated)

    def fire(self, fires: Sequence[Fire]) -> Fired:
        """Those whose time has come and is not settled start their workflows, and settle all times before."""
        # All are asked at once: of two of one time both are open, and start the workflow of one id once.
        marks = {(fire.kind, fire.schedule_id): self._fired_until(fire) for fire in fires}
        known = [fire for kind in (STORED, DECORATED) for fire in fires if fire.kind == kind]
        known = [fire for fire in known if marks[fire.kind, fire.schedule_id] is not None]
        early = [fire for fire in known if fire.at_ms > self.now]
        due = [fire for fire in known if fire.at_ms <= self.now]
        due = [fire for fire in due if fire.at_ms > (marks[fire.kind, fire.schedule_id] or 0)]
        for fire in due:
            self._settle(fire)
        self._start_all([fire.start for fire in due])
        return Fired(bool(due), frozenset(early))

    def _fired_until(self, fire: Fire) -> int | None:
        """Until when its schedule's times are settled; ``None`` if it does not fire."""
        if fire.kind == DECORATED:
            return self.decorated.get(fire.schedule_id)
        row = self._active(fire.schedule_id)
        return None if row is None else int(row["fired_until_epoch_ms"])

    def _settle(self, fire: Fire) -> None:
        if fire.kind == DECORATED:
            self.decorated[fire.schedule_id] = max(self.decorated[fire.schedule_id], fire.at_ms)
            return
        row = self._active(fire.schedule_id)
        assert row is not None
        row["fired_until_epoch_ms"] = max(row["fired_until_epoch_ms"], fire.at_ms)

    def _active(self, schedule_id: str) -> Row | None:
        rows = [row for row in self.schedules.values() if row["schedule_id"] == schedule_id]
        return rows[0] if rows and rows[0]["status"] != PAUSED else None


def _row(schedule: Schedule, fired_until_ms: int | None) -> Row:
    return {
        "schedule_id": schedule.schedule_id,
        "schedule_name": schedule.name,
        "workflow_name": schedule.workflow_name,
        "workflow_class_name": schedule.class_name,
        "schedule": schedule.cron,
        "status": ACTIVE,
        "context": schedule.context,
        "serialization": schedule.serialization,
        "fired_until_epoch_ms": fired_until_ms,
    }


def _definition(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("schedule_id", "fired_until_epoch_ms")}
