"""The guide on workflows: steps, starting in the background, ids, determinism, coroutines."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from dbos import DBOS, DBOSClient, Queue, SetWorkflowID, WorkflowHandle, error
from tests.guide.inventory import runs
from tests.support.apps import App, Roadblock, eventually, interrupt_at, steps_of
from tests.support.guide import Program

pytestmark = pytest.mark.usefixtures("app")


@runs(("Workflow Documentation:", 1))
def test_interrupted_workflow_goes_on_after_its_last_completed_step(
    app: App, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    program.run()
    program["workflow"]()
    assert capsys.readouterr().out.splitlines() == ["Step one completed!", "Step two completed!"]

    # Interrupted in its second step.
    roadblock = Roadblock()
    program.names["roadblock"] = roadblock
    second = 'print("Step two completed!")'
    program.run(old=second, new=f"roadblock.stop(); {second}")
    with SetWorkflowID("w"):
        DBOS.start_workflow(program["workflow"])
    interrupt_at(roadblock, app)
    DBOS.get_result("w")
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("Step one completed!") == 1
    assert steps_of("w") == [(1, "step_one"), (2, "step_two")]


@runs(("Starting Workflows In The Background", 1))
def test_background_task_is_found_by_its_id_from_inside_and_outside(app: App, program: Program) -> None:
    program.names["output"] = "the output"
    program.run()
    handle: WorkflowHandle[str] = program["handle"]
    assert isinstance(handle, WorkflowHandle)
    assert program["output"] == handle.get_result() == "the output"
    id = handle.get_workflow_id()
    (status,) = DBOS.list_workflows(name="background_task")
    assert (status.workflow_id, status.input) == (id, {"args": (input,), "kwargs": {}})
    assert DBOS.retrieve_workflow(id).get_result() == "the output"
    client = DBOSClient(system_database_url=app.url)
    assert client.retrieve_workflow(id).get_result() == "the output"
    client.destroy()


@runs(("Workflow IDs and Idempotency", 1))
def test_workflow_knows_its_id_and_is_executed_once_for_it(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        program.run()
    said = [record.getMessage() for record in caplog.records if "I am a workflow" in record.getMessage()]
    assert said == ["I am a workflow with ID very-unique-id"]
    assert [one.workflow_id for one in DBOS.list_workflows()] == ["very-unique-id"]
    program["example_workflow"]()
    assert len({one.workflow_id for one in DBOS.list_workflows()}) == 2


def steps_for(program: Program, roadblock: Roadblock) -> list[str]:
    """The steps that the blocks on determinism call, and one more in which their workflow is interrupted."""
    ran: list[str] = []

    @DBOS.step(name="step_one")
    def step_one() -> None:
        ran.append("one")

    @DBOS.step(name="step_two")
    def step_two() -> None:
        ran.append("two")

    @DBOS.step(name="hold")
    def hold() -> None:
        roadblock.stop()

    program.names |= {"step_one": step_one, "step_two": step_two, "hold": hold}
    return ran


@runs(("Determinism", 1))
def test_workflow_that_chooses_anew_each_time_is_found_out(app: App, program: Program) -> None:
    """The guide's "don't": what it is warned of is an error that names both steps, and no silent mistake."""
    roadblock = Roadblock()
    ran = steps_for(program, roadblock)
    choices = iter([0, 1])
    program.names["random"] = SimpleNamespace(randint=lambda low, high: next(choices))
    program.run(old="        step_two()\n", new="        step_two()\n    hold()\n")
    with SetWorkflowID("w"):
        DBOS.start_workflow(program["example_workflow"])
    interrupt_at(roadblock, app)
    with pytest.raises(error.DBOSUnexpectedStepError, match=r"'step_two'.*'step_one'"):
        DBOS.get_result("w")
    assert ran == ["one"]


@runs(("Determinism", 2))
def test_choice_that_is_a_step_is_made_once(app: App, program: Program) -> None:
    roadblock = Roadblock()
    ran = steps_for(program, roadblock)
    choices = iter([0, 1])
    program.names["random"] = SimpleNamespace(randint=lambda low, high: next(choices))
    program.run(old="        step_two()\n", new="        step_two()\n    hold()\n")
    with SetWorkflowID("w"):
        DBOS.start_workflow(program["example_workflow"], "a friend")
    interrupt_at(roadblock, app)
    DBOS.get_result("w")
    assert ran == ["one"]

    program.names["random"] = random
    program.run()
    program["example_workflow"]("another friend")
    assert len(ran) == 2


@runs(("Coroutine (Async) Workflows", 1))
async def test_coroutine_workflow_awaits_sleep_steps_and_a_transaction_in_a_thread(program: Program) -> None:
    class Response:
        async def text(self) -> str:
            return "the page"

    class Session:
        @asynccontextmanager
        async def get(self, url: str) -> AsyncIterator[Response]:
            assert url == "https://example.com"
            yield Response()

    @asynccontextmanager
    async def session() -> AsyncIterator[Session]:
        yield Session()

    threads = []

    @DBOS.transaction()
    def example_transaction(body: str) -> str:
        threads.append(threading.current_thread())
        return body.upper()

    program.names |= {"asyncio": asyncio, "example_transaction": example_transaction}
    program.names["aiohttp"] = SimpleNamespace(ClientSession=session)
    program.run(old="sleep_async(10)", new="sleep_async(0.01)")
    handle = await DBOS.start_workflow_async(program["example_workflow"], "a friend")
    assert await handle.get_result() == "THE PAGE"
    assert threads[0] is not threading.current_thread()
    steps = await DBOS.list_workflow_steps_async(handle.get_workflow_id())
    assert [(step["function_id"], step["function_name"]) for step in steps] == [
        (1, "DBOS.sleep"),
        (2, "example_step"),
        (3, example_transaction.__qualname__),
    ]


async def test_coroutine_workflow_runs_on_the_loop_of_its_caller_and_enqueued_on_another() -> None:
    """What the guide says of event loops."""
    loops: list[Any] = []
    queue = Queue("loops")

    @DBOS.workflow()
    async def where() -> None:
        loops.append(asyncio.get_running_loop())

    await where()
    await (await DBOS.start_workflow_async(where)).get_result()
    await (await queue.enqueue_async(where)).get_result()
    mine = asyncio.get_running_loop()
    assert [loop is mine for loop in loops] == [True, True, False]


@runs(("Running Async Steps In Parallel", 1))
def test_parallel_steps_are_numbered_in_the_order_of_their_start(app: App, program: Program) -> None:
    """And all are waited for, also when one fails; after an interruption only what was not recorded runs again."""
    roadblock, ran = Roadblock(), []

    def declare(name: str) -> Any:
        @DBOS.step(name=name)
        async def step(argument: str) -> str:
            ran.append(name)
            if name == "step1":  # begins first, ends last
                await roadblock.stop_async()
            if name == "step3":
                raise ValueError(argument)
            return f"{name} of {argument}"

        return step

    program.names |= {"asyncio": asyncio} | {f"step{number}": declare(f"step{number}") for number in range(1, 5)}
    program.run()
    workflow = DBOS.workflow()(program["in_parallel"])
    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    eventually(lambda: len(DBOS.list_workflow_steps("w")) == 3, "three are recorded")
    interrupt_at(roadblock, app)
    *results, last = DBOS.get_result("w")
    assert (results[:2], last) == (["step1 of arg1", "step2 of arg2"], "step4 of arg4")
    assert (type(results[2]), results[2].args) == (ValueError, ("arg3",))
    assert steps_of("w") == [(number, f"step{number}") for number in range(1, 5)]
    assert sorted(ran) == ["step1", "step1", "step2", "step3", "step4"]
