"""Forking: a new execution of a workflow from one of its steps."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID, SetWorkflowTimeout, WorkflowHandle, error
from tests.support import ledger
from tests.support.apps import App, in_threads, interrupt_at, status_of, steps_of
from tests.support.processes import Spawner
from tests.support.stage import Stage, act, act_async, begin, new_stage, perform, play
from tests.verify.rows import decode, query

CONFLICT = error.DBOSWorkflowConflictIDError


@pytest.fixture
def stage() -> Iterator[Stage]:
    with new_stage() as stage:
        yield stage


def fork(workflow_id: str, start_step: int, new_id: str | None = None, **options: Any) -> WorkflowHandle[Any]:
    """Fork, with this new id if one is given."""
    if new_id is None:
        return DBOS.fork_workflow(workflow_id, start_step, **options)
    with SetWorkflowID(new_id):
        return DBOS.fork_workflow(workflow_id, start_step, **options)


def rows_of(app: App, workflow_id: str) -> list[tuple[Any, ...]]:
    """The workflow's row and those of its steps."""
    return [
        *query(app.url, f"SELECT * FROM {{schema}}workflow_status WHERE workflow_uuid = '{workflow_id}'"),
        *query(app.url, f"SELECT * FROM {{schema}}operation_outputs WHERE workflow_uuid = '{workflow_id}'"),
    ]


def recorded_stream(app: App, workflow_id: str) -> list[Any]:
    """The values of all the workflow's streams, with the mark of their ends, as they are stored."""
    statement = f"SELECT value FROM {{schema}}streams WHERE workflow_uuid = '{workflow_id}' ORDER BY key, \"offset\""
    return [decode(value) for (value,) in query(app.url, statement)]


# -- which steps run again


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_steps_before_the_start_step_are_kept_and_the_others_run(app: App, stage: Stage, is_async: bool) -> None:
    """From the first, from the middle, beyond the last; less than 1 means 1."""
    original = begin("w", is_async=is_async).get_result()
    before = rows_of(app, "w")
    kept_steps = DBOS.list_workflow_steps("w")
    for start_step in (1, 0, -5, 2, 3, 4, 100, 2**31 - 1):
        handle = fork("w", start_step)
        assert isinstance(handle, WorkflowHandle)
        result = handle.get_result()
        kept = min(max(start_step, 1), 4) - 1
        assert stage.steps_run_by(handle.workflow_id) == [1, 2, 3][kept:], start_step
        assert result[: kept + 1] == original[: kept + 1]
        assert not set(result[kept + 1 :]) & set(original)
        steps = DBOS.list_workflow_steps(handle.workflow_id)
        assert steps[:kept] == kept_steps[:kept]
        assert [(step["function_id"], step["function_name"]) for step in steps] == steps_of("w")
        assert [step["output"] for step in steps] == result[1:]
        assert handle.workflow_id != "w"
    assert rows_of(app, "w") == before, "the original stays as it is"


def test_fork_is_a_workflow_like_its_original(app: App, stage: Stage) -> None:
    perform("w")
    original = DBOS.get_workflow_status("w")
    handle = fork("w", 2)
    handle.get_result()
    status = handle.get_status()
    assert original is not None
    assert (status.name, status.input) == (original.name, {"args": (3,), "kwargs": {"title": "hamlet"}})
    assert (status.forked_from, original.forked_from) == ("w", None)
    assert (status.class_name, status.config_name, status.parent_workflow_id) == (None, None, None)
    assert (status.queue_name, status.recovery_attempts) == ("_dbos_internal_queue", 1)
    assert (status.app_version, status.executor_id) == ("test", "local")
    assert (status.workflow_timeout_ms, status.workflow_deadline_epoch_ms) == (None, None)
    assert status.created_at is not None
    assert status.dequeued_at is not None
    assert status.created_at <= status.dequeued_at
    assert original.created_at is not None
    assert original.created_at <= status.created_at


def test_fork_belongs_to_the_user_of_its_original_and_to_no_parent(app: App, stage: Stage) -> None:
    perform("w")
    query(
        app.url,
        "UPDATE {schema}workflow_status SET authenticated_user = 'ann', assumed_role = 'admin', "
        "authenticated_roles = '[\"admin\", \"user\"]', parent_workflow_id = 'p', deduplication_id = 'd', "
        "queue_name = 'q', priority = 7, queue_partition_key = 'k', workflow_timeout_ms = 99",
    )
    status = fork("w", 4, "f").get_status()
    assert (status.authenticated_user, status.assumed_role) == ("ann", "admin")
    assert status.authenticated_roles == ["admin", "user"]
    assert (status.parent_workflow_id, status.deduplication_id, status.queue_partition_key) == (None, None, None)
    assert (status.priority, status.workflow_timeout_ms) == (0, None)


def test_workflow_that_failed_is_forked_from_the_failing_step(app: App, stage: Stage) -> None:
    """When the cause is mended, it succeeds; forked beyond it, it fails the same way again."""
    stage.fail_at(2, ValueError("broken", 1))
    with pytest.raises(ValueError, match="broken"):
        perform("w")
    assert fork("w", 2).get_result() == ["hamlet", "1.1", "2.2", "3.1"]
    with pytest.raises(ValueError, match="broken") as info:
        fork("w", 3, "again").get_result()
    assert info.value.args == ("broken", 1)
    assert stage.steps_run_by("again") == []
    assert status_of("w") == "ERROR"


def test_workflows_that_have_not_ended_can_be_forked(app: App, stage: Stage) -> None:
    """Running, cancelled, enqueued, given up: what they have recorded is kept, and they stay as they are."""
    roadblock = stage.stop_at(2)
    running = begin("running")
    roadblock.wait_until_reached()
    assert fork("running", 2).get_result() == ["hamlet", "1.1", "2.2", "3.1"]
    assert fork("running", 3, "beyond").get_result() == ["hamlet", "1.1", "2.3", "3.2"], "step 2 is not recorded yet"
    assert status_of("running") == "PENDING"
    DBOS.cancel_workflow("running")
    assert fork("running", 2).get_result() == ["hamlet", "1.1", "2.4", "3.3"]
    assert status_of("running") == "CANCELLED"
    query(
        app.url,
        "UPDATE {schema}workflow_status SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', recovery_attempts = 1000 "
        "WHERE workflow_uuid = 'running'",
    )
    assert fork("running", 2).get_result() == ["hamlet", "1.1", "2.5", "3.4"]
    fork("beyond", 3, "enqueued", application_version="other")
    assert fork("enqueued", 4, "fork of enqueued").get_result() == ["hamlet", "1.1", "2.3", "3.5"]
    assert status_of("enqueued") == "ENQUEUED"
    roadblock.open()
    with pytest.raises(error.DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded):
        DBOS.get_result(running.workflow_id)


def test_fork_of_a_fork_keeps_the_steps_of_both(app: App, stage: Stage) -> None:
    perform("w")
    fork("w", 2, "f").get_result()
    assert fork("f", 3, "g").get_result() == ["hamlet", "1.1", "2.2", "3.3"]
    assert stage.steps_run_by("g") == [3]
    forked_from = {status.workflow_id: status.forked_from for status in DBOS.list_workflows()}
    assert forked_from == {"w": None, "f": "w", "g": "f"}
    assert [status.workflow_id for status in DBOS.list_workflows(forked_from="w")] == ["f"]
    assert [status.workflow_id for status in DBOS.list_workflows(forked_from=["w", "f"])] == ["f", "g"]


def test_gathered_steps_are_kept_by_their_numbers(app: App, stage: Stage) -> None:
    """However they ended: the fork from step 3 keeps the first two of four."""

    @DBOS.workflow()
    async def workflow() -> list[str]:
        return await asyncio.gather(*(act_async(step) for step in range(1, 5)))

    with SetWorkflowID("w"):
        assert DBOS.start_workflow(workflow).get_result() == ["1.1", "2.1", "3.1", "4.1"]
    handle = fork("w", 3)
    assert handle.get_result() == ["1.1", "2.1", "3.2", "4.2"]
    assert sorted(stage.steps_run_by(handle.workflow_id)) == [3, 4]


def test_interrupted_fork_is_recovered(app: App, stage: Stage) -> None:
    perform("w")
    roadblock = stage.stop_at(3)
    fork("w", 2, "f")
    interrupt_at(roadblock, app)
    assert DBOS.get_result("f") == ["hamlet", "1.1", "2.2", "3.3"]
    assert stage.steps_run_by("f") == [2, 3, 3]


# -- what is copied with the steps


@DBOS.step(name="aside")
def aside() -> None:
    DBOS.set_event("aside", "quietly")
    DBOS.write_stream("words", "upon")


@DBOS.workflow(name="forking.tell")
def tell() -> str:
    DBOS.set_event("chapter", 1)
    DBOS.write_stream("words", "once")
    act(3)
    DBOS.set_event("chapter", 2)
    aside()
    DBOS.write_stream("words", "a")
    DBOS.set_event("end", None)
    DBOS.close_stream("words")
    return act(9)


EVENTS: list[tuple[int, str, Any]] = [(1, "chapter", 1), (4, "chapter", 2), (5, "aside", "quietly"), (7, "end", None)]
WORDS = [(2, "once"), (5, "upon"), (6, "a"), (8, "__DBOS_STREAM_CLOSED__")]


def test_events_and_streams_are_copied_as_of_the_step(app: App, stage: Stage) -> None:
    """An event has the value that it had then; the fork goes on writing behind what was written then."""
    with SetWorkflowID("w"):
        tell()
    starts = range(1, 11)
    for start_step in starts:
        fork("w", start_step, f"f{start_step}", application_version="next")
    for start_step in starts:
        id = f"f{start_step}"
        assert DBOS.get_all_events(id) == {key: value for step, key, value in EVENTS if step < start_step}, id
        assert recorded_stream(app, id) == [word for step, word in WORDS if step < start_step], id
    assert DBOS.get_event("f4", "chapter", timeout_seconds=0) == 1
    assert DBOS.get_event("f4", "end", timeout_seconds=0) is None

    app.relaunch(application_version="next")
    for start_step in starts:
        id = f"f{start_step}"
        DBOS.get_result(id)
        assert DBOS.get_all_events(id) == DBOS.get_all_events("w") == {"chapter": 2, "aside": "quietly", "end": None}
        assert list(DBOS.read_stream(id, "words")) == ["once", "upon", "a"], id
        assert recorded_stream(app, id) == [word for _, word in WORDS]
    assert fork("f4", 5, "g", application_version="test").workflow_id == "g"
    assert DBOS.get_all_events("g") == {"chapter": 2}, "a fork of a fork knows when events were set"


def test_fork_of_a_workflow_that_goes_on_writing_is_of_one_moment(app: App, stage: Stage) -> None:
    """Each step that is copied comes with what it wrote, and nothing of a later one does."""
    ended = threading.Event()

    @DBOS.workflow()
    def writer() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            DBOS.write_stream("numbers", number)
            DBOS.set_event("number", number)
            act(number)

    with SetWorkflowID("w"):
        handle = DBOS.start_workflow(writer)
    DBOS.get_event("w", "number")
    ids = [fork("w", 2**31 - 1, application_version="other").workflow_id for _ in range(15)]
    ended.set()
    handle.get_result()
    for id in ids:
        names = [name for _, name in steps_of(id)]
        assert recorded_stream(app, id) == list(range(1, names.count("DBOS.writeStream") + 1))
        assert DBOS.get_all_events(id) == {"number": names.count("DBOS.setEvent")}


def test_messages_received_before_the_step_are_kept_and_the_others_are_awaited_anew(app: App, stage: Stage) -> None:
    @DBOS.workflow()
    def workflow() -> list[Any]:
        first = DBOS.recv("topic")
        act(1)
        return [first, DBOS.recv("topic")]

    with SetWorkflowID("w"):
        handle = DBOS.start_workflow(workflow)
    DBOS.send("w", "first", "topic")
    DBOS.send("w", "second", "topic")
    assert handle.get_result() == ["first", "second"]
    (step,) = (step["function_id"] for step in DBOS.list_workflow_steps("w") if step["function_name"] == "act")
    fork("w", step, "f")
    DBOS.send("f", "new", "topic")
    assert DBOS.get_result("f") == ["first", "new"]


def test_children_of_kept_steps_are_kept_and_those_of_others_start_anew(app: App, stage: Stage) -> None:
    """A kept child keeps its id; a fork between a child's start and its result waits for the original's child."""

    @DBOS.workflow()
    def parent() -> list[Any]:
        return [play(1), play(1, title="second"), act(5)]

    with SetWorkflowID("w"):
        original = parent()
    children = {
        1: ["f1-1", "f1-1", "f1-3", "f1-3", None],
        2: ["w-1", "w-1", "f2-3", "f2-3", None],
        3: ["w-1", "w-1", "f3-3", "f3-3", None],
        4: ["w-1", "w-1", "w-3", "w-3", None],
        5: ["w-1", "w-1", "w-3", "w-3", None],
    }
    for start_step, expected in children.items():
        id = f"f{start_step}"
        result = fork("w", start_step, id).get_result()
        steps = DBOS.list_workflow_steps(id)
        assert [step["child_workflow_id"] for step in steps] == expected, id
        assert (result[0] == original[0]) == (start_step > 1)
        assert (result[1] == original[1]) == (start_step > 3)
        own = [status.workflow_id for status in DBOS.list_workflows(parent_workflow_id=id)]
        assert own == [child for child in dict.fromkeys(expected) if child is not None and child.startswith("f")]


# -- its id


def test_set_workflow_id_names_the_fork_once(app: App, stage: Stage) -> None:
    """The same fork asked for again is found, not made again; any other workflow of that id is a conflict."""
    perform("w")
    perform("v")
    handle = fork("w", 3, "f")
    result = handle.get_result()
    assert handle.workflow_id == "f"
    for start_step in (3, 1):
        again = fork("w", start_step, "f")
        assert again.workflow_id == "f"
        assert again.get_result() == result
    assert stage.steps_run_by("f") == [3]
    before = rows_of(app, "f") + rows_of(app, "v")
    for source, id in (("v", "f"), ("w", "v"), ("w", "w")):
        with pytest.raises(CONFLICT, match=f"'{id}'"):
            fork(source, 1, id)
    assert rows_of(app, "f") + rows_of(app, "v") == before
    assert len(DBOS.list_workflows()) == 3


def test_fork_by_many_at_the_same_time_is_made_once(app: App, stage: Stage) -> None:
    perform("w")
    handles = in_threads([lambda: fork("w", 2, "f")] * 12)
    assert [handle.get_result() for handle in handles] == [["hamlet", "1.1", "2.2", "3.2"]] * 12
    assert stage.steps_run_by("f") == [2, 3]
    named = in_threads([lambda: fork("w", 4)] * 6)
    assert len({handle.workflow_id for handle in named}) == 6, "without an id each is one of its own"


def test_fork_in_a_workflow_is_made_once_and_has_a_derived_id(app: App, stage: Stage) -> None:
    """Unless an id is set; a conflict is the error of that step. It is no child."""
    ids = list[list[str]]()

    @DBOS.workflow()
    def forker() -> list[str]:
        act(1)
        ids.append([fork("w", 3).workflow_id, fork("w", 4, "named").workflow_id])
        try:
            fork("w", 4, "v")
        except CONFLICT:
            ids[-1].append("conflict")
        return [act(9), *DBOS.get_result("p-2")]

    perform("w")
    perform("v")
    roadblock = stage.stop_at(9)
    with SetWorkflowID("p"):
        DBOS.start_workflow(forker)
    roadblock.wait_until_reached()
    DBOS.delete_workflow("v")
    interrupt_at(roadblock, app)
    assert DBOS.get_result("p") == ["9.2", "hamlet", "1.1", "2.1", "3.3"]
    assert ids == [["p-2", "named", "conflict"]] * 2
    assert [status.workflow_id for status in DBOS.list_workflows(forked_from="w")] == ["p-2", "named"]
    assert stage.steps_run_by("p-2") == [3]
    steps = [step for step in DBOS.list_workflow_steps("p") if step["function_name"] == "DBOS.forkWorkflow"]
    assert [step["output"] for step in steps] == ["p-2", "named", None]
    assert isinstance(steps[2]["error"], CONFLICT)
    assert [step["child_workflow_id"] for step in steps] == [None] * 3
    assert DBOS.list_workflows(parent_workflow_id="p") == []


def test_unused_id_of_a_fork_that_failed_is_not_taken(app: App, stage: Stage) -> None:
    with pytest.raises(error.DBOSNonExistentWorkflowError, match="'nobody'") as info:
        fork("nobody", 1, "f")
    assert info.value.dbos_error_code == 5
    with pytest.raises(error.DBOSNonExistentWorkflowError, match="'nobody'"):
        asyncio.run(DBOS.fork_workflow_async("nobody", 1))
    assert DBOS.list_workflows() == []
    assert perform("f") == ["hamlet", "1.1", "2.1", "3.1"]


# -- where and how long it runs


def test_fork_of_another_version_waits_for_an_executor_of_that_version(app: App, stage: Stage) -> None:
    perform("w")
    other = fork("w", 2, "other", application_version="next")
    same = fork("w", 2, "same", application_version="test")
    any_version = fork("w", 2, "any")
    assert same.get_result()[:2] == any_version.get_result()[:2] == ["hamlet", "1.1"]
    status = other.get_status()
    assert (status.status, status.queue_name, status.app_version) == ("ENQUEUED", "_dbos_internal_queue", "next")
    assert (status.executor_id, status.recovery_attempts, status.output) == (None, 0, None)
    assert [queued.workflow_id for queued in DBOS.list_queued_workflows()] == ["other"]
    assert stage.steps_run_by("other") == []

    app.relaunch(application_version="next")
    result = DBOS.get_result("other")
    assert result[:2] == ["hamlet", "1.1"]
    assert stage.steps_run_by("other") == [2, 3]
    done = DBOS.get_workflow_status("other")
    assert done is not None
    assert (done.status, done.app_version) == ("SUCCESS", "next")
    versions = {status.workflow_id: status.app_version for status in DBOS.list_workflows()}
    assert versions == {"w": "test", "other": "next", "same": "test", "any": "test"}


def test_fork_of_a_workflow_of_another_version_runs_on_this_one(app: App, stage: Stage) -> None:
    """As when a new version mends what failed in the old one."""
    stage.fail_at(2, ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        perform("w")
    app.relaunch(application_version="mended")
    handle = fork("w", 2, application_version="mended")
    assert handle.get_result() == ["hamlet", "1.1", "2.2", "3.1"]
    assert fork("w", 2).get_result()[:2] == ["hamlet", "1.1"]
    assert handle.get_status().app_version == "mended"


def test_workflow_timeout_around_a_fork_is_the_forks(app: App, stage: Stage) -> None:
    """It is neither the original's, nor inherited from it."""
    with SetWorkflowTimeout(1000):
        perform("w")
    assert fork("w", 4).get_status().workflow_timeout_ms is None
    roadblock = stage.stop_at(2)
    with SetWorkflowTimeout(0.05):
        handle = fork("w", 2)
    roadblock.wait_until_reached()
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        handle.get_result()
    status = handle.get_status()
    assert (status.status, status.workflow_timeout_ms) == ("CANCELLED", 50)
    assert status.dequeued_at is not None
    assert status.workflow_deadline_epoch_ms is not None
    assert status.workflow_deadline_epoch_ms >= status.dequeued_at + 50


SHARED = """
    import os
    import sys
    from dbos import DBOS
    from tests.support import ledger

    @DBOS.step(name="note")
    def note(path):
        ledger.record(path, workflow=DBOS.workflow_id, pid=os.getpid())

    @DBOS.workflow(name="forking.shared")
    def shared(path):
        note(path)

    DBOS(config={"name": "app", "system_database_url": sys.argv[1], "application_version": "test"})
    DBOS.launch()
    print("launched", flush=True)
    sys.stdin.readline()
    DBOS.destroy(workflow_completion_timeout_sec=30)
"""


@DBOS.step(name="note")
def note(path: str) -> None:
    ledger.record(path, workflow=DBOS.workflow_id, pid=os.getpid())


@DBOS.workflow(name="forking.shared")
def shared(path: str) -> None:
    note(path)


def test_each_fork_runs_once_in_one_of_several_processes(app: App, spawn: Spawner, tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.jsonl")
    others = [spawn(SHARED, app.url) for _ in range(2)]
    for other in others:
        other.wait_for_line("launched")
    with SetWorkflowID("w"):
        shared(path)
    ids = [handle.workflow_id for handle in in_threads([lambda: fork("w", 1)] * 30)]
    for id in ids:
        DBOS.get_result(id)
    for other in others:
        other.write_line()
        other.succeed()
    ran = [entry["workflow"] for entry in ledger.read(path)]
    assert sorted(ran) == sorted(["w", *ids])
    assert {status.recovery_attempts for status in DBOS.list_workflows()} == {1}


# -- bad input


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        (("w", "2"), {}, "start_step"),
        (("w", 1.5), {}, "start_step"),
        (("w", None), {}, "start_step"),
        (("w", True), {}, "start_step"),
        (("w", 1), {"application_version": 2}, "application_version"),
        (("w", 1), {"application_version": "a\x00b"}, "application_version"),
        (("w", 1), {"application_version": ""}, "application_version"),
        (("w", 1), {"application_version": "v" * 513}, "application_version"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_by_name(
    sqlite_app: App, arguments: tuple[Any, Any], options: dict[str, Any], match: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=match):
        DBOS.fork_workflow(*arguments, **options)
    with pytest.raises((TypeError, ValueError), match=match):
        asyncio.run(DBOS.fork_workflow_async(*arguments, **options))


def test_start_steps_beyond_all_numbers_are_no_crash(app: App, stage: Stage) -> None:
    perform("w")
    for start_step, runs in ((2**63, []), (10**30, []), (-(10**30), [1, 2, 3])):
        handle = fork("w", start_step)
        assert len(handle.get_result()) == 4
        assert stage.steps_run_by(handle.workflow_id) == runs
