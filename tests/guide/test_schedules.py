"""The guide on scheduled workflows."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from dbos import DBOS
from tests.guide.inventory import runs
from tests.support.apps import App
from tests.support.guide import Program


@runs(("Scheduled Workflows", 1))
def test_schedules_are_kept_in_the_database_and_managed_while_it_runs(
    database_url: str, program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    """The block, which creates its schedule before anything is configured; then each method that its text lists."""
    DBOS.destroy()
    app = App(database_url)
    program.run()
    try:
        app.launch()
        _manage(app, program, caplog)
    finally:
        DBOS.destroy(destroy_registry=True)


def _manage(app: App, program: Program, caplog: pytest.LogCaptureFixture) -> None:
    name, task = "my-task-schedule", program["my_periodic_task"]

    def schedule(name: str = name) -> dict[str, Any]:
        found: Any = DBOS.get_schedule(name)
        return dict(found)

    created = schedule()
    assert (created["workflow_name"], created["schedule"], created["status"]) == (
        "my_periodic_task",
        "*/5 * * * *",
        "ACTIVE",
    )
    assert [one["schedule_name"] for one in DBOS.list_schedules()] == [name]

    with caplog.at_level(logging.INFO, "dbos"):
        assert DBOS.trigger_schedule(name).get_result() is None
        handles = DBOS.backfill_schedule(
            name,
            datetime(2024, 5, 1, 12, 0, tzinfo=timezone.utc),
            datetime(2024, 5, 1, 12, 15, tzinfo=timezone.utc),
        )
        for handle in handles:
            handle.get_result()
    ids = [handle.get_workflow_id() for handle in handles]
    assert ids == [f"sched-{name}-2024-05-01T12:{minute:02}:00+00:00" for minute in (5, 10)]
    assert caplog.text.count("Running task scheduled for") == 3
    run = DBOS.list_workflows(workflow_ids=ids[:1])[0]
    assert run.input is not None
    scheduled_time, context = run.input["args"]
    assert (scheduled_time, scheduled_time.utcoffset()) == (
        datetime(2024, 5, 1, 12, 5, tzinfo=timezone.utc),
        timedelta(0),
    )
    assert context is None

    DBOS.pause_schedule(name)
    assert schedule()["status"] == "PAUSED"
    app.relaunch()
    assert schedule()["status"] == "PAUSED", "it is in the database"
    DBOS.resume_schedule(name)
    assert schedule()["status"] == "ACTIVE"

    DBOS.apply_schedules(
        [
            {"schedule_name": name, "workflow_fn": task, "schedule": "0 0 * * *", "context": {"of": "midnight"}},
            {"schedule_name": "another", "workflow_fn": task, "schedule": "* * * * * *", "context": None},
        ]
    )
    assert (schedule()["schedule"], schedule()["context"]) == ("0 0 * * *", {"of": "midnight"})
    DBOS.delete_schedule("another")
    DBOS.delete_schedule(name)
    assert DBOS.get_schedule(name) is None
    assert DBOS.list_schedules() == []
