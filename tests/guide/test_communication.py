"""The guide on waiting, talking and managing: retries, sleep, timeouts, messages, events, streams."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID, SetWorkflowTimeout, WorkflowHandle, error
from tests.guide.inventory import runs
from tests.guide.test_signatures import shown_defaults
from tests.support.apps import App, Roadblock, eventually, status_of, steps_of
from tests.support.guide import Program

fastapi = pytest.importorskip("fastapi")
testclient = pytest.importorskip("fastapi.testclient")

pytestmark = pytest.mark.usefixtures("app")


@runs(("Durable Sleep", 1))
def test_scheduled_task_runs_on_time_through_two_restarts(app: App, program: Program) -> None:
    ran: list[str] = []

    @DBOS.step()
    def run_task(task: str) -> None:
        ran.append(task)

    program.names["run_task"] = run_task
    program.run()
    program["schedule_task"](0.01, "soon")
    assert ran == ["soon"]

    with SetWorkflowID("w"):
        handle = DBOS.start_workflow(program["schedule_task"], 1.0, "later")
    asleep = eventually(lambda: DBOS.list_workflow_steps("w"), "it sleeps")
    for _ in range(2):
        app.relaunch()
    DBOS.retrieve_workflow(handle.workflow_id).get_result()
    assert ran == ["soon", "later"]
    assert [step["function_name"] for step in DBOS.list_workflow_steps("w")] == ["DBOS.sleep", run_task.__qualname__]
    assert DBOS.list_workflow_steps("w")[0] == asleep[0], "the time to wake up is recorded once"


@runs(("Messages Example", 1), ("Messages Example", 2))
def test_checkout_waits_for_the_payment_that_a_webhook_sends(program: Program) -> None:
    server = fastapi.FastAPI()
    program.names |= {"PAYMENT_STATUS": "payment_status", "app": server, "Response": fastapi.Response}
    program.run(1)
    program.run(2)
    client = testclient.TestClient(server)

    def checkout(id: str, *statuses: str) -> Any:
        with SetWorkflowID(id):
            handle = DBOS.start_workflow(program["checkout_workflow"])
        for status in statuses:
            response = client.post(f"/payment_webhook/{id}/{status}", params={"payment_id": id})
            assert response.status_code == 200
        return handle.get_result()

    assert checkout("as-written", "paid") is None
    assert steps_of("as-written")[0] == (1, "DBOS.recv")

    # Its two branches, filled in; and a wait that is not a minute.
    filled = {
        "old_1": "... # Handle a successful payment.",
        "new_1": "return 'success'",
        "old_2": "... # Handle a failed payment or timeout.",
        "new_2": "return ('failure', payment_status)",
    }
    program.run(1, **filled)
    assert checkout("paid", "paid", "failed") == "success"
    assert checkout("failed", "failed", "paid") == ("failure", "failed")
    program.run(1, **filled, old_3="recv(PAYMENT_STATUS)", new_3="recv(PAYMENT_STATUS, timeout_seconds=0.02)")
    assert checkout("late") == ("failure", None)


@runs(("Events Example", 1), ("Events Example", 2))
def test_checkout_publishes_the_payment_id_that_the_endpoint_returns(app: App, program: Program) -> None:
    server = fastapi.FastAPI()
    program.names |= {"PAYMENT_ID": "payment_id", "dbos": DBOS(config=app.config()), "app": server}
    program.names |= {"Response": fastapi.Response, "HTTPException": fastapi.HTTPException}
    program.run(1)
    with SetWorkflowID("as-written"):
        program["checkout_workflow"]()
    assert DBOS.get_event("as-written", "payment_id") is ...
    assert DBOS.get_all_events("as-written") == {"payment_id": ...}

    # With a payment id that can be the text of a response.
    program.run(1, old="payment_id = ...", new="payment_id = 'payment of ' + DBOS.workflow_id")
    program.run(2)
    client = testclient.TestClient(server)
    for _ in range(2):
        response = client.post("/checkout/key")
        assert (response.status_code, response.text) == (200, "payment of key")
    assert [workflow.workflow_id for workflow in DBOS.list_workflows()] == ["as-written", "key"]


@runs(("Writing to Streams", 3), ("Reading from Streams", 2))
def test_reader_prints_what_the_producer_streams(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    program.names |= {"example_key": "example", "workflow_id": "w"}
    program.run(1)
    with SetWorkflowID("w"):
        DBOS.start_workflow(program["producer_workflow"])
    expected = [{"step": 1, "data": "value1"}, {"step": 2, "data": "value2"}]
    for _ in range(2):
        program.run(2)
        assert capsys.readouterr().out.splitlines() == [f"Received: {value}" for value in expected]
    DBOS.get_result("w")
    assert [name for _, name in steps_of("w")] == ["DBOS.writeStream", "DBOS.writeStream", "DBOS.closeStream"]


@runs(("Configurable Retries", 2))
def test_request_is_tried_ten_times(program: Program) -> None:
    left: list[Any] = []

    def get(url: str) -> Any:
        if isinstance(answer := left.pop(0), Exception):
            raise answer
        return SimpleNamespace(text=answer)

    @DBOS.workflow()
    def workflow() -> Any:
        return program["example_step"]()

    program.names["requests"] = SimpleNamespace(get=get)
    program.run()
    left[:] = ["page"]
    assert workflow() == "page"

    # Without the pauses of a second and more.
    program.run(old="max_attempts=10", new="max_attempts=10, interval_seconds=0.001, backoff_rate=1")
    left[:] = [*(ConnectionError(str(number)) for number in range(9)), "page"]
    assert workflow() == "page"
    left[:] = [ConnectionError(str(number)) for number in range(11)]
    with pytest.raises(error.DBOSMaxStepRetriesExceeded):
        workflow()
    assert len(left) == 1


@runs(("Workflow Timeouts", 1))
def test_workflow_and_its_children_are_cancelled_when_the_time_is_over(program: Program) -> None:
    program.run()
    (done,) = DBOS.list_workflows()
    assert (done.status, done.workflow_timeout_ms) == ("SUCCESS", 10_000)
    assert done.created_at is not None
    assert done.workflow_deadline_epoch_ms == pytest.approx(done.created_at + 10_000, abs=1000)

    roadblock = Roadblock()
    later: list[str] = []

    @DBOS.step()
    def in_flight() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def child() -> None:
        in_flight()
        later.append("the next step begins")
        DBOS.sleep(0)
        later.append("and ends")

    @DBOS.workflow()
    def sleeper() -> None:
        DBOS.sleep(3600)

    program.names |= {"child": child, "sleeper": sleeper}
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        # A shorter time, and a body: two children.
        program.run(
            old_1="SetWorkflowTimeout(10)",
            new_1="SetWorkflowTimeout(0.3)",
            old_2="    ...\n",
            new_2="    DBOS.start_workflow(child)\n    sleeper()\n",
        )
    statuses = {workflow.name: workflow.status for workflow in DBOS.list_workflows() if workflow != done}
    assert set(statuses.values()) == {"CANCELLED"}
    assert len(statuses) == 3
    roadblock.open()
    eventually(lambda: later, "the step in flight comes to its end")
    DBOS.destroy(workflow_completion_timeout_sec=10)
    assert later == ["the next step begins"], "it is stopped at the beginning of its next step"


# ---------------------------------------------------------------------------------- what the guide tells without code


def test_handles_and_management_as_the_guide_tells_it(app: App) -> None:
    """A workflow is started, found, cancelled, resumed, listed and forked."""
    roadblock = Roadblock()
    ran: list[int] = []

    @DBOS.step()
    def step(number: int) -> int:
        ran.append(number)
        if number == 2:
            roadblock.stop()
        return number * 10

    @DBOS.workflow()
    def workflow(first: int) -> list[int]:
        return [step(first), step(2), step(3)]

    with SetWorkflowID("w"):
        handle: WorkflowHandle[list[int]] = DBOS.start_workflow(workflow, 1)
    roadblock.wait_until_reached()
    assert handle.get_workflow_id() == DBOS.retrieve_workflow("w").get_workflow_id() == "w"
    assert handle.get_status().status == "PENDING"

    DBOS.cancel_workflow("w")
    assert status_of("w") == "CANCELLED"
    roadblock.open()
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        handle.get_result(polling_interval_sec=0.1)
    eventually(lambda: len(DBOS.list_workflow_steps("w")) == 2, "the step in flight is recorded")
    resumed = DBOS.resume_workflow("w")
    assert resumed.get_result() == [10, 20, 30]
    assert ran == [1, 2, 3], "what was recorded is not executed again"

    (status,) = DBOS.list_workflows(**shown_defaults("list_workflows"))
    assert (status.workflow_id, status.status, status.output) == ("w", "SUCCESS", [10, 20, 30])
    assert DBOS.list_queued_workflows(**shown_defaults("list_queued_workflows")) == []
    steps = DBOS.list_workflow_steps("w")
    assert [(one["function_id"], one["output"], one["error"]) for one in steps] == [
        (1, 10, None),
        (2, 20, None),
        (3, 30, None),
    ]

    with SetWorkflowID("fork"):
        forked = DBOS.fork_workflow("w", steps[1]["function_id"], application_version="test")
    assert forked.get_result() == [10, 20, 30]
    assert ran == [1, 2, 3, 2, 3], "steps before the one it starts from are not executed again"
    assert forked.get_status().forked_from == "w"
    assert [one.workflow_id for one in DBOS.list_workflows(forked_from="w")] == ["fork"]


async def test_async_twins_as_the_guide_tells_it(app: App) -> None:
    """Coroutine workflows use the methods whose names end in `_async`."""

    @DBOS.workflow()
    async def sender(destination: str) -> None:
        await DBOS.sleep_async(0.01)
        await DBOS.send_async(destination, "hello", "greeting")

    @DBOS.workflow()
    async def receiver() -> Any:
        await DBOS.set_event_async("state", "listening")
        message = await DBOS.recv_async("greeting")
        await DBOS.write_stream_async("heard", message)
        await DBOS.close_stream_async("heard")
        return message

    with SetWorkflowID("w"):
        handle = await DBOS.start_workflow_async(receiver)
    assert await DBOS.get_event_async("w", "state") == "listening"
    assert await DBOS.get_all_events_async("w") == {"state": "listening"}
    with SetWorkflowTimeout(10):
        await sender("w")
    assert [value async for value in DBOS.read_stream_async("w", "heard")] == ["hello"]
    assert await handle.get_result() == "hello"
    await DBOS.cancel_workflow_async("w")
    assert await (await DBOS.resume_workflow_async("w")).get_result() == "hello"
    assert len(await DBOS.list_workflows_async()) == 2
    assert await DBOS.list_queued_workflows_async() == []
    steps = await DBOS.list_workflow_steps_async("w")
    forked = await DBOS.fork_workflow_async("w", len(steps) + 1)
    assert await asyncio.wait_for(forked.get_result(), 30) == "hello"
