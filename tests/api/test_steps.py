"""Steps: recorded once, retried where allowed, plain calls outside of workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from dbos import DBOS, SetWorkflowID, StepOptions, error
from tests.support.apps import App, Roadblock, interrupt_at, steps_of


@DBOS.step(retries_allowed=True, max_attempts=5, interval_seconds=0)
def shaky(failures: Iterator[Exception]) -> str:
    """Raises what it is given until that ends."""
    for failure in failures:
        raise failure
    return "steady"


def failures(number: int) -> list[Exception]:
    return [ValueError(f"failure {n}") for n in range(number)]


def test_step_outside_a_workflow_is_a_plain_call_before_anything_is_configured(unlaunched: Path) -> None:
    """No retries, the original exception, nothing recorded, no ids."""

    @DBOS.step()
    async def coroutine(n: int) -> tuple[int, Any]:
        return n + 1, DBOS.step_status

    raised = failures(2)
    with pytest.raises(ValueError, match="failure 0") as info:
        shaky(iter(raised))
    assert info.value is raised[0]
    assert asyncio.run(coroutine(1)) == (2, None)
    assert (DBOS.workflow_id, DBOS.step_id, DBOS.step_status) == (None, None, None)
    assert DBOS.run_step(None, max, 1, 2) == 2
    assert asyncio.run(cast(Any, DBOS.run_step_async({"name": "x"}, max, 1, 2))) == 2
    assert asyncio.run(DBOS.run_step_async(None, coroutine, 1)) == (2, None)
    assert list(unlaunched.iterdir()) == []


def test_step_is_retried_until_it_succeeds_and_recorded_once(app: App) -> None:
    @DBOS.workflow()
    def workflow() -> str:
        return shaky(iter(failures(4)))

    with SetWorkflowID("w"):
        assert workflow() == "steady"
    assert steps_of("w") == [(1, "shaky")]


def test_step_that_fails_at_every_attempt_raises_all_its_errors_live_and_replayed(app: App) -> None:
    roadblock, calls = Roadblock(), list[int]()

    @DBOS.step(name="hopeless", retries_allowed=True, max_attempts=3, interval_seconds=0.001, backoff_rate=1.5)
    def hopeless() -> None:
        calls.append(1)
        raise ValueError("call", len(calls))

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def workflow() -> tuple[str, list[Any]]:
        try:
            hopeless()
        except error.DBOSMaxStepRetriesExceeded as caught:
            wait()
            return caught.message, [(type(one), *one.args) for one in caught.errors]
        raise AssertionError

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    interrupt_at(roadblock, app)
    text = "Step hopeless has exceeded its maximum of 3 retries"
    assert DBOS.get_result("w") == (text, [(ValueError, "call", n) for n in (1, 2, 3)])
    assert len(calls) == 3
    recorded = DBOS.list_workflow_steps("w")[0]["error"]
    assert isinstance(recorded, error.DBOSMaxStepRetriesExceeded)
    assert recorded.message == text
    assert str(recorded).endswith(f": {text}")


async def test_coroutine_step_is_retried_with_backoff(app: App) -> None:
    calls: list[Any] = []

    @DBOS.step(retries_allowed=True, max_attempts=3, interval_seconds=0.001)
    async def hopeless() -> None:
        calls.append(DBOS.step_status)
        raise ValueError(len(calls))

    @DBOS.workflow()
    async def workflow() -> None:
        await hopeless()

    with SetWorkflowID("w"), pytest.raises(error.DBOSMaxStepRetriesExceeded) as info:
        await workflow()
    assert [one.args for one in info.value.errors] == [(1,), (2,), (3,)]
    assert [(call.step_id, call.current_attempt, call.max_attempts) for call in calls] == [
        (1, 0, 3),
        (1, 1, 3),
        (1, 2, 3),
    ]
    with pytest.raises(error.DBOSMaxStepRetriesExceeded) as info:
        await DBOS.get_result_async("w")
    assert [one.args for one in info.value.errors] == [(1,), (2,), (3,)]


def test_single_attempt_and_nonsense_rules() -> None:
    with pytest.raises(ValueError, match="max_attempts is 0"):
        DBOS.step(max_attempts=0)(failures)
    with pytest.raises(ValueError, match="interval_seconds is -1"):
        DBOS.step(interval_seconds=-1)(failures)
    with pytest.raises(ValueError, match="backoff_rate is 0"):
        DBOS.step(backoff_rate=0)(failures)
    with pytest.raises(TypeError, match=r"@DBOS\.step\(\)"):
        DBOS.step()(cast(Any, "text"))


def test_step_knows_where_it_is(app: App) -> None:
    """step_id, step_status and workflow_id, in workflow, steps and steps of steps, and afterwards."""
    seen: list[Any] = []

    def look() -> None:
        status = DBOS.step_status
        attempt = None if status is None else (status.step_id, status.current_attempt, status.max_attempts)
        seen.append((DBOS.workflow_id, DBOS.step_id, attempt))

    @DBOS.step()
    def inner() -> None:
        look()

    @DBOS.step()
    def outer() -> None:
        inner()
        look()

    @DBOS.step(retries_allowed=True, max_attempts=2, interval_seconds=0)
    def retried() -> None:
        look()
        if DBOS.step_status is not None and DBOS.step_status.current_attempt == 0:
            raise ValueError

    @DBOS.workflow()
    def workflow() -> None:
        look()
        outer()
        retried()
        look()

    with SetWorkflowID("w"):
        workflow()
    look()
    assert seen == [
        ("w", None, None),
        *[("w", 1, (1, None, None))] * 2,
        *[("w", 2, (2, 0, 2)), ("w", 2, (2, 1, 2))],
        ("w", None, None),
        (None, None, None),
    ]
    assert [id for id, _ in steps_of("w")] == [1, 2]


def test_step_called_from_a_step_is_a_plain_call(app: App) -> None:
    """It is part of the calling step: not recorded, not retried."""
    raised = failures(2)

    @DBOS.step()
    def outer() -> str:
        with pytest.raises(ValueError, match="failure 0"):
            shaky(iter(raised))
        return shaky(iter(())) + DBOS.run_step({"name": "third"}, str.upper, "x")

    @DBOS.workflow()
    def workflow() -> str:
        return outer()

    with SetWorkflowID("w"):
        assert workflow() == "steadyX"
    assert steps_of("w") == [(1, outer.__qualname__)]


async def test_coroutine_step_called_from_a_step_is_a_plain_call(app: App) -> None:
    @DBOS.step()
    async def inner(n: int) -> int:
        return n

    @DBOS.step()
    async def outer() -> int:
        return sum(await asyncio.gather(inner(1), inner(2), cast(Any, DBOS.run_step_async(None, inner, 3))))

    @DBOS.workflow()
    async def workflow() -> int:
        return await outer()

    with SetWorkflowID("w"):
        assert await workflow() == 6
    steps = await DBOS.list_workflow_steps_async("w")
    assert [step["function_name"] for step in steps] == [outer.__qualname__]


def test_run_step_makes_a_step_of_any_function(app: App) -> None:
    calls: list[int] = []

    def flaky(n: int, *, plus: int) -> int:
        calls.append(n)
        if len(calls) < 3:
            raise ValueError
        return n + plus

    @DBOS.workflow()
    def workflow() -> tuple[int, int, str, int]:
        options: StepOptions = {"name": "patient", "retries_allowed": True, "max_attempts": 3, "interval_seconds": 0}
        return (
            DBOS.run_step(None, max, 3, 4),
            DBOS.run_step(options, flaky, 1, plus=1),
            DBOS.run_step({}, lambda: "lambda"),
            DBOS.run_step({"name": "count"}, lambda: len(calls)),
        )

    with SetWorkflowID("w"):
        assert workflow() == (4, 2, "lambda", 3)
    names = [name for _, name in steps_of("w")]
    assert names[:2] == ["max", "patient"]
    assert names[2].endswith("<lambda>")
    assert names[3] == "count"


def test_run_step_refuses_unknown_options(app: App) -> None:
    @DBOS.workflow()
    def workflow() -> None:
        DBOS.run_step(cast(Any, {"retries": 3}), max, 1, 2)

    with pytest.raises(ValueError, match="Unknown step options: retries"):
        workflow()


async def test_run_step_async_takes_functions_and_coroutine_functions(app: App) -> None:
    calls: list[int] = []

    async def flaky(n: int) -> int:
        calls.append(n)
        if len(calls) < 2:
            raise ValueError
        return n

    @DBOS.workflow()
    async def workflow() -> list[Any]:
        return [
            await DBOS.run_step_async(None, max, 3, 4),
            await DBOS.run_step_async({"name": "f", "retries_allowed": True, "interval_seconds": 0}, flaky, 5),
            await DBOS.run_step({"name": "g"}, flaky, 6),
        ]

    with SetWorkflowID("w"):
        assert await workflow() == [4, 5, 6]
    steps = await DBOS.list_workflow_steps_async("w")
    assert [(step["function_name"], step["output"]) for step in steps] == [("max", 4), ("f", 5), ("g", 6)]


def test_function_ids_count_steps_and_library_calls_in_start_order(app: App) -> None:
    @DBOS.step(name="a")
    def a() -> None: ...

    @DBOS.workflow()
    def other() -> None: ...

    with SetWorkflowID("other"):
        other()

    @DBOS.workflow()
    def workflow() -> None:
        a()
        assert DBOS.get_workflow_status("other") is not None
        a()
        DBOS.get_result("other")
        assert DBOS.retrieve_workflow("other").get_status().status == "SUCCESS"
        DBOS.run_step({"name": "b"}, a)
        a()

    with SetWorkflowID("w"):
        workflow()
    assert steps_of("w") == [
        *((1, "a"), (2, "DBOS.getStatus"), (3, "a"), (4, "DBOS.getResult")),
        *((5, "DBOS.getStatus"), (6, "DBOS.getStatus"), (7, "b"), (8, "a")),
    ]


def test_step_started_on_its_own_is_a_workflow_of_one_step(app: App) -> None:
    @DBOS.step(name="lonely", retries_allowed=True, interval_seconds=0)
    def step(failures: list[Exception]) -> str:
        assert DBOS.step_status is not None
        for number, failure in enumerate(failures):
            if DBOS.step_status.current_attempt == number:
                raise failure
        return f"{DBOS.workflow_id} {DBOS.step_id}"

    @DBOS.step()
    async def coroutine() -> int | None:
        return DBOS.step_id

    with SetWorkflowID("w"):
        handle = DBOS.start_workflow(step, failures(2))
    assert handle.get_result() == "w 1"
    assert handle.get_status().name == "<temp>.lonely"
    assert steps_of("w") == [(1, "lonely")]
    assert DBOS.start_workflow(coroutine).get_result() == 1

    @DBOS.workflow()
    def parent() -> str:
        return DBOS.start_workflow(step, []).get_result()

    with SetWorkflowID("p"):
        assert parent() == "p-1 1"


def test_step_started_on_its_own_is_recovered(app: App) -> None:
    roadblock = Roadblock()

    @DBOS.step()
    def step() -> str:
        roadblock.stop()
        return "done"

    with SetWorkflowID("w"):
        DBOS.start_workflow(step)
    interrupt_at(roadblock, app)
    assert DBOS.get_result("w") == "done"


def test_step_times_are_recorded_in_order(app: App) -> None:
    @DBOS.step()
    def step() -> None: ...

    @DBOS.workflow()
    def workflow() -> None:
        step()
        step()

    with SetWorkflowID("w"):
        workflow()
    first, second = DBOS.list_workflow_steps("w")
    created = DBOS.retrieve_workflow("w").get_status().created_at
    times = [
        *(first["started_at_epoch_ms"], first["completed_at_epoch_ms"]),
        *(second["started_at_epoch_ms"], second["completed_at_epoch_ms"]),
    ]
    assert all(isinstance(time, int) for time in times)
    assert times == sorted(cast("list[int]", times))
    assert created is not None


def test_changed_workflow_is_told_which_step_it_missed(app: App) -> None:
    """A replay that meets another step than recorded raises, and never runs the step."""
    roadblock, ran = Roadblock(), list[str]()

    @DBOS.step(name="old")
    def old() -> None: ...

    @DBOS.step(name="new")
    def new() -> None:
        ran.append("new")

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def workflow() -> None:
        if roadblock.reached.is_set():
            new()
        else:
            old()
        wait()

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    interrupt_at(roadblock, app)
    with pytest.raises(error.DBOSUnexpectedStepError, match=r"'new' as its step 1.*'old'"):
        DBOS.get_result("w")
    assert ran == []
