"""Workflow ids: given once, and then the name of one run whose outcome everybody gets."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any, cast

import pytest

from dbos import DBOS, SetWorkflowID, error
from tests.support import ledger
from tests.support.apps import App, Roadblock, in_threads, interrupt_at, status_of
from tests.support.processes import Spawner


def test_set_workflow_id_names_the_first_workflow_only(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """The second in the block gets a fresh id and a warning; after the block ids are fresh again."""

    @DBOS.workflow()
    def workflow() -> str | None:
        return DBOS.workflow_id

    with SetWorkflowID("mine"):
        assert workflow() == "mine"
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
        second = workflow()
    assert second not in ("mine", None)
    assert "'mine'" in caplog.text
    assert "an id of its own" in caplog.text
    assert workflow() not in ("mine", second)


def test_nested_blocks_and_blocks_used_again(app: App) -> None:
    @DBOS.workflow()
    def workflow() -> str | None:
        return DBOS.workflow_id

    with SetWorkflowID("outer"):
        with SetWorkflowID("inner"):
            assert workflow() == "inner"
        assert workflow() == "outer"
    block = SetWorkflowID("again")
    for _ in range(2):
        with block:
            assert workflow() == "again"
    with pytest.raises(ZeroDivisionError), SetWorkflowID("left by an exception"):
        raise ZeroDivisionError
    assert workflow() != "left by an exception"


async def test_id_belongs_to_the_coroutine_made_inside_the_block(app: App) -> None:
    """Whenever, and in whichever order and task, it is awaited."""

    @DBOS.workflow()
    async def workflow() -> str | None:
        return DBOS.workflow_id

    with SetWorkflowID("a"):
        first = workflow()
    with SetWorkflowID("b"):
        second = asyncio.create_task(cast(Any, workflow()))
    with SetWorkflowID("c"):
        third = DBOS.start_workflow_async(workflow)
    assert await workflow() not in ("a", "b", "c")
    assert await second == "b"
    assert await first == "a"
    handle = await third
    assert handle.workflow_id == "c"
    assert await handle.get_result() == "c"


def test_id_is_not_inherited_by_steps_and_children(app: App) -> None:
    """Set around a parent it is used up by the parent; an unused one in a workflow is the next child's."""

    @DBOS.workflow()
    def child() -> str | None:
        return DBOS.workflow_id

    @DBOS.step()
    def step() -> str | None:
        return DBOS.workflow_id

    @DBOS.workflow()
    def parent() -> list[str | None]:
        with SetWorkflowID("child"):
            result = [step(), child()]
        return [*result, child()]

    with SetWorkflowID("p"):
        assert parent() == ["p", "child", "p-4"]


@pytest.mark.parametrize(
    ("workflow_id", "kind", "text"),
    [
        ("", ValueError, "must not be empty"),
        ("x" * 1025, ValueError, "at most 1024 bytes"),
        ("é" * 513, ValueError, "at most 1024 bytes"),
        ("a\x00b", ValueError, "NUL"),
        ("\ud800", ValueError, "surrogates"),
        (None, TypeError, "must be a str, not NoneType"),
        (7, TypeError, "must be a str, not int"),
        (b"w", TypeError, "must be a str, not bytes"),
    ],
)
def test_ids_that_cannot_be_are_refused(workflow_id: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        SetWorkflowID(workflow_id)


def test_unusual_ids_work_as_they_are(app: App) -> None:
    @DBOS.workflow()
    def child() -> str | None:
        return DBOS.workflow_id

    @DBOS.workflow()
    def workflow() -> tuple[str | None, str | None]:
        return DBOS.workflow_id, child()

    for id in ("x" * 1024, " ", "with space\nand line", "%_*\\'\";--", "héllo 🦆", "../etc", "{}", "None"):
        with SetWorkflowID(id):
            assert workflow() == (id, f"{id}-1")
        assert DBOS.get_result(id) == (id, f"{id}-1")
        assert [status.workflow_id for status in DBOS.list_workflows(workflow_ids=[id])] == [id]


def test_workflow_with_a_recorded_outcome_never_runs_again(app: App) -> None:
    """Called or started, success or error, in this launch and the next, whatever the arguments."""
    runs: list[int] = []

    @DBOS.workflow()
    def workflow(n: int) -> int:
        runs.append(n)
        if n < 0:
            raise ValueError("negative", n)
        return n

    def check() -> None:
        with SetWorkflowID("good"):
            assert workflow(1) == 1
        with SetWorkflowID("good"):
            assert workflow(2) == 1
        with SetWorkflowID("good"):
            assert DBOS.start_workflow(workflow, 3).get_result() == 1
        with SetWorkflowID("bad"), pytest.raises(ValueError, match="negative") as info:
            workflow(-1)
        assert info.value.args == ("negative", -1)
        with SetWorkflowID("bad"), pytest.raises(ValueError, match="negative") as info:
            DBOS.start_workflow(workflow, 4).get_result()
        assert info.value.args == ("negative", -1)

    check()
    app.relaunch()
    check()
    assert runs == [1, -1]
    good = DBOS.get_workflow_status("good")
    assert good is not None
    assert (good.input, good.recovery_attempts) == ({"args": (1,), "kwargs": {}}, 1)


async def test_coroutine_workflow_with_a_recorded_outcome_never_runs_again(app: App) -> None:
    runs: list[int] = []

    @DBOS.workflow()
    async def workflow(n: int) -> int:
        runs.append(n)
        if n < 0:
            raise ValueError("negative", n)
        return n

    for _ in range(2):
        with SetWorkflowID("good"):
            assert await workflow(1) == 1
        with SetWorkflowID("good"):
            assert await (await DBOS.start_workflow_async(workflow, 2)).get_result() == 1
        with SetWorkflowID("bad"), pytest.raises(ValueError, match="negative"):
            await workflow(-1)
        with SetWorkflowID("bad"):
            handle = await DBOS.start_workflow_async(workflow, 2)
        with pytest.raises(ValueError, match="negative"):
            await handle.get_result()
    assert runs == [1, -1]


def test_same_id_from_fifty_threads_runs_once_and_all_get_the_result(app: App) -> None:
    runs: list[int] = []

    @DBOS.workflow()
    def workflow(n: int) -> int:
        runs.append(n)
        return n

    def call(n: int) -> int:
        with SetWorkflowID("w"):
            return workflow(n) if n % 2 else DBOS.start_workflow(workflow, n).get_result()

    results = in_threads([lambda n=n: call(n) for n in range(50)])  # type: ignore[misc]
    assert results == runs * 50
    assert len(runs) == 1


async def test_same_id_from_fifty_tasks_runs_once_and_all_get_the_result(app: App) -> None:
    runs: list[int] = []

    @DBOS.workflow()
    async def workflow(n: int) -> int:
        runs.append(n)
        await asyncio.sleep(0.01)
        return n

    def call(n: int) -> Any:
        with SetWorkflowID("w"):
            return workflow(n)

    results = await asyncio.gather(*(call(n) for n in range(50)))
    assert results == runs * 50
    assert len(runs) == 1


def test_caller_with_the_id_of_a_running_workflow_waits_for_it(app: App) -> None:
    """Also when the run is interrupted and recovered meanwhile."""
    roadblock, runs = Roadblock(), list[str]()

    @DBOS.step()
    def step() -> str:
        runs.append("step")
        roadblock.stop()
        return "done"

    @DBOS.workflow()
    def workflow() -> str:
        return step()

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    interrupt_at(roadblock, app)
    with SetWorkflowID("w"):
        assert workflow() == "done"
    assert runs == ["step", "step"]
    assert status_of("w") == "SUCCESS"


PROGRAM = """
    import os, sys
    from dbos import DBOS, SetWorkflowID
    from tests.support import ledger

    url, path, mode = sys.argv[1:]

    @DBOS.step()
    def step():
        ledger.record(path, pid=os.getpid())
        return os.getpid()

    @DBOS.workflow()
    def workflow():
        return step()

    DBOS(config={"name": "app", "system_database_url": url})
    DBOS.launch()
    print("ready", flush=True)
    sys.stdin.readline()
    with SetWorkflowID("w"):
        result = workflow() if mode == "call" else DBOS.start_workflow(workflow).get_result()
    print("result", result, flush=True)
    DBOS.destroy()
"""


def test_same_id_from_four_processes_at_once_runs_once(database_url: str, spawn: Spawner, tmp_path: Path) -> None:
    """All four boot on the fresh database at once, too."""
    path = tmp_path / "ledger"
    children = [spawn(PROGRAM, database_url, path, mode) for mode in ("call", "start", "call", "start")]
    for child in children:
        child.wait_for_line("ready")
    for child in children:
        child.write_line()
    results = {child.wait_for_line("result ([0-9]+)").group(1) for child in children}
    for child in children:
        child.succeed()
    assert [{str(entry["pid"])} for entry in ledger.read(path)] == [results]


def test_id_of_another_function_is_refused(app: App) -> None:
    """Called, started, and as the id of a child; the workflow that has it is untouched."""

    @DBOS.workflow()
    def owner() -> str:
        return "owner"

    @DBOS.workflow()
    def intruder() -> str:
        return "intruder"

    @DBOS.workflow()
    def calling() -> str:
        with SetWorkflowID("w"):
            return intruder()

    @DBOS.workflow()
    def starting() -> str:
        with SetWorkflowID("w"):
            handle = DBOS.start_workflow(intruder)
        return handle.get_result()

    with SetWorkflowID("w"):
        owner()
    match = "'w' belongs to .*owner.* cannot be used for .*intruder"
    with SetWorkflowID("w"), pytest.raises(error.DBOSConflictingWorkflowError, match=match):
        intruder()
    with SetWorkflowID("w"), pytest.raises(error.DBOSConflictingWorkflowError, match=match):
        DBOS.start_workflow(intruder)
    for number, parent in enumerate((calling, starting)):
        with SetWorkflowID(f"p{number}"), pytest.raises(error.DBOSConflictingWorkflowError, match=match):
            parent()
        assert status_of(f"p{number}") == "ERROR"
    assert DBOS.get_result("w") == "owner"
    assert DBOS.list_workflows(name=intruder.__qualname__) == []


async def test_id_of_another_function_is_refused_for_coroutines(app: App) -> None:
    @DBOS.workflow()
    async def owner() -> None: ...

    @DBOS.workflow()
    async def intruder() -> None: ...

    @DBOS.workflow()
    async def parent() -> None:
        with SetWorkflowID("w"):
            child = intruder()
        await child

    with SetWorkflowID("w"):
        await owner()
    with SetWorkflowID("w"), pytest.raises(error.DBOSConflictingWorkflowError):
        await intruder()
    with SetWorkflowID("w"), pytest.raises(error.DBOSConflictingWorkflowError):
        await DBOS.start_workflow_async(intruder)
    with pytest.raises(error.DBOSConflictingWorkflowError):
        await parent()


def test_child_with_the_id_of_an_existing_run_of_its_function_joins_it(app: App) -> None:
    runs: list[str] = []

    @DBOS.workflow()
    def shared() -> str:
        runs.append("shared")
        return "shared"

    @DBOS.workflow()
    def parent() -> tuple[str, str]:
        with SetWorkflowID("w"):
            called = shared()
        with SetWorkflowID("w"):
            started = DBOS.start_workflow(shared).get_result()
        return called, started

    with SetWorkflowID("w"):
        shared()
    for _ in range(2):
        assert parent() == ("shared", "shared")
    assert runs == ["shared"]
    workflow = DBOS.get_workflow_status("w")
    assert workflow is not None
    assert workflow.parent_workflow_id is None
