"""Cancel, resume, fork, delete: done once however often they are tried, and never past a write in flight."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dbos.model.values import AlreadyExists, RunWrites, Started
from dbos.storage.database import Database
from dbos.storage.errors import TransientStorageError
from dbos.storage.leases import register_lease
from dbos.storage.management import (
    INTERNAL_QUEUE,
    Forked,
    IdTaken,
    NoSuchWorkflow,
    Owned,
    cancel,
    cancel_overdue,
    delete,
    fork,
    resume,
)
from dbos.storage.opening import open_database
from tests.storage.conftest import Opener
from tests.support.effects import (
    entry,
    event_history,
    events,
    in_step,
    inbox,
    leftovers,
    message,
    sending,
    setting,
    stream,
    stream_with_steps,
    writing,
)
from tests.support.gates import CountingGate, FailingGate, PausingGate
from tests.support.obstacles import is_held_up, wait_for_obstacle
from tests.support.storage import (
    SUCCEEDED,
    Part,
    change,
    checkpoint,
    child,
    commit,
    commit_patiently,
    lease,
    owner,
    run,
    set_owner,
    set_status,
    sql,
    start,
    status,
    step_ids,
    steps,
    workflow,
)
from tests.support.waiting import wait_until

ENDED = ("SUCCESS", "ERROR")
ALL = ("ENQUEUED", "PENDING", "SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


@pytest.fixture
def database_url(emptied_url: str) -> str:
    """The tests share a database."""
    return emptied_url


def row_of(database: Database, workflow_id: str) -> dict[str, Any]:
    """All columns of a workflow."""
    columns = (
        "status, owner_xid, lease_id, queue_name, recovery_attempts, workflow_timeout_ms, workflow_deadline_epoch_ms, "
        "started_at_epoch_ms, completed_at, updated_at, created_at, deduplication_id, queue_partition_key, "
        "forked_from, parent_workflow_id, name, class_name, config_name, inputs, serialization, output, error, "
        "application_version, application_id, executor_id, authenticated_user, assumed_role, authenticated_roles, "
        "priority"
    )
    (row,) = sql(database, f"SELECT {columns} FROM {{schema}}workflow_status WHERE workflow_uuid = :id", id=workflow_id)
    return dict(zip(columns.split(", "), row, strict=True))


def ids(owned: Sequence[Owned]) -> list[str]:
    """The ids of what was cancelled or deleted, in order."""
    return sorted(one.workflow_id for one in owned)


def set_columns(database: Database, workflow_id: str, **values: Any) -> None:
    """Set columns of a workflow's row."""
    assignments = ", ".join(f"{column} = :{column}" for column in values)
    statement = f"UPDATE {{schema}}workflow_status SET {assignments} WHERE workflow_uuid = :id"
    assert change(database, statement, id=workflow_id, **values) == 1


def commit_in_all_states(database: Database) -> None:
    """A workflow in each of the statuses, called as the status is."""
    commit(database, *(start(state, f"token {state}") for state in ALL))
    for state in ALL:
        set_status(database, state, state)


def lost(operation: str) -> FailingGate:
    """A gate that loses the first answer of the operation, which has been committed."""
    return FailingGate(operation, "after_commit", TransientStorageError("the answer was lost"))


# -- cancel


def test_cancelling_ends_what_has_not_ended(database: Database) -> None:
    commit_in_all_states(database)
    before = {state: row_of(database, state) for state in ALL}
    assert sorted(cancel(database, [*ALL, "nobody"])) == [
        Owned("ENQUEUED", "token ENQUEUED"),
        Owned("PENDING", "token PENDING"),
    ]
    for state in ALL:
        after = row_of(database, state)
        if state in ("ENQUEUED", "PENDING"):
            assert (after["status"], after["completed_at"]) == ("CANCELLED", after["updated_at"])
        else:
            assert after == before[state]
    assert cancel(database, [*ALL, "nobody"]) == []


def test_cancelling_leaves_the_claim_to_its_run(database: Database) -> None:
    """So that the step in flight is still recorded, and the run learns of it; but the outcome does not count."""
    commit(database, start("w"))
    cancel(database, ["w"])
    assert owner(database, "w") == ("token-1", "lease-1")
    answer = commit(database, run("w", checkpoint(1), outcome=SUCCEEDED)).runs[0]
    assert (answer.token, answer.status) == ("token-1", "CANCELLED")
    assert (status(database, "w"), row_of(database, "w")["output"], step_ids(database, "w")) == ("CANCELLED", None, [1])


def test_cancelling_releases_the_deduplication_id(database: Database) -> None:
    commit(database, start("w"))
    set_columns(database, "w", queue_name="queue", deduplication_id="id")
    cancel(database, ["w"])
    assert row_of(database, "w")["deduplication_id"] is None


def test_cancellation_whose_answer_was_lost_still_tells_what_it_cancelled(
    open_again: Opener, database: Database
) -> None:
    """Those runs have to be told, and whoever waits for them."""
    commit(database, start("w"), start("v", "token-v"), start("ended", "token-e"))
    set_status(database, "ended", "SUCCESS")
    cancelled = cancel(open_again(gate=lost("cancel")), ["w", "v", "ended", "nobody"])
    assert sorted(cancelled) == [Owned("v", "token-v"), Owned("w", "token-1")]
    for one in ("u", "t"):
        commit(database, start(one, f"token {one}", deadline_ms=1))
    assert ids(cancel_overdue(open_again(gate=lost("cancel_overdue")))) == ["t", "u"]


def test_cancellation_waits_for_the_outcome_in_flight_and_comes_too_late(
    open_again: Opener, threads: ThreadPoolExecutor
) -> None:
    writing_gate, cancelling_gate = PausingGate("journal", "before_commit"), CountingGate()
    writer, canceller, reader = open_again(gate=writing_gate), open_again(gate=cancelling_gate), open_again()
    commit(reader, start("w", lease_id=None))
    finishing = threads.submit(commit, writer, run("w", outcome=SUCCEEDED))
    writing_gate.wait_until_reached()
    cancelling = threads.submit(cancel, canceller, ["w"])
    wait_for_obstacle(reader, cancelling_gate, "cancel")
    writing_gate.go()
    assert finishing.result(30).runs[0].status == "PENDING"
    assert (cancelling.result(30), status(reader, "w")) == ([], "SUCCESS")


def test_outcome_waits_for_the_cancellation_in_flight_and_does_not_overwrite_it(
    open_again: Opener, threads: ThreadPoolExecutor
) -> None:
    cancelling_gate, writing_gate = PausingGate("cancel", "before_commit"), CountingGate()
    canceller, writer, reader = open_again(gate=cancelling_gate), open_again(gate=writing_gate), open_again()
    commit(reader, start("w", lease_id=None))
    cancelling = threads.submit(cancel, canceller, ["w"])
    cancelling_gate.wait_until_reached()
    finishing = threads.submit(commit_patiently, writer, run("w", checkpoint(1), outcome=SUCCEEDED))
    wait_for_obstacle(reader, writing_gate, "journal")
    cancelling_gate.go()
    assert ids(cancelling.result(30)) == ["w"]
    assert finishing.result(30).runs[0].status == "CANCELLED"
    assert (status(reader, "w"), step_ids(reader, "w")) == ("CANCELLED", [1])


# -- deadlines


def test_workflows_are_cancelled_when_their_deadline_has_passed(database: Database) -> None:
    """By the database's clock, parents and children together, whatever runs them or does not."""
    (now_ms,) = sql(database, "SELECT {now}")[0]
    commit(
        database,
        start("overdue", deadline_ms=now_ms - 1, lease_id=None),
        start("its child", "token-c", deadline_ms=now_ms - 1, parent_workflow_id="overdue"),
        start("enqueued", None, status="ENQUEUED", deadline_ms=1, lease_id=None),
        start("later", "token-l", deadline_ms=now_ms + 3_600_000),
        start("never", "token-n"),
        start("not begun", None, status="ENQUEUED", timeout_ms=1, lease_id=None),
        start("ended", "token-e", deadline_ms=1),
        start("cancelled", "token-x", deadline_ms=1),
    )
    set_status(database, "ended", "SUCCESS")
    set_status(database, "cancelled", "CANCELLED")
    untouched = {name: row_of(database, name) for name in ("later", "never", "not begun", "ended", "cancelled")}
    assert sorted(cancel_overdue(database), key=str) == [
        Owned("enqueued", None),
        Owned("its child", "token-c"),
        Owned("overdue", "token-1"),
    ]
    assert {name: row_of(database, name) for name in untouched} == untouched
    assert [status(database, name) for name in ("overdue", "its child", "enqueued")] == ["CANCELLED"] * 3
    assert owner(database, "its child")[0] == "token-c"
    assert cancel_overdue(database) == []


def test_executors_that_keep_deadlines_at_once_cancel_each_workflow_once(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor
) -> None:
    commit(database, *(start(f"w{n}", f"token-{n}", deadline_ms=n + 1) for n in range(200)))
    together = threading.Barrier(4)
    databases = [open_again() for _ in range(4)]

    def keep(number: int) -> list[str]:
        together.wait(30)
        return ids(cancel_overdue(databases[number]))

    cancelled = [workflow_id for its_ids in threads.map(keep, range(4)) for workflow_id in its_ids]
    assert sorted(cancelled) == sorted(f"w{n}" for n in range(200))


# -- resume


@pytest.mark.parametrize("state", ["CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "ENQUEUED"])
def test_resumed_workflow_is_enqueued_with_a_fresh_start(database: Database, state: str) -> None:
    """No owner, no attempts, no deadline, no completion; everything that was recorded stays."""
    commit(database, start("w", deadline_ms=1))
    commit(database, run("w", checkpoint(1)), message("w"))
    set_columns(
        database,
        "w",
        status=state,
        recovery_attempts=7,
        queue_name="queue",
        completed_at=1,
        started_at_epoch_ms=1,
        queue_partition_key="partition",
    )
    assert resume(database, "w")
    row = row_of(database, "w")
    assert (row["status"], row["queue_name"], row["recovery_attempts"]) == ("ENQUEUED", INTERNAL_QUEUE, 0)
    assert (row["owner_xid"], row["lease_id"], row["workflow_deadline_epoch_ms"]) == (None, None, None)
    assert (row["completed_at"], row["started_at_epoch_ms"], row["queue_partition_key"]) == (None, None, None)
    assert (row["inputs"], row["name"], step_ids(database, "w"), inbox(database, "w")) == (
        "the inputs",
        "work",
        [1],
        ["hello"],
    )


@pytest.mark.parametrize("state", ["PENDING", *ENDED])
def test_resuming_what_runs_or_has_ended_changes_nothing(database: Database, state: str) -> None:
    commit(database, start("w", deadline_ms=1))
    set_status(database, "w", state)
    before = row_of(database, "w")
    assert resume(database, "w")
    assert row_of(database, "w") == before


def test_resuming_what_does_not_exist_is_told(database: Database) -> None:
    assert not resume(database, "nobody")


def test_resuming_again_changes_nothing(open_again: Opener, database: Database) -> None:
    """Nor when the answer to the first try was lost and somebody has claimed it meanwhile."""
    commit(database, start("w"))
    cancel(database, ["w"])
    assert resume(open_again(gate=lost("resume")), "w")
    before = row_of(database, "w")
    assert resume(database, "w")
    assert row_of(database, "w") == before
    set_status(database, "w", "PENDING")
    set_owner(database, "w", "token-2", "lease-1")
    claimed = row_of(database, "w")
    assert resume(database, "w")
    assert row_of(database, "w") == claimed


def test_run_of_before_is_fenced_when_its_workflow_is_resumed(database: Database) -> None:
    commit(database, start("w"))
    cancel(database, ["w"])
    resume(database, "w")
    late = run("w", checkpoint(1), setting(2), outcome=SUCCEEDED, step_effects=(in_step(3, entry()),))
    answer = commit(database, late).runs[0]
    assert (answer.token, answer.status) == (None, "ENQUEUED")
    assert leftovers(database, "w") == {"workflow_status": 1}


def test_resumption_waits_for_the_step_in_flight_which_then_counts(
    open_again: Opener, threads: ThreadPoolExecutor
) -> None:
    gate, resuming_gate = PausingGate("journal", "before_commit"), CountingGate()
    writer, resumer, reader = open_again(gate=gate), open_again(gate=resuming_gate), open_again()
    commit(reader, start("w", lease_id=None))
    cancel(reader, ["w"])
    recording = threads.submit(commit, writer, run("w", checkpoint(1)))
    gate.wait_until_reached()
    resuming = threads.submit(resume, resumer, "w")
    wait_for_obstacle(reader, resuming_gate, "resume")
    assert not resuming.done()
    gate.go()
    assert recording.result(30).runs[0].token == "token-1"
    assert (resuming.result(30), step_ids(reader, "w"), status(reader, "w")) == (True, [1], "ENQUEUED")


# -- fork


def fork_of(database: Database, workflow_id: str, new_id: str, start_step: int = 1, **others: Any) -> Any:
    """Fork for any version, without a timeout, unless said otherwise."""
    options: dict[str, Any] = {"application_version": None, "timeout_ms": None, **others}
    return fork(database, workflow_id=workflow_id, new_id=new_id, start_step=start_step, **options)


def commit_history(database: Database, workflow_id: str = "w", token: str = "token-1") -> None:
    """A workflow of ten steps that has done a little of everything."""
    commit(database, start(workflow_id, token, class_name="Class", config_name="instance", application_id="app"))
    writes = [
        checkpoint(1, "one", started_at_ms=11, completed_at_ms=12),
        checkpoint(2, None, error="two", child_workflow_id="child", serialization="json"),
        setting(3, "a"),
        writing(4, "0"),
        setting(5, "other", "key 2"),
        writing(6, "1"),
        setting(7, "b"),
        writing(8, "other", "stream 2"),
        sending(9, workflow_id),
        writing(10, "2"),
    ]
    commit(database, run(workflow_id, *writes[:5], token=token))
    effects = (in_step(1, entry("from step 1")),)
    commit(database, run(workflow_id, *writes[5:], token=token, outcome=SUCCEEDED, step_effects=effects))


def test_fork_is_enqueued_with_the_inputs_of_its_source(database: Database) -> None:
    commit_history(database)
    set_columns(
        database, "w", authenticated_user="user", assumed_role="role", authenticated_roles='["role"]', priority=3
    )
    source = row_of(database, "w")
    assert fork_of(database, "w", "copy", 5, application_version="version-9", timeout_ms=5000) == Forked()
    row = row_of(database, "copy")
    copied = ("name", "class_name", "config_name", "inputs", "serialization", "application_id", "authenticated_user")
    for column in (*copied, "assumed_role", "authenticated_roles"):
        assert row[column] == source[column], column
    assert (row["status"], row["queue_name"], row["forked_from"]) == ("ENQUEUED", INTERNAL_QUEUE, "w")
    assert (row["application_version"], row["workflow_timeout_ms"]) == ("version-9", 5000)
    for column in ("owner_xid", "lease_id", "workflow_deadline_epoch_ms", "output", "error", "parent_workflow_id"):
        assert row[column] is None, column
    assert (row["recovery_attempts"], row["created_at"] >= source["created_at"]) == (0, True)
    assert row_of(database, "w") == source
    assert fork_of(database, "w", "any version") == Forked()
    assert row_of(database, "any version")["application_version"] is None


def test_fork_has_the_steps_events_and_streams_as_of_its_step(database: Database) -> None:
    commit_history(database)
    source = steps(database, "w")
    for start_step in range(1, 13):
        copy = f"copy {start_step}"
        assert fork_of(database, "w", copy, start_step) == Forked()
        assert steps(database, copy) == [step for step in source if step.function_id < start_step]
        expected: dict[str, str] = {}
        expected |= {"key": "a"} if start_step > 3 else {}
        expected |= {"key": "b"} if start_step > 7 else {}
        expected |= {"key 2": "other"} if start_step > 5 else {}
        assert events(database, copy) == expected
        history = [(3, "key", "a"), (5, "key 2", "other"), (7, "key", "b")]
        assert event_history(database, copy) == [one for one in history if one[0] < start_step]
        entries = [("0", 4), ("1", 6), ("2", 10), ("from step 1", 1)]
        assert stream_with_steps(database, copy) == [one for one in entries if one[1] < start_step]
        assert stream(database, copy, "stream 2") == (["other"] if start_step > 8 else [])
        assert inbox(database, copy) == [], "messages were sent to the source"
    assert inbox(database, "w") == ["hello"], "nothing is sent again"


def test_fork_of_a_fork_tells_its_own_source(database: Database) -> None:
    commit_history(database)
    fork_of(database, "w", "copy", 8)
    fork_of(database, "copy", "copy of the copy", 6)
    assert row_of(database, "copy of the copy")["forked_from"] == "copy"
    assert step_ids(database, "copy of the copy") == [1, 2, 3, 4, 5]
    assert events(database, "copy of the copy") == {"key": "a", "key 2": "other"}


def test_fork_writes_on_where_it_began(database: Database) -> None:
    """Its streams go on after the last copied entry, and its events change without changing the source's."""
    commit_history(database)
    fork_of(database, "w", "copy", 7)
    set_status(database, "copy", "PENDING")
    set_owner(database, "copy", "token-2", None)
    writes = run("copy", setting(7, "new"), writing(8, "new"), checkpoint(9), token="token-2", outcome=SUCCEEDED)
    assert not commit(database, writes).runs[0].foreign
    assert stream(database, "copy") == ["0", "1", "from step 1", "new"]
    assert (events(database, "copy")["key"], events(database, "w")["key"]) == ("new", "b")
    assert (stream(database, "w"), status(database, "copy")) == (["0", "1", "2", "from step 1"], "SUCCESS")


def test_fork_of_what_does_not_exist_is_told(database: Database) -> None:
    commit(database, start("w"))
    assert fork_of(database, "nobody", "copy") == NoSuchWorkflow()
    assert fork_of(database, "nobody", "w") == NoSuchWorkflow()
    assert workflow(database, "copy") is None


@pytest.mark.parametrize("taken_by", ["w", "another", "fork of another"])
def test_fork_with_the_id_of_another_workflow_is_refused_and_changes_nothing(database: Database, taken_by: str) -> None:
    commit_history(database)
    commit_history(database, "another", "token-2")
    fork_of(database, "another", "fork of another", 5)
    before = (row_of(database, taken_by), steps(database, taken_by), stream_with_steps(database, taken_by))
    assert fork_of(database, "w", taken_by, 11) == IdTaken()
    assert (row_of(database, taken_by), steps(database, taken_by), stream_with_steps(database, taken_by)) == before


def test_fork_tried_again_is_the_same_fork(open_again: Opener, database: Database) -> None:
    """Also when it has run, or was asked for from another step."""
    commit_history(database)
    assert fork_of(open_again(gate=lost("fork")), "w", "copy", 5) == Forked()
    before = (row_of(database, "copy"), steps(database, "copy"), stream_with_steps(database, "copy"))
    assert fork_of(database, "w", "copy", 5) == Forked()
    assert fork_of(database, "w", "copy", 9) == Forked()
    assert (row_of(database, "copy"), steps(database, "copy"), stream_with_steps(database, "copy")) == before
    set_status(database, "copy", "SUCCESS")
    assert fork_of(database, "w", "copy", 5) == Forked()
    assert (status(database, "copy"), step_ids(database, "copy")) == ("SUCCESS", [1, 2, 3, 4])


def test_forks_of_one_id_at_the_same_moment_are_one(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor
) -> None:
    """And one that meets a start of the same id is told who came first."""
    commit_history(database)
    together = threading.Barrier(8)
    databases = [open_again() for _ in range(8)]

    def fork_all(number: int) -> list[Any]:
        together.wait(30)
        answers = [fork_of(databases[number], "w", f"copy {n}", 11) for n in range(5)]
        return [
            *answers,
            commit_patiently(databases[number], start("raced", "token-r")).starts[0]
            if number == 0
            else fork_of(databases[number], "w", "raced", 11),
        ]

    answers = list(threads.map(fork_all, range(8)))
    for n in range(5):
        assert [its_answers[n] for its_answers in answers] == [Forked()] * 8
        assert step_ids(database, f"copy {n}") == list(range(1, 11))
        assert stream(database, f"copy {n}") == ["0", "1", "2", "from step 1"]
    raced = [its_answers[5] for its_answers in answers]
    if row_of(database, "raced")["forked_from"] is None:
        assert raced == [Started(), *[IdTaken()] * 7]
        assert step_ids(database, "raced") == []
    else:
        (answer, *answers_to_forks) = raced
        assert isinstance(answer, AlreadyExists)
        assert (answer.status, answer.token, answers_to_forks) == ("ENQUEUED", None, [Forked()] * 7)
        assert step_ids(database, "raced") == list(range(1, 11))


def test_fork_copies_what_its_source_records_meanwhile_whole_or_not_at_all(
    open_again: Opener, threads: ThreadPoolExecutor
) -> None:
    """A checkpoint without its event, or an entry without its checkpoint, would not be as of any step."""
    gate, forking_gate = PausingGate("journal", "before_commit"), CountingGate()
    writer, forker, reader = open_again(gate=gate), open_again(gate=forking_gate), open_again()
    commit(reader, start("w", lease_id=None))
    recording = threads.submit(commit, writer, run("w", setting(1), writing(2)))
    gate.wait_until_reached()
    forking = threads.submit(fork_of, forker, "w", "copy", 9)
    wait_for_obstacle(reader, forking_gate, "fork")
    gate.go()
    recording.result(30)
    assert forking.result(30) == Forked()
    assert (step_ids(reader, "copy"), events(reader, "copy"), stream(reader, "copy")) == (
        [1, 2],
        {"key": "value"},
        ["entry"],
    )


# -- delete


def give_everything(database: Database, workflow_id: str) -> None:
    """Have rows of the workflow in every table."""
    commit_history(database, workflow_id, f"token {workflow_id}")
    commit(database, message(workflow_id), message(workflow_id, key="key", lasts=True))
    assert len(leftovers(database, workflow_id)) == 7


def test_deleted_workflow_leaves_nothing(database: Database) -> None:
    """And whoever is deleted with it; the others keep all they have."""
    for workflow_id in ("w", "v", "kept", "also kept"):
        give_everything(database, workflow_id)
    kept = leftovers(database, "kept")
    assert delete(database, ["w"], with_descendants=False) == [Owned("w", "token w")]
    assert delete(database, ["v", "nobody"], with_descendants=False) == [Owned("v", "token v")]
    assert [leftovers(database, workflow_id) for workflow_id in ("w", "v", "kept", "also kept")] == [{}, {}, kept, kept]
    delete(database, ["w", "v", "nobody"], with_descendants=True)
    delete(database, [], with_descendants=True)
    assert leftovers(database, "kept") == kept


def test_descendants_are_deleted_when_asked_for(database: Database) -> None:
    """Children, grandchildren, however many; neither parents nor siblings nor forks."""
    parents = {"w-1": "w", "w-2": "w", "w-1-1": "w-1", "w-1-1-1": "w-1-1", "w": "root", "sibling": "root", "root": None}
    for workflow_id, parent in parents.items():
        give_everything(database, workflow_id)
        set_columns(database, workflow_id, parent_workflow_id=parent)
    fork_of(database, "w", "copy", 5)
    gone = {"w", "w-1", "w-2", "w-1-1", "w-1-1-1"}
    assert set(ids(delete(database, ["w"], with_descendants=True))) == gone
    assert {workflow_id for workflow_id in (*parents, "copy") if leftovers(database, workflow_id)} == {
        "root",
        "sibling",
        "copy",
    }


def test_children_stay_unless_they_are_asked_for(database: Database) -> None:
    commit(database, start("w"), start("w-1", "token-c", parent_workflow_id="w"))
    delete(database, ["w"], with_descendants=False)
    assert (workflow(database, "w"), status(database, "w-1")) == (None, "PENDING")


def test_circle_of_parents_is_deleted_too(database: Database) -> None:
    """Nobody makes one, but an operator may, by SQL."""
    for workflow_id, parent in (("a", "b"), ("b", "c"), ("c", "a")):
        commit(database, start(workflow_id, f"token {workflow_id}", parent_workflow_id=parent))
    assert ids(delete(database, ["a"], with_descendants=True)) == ["a", "b", "c"]


def test_deletion_whose_answer_was_lost_still_tells_what_it_deleted(open_again: Opener, database: Database) -> None:
    """Those runs have to be told, and whoever waits for them."""
    commit(database, start("w"), start("w-1", "token-c", parent_workflow_id="w"))
    gone = delete(open_again(gate=lost("delete")), ["w"], with_descendants=True)
    assert (ids(gone), workflow(database, "w-1")) == (["w", "w-1"], None)


def test_run_of_a_deleted_workflow_leaves_nothing_behind(database: Database) -> None:
    commit(database, start("w"), start("receiver", "token-r"))
    delete(database, ["w"], with_descendants=False)
    late = run(
        "w",
        checkpoint(1),
        setting(2),
        writing(3),
        sending(4, "receiver"),
        children=(child(1, "w-1"),),
        step_effects=(in_step(5, entry()),),
        outcome=SUCCEEDED,
    )
    answer = commit(database, late).runs[0]
    assert (answer.token, answer.status) == (None, None)
    assert (leftovers(database, "w"), inbox(database, "receiver"), workflow(database, "w-1")) == ({}, [], None)


def everything_of_w() -> RunWrites:
    """What leaves a row in most tables."""
    return run("w", checkpoint(1), setting(2), writing(3), step_effects=(in_step(4, entry()),))


def test_deletion_waits_for_the_write_in_flight_and_leaves_nothing_of_it(
    open_again: Opener, threads: ThreadPoolExecutor
) -> None:
    gate, deleting_gate = PausingGate("journal", "before_commit"), CountingGate()
    writer, deleter, reader = open_again(gate=gate), open_again(gate=deleting_gate), open_again()
    commit(reader, start("w", lease_id=None))
    recording = threads.submit(commit, writer, everything_of_w())
    gate.wait_until_reached()
    deleting = threads.submit(delete, deleter, ["w"], with_descendants=False)
    wait_for_obstacle(reader, deleting_gate, "delete")
    gate.go()
    assert recording.result(30).runs[0].token == "token-1"
    deleting.result(30)
    assert leftovers(reader, "w") == {}


def test_write_waits_for_the_deletion_in_flight_and_leaves_nothing(
    open_again: Opener, threads: ThreadPoolExecutor
) -> None:
    gate, writing_gate = PausingGate("delete", "before_commit"), CountingGate()
    deleter, writer, reader = open_again(gate=gate), open_again(gate=writing_gate), open_again()
    commit(reader, start("w", lease_id=None))
    deleting = threads.submit(delete, deleter, ["w"], with_descendants=False)
    gate.wait_until_reached()
    recording = threads.submit(commit_patiently, writer, everything_of_w())
    wait_for_obstacle(reader, writing_gate, "journal")
    gate.go()
    deleting.result(30)
    answer = recording.result(30).runs[0]
    assert (answer.token, answer.status, leftovers(reader, "w")) == (None, None, {})


@pytest.mark.parametrize("sender", ["a workflow", "somebody outside"])
def test_message_in_flight_to_a_deleted_workflow_is_not_left_behind(
    open_again: Opener, threads: ThreadPoolExecutor, sender: str
) -> None:
    """A new workflow with the same id would receive it, or find its key used up."""
    gate, deleting_gate = PausingGate("journal", "before_commit"), CountingGate()
    writer, deleter, reader = open_again(gate=gate), open_again(gate=deleting_gate), open_again()
    commit(reader, start("w", lease_id=None), start("sender", "token-s", lease_id=None))
    part: Part = message("w") if sender == "somebody outside" else run("sender", sending(1, "w"), token="token-s")
    sending_it = threads.submit(commit, writer, part)
    gate.wait_until_reached()
    deleting = threads.submit(delete, deleter, ["w"], with_descendants=False)
    wait_until(lambda: deleting.done() or is_held_up(reader, deleting_gate, "delete"), "the deletion met the message")
    gate.go()
    sending_it.result(30)
    deleting.result(30)
    assert leftovers(reader, "w") == {}


def test_child_in_flight_is_deleted_with_its_parent(open_again: Opener, threads: ThreadPoolExecutor) -> None:
    gate, deleting_gate = PausingGate("journal", "before_commit"), CountingGate()
    writer, deleter, reader = open_again(gate=gate), open_again(gate=deleting_gate), open_again()
    commit(reader, start("w", lease_id=None))
    its_child = child(1, "w-1", lease_id=None, parent_workflow_id="w")
    starting = threads.submit(commit, writer, run("w", checkpoint(1, child_workflow_id="w-1"), children=(its_child,)))
    gate.wait_until_reached()
    deleting = threads.submit(delete, deleter, ["w"], with_descendants=True)
    wait_until(lambda: deleting.done() or is_held_up(reader, deleting_gate, "delete"), "the deletion met the start")
    gate.go()
    starting.result(30)
    assert ids(deleting.result(30)) == ["w", "w-1"]
    assert workflow(reader, "w-1") is None


# -- the order of locks


def _cancel(database: Database, ids: Sequence[str]) -> object:
    return cancel(database, ids)


def _cancel_overdue(database: Database, ids: Sequence[str]) -> object:
    return cancel_overdue(database)


def _delete(database: Database, ids: Sequence[str]) -> object:
    return delete(database, ids, with_descendants=False)


def _delete_descendants(database: Database, ids: Sequence[str]) -> object:
    return delete(database, ["root"], with_descendants=True)


@pytest.mark.parametrize("act", [_cancel, _cancel_overdue, _delete, _delete_descendants])
def test_rows_are_locked_in_the_order_of_their_ids(
    postgres_url: str,
    open_postgres: Callable[..., Database],
    threads: ThreadPoolExecutor,
    act: Callable[[Database, Sequence[str]], object],
) -> None:
    """As the journal does, or they would deadlock with it: whoever waits for the first row holds no other one."""
    gate = CountingGate()
    acting, holder, reader = open_postgres(gate=gate), open_postgres(), open_postgres()
    ids = ["w9", "w5", "w1", "w7"]
    for workflow_id in ids:
        commit(
            reader, start(workflow_id, f"token {workflow_id}", lease_id=None, deadline_ms=1, parent_workflow_id="root")
        )
    commit(reader, start("root", "token root", lease_id=None))
    lock = "SELECT 1 FROM {schema}workflow_status WHERE workflow_uuid = :id FOR UPDATE"
    with holder.transaction("test") as transaction:
        transaction.rows(lock, {"id": "root" if act is _delete_descendants else "w1"})
        doing = threads.submit(act, acting, ids)
        wait_for_obstacle(reader, gate, "it")
        for workflow_id in ids[:2] + ids[3:]:
            assert sql(reader, lock + " SKIP LOCKED", id=workflow_id), f"{workflow_id} is locked"
        assert not doing.done()
    doing.result(30)


@pytest.fixture
def open_postgres(postgres_url: str, request: pytest.FixtureRequest) -> Callable[..., Database]:
    """Opens a PostgreSQL database of the test's own."""

    def open_(**options: Any) -> Database:
        database = open_database(url=postgres_url, **options)
        request.addfinalizer(database.close)
        return database

    register_lease(open_(), lease())
    return open_
