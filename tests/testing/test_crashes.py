"""Crashes after every checkpoint: what survives them does so quietly, and what does not is named."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from dbos import DBOS, DBOSClient, Queue, SetWorkflowTimeout
from dbos.error import DBOSAwaitedWorkflowCancelledError, DBOSSerializationError
from dbos.testing import App, CrashTest, assert_survives_crashes
from tests.support.apps import status_of, steps_of

ran: Counter[str] = Counter()
"""How often the code of each step was run."""


@pytest.fixture(autouse=True)
def nothing_has_run() -> None:
    """A test begins with no step that was run."""
    ran.clear()


def step(name: str, function: Callable[..., Any] = lambda *args: args) -> Callable[..., Any]:
    """A step of this name, which counts its runs."""

    @DBOS.step(name=name)
    def run(*args: Any) -> Any:
        ran[name] += 1
        return function(*args)

    return run


def test_workflow_is_crashed_after_every_checkpoint_and_each_step_runs_once(app: App) -> None:
    names = ("one", "two", "three")
    first, second, third = (step(name) for name in names)

    @DBOS.workflow()
    def steps(value: str) -> list[Any]:
        first(value)
        token = DBOS.run_step({"name": "token"}, lambda: str(uuid.uuid4()))  # another one each time it is run
        DBOS.sleep(86_400)
        second(token)
        third(token, value)
        return [token, value]

    test = CrashTest(app, workflow_id="crashed")
    token, value = test.assert_survives(steps, "lamp")
    assert value == "lamp"
    # The start, five checkpoints, of which two may travel together, and the end.
    assert 6 <= test.crashes <= 7
    assert ran == dict.fromkeys(names, 1)
    assert set(test.executions.values()) == {1}
    assert [name for _, name in steps_of("crashed")] == ["one", "token", "DBOS.sleep", "two", "three"]
    assert DBOS.retrieve_workflow("crashed").get_result() == [token, "lamp"]
    assert app.clock is None


def test_coroutines_children_queues_and_transactions(app: App) -> None:
    queue = Queue("crashed-queue")

    @DBOS.step()
    async def number(value: int) -> int:
        ran["number"] += 1
        return value

    @DBOS.transaction()
    def stored(value: int) -> int:
        ran["transaction"] += 1
        return value

    @DBOS.workflow()
    async def child(value: int) -> int:
        await DBOS.sleep_async(60)
        return await number(value) + await number(value)

    @DBOS.workflow()
    async def parent() -> list[int]:
        found = [await child(1)]
        handles = [await DBOS.start_workflow_async(child, 2), await queue.enqueue_async(child, 3)]
        found += [await handle.get_result() for handle in handles]
        found += await asyncio.gather(*(number(value) for value in range(3)))
        found.append(await asyncio.to_thread(stored, 9))
        return found

    test = CrashTest(app)
    assert test.assert_survives(parent) == [2, 4, 6, 0, 1, 2, 9]
    assert test.crashes > 10
    assert ran["transaction"] == 1
    # Gathered ones run again if they were under way when another was recorded.
    assert 9 <= ran["number"] <= 15


def test_messages_and_events_with_the_outside(app: App) -> None:
    @DBOS.workflow()
    def order(item: str) -> str:
        DBOS.set_event("payment", f"pay for the {item}")
        paid = DBOS.recv("payment", timeout_seconds=86_400)
        late = DBOS.recv("more", timeout_seconds=86_400)
        return f"{item}: {paid}, {late}"

    def pay(client: DBOSClient, workflow_id: str) -> None:
        request = client.get_event(workflow_id, "payment", timeout_seconds=30)
        client.send(workflow_id, f"did {request}", "payment")

    test = CrashTest(app, alongside=pay)
    assert test.assert_survives(order, "lamp") == "lamp: did pay for the lamp, None"
    assert test.crashes >= 4


def test_exceptions_and_timeouts_are_outcomes_too(app: App) -> None:
    def refuse() -> None:
        raise ValueError("no")

    refused = step("refused", refuse)

    @DBOS.workflow()
    def failing() -> None:
        refused()

    with pytest.raises(ValueError, match="no"):
        assert_survives_crashes(failing)
    assert ran["refused"] == 1

    @DBOS.workflow()
    def slow() -> None:
        step("before")()
        DBOS.sleep(60)
        step("after")()

    with SetWorkflowTimeout(30), pytest.raises(DBOSAwaitedWorkflowCancelledError):
        assert_survives_crashes(slow)
    assert (ran["before"], ran["after"]) == (1, 0)


def test_argument_that_differs_after_a_crash_is_named(sqlite_app: App) -> None:
    counter = itertools.count(1)
    prepare, charge = step("prepare"), step("charge")

    @DBOS.workflow(name="checkout")
    def checkout() -> None:
        prepare()
        charge("lamp", next(counter))

    with pytest.raises(AssertionError) as failure:
        CrashTest(sqlite_app, workflow_id="order").assert_survives(checkout)
    message = str(failure.value)
    assert message.startswith("Workflow 'order' (checkout) is not deterministic: as its step 2 it had called charge(")
    assert "charge('lamp', 1), and after the crash that followed step 1 it called charge('lamp', 2)." in message
    # What is left undone is not run on.
    assert status_of("order") == "CANCELLED"


def test_step_that_differs_after_a_crash_is_named(sqlite_app: App) -> None:
    lives = itertools.count()
    one, two, three = step("one"), step("two"), step("three")

    @DBOS.workflow()
    def moody() -> None:
        order = [one, two, three] if next(lives) % 2 else [one, three, two]
        for each in order:
            each()

    with pytest.raises(AssertionError, match=r"as its step 2 it had called (two|three)\(\), and .* called (two|three)"):
        assert_survives_crashes(moody)


def test_library_call_that_differs_after_a_crash_is_named(sqlite_app: App) -> None:
    lives = itertools.count()

    @DBOS.workflow()
    def moody() -> None:
        step("one")()
        if next(lives) < 2:
            DBOS.sleep(1)
        else:
            DBOS.set_event("key", "value")

    with pytest.raises(AssertionError, match=r"without interruption, it calls 'DBOS.setEvent' as step 2"):
        assert_survives_crashes(moody)


def test_outcome_that_differs_without_a_crash_is_named(sqlite_app: App) -> None:
    lives = itertools.count()

    @DBOS.workflow(name="counting")
    def counting() -> int:
        step("one")()
        return next(lives)

    with pytest.raises(AssertionError) as failure:
        CrashTest(sqlite_app, workflow_id="counted").assert_survives(counting)
    assert str(failure.value).startswith(
        "Workflow 'counted' (counting) does not survive crashes: when it was run without interruption, it now returns"
    )


class Changed:
    """Comes back from the record as another."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Changed) and other.value == self.value

    def __repr__(self) -> str:
        return f"Changed({self.value})"

    def __reduce__(self) -> Any:
        return Changed, (self.value + 1,)


def test_result_that_is_read_back_as_another_is_named(sqlite_app: App) -> None:
    load = step("load", lambda: Changed(1))

    @DBOS.workflow()
    def loading() -> None:
        load()

    with pytest.raises(
        AssertionError, match=r"step 1, 'load', returned Changed\(1\), which is read back as Changed\(2"
    ):
        assert_survives_crashes(loading)


def test_workflow_that_waits_for_nobody_is_named(sqlite_app: App) -> None:
    @DBOS.workflow()
    def lonely() -> None:
        step("one")()
        while DBOS.recv("never", timeout_seconds=10**9) is None:
            pass

    test = CrashTest(
        sqlite_app, alongside=lambda client, workflow_id: client.get_event(workflow_id, "none"), patience_s=0.5
    )
    with pytest.raises(AssertionError, match=r"recorded nothing for 0\.5 s.*is step 1, 'one'"):
        test.assert_survives(lonely)

    @DBOS.workflow()
    def forlorn() -> None:
        step("one")()
        DBOS.retrieve_workflow("of nobody", existing_workflow=False).get_result()

    with pytest.raises(AssertionError, match=r"waits, after step 1, 'one', for something that nobody sends"):
        assert_survives_crashes(forlorn)


def test_errors_of_the_test_itself(sqlite_app: App) -> None:
    @DBOS.workflow()
    def plain(value: Any) -> Any:
        DBOS.recv("topic", timeout_seconds=60)
        return value

    def break_off(client: DBOSClient, workflow_id: str) -> None:
        raise LookupError("in alongside")

    with pytest.raises(LookupError, match="in alongside"):
        CrashTest(sqlite_app, alongside=break_off).assert_survives(plain, 1)
    with pytest.raises(DBOSSerializationError, match="cannot be serialized"):
        assert_survives_crashes(plain, lambda: None)
    with pytest.raises(Exception, match="is not a workflow"):
        assert_survives_crashes(print, 1)
    # The application is as it was.
    assert sqlite_app.executor.run_count == 0
    assert DBOS.list_workflows(status="PENDING") == []


async def test_running_loop_is_refused(sqlite_app: App) -> None:
    with pytest.raises(RuntimeError, match="plain test function"):
        assert_survives_crashes(test_running_loop_is_refused)


def test_application_is_made_where_there_is_none() -> None:
    @DBOS.workflow()
    def work() -> str:
        return str(step("one")("done")[0])

    assert assert_survives_crashes(work) == "done"
    assert ran["one"] == 1
