"""What waits for other versions is found by version, with its numbers; see also `tests.perf.test_queue_plans`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dbos.model.values import Place
from dbos.storage import versions
from dbos.storage.database import Database
from dbos.storage.leases import register_lease
from dbos.storage.versions import Waiting, find_other_versions
from tests.support.storage import VERSION, change, commit, lease, start

NOBODY: dict[str, Any] = {"token": None, "lease_id": None}


def enqueued(workflow_id: str, queue: str, version: str | None) -> Any:
    place = Place(queue)
    return start(workflow_id, **NOBODY, status="ENQUEUED", executor_id=None, place=place, application_version=version)


def test_an_empty_database_has_nothing_for_other_versions(database: Database) -> None:
    assert find_other_versions(database, VERSION) == []


def test_what_waits_is_counted_by_version_over_all_queues(database: Database) -> None:
    """Not what runs, has ended, is delayed, is for this version or for any."""
    register_lease(database, replace(lease("lease-b"), application_version="b"))
    commit(
        database,
        *(enqueued(f"a{n}", f"queue {n % 2}", "a") for n in range(5)),
        *(enqueued(f"own{n}", "queue 0", VERSION) for n in range(3)),
        *(enqueued(f"any{n}", "queue 1", None) for n in range(3)),
        enqueued("b1", "queue 1", "b"),
        enqueued("ended", "queue 1", "c"),
        enqueued("delayed", "queue 1", "d"),
        start("orphan a", **NOBODY, application_version="a"),
        start("of the dead", "token d", lease_id="lease-b", application_version="a"),
        start("running", "token", lease_id="lease-b", application_version="b"),
        start("own orphan", **NOBODY),
        start("of no version", **NOBODY, application_version=None),
    )
    change(database, "UPDATE {schema}workflow_status SET status = 'CANCELLED' WHERE workflow_uuid = 'ended'")
    change(database, "UPDATE {schema}workflow_status SET delay_until_epoch_ms = 1 WHERE workflow_uuid = 'delayed'")
    change(database, "UPDATE {schema}workflow_status SET lease_id = 'dead' WHERE workflow_uuid = 'of the dead'")
    found = find_other_versions(database, VERSION)
    assert found == [Waiting(None, pending=1), Waiting("a", pending=2, enqueued=5), Waiting("b", 0, 1, executors=1)]
    assert find_other_versions(database, "a")[0] == Waiting(None, pending=1)
    assert [one.version for one in find_other_versions(database, "a")] == [None, "b", VERSION]


def test_what_is_counted_has_a_bound(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of the queues and versions together."""
    monkeypatch.setattr(versions, "COUNTED", 2)
    monkeypatch.setattr(versions, "_COUNT", versions._COUNT.replace("LIMIT 5000", "LIMIT 2"))  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(versions, "_MANY", 2)
    commit(database, *(enqueued(f"{version}{n}", "queue", version) for version in "abc" for n in range(3)))
    found = find_other_versions(database, VERSION)
    assert found == [Waiting("a", 0, 2, is_at_least=True), Waiting("b", 0, 2, is_at_least=True)]
