"""Configure, launch, destroy: in every order, many times, in several processes at once."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID, error
from tests.support import ledger
from tests.support.apps import PATIENCE_S, App, Roadblock, interrupt_at, status_of
from tests.support.processes import Spawner


@DBOS.workflow(name="lifecycle.workflow")
def workflow() -> str | None:
    return DBOS.workflow_id


@DBOS.workflow(name="lifecycle.coroutine")
async def coroutine() -> str | None:
    return DBOS.workflow_id


CALLS: dict[str, Callable[[], Any]] = {
    "workflow": workflow,
    "start_workflow": lambda: DBOS.start_workflow(workflow),
    "retrieve_workflow": lambda: DBOS.retrieve_workflow("w"),
    "get_workflow_status": lambda: DBOS.get_workflow_status("w"),
    "get_result": lambda: DBOS.get_result("w"),
    "list_workflows": lambda: DBOS.list_workflows(),
    "list_workflow_steps": lambda: DBOS.list_workflow_steps("w"),
    "coroutine": lambda: asyncio.run(coroutine()),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("is_configured", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_calls_before_launch_say_what_to_do(unlaunched: Path, call: str, is_configured: bool) -> None:
    if is_configured:
        DBOS(config={"name": "app"})
    with pytest.raises(error.DBOSException, match=r"DBOS\.launch\(\)") as info:
        CALLS[call]()
    assert call in str(info.value) or call == "get_result"
    assert list(unlaunched.iterdir()) == [], "no database is touched before the launch"


def test_launch_and_properties_without_a_configuration_say_what_to_do(unlaunched: Path) -> None:
    calls: list[Callable[[], Any]] = [
        DBOS.launch,
        DBOS.reset_system_database,
        lambda: DBOS.application_version,
        lambda: DBOS.executor_id,
    ]
    for call in calls:
        with pytest.raises(error.DBOSException, match=r"DBOS\(config=\.\.\.\)"):
            call()
    DBOS.destroy()
    DBOS.destroy()


def test_destroy_without_launch_and_launch_without_destroy(unlaunched: Path, caplog: pytest.LogCaptureFixture) -> None:
    DBOS(config={"name": "first"})
    DBOS.destroy()
    DBOS(config={"name": "first"})
    DBOS(config={"name": "second"})
    DBOS.launch()
    assert (unlaunched / "second.sqlite").exists()
    assert not (unlaunched / "first.sqlite").exists()
    DBOS.launch()
    assert "launched already" in caplog.text
    DBOS(config={"name": "third"})
    assert "Call DBOS.destroy() first" in caplog.text
    workflow()
    assert len(DBOS.list_workflows()) == 1
    assert not (unlaunched / "third.sqlite").exists()


def test_object_has_the_methods_of_the_class(app: App) -> None:
    dbos = DBOS(config=app.config())
    dbos.launch()
    assert dbos.start_workflow(workflow).get_result() is not None
    assert dbos.executor_id == "local"
    assert dbos.workflow_id is None
    assert len(dbos.list_workflows()) == 1
    dbos.destroy()
    with pytest.raises(error.DBOSException):
        dbos.list_workflows()


def test_twenty_launches_in_one_process_keep_all_history_and_leak_no_threads(app: App) -> None:
    others = set(threading.enumerate())
    names: list[set[str]] = []
    for number in range(20):
        app.relaunch()
        with SetWorkflowID(f"w{number}"):
            workflow()
        assert asyncio.run(call_coroutine()) is not None
        assert DBOS.start_workflow(coroutine).get_result() is not None
        assert DBOS.start_workflow(workflow).get_result() is not None
        names.append({thread.name for thread in threading.enumerate() if thread.name.startswith("dbos-")})
    assert len(DBOS.list_workflows(workflow_id_prefix="w")) == 20
    assert len(DBOS.list_workflows(status="SUCCESS")) == 80
    DBOS.destroy()
    services = [thread.name for thread in set(threading.enumerate()) - others if thread.name in names[-1]]
    assert [name for name in services if not name.startswith("dbos-worker")] == []


async def call_coroutine() -> str | None:
    return await coroutine()


async def test_launch_and_destroy_inside_a_running_loop(unlaunched: Path) -> None:
    for _ in range(2):
        DBOS(config={"name": "app"})
        DBOS.launch()
        assert await coroutine() is not None
        handle = DBOS.start_workflow(coroutine)
        assert await DBOS.get_result_async(handle.workflow_id) == handle.workflow_id
        DBOS.destroy()


def test_reset_system_database_only_between_configuration_and_launch(app: App) -> None:
    with SetWorkflowID("w"):
        workflow()
    with pytest.raises(error.DBOSException, match=r"reset_system_database.*after DBOS\.launch\(\)"):
        DBOS.reset_system_database()
    assert status_of("w") == "SUCCESS"
    DBOS.destroy()
    with pytest.raises(error.DBOSException, match=r"DBOS\(config=\.\.\.\)"):
        DBOS.reset_system_database()
    DBOS(config=app.config())
    DBOS.reset_system_database()
    DBOS.reset_system_database()
    DBOS.launch()
    assert DBOS.list_workflows() == []
    with SetWorkflowID("w"):
        assert workflow() == "w"


def test_the_guides_test_fixture_works_on_a_database_that_does_not_exist_yet(sqlite_url: str) -> None:
    for _ in range(2):
        DBOS.destroy()
        DBOS(config={"name": "my-app", "database_url": sqlite_url})
        DBOS.reset_system_database()
        DBOS.launch()
        assert DBOS.list_workflows() == []
        workflow()
    DBOS.destroy()


def test_logger_is_the_librarys_and_obeys_log_level(app: App, caplog: pytest.LogCaptureFixture) -> None:
    assert DBOS.logger is logging.getLogger("dbos")
    app.relaunch(log_level="ERROR")
    caplog.clear()
    DBOS.logger.warning("hushed")
    DBOS.logger.error("told")
    assert "hushed" not in caplog.text
    assert "told" in caplog.text
    app.relaunch()
    assert DBOS.logger.level == logging.INFO


def test_destroy_interrupts_running_workflows_and_the_next_launch_finishes_them(app: App) -> None:
    """In threads and on the loop; who waits in this process is told at once, and nobody keeps destroy waiting."""
    roadblocks = [Roadblock(), Roadblock()]
    runs: list[str] = []

    @DBOS.step()
    def first() -> int:
        runs.append("first")
        return 1

    @DBOS.workflow()
    def in_thread() -> int:
        result = first()
        roadblocks[0].stop()
        return result

    @DBOS.workflow()
    async def on_loop() -> int:
        result = first()
        await roadblocks[1].stop_async()
        return result

    errors: dict[str, BaseException] = {}

    def wait_for(name: str, wait: Callable[[], Any]) -> threading.Thread:
        def run() -> None:
            try:
                wait()
            except BaseException as caught:
                errors[name] = caught

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    with SetWorkflowID("t"):
        threaded = DBOS.start_workflow(in_thread)
    with SetWorkflowID("l"):
        looped = DBOS.start_workflow(on_loop)
    for roadblock in roadblocks:
        roadblock.wait_until_reached()
    waiters = [
        wait_for("thread", threaded.get_result),
        wait_for("loop", looped.get_result),
        wait_for("retrieved", lambda: DBOS.retrieve_workflow("t").get_result()),
        wait_for("by id", lambda: DBOS.get_result("l")),
        wait_for("missing", lambda: DBOS.get_result("nobody")),
    ]
    began = time.monotonic()
    DBOS.destroy()
    assert time.monotonic() - began < PATIENCE_S / 2
    for waiter in waiters:
        waiter.join(5)
    assert not any(waiter.is_alive() for waiter in waiters), f"some wait on; told were {sorted(errors)}"
    assert {type(caught) for caught in errors.values()} == {error.DBOSException}
    assert all("shut down" in str(caught) for caught in errors.values())
    for roadblock in roadblocks:
        roadblock.open()
    app.launch()
    assert DBOS.get_result("t") == DBOS.get_result("l") == 1
    assert len(DBOS.list_workflows(status="SUCCESS")) == 2
    assert runs == ["first", "first"]


def test_destroy_waits_for_running_workflows_when_told_to(app: App) -> None:
    roadblock = Roadblock()

    @DBOS.workflow()
    def slow() -> str:
        roadblock.stop()
        return "done"

    with SetWorkflowID("w"):
        DBOS.start_workflow(slow)
    roadblock.wait_until_reached()
    timer = threading.Timer(0.05, roadblock.open)
    timer.start()
    DBOS.destroy(workflow_completion_timeout_sec=PATIENCE_S)
    assert timer.finished.is_set()
    app.launch()
    status = DBOS.get_workflow_status("w")
    assert status is not None
    assert (status.status, status.output, status.recovery_attempts) == ("SUCCESS", "done", 1)


def test_interrupted_thread_of_an_earlier_launch_records_nothing_later(app: App) -> None:
    """Its late step belongs to nobody: the new launch's run is the one that counts."""
    roadblock, ran = Roadblock(), list[str]()
    late = threading.Event()

    @DBOS.step()
    def step() -> int:
        number = len(ran)
        ran.append("step")
        roadblock.stop()
        if number == 0:
            assert late.wait(PATIENCE_S)
        return number

    @DBOS.workflow()
    def two_steps() -> list[int]:
        return [step(), step()]

    with SetWorkflowID("w"):
        DBOS.start_workflow(two_steps)
    interrupt_at(roadblock, app)
    assert DBOS.get_result("w") == [1, 2]
    late.set()
    with SetWorkflowID("after"):
        workflow()
    assert ran == ["step"] * 3
    assert [one["output"] for one in DBOS.list_workflow_steps("w")] == [1, 2]


def test_destroy_registry_forgets_the_functions(sqlite_url: str, spawn: Spawner) -> None:
    """In a process of its own, as the registry belongs to all tests of this one."""
    spawn(
        """
        import sys
        from dbos import DBOS

        @DBOS.workflow(name="same")
        def one():
            return 1

        DBOS(config={"name": "app", "system_database_url": sys.argv[1]})
        DBOS.launch()
        assert one() == 1
        DBOS.destroy(destroy_registry=True)

        @DBOS.workflow(name="same")
        def two():
            return 2

        DBOS(config={"name": "app", "system_database_url": sys.argv[1]})
        DBOS.launch()
        assert two() == 2
        DBOS.destroy()
        """,
        sqlite_url,
    ).succeed()


BOOT = """
    import sys
    from dbos import DBOS

    @DBOS.workflow()
    def workflow(n):
        return n + 1

    DBOS(config={"name": "app", "system_database_url": sys.argv[1]})
    print("ready", flush=True)
    sys.stdin.readline()
    DBOS.launch()
    print("launched", workflow(1), DBOS.application_version, flush=True)
    DBOS.destroy()
"""


def test_processes_that_boot_at_once_on_a_fresh_database_all_succeed(database_url: str, spawn: Spawner) -> None:
    """And compute the same application version from the same source."""
    children = [spawn(BOOT, database_url) for _ in range(4)]
    for child in children:
        child.wait_for_line("ready")
    for child in children:
        child.write_line()
    versions = {child.wait_for_line("launched 2 ([0-9a-f]+)$").group(1) for child in children}
    for child in children:
        child.succeed()
        assert "Traceback" not in child.stderr
    assert len(versions) == 1


def test_application_version_is_the_same_for_the_same_source_only(sqlite_url: str, spawn: Spawner) -> None:
    """Steps and the order of definitions do not count, the code of workflows does."""
    program = """
    import sys
    from dbos import DBOS
    {code}
    DBOS(config={{"name": "app", "system_database_url": sys.argv[1]}})
    DBOS.launch()
    print("version", DBOS.application_version, flush=True)
    DBOS.destroy()
    """
    one = "@DBOS.workflow()\n    def one(): return 1\n    "
    two = "@DBOS.workflow()\n    def two(): return 2\n    "
    step = "@DBOS.step()\n    def step(): return 3\n    "

    def version(code: str) -> str:
        return spawn(program.format(code=code), sqlite_url).wait_for_line("version (.+)").group(1)

    base = version(one + two)
    assert version(two + step + one) == base
    assert version(one) != base
    assert version(one + two.replace("2\n", "3\n")) != base


def test_program_that_ends_without_destroy_ends(database_url: str, spawn: Spawner) -> None:
    """Nothing of the library keeps the interpreter from ending; what it waited for is durable."""
    spawn(
        """
        import sys
        from dbos import DBOS

        @DBOS.workflow()
        async def coroutine():
            return 1

        @DBOS.workflow()
        def workflow():
            return DBOS.start_workflow(coroutine).get_result()

        DBOS(config={"name": "app", "system_database_url": sys.argv[1]})
        DBOS.launch()
        assert DBOS.start_workflow(workflow).get_result() == 1
        print("end", flush=True)
        """,
        database_url,
    ).succeed(timeout=15)
    app = App(database_url)
    app.launch()
    assert len(DBOS.list_workflows(status="SUCCESS")) == 2
    DBOS.destroy()


def test_program_interrupted_by_ctrl_c_leaves_its_workflow_recoverable(
    database_url: str, spawn: Spawner, tmp_path: Path
) -> None:
    """SIGINT while the main thread calls a workflow: KeyboardInterrupt reaches it, the next process finishes."""
    program = """
        import sys, time
        from dbos import DBOS, SetWorkflowID
        from tests.support import ledger

        url, path = sys.argv[1:3]
        waits = len(sys.argv) > 3

        @DBOS.step()
        def first():
            ledger.record(path, step="first")

        @DBOS.step()
        def second():
            print("second", flush=True)
            if waits:
                time.sleep(60)

        @DBOS.workflow()
        def workflow():
            first()
            second()
            return "done"

        DBOS(config={"name": "app", "system_database_url": url, "application_version": "1"})
        DBOS.launch()
        with SetWorkflowID("w"):
            print("result", workflow(), flush=True)
        DBOS.destroy()
    """
    path = tmp_path / "ledger"
    child = spawn(program, database_url, path, "wait")
    child.wait_for_line("second")
    child.send_signal(signal.SIGINT)
    assert child.wait(15) != 0
    assert "KeyboardInterrupt" in child.stderr
    again = spawn(program, database_url, path)
    again.wait_for_line("result done")
    again.succeed()
    assert len(ledger.read(path)) == 1
