"""Streams: written exactly once, read live or later, by anybody, until they are closed or their workflow ends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, cast

import pytest

from dbos import DBOS, SetWorkflowID, error
from tests.api.test_serialization import JsonSerializer
from tests.support.apps import PATIENCE_S, App, Roadblock, eventually, in_threads, interrupt_at, status_of, steps_of
from tests.support.processes import Spawner
from tests.support.streams import CLOSED, Reader, both_readers, collect, read_all, stored
from tests.support.waking import UnpolledApp, application, wait_until_idle
from tests.verify.rows import query


@pytest.fixture
def app(database_url: str) -> Iterator[App]:
    """An application that does not poll: each value, and each end of a stream, is announced."""
    app = UnpolledApp(database_url)
    app.launch()
    yield app
    DBOS.destroy()


@dataclass
class Point:
    x: int
    y: int


VALUES: list[Any] = [
    None,
    0,
    False,
    "",
    "text ü 😀",
    b"\x00bytes\xff",
    1.5,
    [],
    [1, [2, None]],
    {"a": None, 1: (2,)},
    {3, 4},
    datetime(2024, 2, 29, 12, 30, tzinfo=timezone.utc),
    timedelta(days=1),
    Decimal("1.10"),
    Point(1, 2),
    "x" * 1_000_000,
]


@DBOS.workflow(name="write_all")
def write_all(key: str, values: list[Any]) -> None:
    for value in values:
        DBOS.write_stream(key, value)


# ---------------------------------------------------------------------------------------------------- write and read


def test_values_are_read_in_order_until_the_stream_is_closed(app: App) -> None:
    """Values of all kinds, `None` too; each write and the close are one step; the table holds them and the end."""

    @DBOS.workflow()
    def workflow() -> None:
        for value in VALUES:
            DBOS.write_stream("s", value)
        DBOS.close_stream("s")

    with SetWorkflowID("w"):
        workflow()
    assert read_all("w", "s") == VALUES
    assert stored(app.url, "w", "s") == list(enumerate([*VALUES, CLOSED]))
    writes = [(number, "DBOS.writeStream") for number in range(1, len(VALUES) + 1)]
    assert steps_of("w") == [*writes, (len(VALUES) + 1, "DBOS.closeStream")]
    assert all((step["output"], step["error"]) == (None, None) for step in DBOS.list_workflow_steps("w"))


async def test_coroutines_write_close_and_read(app: App) -> None:
    @DBOS.step(name="step")
    async def step() -> None:
        await DBOS.write_stream_async("s", "from a step")

    @DBOS.workflow()
    async def workflow() -> None:
        for value in VALUES:
            await DBOS.write_stream_async("s", value)
        await step()
        await DBOS.close_stream_async("s")

    with SetWorkflowID("w"):
        await workflow()
    values = [*VALUES, "from a step"]
    assert await asyncio.gather(*(collect("w", "s") for _ in range(3))) == [values] * 3
    assert await asyncio.to_thread(read_all, "w", "s") == values
    assert stored(app.url, "w", "s") == list(enumerate([*values, CLOSED]))
    names = [step["function_name"] for step in await DBOS.list_workflow_steps_async("w")]
    assert names == ["DBOS.writeStream"] * len(VALUES) + ["step", "DBOS.closeStream"]


def test_a_value_is_taken_as_it_is_when_it_is_written(app: App) -> None:
    """What the workflow does to it afterwards does not change the stream."""

    @DBOS.workflow()
    def workflow() -> None:
        value: list[int] = []
        for number in range(5):
            value.append(number)
            DBOS.write_stream("s", value)

    with SetWorkflowID("w"):
        workflow()
    assert read_all("w", "s") == [list(range(n + 1)) for n in range(5)]


def test_streams_of_one_workflow_and_of_others_do_not_mix(app: App) -> None:
    """Interleaved writes under several keys, odd ones too; the same keys in another workflow."""
    keys = ["a", "A", "a ", "", "ключ", "100%_'\"; --"]

    @DBOS.workflow()
    def workflow(name: str) -> None:
        for number in range(3):
            for key in keys:
                DBOS.write_stream(key, (name, key, number))
        DBOS.close_stream("a")

    ids = ["w1", "w2"]
    for workflow_id in ids:
        with SetWorkflowID(workflow_id):
            workflow(workflow_id)
    for workflow_id in ids:
        for key in keys:
            assert read_all(workflow_id, key) == [(workflow_id, key, number) for number in range(3)]
        assert [offset for offset, _ in stored(app.url, workflow_id, "a")] == [0, 1, 2, 3]
        assert [offset for offset, _ in stored(app.url, workflow_id, "A")] == [0, 1, 2]


def test_what_is_written_after_the_close_is_not_read(app: App) -> None:
    """It is not refused, and neither is a second close; other streams stay open."""

    @DBOS.workflow()
    def workflow() -> str:
        DBOS.write_stream("s", 1)
        DBOS.close_stream("s")
        DBOS.write_stream("s", 2)
        DBOS.write_stream("other", 3)
        DBOS.close_stream("s")
        return "done"

    with SetWorkflowID("w"):
        assert workflow() == "done"
    assert read_all("w", "s") == [1]
    assert read_all("w", "other") == [3]


def test_five_thousand_values_in_one_stream(app: App) -> None:
    """Read while they are written and afterwards; written by a thread and by a coroutine; and not again on replay."""
    values, roadblock = list(range(5000)), Roadblock()

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def workflow() -> None:
        for value in values:
            DBOS.write_stream("s", value)
        wait()
        DBOS.close_stream("s")

    @DBOS.workflow()
    async def coroutine() -> None:
        for value in values:
            await DBOS.write_stream_async("s", value)
        await DBOS.close_stream_async("s")

    for workflow_id, function in (("w", workflow), ("c", coroutine)):
        with SetWorkflowID(workflow_id):
            DBOS.start_workflow(cast(Any, function))
    readers = [*both_readers("w", "s"), *both_readers("c", "s")]
    for reader in readers:
        assert [reader.next() for _ in values] == values
    for reader in readers[2:]:
        assert reader.rest() == []
    interrupt_at(roadblock, app)
    DBOS.get_result("w")
    for workflow_id in ("w", "c"):
        assert read_all(workflow_id, "s") == values
        assert stored(app.url, workflow_id, "s") == list(enumerate([*values, CLOSED]))


def test_custom_serializer_writes_values_and_the_end_of_a_stream(app: App) -> None:
    app.relaunch(serializer=JsonSerializer())

    @DBOS.workflow()
    def workflow() -> None:
        DBOS.write_stream("s", {"a": [1, None]})
        DBOS.close_stream("s")
        DBOS.write_stream("s", "beyond the end")

    with SetWorkflowID("w"):
        workflow()
    assert read_all("w", "s") == [{"a": [1, None]}]
    rows = query(app.url, 'SELECT value FROM {schema}streams ORDER BY "offset"')
    assert [row[0] for row in rows[:2]] == ['{"a": [1, null]}', f'"{CLOSED}"']


# ------------------------------------------------------------------------------------------------------------- replay


@pytest.mark.parametrize("is_async", [False, True])
def test_writes_of_a_workflow_happen_exactly_once_under_replay(app: App, is_async: bool) -> None:
    """It is interrupted after its writes, twice: the replays write nothing again, offsets have no gaps."""
    roadblocks, runs = [Roadblock(), Roadblock()], list[str]()

    @DBOS.step()
    def wait(n: int) -> None:
        roadblocks[n].stop()

    @DBOS.workflow()
    def workflow() -> str:
        runs.append("run")
        DBOS.write_stream("s", "a")
        DBOS.write_stream("t", "A")
        DBOS.write_stream("s", "b")
        wait(0)
        DBOS.write_stream("s", "c")
        DBOS.close_stream("t")
        wait(1)
        DBOS.write_stream("s", "d")
        DBOS.close_stream("s")
        return "done"

    @DBOS.step()
    async def wait_async(n: int) -> None:
        await roadblocks[n].stop_async()

    @DBOS.workflow()
    async def coroutine() -> str:
        runs.append("run")
        await DBOS.write_stream_async("s", "a")
        await DBOS.write_stream_async("t", "A")
        await DBOS.write_stream_async("s", "b")
        await wait_async(0)
        await DBOS.write_stream_async("s", "c")
        await DBOS.close_stream_async("t")
        await wait_async(1)
        await DBOS.write_stream_async("s", "d")
        await DBOS.close_stream_async("s")
        return "done"

    with SetWorkflowID("w"):
        DBOS.start_workflow(cast(Any, coroutine if is_async else workflow))
    for roadblock in roadblocks:
        interrupt_at(roadblock, app)
    assert DBOS.get_result("w") == "done"
    assert runs == ["run"] * 3
    assert read_all("w", "s") == ["a", "b", "c", "d"]
    assert read_all("w", "t") == ["A"]
    assert stored(app.url, "w", "s") == [(0, "a"), (1, "b"), (2, "c"), (3, "d"), (4, CLOSED)]
    assert stored(app.url, "w", "t") == [(0, "A"), (1, CLOSED)]
    assert [number for number, _ in steps_of("w")] == list(range(1, 10))


KILLED = """
    import sys
    from dbos import DBOS, SetWorkflowID

    @DBOS.step()
    def step(n):
        print("step", n, flush=True)
        if n == int(sys.argv[2]):
            sys.stdin.readline()
        DBOS.write_stream("steps", n)

    @DBOS.workflow()
    def producer():
        for n in range(20):
            DBOS.write_stream("s", n)
            if n % 5 == 4:
                step(n)
        DBOS.close_stream("s")

    DBOS(config={"name": "app", "system_database_url": sys.argv[1], "application_version": "1",
                 "run_admin_server": False})
    DBOS.launch()
    with SetWorkflowID("w"):
        DBOS.start_workflow(producer).get_result()
    DBOS.destroy()
"""


def test_killed_process_leaves_neither_gaps_nor_doubles(database_url: str, spawn: Spawner) -> None:
    """Killed twice, each time in a step after some writes."""
    for stop_at in (4, 14):
        child = spawn(KILLED, database_url, str(stop_at))
        child.wait_for_line(f"step {stop_at}$")
        child.kill()
        assert stored(database_url, "w", "s") == [(n, n) for n in range(stop_at + 1)]
    spawn(KILLED, database_url, "-1").succeed()
    assert stored(database_url, "w", "s") == [(n, n) for n in range(20)] + [(20, CLOSED)]
    assert stored(database_url, "w", "steps") == [(0, 4), (1, 9), (2, 14), (3, 19)]


# -------------------------------------------------------------------------------------------------------------- steps


def test_writes_of_a_retried_step_are_all_read(app: App) -> None:
    """At least once: of every try in order, also when no try succeeds; they are no steps of their own."""

    @DBOS.step(name="shaky", retries_allowed=True, max_attempts=3, interval_seconds=0)
    def shaky(succeeds: bool) -> None:
        status = DBOS.step_status
        assert status is not None
        for part in ("begin", "end"):
            DBOS.write_stream("s", (status.current_attempt, part))
        if status.current_attempt != 2 or not succeeds:
            raise ValueError("shaky")

    @DBOS.workflow()
    def workflow() -> None:
        DBOS.write_stream("s", "before")
        shaky(True)
        with pytest.raises(error.DBOSMaxStepRetriesExceeded):
            shaky(False)
        DBOS.write_stream("s", "after")

    with SetWorkflowID("w"):
        workflow()
    tries = [(attempt, part) for attempt in range(3) for part in ("begin", "end")]
    values = ["before", *tries, *tries, "after"]
    assert read_all("w", "s") == values
    assert stored(app.url, "w", "s") == list(enumerate(values))
    assert [name for _, name in steps_of("w")] == ["DBOS.writeStream", "shaky", "shaky", "DBOS.writeStream"]


def test_a_step_that_is_interrupted_after_its_write_writes_again(app: App) -> None:
    """Its values can be read while it runs; those of a recorded step are not written again."""
    roadblock = Roadblock()

    @DBOS.step()
    def step(value: str) -> None:
        DBOS.write_stream("s", value)

    @DBOS.step()
    def waiting() -> None:
        DBOS.write_stream("s", "waiting")
        roadblock.stop()

    @DBOS.workflow()
    def workflow() -> None:
        step("recorded")
        waiting()
        step("last")

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    for reader in both_readers("w", "s"):
        assert [reader.next(), reader.next()] == ["recorded", "waiting"]
    interrupt_at(roadblock, app)
    DBOS.get_result("w")
    values = ["recorded", "waiting", "waiting", "last"]
    assert read_all("w", "s") == values
    assert stored(app.url, "w", "s") == list(enumerate(values))


async def test_steps_in_parallel_write_to_one_stream_without_losing_a_value(app: App) -> None:
    """Those of each step stay in order, as do those that the workflow itself writes meanwhile."""

    @DBOS.step()
    async def step(name: int) -> None:
        for number in range(25):
            await DBOS.write_stream_async("s", (name, number))

    @DBOS.step()
    def blocking(name: int) -> None:
        for number in range(25):
            DBOS.write_stream("s", (name, number))

    @DBOS.workflow()
    async def workflow() -> None:
        writes = [DBOS.write_stream_async("s", (0, number)) for number in range(25)]
        threads = [asyncio.to_thread(blocking, name) for name in (1, 2)]
        await asyncio.gather(step(3), step(4), step(5), *writes, *threads)

    with SetWorkflowID("w"):
        await workflow()
    values = await collect("w", "s")
    for name in range(6):
        assert [number for writer, number in values if writer == name] == list(range(25))
    assert stored(app.url, "w", "s") == list(enumerate(values))


def test_close_stream_in_a_step_is_refused(app: App) -> None:
    @DBOS.step()
    def close() -> None:
        DBOS.close_stream("s")

    @DBOS.step()
    async def close_async() -> None:
        await DBOS.close_stream_async("s")

    @DBOS.workflow()
    def workflow() -> None:
        with pytest.raises(error.DBOSException, match=r"close_stream.* step"):
            close()
        DBOS.write_stream("s", "still open")

    @DBOS.workflow()
    async def coroutine() -> None:
        with pytest.raises(error.DBOSException, match=r"close_stream.* step"):
            await close_async()
        await DBOS.write_stream_async("s", "still open")

    for workflow_id, function in (("w", workflow), ("c", coroutine)):
        with SetWorkflowID(workflow_id):
            DBOS.start_workflow(cast(Any, function)).get_result()
        assert read_all(workflow_id, "s") == ["still open"]


# --------------------------------------------------------------------------------------------------------------- live


@pytest.mark.parametrize("writes_in_steps", [False, True])
def test_readers_get_each_value_before_the_next_is_written(app: App, writes_in_steps: bool) -> None:
    """Several readers at once, of which some began before the first write. The workflow waits for them each time."""
    begin, go_on = threading.Event(), [threading.Event() for _ in range(5)]

    @DBOS.step()
    def step(n: int) -> None:
        DBOS.write_stream("s", n)
        assert go_on[n].wait(PATIENCE_S)

    @DBOS.workflow()
    def workflow() -> None:
        assert begin.wait(PATIENCE_S)
        for n, event in enumerate(go_on):
            if writes_in_steps:
                step(n)
            else:
                DBOS.write_stream("s", n)
                assert event.wait(PATIENCE_S)

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    readers = [*both_readers("w", "s"), *both_readers("w", "s")]
    begin.set()
    for n, event in enumerate(go_on):
        assert [reader.next() for reader in readers] == [n] * 4
        late = both_readers("w", "s")
        assert [[reader.next() for _ in range(n + 1)] for reader in late] == [list(range(n + 1))] * 2
        event.set()
    assert [reader.rest() for reader in readers] == [[]] * 4


async def test_coroutines_read_what_a_coroutine_writes_live(app: App) -> None:
    """All on one event loop; a hundred readers hold no thread."""
    go_on = [asyncio.Event() for _ in range(3)]
    missing = [100] * 3

    @DBOS.workflow()
    async def workflow() -> None:
        for n, event in enumerate(go_on):
            await DBOS.write_stream_async("s", n)
            await event.wait()

    async def read() -> list[int]:
        values: list[int] = []
        async for value in DBOS.read_stream_async("w", "s"):
            n: int = value
            values.append(n)
            missing[n] -= 1
            if missing[n] == 0:
                go_on[n].set()
        return values

    with SetWorkflowID("w"):
        await DBOS.start_workflow_async(workflow)
    await asyncio.wait_for(anext(DBOS.read_stream_async("w", "s")), PATIENCE_S)
    threads = threading.active_count()
    readers = [asyncio.create_task(read()) for _ in range(100)]
    await asyncio.wait_for(go_on[1].wait(), PATIENCE_S)
    assert threading.active_count() < threads + 10
    assert await asyncio.wait_for(asyncio.gather(*readers), PATIENCE_S) == [[0, 1, 2]] * 100


ELSEWHERE = """
    import sys
    from dbos import DBOS, SetWorkflowID

    @DBOS.workflow()
    def producer():
        for n in range(3):
            DBOS.write_stream("s", n)
            sys.stdin.readline()

    DBOS(config={"name": "app", "system_database_url": sys.argv[1], "application_version": "elsewhere",
                 "run_admin_server": False})
    DBOS._application.drops_hints = sys.argv[2] == "drops"
    DBOS.launch()
    with SetWorkflowID("w"):
        handle = DBOS.start_workflow(producer)
    print("started", flush=True)
    handle.get_result()
    DBOS.destroy()
"""


@pytest.mark.parametrize("hints", ["sends", "drops"])
def test_streams_of_another_process_are_read_live(database_url: str, hints: str, spawn: Spawner) -> None:
    """Woken by its hints; or, when all of them are lost, by polling. It goes on only when a value has arrived."""
    child = spawn(ELSEWHERE, database_url, hints)
    child.wait_for_line("started")
    interval = 0.05 if hints == "drops" else 600
    DBOS(config=App(database_url).config(notification_listener_polling_interval_sec=interval))
    application().drops_hints = hints == "drops"
    DBOS.launch()
    try:
        readers = both_readers("w", "s")
        for n in range(3):
            assert [reader.next() for reader in readers] == [n, n]
            child.write_line()
        assert [reader.rest() for reader in readers] == [[], []]
        child.succeed()
    finally:
        DBOS.destroy()


# ---------------------------------------------------------------------------------------------------------------- ends


def test_a_stream_ends_when_its_workflow_ends_however_that_is(app: App) -> None:
    """By success, error or cancellation, also for who reads a stream that is never written, live and later."""
    roadblocks = {ending: Roadblock() for ending in ("SUCCESS", "ERROR", "CANCELLED")}

    @DBOS.workflow()
    def workflow(ending: str) -> None:
        DBOS.write_stream("s", ending)
        roadblocks[ending].stop()
        if ending == "ERROR":
            raise ValueError("the end")

    for ending, roadblock in roadblocks.items():
        with SetWorkflowID(ending):
            DBOS.start_workflow(workflow, ending)
        written, unwritten = both_readers(ending, "s"), both_readers(ending, "never")
        assert [reader.next() for reader in written] == [ending] * 2
        roadblock.wait_until_reached()
        if ending == "CANCELLED":
            # Its readers do not wait until the body notices.
            DBOS.cancel_workflow(ending)
        else:
            roadblock.open()
        assert [reader.rest() for reader in (*written, *unwritten)] == [[]] * 4
        assert status_of(ending) == ending
        assert read_all(ending, "s") == [ending]
        assert read_all(ending, "never") == []
    roadblocks["CANCELLED"].open()
    wait_until_idle()
    assert read_all("CANCELLED", "s") == ["CANCELLED"]


def test_the_stream_of_a_resumed_workflow_goes_on(app: App) -> None:
    """It had ended for those who read it when the workflow was cancelled; now it is read from its first value on."""
    roadblock = Roadblock()

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def workflow() -> None:
        DBOS.write_stream("s", 1)
        wait()
        DBOS.write_stream("s", 2)

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    readers = both_readers("w", "s")
    roadblock.wait_until_reached()
    DBOS.cancel_workflow("w")
    assert [reader.rest() for reader in readers] == [[1]] * 2
    roadblock.open()
    wait_until_idle()
    DBOS.resume_workflow("w")
    assert read_all("w", "s") == [1, 2]
    assert stored(app.url, "w", "s") == [(0, 1), (1, 2)]


async def test_a_task_that_outlives_its_workflow_writes_nothing(app: App) -> None:
    """The stream has ended with the workflow, for early and late readers alike."""
    ended, tasks = asyncio.Event(), list[asyncio.Task[None]]()

    @DBOS.workflow()
    async def workflow() -> None:
        async def outlive() -> None:
            await ended.wait()
            await DBOS.write_stream_async("s", "late")

        tasks.append(asyncio.create_task(outlive()))
        await DBOS.write_stream_async("s", "in time")

    with SetWorkflowID("w"):
        await workflow()
    ended.set()
    with pytest.raises(BaseException, match="'w'"):
        await tasks[0]
    assert await collect("w", "s") == ["in time"]
    assert len(await DBOS.list_workflow_steps_async("w")) == 1


def test_readers_end_at_the_close_while_the_workflow_goes_on(app: App) -> None:
    roadblock = Roadblock()

    @DBOS.workflow()
    def workflow() -> None:
        DBOS.write_stream("s", 1)
        DBOS.close_stream("s")
        DBOS.close_stream("empty")
        roadblock.stop()

    with SetWorkflowID("w"):
        handle = DBOS.start_workflow(workflow)
    assert read_all("w", "s") == [1]
    assert read_all("w", "empty") == []
    assert handle.get_status().status == "PENDING"
    roadblock.open()
    handle.get_result()


async def test_stream_of_an_unknown_workflow_raises(app: App) -> None:
    """So does the stream of one that is deleted while it is read."""
    with pytest.raises(error.DBOSNonExistentWorkflowError, match="'nobody'"):
        await collect("nobody", "s")
    with pytest.raises(error.DBOSNonExistentWorkflowError, match="'nobody'"):
        await asyncio.to_thread(Reader("nobody", "s").rest)

    roadblock = Roadblock()

    @DBOS.workflow()
    async def workflow() -> None:
        await DBOS.write_stream_async("s", 1)
        await roadblock.stop_async()

    with SetWorkflowID("w"):
        await DBOS.start_workflow_async(workflow)
    readers = both_readers("w", "s")
    assert [await asyncio.to_thread(reader.next) for reader in readers] == [1, 1]
    await DBOS.delete_workflow_async("w")
    for reader in readers:
        with pytest.raises(error.DBOSNonExistentWorkflowError, match="'w'"):
            await asyncio.to_thread(reader.rest)
    roadblock.open()
    assert stored(app.url, "w", "s") == []


def test_readers_that_are_abandoned_hold_nothing(app: App) -> None:
    """Half-way through more streams than there are connections: closed, dropped, or never finished."""
    app.relaunch(sys_db_pool_size=2)
    roadblock = Roadblock()

    @DBOS.workflow()
    def workflow() -> None:
        for n in range(3):
            DBOS.write_stream("s", n)
        roadblock.stop()

    async def abandon() -> None:
        async for value in DBOS.read_stream_async("w", "s"):
            if value == 1:
                break
        half = DBOS.read_stream_async("w", "s")
        assert await anext(half) == 0
        await half.aclose()

    with SetWorkflowID("w"):
        handle = DBOS.start_workflow(workflow)
    generators = [DBOS.read_stream("w", "s") for _ in range(30)]
    assert [next(generator) for generator in generators] == [0] * 30
    for generator in generators[10:20]:
        generator.close()
    del generators[20:]
    for _ in range(10):
        asyncio.run(abandon())
    reader = Reader("w", "s")
    assert [reader.next() for _ in range(3)] == [0, 1, 2]
    roadblock.open()
    assert reader.rest() == []
    handle.get_result()
    assert [list(generator) for generator in generators] == [[1, 2]] * 10 + [[]] * 10


async def test_cancelling_a_task_that_reads_leaves_the_other_readers_alone(app: App) -> None:
    go_on = asyncio.Event()

    @DBOS.workflow()
    async def workflow() -> None:
        await DBOS.write_stream_async("s", 1)
        await go_on.wait()
        await DBOS.write_stream_async("s", 2)

    with SetWorkflowID("w"):
        handle = await DBOS.start_workflow_async(workflow)
    tasks = [asyncio.create_task(collect("w", "s")) for _ in range(4)]
    assert await anext(DBOS.read_stream_async("w", "s")) == 1
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.shield(tasks[3]), 0.05)
    for task in tasks[:2]:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    go_on.set()
    assert await asyncio.wait_for(asyncio.gather(*tasks[2:]), PATIENCE_S) == [[1, 2]] * 2
    await handle.get_result()


def test_shutdown_does_not_wait_for_readers(app: App) -> None:
    """They are told so: an interrupted workflow's stream has not ended."""
    roadblock = Roadblock()

    @DBOS.workflow()
    def workflow() -> None:
        DBOS.write_stream("s", 1)
        roadblock.stop()

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    readers = [reader for _ in range(10) for reader in both_readers("w", "s")]
    assert [reader.next() for reader in readers] == [1] * 20
    began = time.monotonic()
    DBOS.destroy()
    assert time.monotonic() - began < 1
    for reader in readers:
        with pytest.raises(error.DBOSException, match="shut"):
            reader.rest()
    with pytest.raises(error.DBOSException, match="launch"):
        read_all("w", "s")
    roadblock.open()


# ------------------------------------------------------------------------------------------------------------- places


def test_streams_are_read_from_workflows_and_their_steps(app: App) -> None:
    """Of a child that has only just been started, too, live until it ends."""

    @DBOS.workflow()
    def child(n: int) -> None:
        for number in range(n):
            DBOS.write_stream("s", number)

    @DBOS.step()
    def read(workflow_id: str) -> list[int]:
        return list(DBOS.read_stream(workflow_id, "s"))

    @DBOS.step()
    async def read_async(workflow_id: str) -> list[int]:
        return await collect(workflow_id, "s")

    @DBOS.workflow()
    def parent() -> list[list[int]]:
        return [
            list(DBOS.read_stream(DBOS.start_workflow(child, 3).workflow_id, "s")),
            read(DBOS.start_workflow(child, 4).workflow_id),
        ]

    @DBOS.workflow()
    async def parent_async() -> list[list[int]]:
        handles = [await DBOS.start_workflow_async(child, n) for n in (3, 4)]
        return [await collect(handles[0].workflow_id, "s"), await read_async(handles[1].workflow_id)]

    for workflow in (parent, parent_async):
        assert DBOS.start_workflow(cast(Any, workflow)).get_result() == [[0, 1, 2], [0, 1, 2, 3]]


def test_a_workflow_reads_its_own_stream_as_far_as_it_has_written_it(app: App) -> None:
    """To the close: the stream of a workflow that goes on would have no other end."""

    @DBOS.workflow()
    def workflow() -> list[int]:
        for number in range(3):
            DBOS.write_stream("s", number)
        DBOS.close_stream("s")
        return list(DBOS.read_stream(cast(str, DBOS.workflow_id), "s"))

    assert workflow() == [0, 1, 2]


def test_writes_outside_of_workflows_are_refused(app: App) -> None:
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("write_stream", lambda: DBOS.write_stream("s", 1)),
        ("close_stream", lambda: DBOS.close_stream("s")),
        ("write_stream_async", lambda: asyncio.run(cast(Any, DBOS.write_stream_async("s", 1)))),
        ("close_stream_async", lambda: asyncio.run(cast(Any, DBOS.close_stream_async("s")))),
    ]
    for name, call in calls:
        with pytest.raises(error.DBOSException, match=name):
            call()

    @DBOS.step()
    def step() -> None:
        with pytest.raises(error.DBOSException, match="write_stream"):
            DBOS.write_stream("s", 1)

    step()
    assert query(app.url, "SELECT * FROM {schema}streams") == []


# ---------------------------------------------------------------------------------------------------------- bad input


def test_values_that_cannot_be_stored_are_refused_by_name(app: App) -> None:
    """The workflow can catch it, and leaves no gap; if it does not, it ends in ERROR."""

    @DBOS.workflow()
    def catching() -> None:
        DBOS.write_stream("the key", 1)
        with pytest.raises(error.DBOSSerializationError, match="the key"):
            DBOS.write_stream("the key", threading.Lock())
        DBOS.write_stream("the key", 2)

    @DBOS.workflow()
    async def failing() -> None:
        await DBOS.write_stream_async("the key", 1)
        await DBOS.write_stream_async("the key", threading.Lock())

    with SetWorkflowID("c"):
        catching()
    assert stored(app.url, "c", "the key") == [(0, 1), (1, 2)]
    with SetWorkflowID("f"), pytest.raises(error.DBOSSerializationError, match="the key"):
        DBOS.start_workflow(cast(Any, failing)).get_result()
    assert status_of("f") == "ERROR"
    assert read_all("f", "the key") == [1]


BAD_KEYS: list[tuple[Any, type[Exception]]] = [
    (None, TypeError),
    (5, TypeError),
    (b"s", TypeError),
    ("a\x00b", ValueError),
    ("lone \ud800 surrogate", ValueError),
    ("k" * 1025, ValueError),
]


def test_keys_that_are_no_storable_text_are_refused(app: App) -> None:
    """By writers and readers, sync and async."""

    @DBOS.workflow()
    def workflow() -> None:
        for key, kind in BAD_KEYS:
            with pytest.raises(kind, match="key"):
                DBOS.write_stream(key, 1)
            with pytest.raises(kind, match="key"):
                DBOS.close_stream(key)

    @DBOS.workflow()
    async def coroutine() -> None:
        for key, kind in BAD_KEYS:
            with pytest.raises(kind, match="key"):
                await DBOS.write_stream_async(key, 1)
            with pytest.raises(kind, match="key"):
                await DBOS.close_stream_async(key)

    for function in (workflow, coroutine):
        DBOS.start_workflow(cast(Any, function)).get_result()
    for key, kind in BAD_KEYS:
        with pytest.raises(kind, match="key"):
            list(DBOS.read_stream("w", key))
        with pytest.raises(kind, match="key"):
            asyncio.run(collect("w", key))
    for workflow_id in (None, 5):
        with pytest.raises(TypeError, match="workflow"):
            list(DBOS.read_stream(cast(Any, workflow_id), "s"))
        with pytest.raises(TypeError, match="workflow"):
            asyncio.run(collect(cast(Any, workflow_id), "s"))


async def test_blocking_calls_in_a_running_loop_name_their_async_twin(sqlite_app: App) -> None:
    with SetWorkflowID("finished"):
        await DBOS.start_workflow_async(write_all, "s", [1])
    await DBOS.get_result_async("finished")
    with pytest.raises(RuntimeError, match=r"DBOS\.read_stream_async"):
        list(DBOS.read_stream("finished", "s"))

    @DBOS.workflow()
    async def workflow() -> None:
        with pytest.raises(RuntimeError, match=r"DBOS\.write_stream_async"):
            DBOS.write_stream("s", 1)
        with pytest.raises(RuntimeError, match=r"DBOS\.close_stream_async"):
            DBOS.close_stream("s")
        with pytest.raises(RuntimeError, match=r"DBOS\.read_stream_async"):
            list(DBOS.read_stream("finished", "s"))

    with SetWorkflowID("w"):
        await workflow()
    assert await collect("w", "s") == []


def test_many_workflows_write_at_once(app: App) -> None:
    """Each its own stream, from threads that commit together."""
    in_threads([lambda: write_all("s", list(range(50))) for _ in range(20)])
    workflows = eventually(lambda: DBOS.list_workflows(name="write_all", status="SUCCESS"), "they succeeded")
    assert len(workflows) == 20
    for workflow in workflows:
        assert stored(app.url, workflow.workflow_id, "s") == [(n, n) for n in range(50)]
