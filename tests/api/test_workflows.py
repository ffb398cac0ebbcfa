"""Workflows and their children, called, started and awaited, sync and async."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any, cast

import pytest

from dbos import DBOS, SetWorkflowID, WorkflowHandle, WorkflowHandleAsync, error
from tests.support.apps import App, Roadblock, interrupt_at, status_of, steps_of

BASKET: contextvars.ContextVar[str] = contextvars.ContextVar("basket", default="empty")


class Spoiled(Exception):
    """An exception whose constructor takes other arguments than it keeps."""

    def __init__(self, fruit: str, *, days: int) -> None:
        super().__init__(f"{fruit} is {days} days old")
        self.fruit = fruit
        self.days = days


def test_workflow_returns_its_result_and_records_it(app: App) -> None:
    @DBOS.step()
    def double(n: int) -> int:
        return 2 * n

    @DBOS.workflow()
    def workflow(n: int, *, plus: int = 0) -> dict[str, int]:
        return {"result": double(n) + plus}

    with SetWorkflowID("w"):
        assert workflow(20, plus=2) == {"result": 42}
    status = DBOS.get_workflow_status("w")
    assert status is not None
    assert (status.status, status.output, status.error) == ("SUCCESS", {"result": 42}, None)
    assert status.input == {"args": (20,), "kwargs": {"plus": 2}}
    assert status.name == workflow.__qualname__
    assert (status.executor_id, status.app_version, status.recovery_attempts) == ("local", "test", 1)
    assert status.queue_name is None
    assert status.parent_workflow_id is None
    assert status.created_at is not None
    assert status.updated_at is not None
    assert status.created_at <= status.updated_at


async def test_coroutine_workflow_returns_its_result_and_records_it(app: App) -> None:
    @DBOS.step()
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    @DBOS.workflow()
    async def workflow(n: int) -> tuple[int, str | None]:
        return await double(n), DBOS.workflow_id

    with SetWorkflowID("w"):
        assert await workflow(21) == (42, "w")
    status = await DBOS.get_workflow_status_async("w")
    assert status is not None
    assert (status.status, status.output) == ("SUCCESS", (42, "w"))


def test_workflow_called_from_many_places_keeps_its_function_attributes(sqlite_app: App) -> None:
    @DBOS.workflow()
    def workflow(n: int = 3) -> int:
        """Counts."""
        return n

    @DBOS.workflow(name="renamed")
    async def other() -> None:
        """Waits."""

    assert (workflow.__name__, workflow.__doc__, other.__doc__) == ("workflow", "Counts.", "Waits.")
    assert asyncio.iscoroutinefunction(other)
    assert not asyncio.iscoroutinefunction(workflow)
    assert workflow() == 3
    handle = DBOS.start_workflow(other)
    assert handle.get_result() is None
    assert handle.get_status().name == "renamed"


@pytest.mark.parametrize(
    "raised",
    [ValueError("a", 1), KeyError("k"), Spoiled("pear", days=3), error.DBOSNonExistentWorkflowError("x"), Exception()],
    ids=lambda raised: type(raised).__name__,
)
def test_workflow_exception_travels_and_is_recorded(app: App, raised: Exception) -> None:
    """To the caller, to handles, into the status, and to whoever calls with the id again."""

    @DBOS.workflow()
    def workflow() -> None:
        raise raised

    def check(caught: BaseException) -> None:
        assert type(caught) is type(raised)
        assert caught.args == raised.args
        assert caught.__dict__ == raised.__dict__

    with SetWorkflowID("w"), pytest.raises(type(raised)) as info:
        workflow()
    assert info.value is raised
    handle: WorkflowHandle[None] = DBOS.retrieve_workflow("w")
    with pytest.raises(type(raised)) as info:
        handle.get_result()
    check(info.value)
    with SetWorkflowID("w"), pytest.raises(type(raised)) as info:
        workflow()
    check(info.value)
    status = handle.get_status()
    assert (status.status, status.output) == ("ERROR", None)
    assert status.error is not None
    check(status.error)


async def test_coroutine_workflow_exception_travels_and_is_recorded(app: App) -> None:
    @DBOS.workflow()
    async def workflow() -> None:
        raise Spoiled("apple", days=9)

    with SetWorkflowID("w"), pytest.raises(Spoiled):
        await workflow()
    handle = await DBOS.retrieve_workflow_async("w")
    with pytest.raises(Spoiled) as info:
        await handle.get_result()
    assert (info.value.fruit, info.value.days, str(info.value)) == ("apple", 9, "apple is 9 days old")
    assert (await handle.get_status()).status == "ERROR"


@pytest.mark.parametrize("raised", [StopIteration(7), StopAsyncIteration(8), GeneratorExit("not an Exception")])
def test_exceptions_with_a_meaning_for_generators_travel_as_themselves(app: App, raised: BaseException) -> None:
    @DBOS.step()
    def step() -> None:
        raise raised

    @DBOS.workflow()
    def workflow() -> str:
        try:
            step()
        except BaseException as caught:
            return f"caught {caught!r}"
        return "nothing"

    @DBOS.workflow()
    def passing_on() -> None:
        step()

    if isinstance(raised, Exception):
        assert workflow() == f"caught {raised!r}"
        with SetWorkflowID("w"), pytest.raises(type(raised)) as info:
            passing_on()
        assert info.value is raised
        with pytest.raises(type(raised)) as info:
            DBOS.get_result("w")
        assert info.value.args == raised.args
    else:
        with pytest.raises(type(raised)):
            passing_on()


def test_base_exception_of_a_users_own_does_not_leave_a_workflow_behind(app: App) -> None:
    """It is no outcome: the workflow runs again, here, and then gets one."""
    raised: list[int] = []

    class Abort(BaseException):
        pass

    @DBOS.workflow()
    def workflow() -> str:
        raised.append(1)
        if len(raised) == 1:
            raise Abort("first")
        return "second"

    with SetWorkflowID("w"), pytest.raises(Abort):
        workflow()
    assert DBOS.get_result("w") == "second"
    assert status_of("w") == "SUCCESS"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["step", "workflow"])
def test_interrupted_workflow_is_recovered_by_the_next_launch(
    app: App, interruption: type[BaseException], where: str
) -> None:
    runs: list[str] = []

    @DBOS.step()
    def first() -> str:
        runs.append("first")
        return "paid"

    @DBOS.step()
    def interrupted() -> None:
        runs.append("interrupted")
        if where == "step" and runs.count("interrupted") == 1:
            raise interruption

    @DBOS.workflow()
    def workflow() -> str:
        result = first()
        interrupted()
        runs.append("body")
        if where == "workflow" and runs.count("body") == 1:
            raise interruption
        return result

    with SetWorkflowID("w"), pytest.raises(interruption):
        workflow()
    assert status_of("w") == "PENDING"
    assert len(steps_of("w")) == (1 if where == "step" else 2)
    app.relaunch()
    assert DBOS.get_result("w") == "paid"
    assert runs.count("first") == 1


def test_recorded_steps_never_run_again_after_a_relaunch(app: App) -> None:
    """Their results and exceptions come from the record: same type, same arguments."""
    roadblock, runs = Roadblock(), list[str]()

    @DBOS.step()
    def succeed() -> dict[str, int]:
        runs.append("succeed")
        return {"n": len(runs)}

    @DBOS.step()
    def fail() -> None:
        runs.append("fail")
        raise Spoiled("plum", days=1)

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def workflow() -> tuple[dict[str, int], str, int]:
        result = succeed()
        try:
            fail()
        except Spoiled as caught:
            wait()
            return result, caught.fruit, caught.days
        raise AssertionError

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    interrupt_at(roadblock, app)
    assert DBOS.get_result("w") == ({"n": 1}, "plum", 1)
    assert runs == ["succeed", "fail"]
    assert [id for id, _ in steps_of("w")] == [1, 2, 3]
    status = DBOS.get_workflow_status("w")
    assert status is not None
    assert (status.status, status.recovery_attempts) == ("SUCCESS", 1), "a graceful hand-back is no attempt"


def test_children_called_started_and_awaited_are_recorded_as_documented(app: App) -> None:
    """Ids are {parent}-{n}; a call takes two numbers, a start one, and waiting for it another."""

    @DBOS.step()
    def step(n: int) -> int:
        return n

    @DBOS.workflow()
    def child(n: int) -> tuple[int, str | None]:
        return step(n), DBOS.workflow_id

    @DBOS.workflow()
    def parent() -> list[Any]:
        called = child(1)
        before = step(0)
        handle = DBOS.start_workflow(child, 2)
        named = "unset"
        with SetWorkflowID("named"):
            named = DBOS.start_workflow(child, 3).get_workflow_id()
        return [called, before, handle.get_result(), named, DBOS.get_result("named")]

    with SetWorkflowID("p"):
        assert parent() == [(1, "p-1"), 0, (2, "p-4"), "named", (3, "named")]
    name = child.__qualname__
    assert steps_of("p") == [
        *((1, name), (2, "DBOS.getResult"), (3, step.__qualname__), (4, name), (5, name)),
        *((6, "DBOS.getResult"), (7, "DBOS.getResult")),
    ]
    children = [step["child_workflow_id"] for step in DBOS.list_workflow_steps("p")]
    assert children == ["p-1", "p-1", None, "p-4", "named", "p-4", "named"]
    outputs = [step["output"] for step in DBOS.list_workflow_steps("p")]
    assert outputs == [None, (1, "p-1"), 0, None, None, (2, "p-4"), (3, "named")]
    assert [w.workflow_id for w in DBOS.list_workflows(parent_workflow_id="p")] == ["p-1", "p-4", "named"]


async def test_coroutine_children_called_started_and_gathered(app: App) -> None:
    @DBOS.workflow()
    async def child(n: int) -> tuple[int, str | None]:
        await asyncio.sleep(0)
        return n, DBOS.workflow_id

    @DBOS.workflow()
    def sync_child(n: int) -> tuple[int, str | None]:
        return n, DBOS.workflow_id

    @DBOS.workflow()
    async def parent() -> list[Any]:
        gathered = await asyncio.gather(child(1), child(2))
        handle = await DBOS.start_workflow_async(child, 5)
        in_thread = await DBOS.start_workflow_async(sync_child, 6)
        plain = sync_child(7)
        return [*gathered, await handle.get_result(), await in_thread.get_result(), plain]

    with SetWorkflowID("p"):
        assert await parent() == [(1, "p-1"), (2, "p-3"), (5, "p-5"), (6, "p-6"), (7, "p-7")]
    steps = await DBOS.list_workflow_steps_async("p")
    assert [step["function_id"] for step in steps] == list(range(1, 11))


def test_child_exception_reaches_the_parent_live_and_replayed(app: App) -> None:
    roadblock, runs = Roadblock(), list[str]()

    @DBOS.workflow()
    def child() -> None:
        runs.append("child")
        raise Spoiled("fig", days=2)

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def parent() -> str:
        try:
            child()
        except Spoiled as caught:
            wait()
            return str(caught)
        return "no exception"

    with SetWorkflowID("p"):
        DBOS.start_workflow(parent)
    interrupt_at(roadblock, app)
    assert DBOS.get_result("p") == "fig is 2 days old"
    assert runs == ["child"]
    assert status_of("p-1") == "ERROR"
    assert DBOS.list_workflow_steps("p")[1]["error"].args == ("fig is 2 days old",)


def test_interrupted_child_and_parent_both_finish(app: App) -> None:
    """Both are recovered; the parent awaits the child's one run instead of starting another."""
    roadblock, runs = Roadblock(), list[str]()

    @DBOS.step()
    def step() -> str:
        runs.append("step")
        roadblock.stop()
        return "done"

    @DBOS.workflow()
    def child() -> str:
        return step()

    @DBOS.workflow()
    def parent() -> str:
        return child()

    with SetWorkflowID("p"):
        DBOS.start_workflow(parent)
    interrupt_at(roadblock, app)
    assert DBOS.get_result("p") == "done"
    assert DBOS.get_result("p-1") == "done"
    assert len(runs) == 2
    assert len(DBOS.list_workflows()) == 2


def test_many_started_children_all_finish(app: App) -> None:
    @DBOS.workflow()
    def grandchild(n: int) -> int:
        return n + 1

    @DBOS.workflow()
    def child(n: int) -> int:
        return grandchild(n)

    @DBOS.workflow()
    def parent() -> int:
        handles = [DBOS.start_workflow(child, n) for n in range(50)]
        return sum(handle.get_result() for handle in handles)

    with SetWorkflowID("p"):
        assert parent() == sum(range(1, 51))
    assert len(DBOS.list_workflows(status="SUCCESS")) == 101


def test_workflow_is_refused_inside_a_step(app: App) -> None:
    """Called or started, sync or async; the workflow that catches the error goes on."""

    @DBOS.workflow()
    def inner() -> None: ...

    @DBOS.step()
    def calling() -> None:
        inner()

    @DBOS.step()
    def starting() -> None:
        DBOS.start_workflow(inner)

    @DBOS.workflow()
    def workflow() -> list[str]:
        texts = []
        for step in (calling, starting):
            try:
                step()
            except error.DBOSException as refusal:
                texts.append(str(refusal))
        return texts

    texts = workflow()
    assert [("from a step" in text) for text in texts] == [True, True]
    assert "DBOS.start_workflow" in texts[1]
    assert DBOS.list_workflows(name=inner.__qualname__) == []


async def test_coroutine_workflow_is_refused_inside_a_step(app: App) -> None:
    @DBOS.workflow()
    async def inner() -> None: ...

    @DBOS.step()
    async def starting() -> None:
        await DBOS.start_workflow_async(inner)

    @DBOS.step()
    async def calling() -> None:
        await inner()

    @DBOS.workflow()
    async def workflow() -> list[Any]:
        return await asyncio.gather(starting(), calling(), return_exceptions=True)

    refusals = await workflow()
    assert all(isinstance(refusal, error.DBOSException) for refusal in refusals), refusals
    assert await DBOS.list_workflows_async(name=inner.__qualname__) == []


def test_sync_workflow_inside_a_coroutine_workflow(app: App) -> None:
    """A sync child blocks its coroutine parent, and works; so does one in a thread of its own."""

    @DBOS.step()
    def step(n: int) -> int:
        return n

    @DBOS.workflow()
    def child(n: int) -> int:
        return step(n) + 1

    @DBOS.workflow()
    async def parent() -> tuple[int, int, int]:
        return step(1), child(2), await asyncio.to_thread(child, 3)

    with SetWorkflowID("p"):
        handle = DBOS.start_workflow(parent)
    assert handle.get_result() == (1, 3, 4)
    assert [name for _, name in steps_of("p")] == [
        step.__qualname__,
        *(child.__qualname__, "DBOS.getResult") * 2,
    ]


def test_coroutine_workflow_started_from_sync_code_runs_on_the_librarys_loop(app: App) -> None:
    @DBOS.workflow()
    async def child() -> str:
        return threading.current_thread().name

    @DBOS.workflow()
    def parent() -> str:
        return DBOS.start_workflow(child).get_result()

    mine = threading.current_thread().name
    assert DBOS.start_workflow(child).get_result() != mine
    assert parent() == DBOS.start_workflow(child).get_result()


async def test_start_workflow_inside_a_running_loop_is_allowed(app: App) -> None:
    """The handle is a sync one, so the result is to be awaited by the async twin."""

    @DBOS.workflow()
    def sync() -> str:
        return threading.current_thread().name

    @DBOS.workflow()
    async def coroutine() -> str:
        return threading.current_thread().name

    mine = threading.current_thread().name
    for workflow in (sync, coroutine):
        handle = DBOS.start_workflow(cast(Any, workflow))
        assert isinstance(handle, WorkflowHandle)
        assert await DBOS.get_result_async(handle.workflow_id) != mine


async def test_start_workflow_async_keeps_coroutines_on_the_callers_loop_and_functions_off_it(app: App) -> None:
    @DBOS.workflow()
    def sync() -> bool:
        return threading.current_thread() is threading.main_thread()

    @DBOS.workflow()
    async def coroutine() -> int:
        return id(asyncio.get_running_loop())

    off = await DBOS.start_workflow_async(sync)
    on = await DBOS.start_workflow_async(coroutine)
    assert isinstance(on, WorkflowHandleAsync)
    assert await off.get_result() is False
    assert await on.get_result() == id(asyncio.get_running_loop())
    assert await coroutine() == id(asyncio.get_running_loop())


async def test_context_variables_of_the_caller_are_visible_in_workflows(app: App) -> None:
    """Called or started, in a thread or on a loop, and in their steps; what a workflow sets stays in it."""

    @DBOS.step()
    def step() -> str:
        return BASKET.get()

    @DBOS.workflow()
    def sync() -> tuple[str, str]:
        seen = BASKET.get(), step()
        BASKET.set("spilled")
        return seen

    @DBOS.workflow()
    async def coroutine() -> tuple[str, str]:
        return sync()

    BASKET.set("apples")
    seen: list[Any] = [
        await coroutine(),
        await (await DBOS.start_workflow_async(coroutine)).get_result(),
        await (await DBOS.start_workflow_async(sync)).get_result(),
        await DBOS.get_result_async(DBOS.start_workflow(sync).workflow_id),
        await DBOS.get_result_async(DBOS.start_workflow(coroutine).workflow_id),
    ]
    assert seen == [("apples", "apples")] * 5
    assert BASKET.get() == "apples"


def test_generators_and_non_functions_are_refused_by_the_decorators() -> None:
    def generator() -> Any:
        yield 1

    async def async_generator() -> Any:
        yield 1

    for function in (generator, async_generator):
        with pytest.raises(TypeError, match="generator function, which cannot be a workflow"):
            DBOS.workflow()(function)
        with pytest.raises(TypeError, match="generator function, which cannot be a step"):
            DBOS.step()(function)
    with pytest.raises(TypeError, match=r"@DBOS\.workflow\(\)"):
        DBOS.workflow()(cast(Any, None))
    with pytest.raises(ValueError, match="max_recovery_attempts is -1"):
        DBOS.workflow(max_recovery_attempts=-1)(test_two_workflows_of_one_name_are_refused)


def test_functions_that_are_no_workflows_cannot_be_started(sqlite_app: App) -> None:
    def plain() -> None: ...

    with pytest.raises(error.DBOSException, match=r"plain is not a workflow.*@DBOS\.workflow\(\)"):
        DBOS.start_workflow(plain)


def test_two_workflows_of_one_name_are_refused() -> None:
    @DBOS.workflow(name="twin")
    def one() -> None: ...

    with pytest.raises(error.DBOSConflictingRegistrationError, match="'twin'"):

        @DBOS.workflow(name="twin")
        def two() -> None: ...


def test_wrong_arguments_raise_and_end_the_workflow(app: App) -> None:
    """As Python calls go: a TypeError; never a workflow that stays PENDING."""

    @DBOS.workflow()
    def workflow(n: int) -> int:
        return n

    with SetWorkflowID("w"), pytest.raises(TypeError, match="argument"):
        cast(Any, workflow)(1, 2)
    assert status_of("w") in (None, "ERROR")


def test_two_workflows_run_at_the_same_time(app: App) -> None:
    """Each waits for the other."""
    meeting = threading.Barrier(2)

    @DBOS.workflow()
    def workflow() -> int:
        return meeting.wait(20)

    handles = [DBOS.start_workflow(workflow) for _ in range(2)]
    assert sorted(handle.get_result() for handle in handles) == [0, 1]
