"""Queues where something comes in between: another partition, a deletion, a claimant that stands still, a lost note."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID
from dbos.runtime import dispatcher
from dbos.storage.database import Database
from tests.support.apps import eventually
from tests.support.queues import Jobs, QueueApp, enqueue_job, job, new_jobs, unpolled


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    with new_jobs() as its_jobs:
        yield its_jobs


@pytest.fixture
def app(database_url: str) -> Iterator[QueueApp]:
    application = QueueApp(database_url)
    application.launch()
    yield application
    DBOS.destroy()


def test_a_slot_of_one_partition_is_used_again_after_another_one_had_work(app: QueueApp, jobs: Jobs) -> None:
    queue = unpolled("queue", partition_queue=True, worker_concurrency=2)
    jobs.hold()
    with SetEnqueueOptions(queue_partition_key="a"):
        for name in ("a1", "a2", "a3"):
            enqueue_job(queue, name)
    jobs.wait_running("a1", "a2")
    with SetEnqueueOptions(queue_partition_key="b"):
        enqueue_job(queue, "b1")
    jobs.wait_running("b1")
    jobs.let_go("a1")
    jobs.wait_running("a3")
    jobs.let_go()


def test_an_id_that_was_deleted_and_enqueued_again_has_the_new_result(app: QueueApp, jobs: Jobs) -> None:
    """The handle of the deleted one is still held, and keeps its own."""
    queue = unpolled("queue")
    with SetWorkflowID("w"):
        first = queue.enqueue(job, "first")
    assert first.get_result() == "first done"
    DBOS.delete_workflow("w")
    with SetWorkflowID("w"):
        second = queue.enqueue(job, "second")
    assert (second.get_result(), first.get_result()) == ("second done", "first done")


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_claimant_that_stands_still_holds_up_no_other_queue(app: QueueApp, jobs: Jobs) -> None:
    """Only Postgres has locks of queues."""
    limited, other = unpolled("limited", concurrency=1), unpolled("other")
    database = _database()
    lock = f"{database.schema_prefix}limited/"
    with database.transaction("test") as transaction:
        transaction.rows("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))", {"lock": lock})
        waiting = enqueue_job(limited, "limited")
        assert enqueue_job(other, "other").get_result() == "other done"
        assert waiting.get_status().status == "ENQUEUED"
    assert waiting.get_result() == "limited done"


def test_a_start_that_nobody_noted_counts_for_one_period_more(
    app: QueueApp, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the process had ended between the workflow's end and the note."""
    queue = unpolled("queue", limiter={"limit": 1, "period": 0.1})
    with monkeypatch.context() as patch:
        patch.setattr(dispatcher, "note_starts", lambda database, tokens: None)
        assert enqueue_job(queue, "first").get_result() == "first done"
    assert _starts() == [None]
    assert enqueue_job(queue, "second").get_result() == "second done"
    eventually(lambda: None not in _starts(), "the second start is noted")


def _database() -> Database:
    application = DBOS._application  # pyright: ignore[reportPrivateUsage]
    assert application is not None
    assert application.executor is not None
    return application.executor.database


def _starts() -> list[int | None]:
    rows = _database().run("test", lambda t: t.rows("SELECT started_at FROM {schema}queue_starts"), "read")
    return [row[0] for row in rows]
