"""What comparing the databases with each other brought to light."""

from __future__ import annotations

from dbos.storage.errors import TransientStorageError
from dbos.storage.leases import bury_lease, read_live_leases, register_lease
from dbos.storage.opening import open_database
from tests.support.effects import entry, in_step, receiving, stream
from tests.support.gates import FailingGate
from tests.support.storage import checkpoint, child, commit_run, commit_start, lease, run, start, steps, workflow


def test_lease_is_registered_though_the_answer_to_it_was_lost(database_url: str) -> None:
    """Else a launch would fail when its connection is cut at the wrong moment."""
    gate = FailingGate("register_lease", "after_commit", TransientStorageError("made by the test"))
    database = open_database(url=database_url, gate=gate)
    try:
        register_lease(database, lease())
        (live,) = read_live_leases(database, own="another")
        assert bury_lease(database, live)
        register_lease(database, lease())
        assert read_live_leases(database, own="another") == [], "what was buried meanwhile stays so"
    finally:
        database.close()


def test_run_that_takes_a_message_that_is_gone_writes_nothing_at_all(database_url: str) -> None:
    """No child without its checkpoint, and nothing of what its steps published."""
    database = open_database(url=database_url)
    try:
        register_lease(database, lease())
        commit_start(database, start("parent"))
        writes = run(
            "parent",
            checkpoint(1, child_workflow_id="parent-1"),
            receiving(2, "gone"),
            children=(child(1, "parent-1"),),
            step_effects=(in_step(2, entry()),),
        )
        answer = commit_run(database, writes)
        assert (answer.foreign, answer.children) == ({1, 2}, {})
        assert steps(database, "parent") == []
        assert workflow(database, "parent-1") is None
        assert stream(database, "parent") == []
    finally:
        database.close()
