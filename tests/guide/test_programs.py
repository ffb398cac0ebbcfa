"""The guide's whole programs, as real processes: served, killed, started again."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from dbos import DBOSClient
from tests.guide.inventory import guide_program, runs
from tests.support.apps import eventually
from tests.support.guide import Program
from tests.support.processes import Child, Spawner
from tests.support.servers import client_of, free_port

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

DURABLE = """
import os, threading
import uvicorn
from dbos import DBOS, DBOSConfig
from fastapi import FastAPI

app = FastAPI()

@DBOS.step()
def first():
    print("first", flush=True)

@DBOS.step()
def second():
    print("second", flush=True)
    if os.environ.get("HANGS"):
        threading.Event().wait()

@app.get("/")
@DBOS.workflow()
def workflow():
    first()
    second()
    return "done"

"""
"""What the guide's main parts take for granted: an application, with a workflow that can be interrupted."""

SCHEDULED = """
import os, threading
from dbos import DBOS, DBOSConfig

@DBOS.workflow()
def tick(scheduled_time, context):
    print("tick", scheduled_time.isoformat(), flush=True)

DBOS.create_schedule(schedule_name="ticking", workflow_fn=tick, schedule="* * * * * *")

"""


def outcomes(url: str, name: str) -> list[tuple[str, object]]:
    """The status and the output of each workflow of this name."""
    client = DBOSClient(system_database_url=url)
    try:
        return [(one.status, one.output) for one in client.list_workflows(name=name)]
    finally:
        client.destroy()


def ask_and_kill(server: Child, port: int, line: str, count: int = 1) -> None:
    """Send a request, and kill the server when it has written the line so many times."""

    def ask() -> None:
        with suppress(httpx.HTTPError), client_of(server, port) as client:
            client.get("/")

    request = threading.Thread(target=ask, daemon=True)
    request.start()
    server.wait_for_line(line, count=count)
    server.kill()
    request.join(30)


# ------------------------------------------------------------------------------------------------------ the main parts


@runs(("DBOS Lifecycle Guidelines", 1))
def test_program_that_was_killed_goes_on_with_its_workflow_when_it_starts_again(
    database_url: str, program: Program, spawn: Spawner
) -> None:
    environment = {"DBOS_SYSTEM_DATABASE_URL": database_url}
    main = DURABLE + program.code()
    killed = spawn(main + "    workflow()\n", env=environment | {"HANGS": "yes"})
    killed.wait_for_line("second")
    killed.kill()
    again = spawn(main + "    input()\n", env=environment)
    again.wait_for_line("second")
    eventually(lambda: outcomes(database_url, "workflow") == [("SUCCESS", "done")], "it ends")
    again.write_line()
    assert again.succeed().splitlines() == ["second"], "the first step is not executed again"


@runs(("DBOS Lifecycle Guidelines", 2))
def test_server_that_was_killed_goes_on_with_its_workflow_when_it_starts_again(
    database_url: str, program: Program, spawn: Spawner
) -> None:
    environment = {"DBOS_SYSTEM_DATABASE_URL": database_url}

    def serve(**more: str) -> tuple[Child, int]:
        port = free_port()
        code = DURABLE + program.code(old="port=8000", new='port=int(os.environ["PORT"]), access_log=False')
        return spawn(code, env=environment | {"PORT": str(port)} | more), port

    ask_and_kill(*serve(HANGS="yes"), "second")
    again, port = serve()
    again.wait_for_line("second")
    with client_of(again, port) as client:
        assert client.get("/").json() == "done"
    assert outcomes(database_url, "workflow") == [("SUCCESS", "done")] * 2
    assert again.stdout.splitlines() == ["second", "first", "second"]


@runs(("DBOS Lifecycle Guidelines", 3))
def test_main_thread_blocks_while_scheduled_workflows_run(database_url: str, program: Program, spawn: Spawner) -> None:
    seen: set[str] = set()
    for _ in range(2):
        running = spawn(SCHEDULED + program.code(), env={"DBOS_SYSTEM_DATABASE_URL": database_url})
        running.wait_for_line("^tick", count=2)  # in the second life one of them may be left over from the first
        assert running.returncode is None
        running.kill()
        ticks = running.stdout.splitlines()
        assert len(set(ticks)) == len(ticks), "each time once"
        assert set(ticks) - seen
        seen |= set(ticks)
    client = DBOSClient(system_database_url=database_url)
    fired = {one.workflow_id for one in client.list_workflows(name="tick")}
    client.destroy()
    assert {f"sched-ticking-{tick.removeprefix('tick ')}" for tick in seen} <= fired


@runs(("DBOS Lifecycle Guidelines", 4))
def test_main_coroutine_waits_while_scheduled_workflows_run(program: Program, spawn: Spawner, tmp_path: Path) -> None:
    running = spawn(SCHEDULED + program.code())
    running.wait_for_line("^tick")
    assert running.returncode is None
    assert (tmp_path / "dbos-app.sqlite").exists(), "no database is configured, so it is the default one"


# -------------------------------------------------------------------------------------------------------- the examples


@runs(("Workflow and Steps Examples", 1))
def test_simple_example_runs_its_steps_and_ends(
    database_url: str, program: Program, spawn: Spawner, tmp_path: Path
) -> None:
    child = spawn(program.code(), env={"DBOS_SYSTEM_DATABASE_URL": database_url})
    assert child.succeed().splitlines() == ["Step one completed!", "Step two completed!"]
    client = DBOSClient(system_database_url=database_url)
    (workflow,) = client.list_workflows()
    assert (workflow.name, workflow.status) == ("dbos_workflow", "SUCCESS")
    steps = client.list_workflow_steps(workflow.workflow_id)
    client.destroy()
    assert [step["function_name"] for step in steps] == ["step_one", "step_two"]
    assert not (tmp_path / "dbos-starter.sqlite").exists()


def test_simple_example_without_a_database_url_uses_the_default_file(
    spawn: Spawner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration then holds a None."""
    program = guide_program(("Workflow and Steps Examples", 1))
    monkeypatch.delenv("DBOS_SYSTEM_DATABASE_URL", raising=False)
    assert spawn(program.code()).succeed().count("completed!") == 2
    assert outcomes(f"sqlite:///{tmp_path / 'dbos-starter.sqlite'}", "dbos_workflow") == [("SUCCESS", None)]


@runs(("Workflow and Steps Examples", 2))
def test_server_of_the_example_is_killed_between_its_steps(database_url: str, program: Program, spawn: Spawner) -> None:
    """As it is written, but for an import that it lacks, a free port, and a second step that can be made to hang."""

    def serve(**environment: str) -> tuple[Child, int]:
        port = free_port()
        code = "import uvicorn\n" + program.code(
            old_1="port=8000",
            new_1='port=int(os.environ["PORT"])',
            old_2='    print("Step two completed!")',
            new_2='    input("Step two hangs\\n") if os.environ.get("HANGS") else print("Step two completed!")',
        )
        return spawn(code, env={"DBOS_SYSTEM_DATABASE_URL": database_url, "PORT": str(port), **environment}), port

    ask_and_kill(*serve(HANGS="yes"), "Step two hangs")
    again, port = serve()
    again.wait_for_line("Step two completed!")
    assert "Step one" not in again.stdout
    with client_of(again, port) as client:
        answer = client.get("/")
    assert (answer.status_code, answer.json()) == (200, None)
    again.wait_for_line("Step two completed!", count=2)
    assert outcomes(database_url, "dbos_workflow") == [("SUCCESS", None)] * 2


@runs(("Workflow and Steps Examples", 3))
def test_server_of_the_example_with_a_queue_is_killed_while_ten_steps_run(
    database_url: str, program: Program, spawn: Spawner
) -> None:
    """The steps take as long as the test says: a minute in the first life, a moment in the second."""

    def serve(pause: str) -> tuple[Child, int]:
        port = free_port()
        code = "import uvicorn\n" + program.code(
            old_1="port=8000",
            new_1='port=int(os.environ["PORT"])',
            old_2="time.sleep(5)",
            new_2='os.write(1, b"begins\\n"); time.sleep(float(os.environ["PAUSE"]))',
        )
        return spawn(code, env={"DBOS_SYSTEM_DATABASE_URL": database_url, "PORT": str(port), "PAUSE": pause}), port

    ask_and_kill(*serve("60"), "begins", count=10)
    again, port = serve("0.01")
    again.wait_for_line("Successfully completed 10 steps")
    with client_of(again, port) as client:
        assert client.get("/").status_code == 200
    again.wait_for_line("Successfully completed 10 steps", count=2)
    steps = outcomes(database_url, "<temp>.dbos_step")
    assert steps == [("SUCCESS", None)] * 20, "none is lost, none is enqueued twice"
