"""Replay of exported workflows: what the code of today does otherwise than is recorded, and nothing is run for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbos import DBOS, JSONSerializer, Queue, SetWorkflowID
from dbos.runtime.registry import REGISTRY
from dbos.storage.opening import open_database
from dbos.storage.transfer import read_document
from dbos.testing import App, SessionDatabase, assert_replays, replay
from tests.support.apps import Roadblock

SHOP = """
from dbos import DBOS

@DBOS.workflow(name="subject")
def subject():
    DBOS.run_step({"name": "changed"}, print, "this must not be run")
"""

ran: list[str] = []
"""What was run of steps and transactions, since a test began to look."""


def step(name: str) -> Callable[..., Any]:
    """A step of this name, which tells that it is run."""

    @DBOS.step(name=name)
    def run(value: Any = None) -> Any:
        ran.append(name)
        if value == "fail":
            raise ValueError("as it was asked to")
        return value

    return run


def workflow(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function be the workflow of the name "subject", in place of any former one: its code was changed."""
    REGISTRY._functions.pop("subject", None)  # pyright: ignore[reportPrivateUsage]
    return DBOS.workflow(name="subject")(function)


def record(app: App, function: Callable[..., Any], *args: Any) -> Any:
    """Run the workflow and export it: a line of a file, parsed."""
    with SetWorkflowID("recorded"):
        handle = DBOS.start_workflow(workflow(function), *args)
    with contextlib.suppress(ValueError):
        handle.get_result()
    return exported(app)


def exported(app: App, workflow_id: str = "recorded") -> Any:
    """A line of an export, parsed."""
    ran.clear()
    DBOS.list_workflows()  # makes durable what is held back
    document = read_document(app.executor.database, workflow_id)
    return json.loads(json.dumps(document))


@pytest.fixture(autouse=True)
def nothing_has_run() -> None:
    """A test begins with no step that was run."""
    ran.clear()


def only_difference(document: Any, function: Callable[..., Any]) -> tuple[int | None, str]:
    """What the changed function does otherwise."""
    workflow(function)
    before = list(ran)
    (found,) = replay(document)
    assert ran == before, "a step was run"
    assert found.difference is not None
    with pytest.raises(AssertionError, match="1 of 1 workflows do not replay"):
        assert_replays(document)
    return found.function_id, found.difference


def test_everything_that_is_recorded_is_answered(app: App) -> None:
    queue = Queue("replayed")

    @DBOS.workflow()
    def child(value: int) -> int:
        return int(step("in the child")(value))

    @DBOS.transaction()
    def stored() -> int:
        ran.append("transaction")
        return 7

    def everything(value: int) -> list[Any]:
        found: list[Any] = [step("one")(value), child(value), stored()]
        try:
            step("two")("fail")
        except ValueError as error:
            found.append(str(error))
        handles = [DBOS.start_workflow(child, 2), queue.enqueue(child, 3)]
        DBOS.set_event("key", "value")
        DBOS.sleep(0.001)
        DBOS.send(str(DBOS.workflow_id), "to myself", "topic")
        found += [DBOS.recv("topic"), DBOS.recv("nothing", timeout_seconds=0.001)]
        found += [DBOS.get_event(str(DBOS.workflow_id), "key"), *(handle.get_result() for handle in handles)]
        DBOS.write_stream("stream", 1)
        return found

    document = record(app, everything, 1)
    app.destroy()
    (found,) = replay(document)
    assert found.difference is None, found
    assert found.steps > 10
    assert ran == []
    assert_replays(document)


def test_coroutines_replay(app: App) -> None:
    async def number(value: int) -> int:
        ran.append("number")
        return value

    async def gathering() -> list[Any]:
        await DBOS.sleep_async(0.001)
        numbers = (DBOS.run_step_async({"name": f"number{value}"}, number, value) for value in range(3))
        return await asyncio.gather(*numbers)

    document = record(app, gathering)
    assert_replays(document)

    async def one_less() -> list[Any]:
        return (await gathering())[:2]

    assert "it now returns [0, 1]" in only_difference(document, one_less)[1]

    async def sleepless() -> list[Any]:
        numbers = (DBOS.run_step_async({"name": f"number{value}"}, number, value) for value in range(3))
        return await asyncio.gather(*numbers)

    assert only_difference(document, sleepless) == (1, "it calls 'number0' as step 1, where 'DBOS.sleep' is recorded")

    async def branches_of_several_steps() -> list[Any]:
        async def branch(value: int) -> int:
            await DBOS.sleep_async(0.001)
            result: int = await DBOS.run_step_async({"name": "branch"}, number, value)
            return result

        return await asyncio.gather(*(branch(value) for value in range(3)))

    app.reset()
    document = record(app, branches_of_several_steps)
    assert only_difference(document, branches_of_several_steps)[0] == 2


def test_changes_are_found_and_named(sqlite_app: App) -> None:
    one, two, three = step("one"), step("two"), step("three")

    def original() -> str:
        return f"{one('a')}{two('b')}"

    document = record(sqlite_app, original)

    def other_order() -> str:
        second = two("b")
        return f"{one('a')}{second}"

    def longer() -> str:
        return original() + str(three("c"))

    def shorter() -> str:
        return str(one("a"))

    def other_result() -> str:
        return original().upper()

    def raises() -> str:
        raise RuntimeError(original())

    def deaf() -> str:
        try:
            return f"{one('a')}{three('b')}"
        except BaseException:
            return "ab"

    assert only_difference(document, other_order) == (1, "it calls 'two' as step 1, where 'one' is recorded")
    assert only_difference(document, longer) == (3, "it calls 'three' as step 3, which it never did before it ended")
    assert only_difference(document, shorter) == (2, "it ends without calling step 2, 'two', which is recorded")
    assert only_difference(document, other_result) == (
        None,
        "it now returns 'AB', and when it was recorded it returned 'ab'",
    )
    assert only_difference(document, raises)[1].startswith("it now raises RuntimeError('ab')")
    assert only_difference(document, deaf) == (2, "it calls 'three' as step 2, where 'two' is recorded")
    workflow(original)
    assert_replays(document)


def test_failed_workflow_must_fail_alike(sqlite_app: App) -> None:
    fail = step("fail")

    def failing(text: str = "as it was asked to") -> None:
        try:
            fail("fail")
        except ValueError:
            raise ValueError(text) from None

    document = record(sqlite_app, failing)
    assert_replays(document)
    difference = only_difference(document, lambda: failing("for another reason"))[1]
    assert "ValueError('for another reason')" in difference
    assert "raised ValueError('as it was asked to')" in difference


def test_workflow_under_way_is_replayed_as_far_as_it_is_recorded(app: App) -> None:
    roadblock = Roadblock()
    one, two = step("one"), step("two")

    def waiting() -> Any:
        one("a")
        DBOS.run_step({"name": "slow"}, roadblock.stop)
        return two("b")

    with SetWorkflowID("recorded"):
        handle = DBOS.start_workflow(workflow(waiting))
    roadblock.wait_until_reached()
    document = exported(app)
    assert document["workflow_status"]["status"] == "PENDING"
    (found,) = replay(document)
    assert (found.difference, found.steps) == (None, 1)

    def changed_before() -> None:
        two("a")

    def changed_behind() -> None:
        one("a")
        two("b")

    assert only_difference(document, changed_before) == (1, "it calls 'two' as step 1, where 'one' is recorded")
    workflow(changed_behind)
    assert_replays(document)
    roadblock.open()
    handle.get_result()


def test_patched_change_replays(sqlite_app: App) -> None:
    one, two = step("one"), step("two")
    document = record(sqlite_app, lambda: one("a"))

    def patched() -> Any:
        return two("a") if DBOS.patch("two-instead") else one("a")

    workflow(patched)
    assert_replays(document)


def test_unknown_function_is_named(sqlite_app: App) -> None:
    document = record(sqlite_app, step("one"))
    REGISTRY._functions.pop("subject", None)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(AssertionError, match=r"\(subject\): .*no workflow function of this name.*Import the module"):
        assert_replays(document)


def test_files_are_read_and_others_refused(sqlite_app: App, tmp_path: Path) -> None:
    record(sqlite_app, lambda: "done")
    place = ["-s", sqlite_app.database.url, "--schema", sqlite_app.database.schema]
    command = [sys.executable, "-m", "dbos", "workflow", "export", *place]
    export = tmp_path / "export.jsonl"
    export.write_bytes(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=dict(os.environ)).stdout)
    assert [each.workflow_id for each in replay(export)] == ["recorded"]
    assert_replays(str(export))

    (tmp_path / "shop.py").write_text(SHOP)
    command = [sys.executable, "-m", "dbos.testing", export.name, "--app", "shop"]
    done = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == (
        "Workflow 'recorded' (subject): it calls 'changed' as step 1, which it never did before it ended\n"
    )

    header, line = export.read_text().splitlines()
    for text, message in (
        (line, "line 1: it was not written by"),
        (f"{header}\n{{", "line 2"),
        (f"{header}\n{{}}", "line 2: workflow_status is no object"),
    ):
        export.write_text(text)
        with pytest.raises(ValueError, match=message):
            replay(export)
    export.write_text(header)
    with pytest.raises(AssertionError, match="the export is empty"):
        assert_replays(export)


def test_replay_changes_no_database(session_database: SessionDatabase) -> None:
    application = App(session_database, {"serializer": JSONSerializer()})
    application.launch()
    document = record(application, lambda: step("one")("json"))
    before = exported(application)
    (found,) = replay(document)
    assert found.difference is None
    assert exported(application) == before
    application.destroy()
    assert replay(document, serializer=JSONSerializer()) == [found]
    database = open_database(url=session_database.url, schema=session_database.schema)
    assert read_document(database, "recorded") == before
    database.close()
