"""`Debouncer` and `DebouncerClient`: rounds of calls that put each other off, and what becomes of them.

A call with the period 0 ends its round, as the workflow starts at once; so tests call with a period of hours, and end
the round when they like. Most tests run with each way of calling: both classes, their methods and their twins.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dbos import (
    DBOS,
    DBOSClient,
    Debouncer,
    DebouncerClient,
    Queue,
    SetEnqueueOptions,
    SetWorkflowID,
    SetWorkflowTimeout,
    WorkflowStatus,
    error,
)
from dbos.storage.errors import TransientStorageError
from tests.support import ledger
from tests.support.apps import (
    PATIENCE_S,
    App,
    Roadblock,
    eventually,
    in_threads,
    interrupt_at,
    status_of,
    steps_of,
)
from tests.support.gates import CountingGate, FailingGate
from tests.support.processes import Spawner
from tests.support.remote import Remote
from tests.support.twins import Twins
from tests.support.waking import UnpolledApp, application

HOUR_S = 3600.0
SOON_S = 0.3
INTERNAL_QUEUE = "_dbos_internal_queue"
NAME = "debounced.note"
PEER = Path(__file__).parent / "programs" / "debounce_peer.py"

Ran = tuple[str | None, tuple[Any, ...], dict[str, Any]]
RAN: queue.Queue[Ran] = queue.Queue()
"""The runs of `note`: id and arguments."""


@DBOS.workflow(name=NAME)
def note(*args: Any, **kwargs: Any) -> list[Any]:
    RAN.put((DBOS.workflow_id, args, kwargs))
    return [*args, *kwargs.values()]


@DBOS.workflow(name="debounced.note_async")
async def note_async(*args: Any) -> list[Any]:
    RAN.put((DBOS.workflow_id, args, {}))
    return [*args]


@DBOS.workflow(name="debounced.other")
def other() -> str:
    return "other"


def next_run() -> Ran:
    """The next run of `note`, which is about to happen, or has happened."""
    try:
        return RAN.get(timeout=PATIENCE_S)
    except queue.Empty:
        raise AssertionError("no round started") from None


def recorded(workflow_id: str) -> WorkflowStatus:
    status = DBOS.get_workflow_status(workflow_id)
    assert status is not None
    return status


def rounds() -> list[str]:
    """The ids of all rounds, oldest first."""
    return [status.workflow_id for status in DBOS.list_workflows(name=[NAME])]


@pytest.fixture
def app(database_url: str) -> Iterator[App]:
    """An application that does not poll: each round is started by a timer."""
    application = UnpolledApp(database_url)
    application.launch()
    yield application
    DBOS.destroy()
    while not RAN.empty():
        RAN.get()


Make = Callable[..., Any]
"""Makes what debounces a workflow; its options are those of `Debouncer.create`."""


@pytest.fixture(params=["debouncer", "debouncer-async", "client", "client-async"])
def make(request: pytest.FixtureRequest, app: App) -> Iterator[Make]:
    """Each way of debouncing."""
    way: str = request.param
    clients: list[DBOSClient] = []
    queues: list[Queue] = []

    def make(**options: Any) -> Any:
        if way.startswith("debouncer"):
            made: Any = Debouncer.create(note, **options)
        else:
            clients.append(DBOSClient(system_database_url=app.url))
            if "queue" not in options and not queues:
                queues.append(Queue("debounced by a client"))
            on = options.pop("queue", None) or queues[0]
            made = DebouncerClient(clients[-1], {"queue_name": on.name, "workflow_name": NAME}, **options)
        return Twins(made) if way.endswith("async") else made

    yield make
    for client in clients:
        client.destroy()


# ------------------------------------------------------------------------------------------------------------- rounds


def test_last_arguments_win_and_each_handle_gives_the_outcome_of_the_round(make: Make) -> None:
    debouncer = make()
    handles = [debouncer.debounce("key", HOUR_S, number, text="early") for number in range(3)]
    (waiting,) = DBOS.list_queued_workflows()
    assert (waiting.workflow_id, waiting.status, waiting.name) == (handles[0].workflow_id, "ENQUEUED", NAME)
    assert (waiting.queue_name, waiting.deduplication_id) == (INTERNAL_QUEUE, f"{NAME}-key")
    assert waiting.input == {"args": (2,), "kwargs": {"text": "early"}}

    handles.append(debouncer.debounce("key", 0, "last", text="end"))
    assert {handle.workflow_id for handle in handles} == {waiting.workflow_id}
    assert [handle.get_result() for handle in handles] == [["last", "end"]] * 4
    assert next_run() == (waiting.workflow_id, ("last",), {"text": "end"})
    assert RAN.empty()
    done = recorded(waiting.workflow_id)
    assert (done.status, done.deduplication_id, done.recovery_attempts) == ("SUCCESS", None, 1)


def test_round_starts_when_nobody_has_called_for_the_period_and_not_before(make: Make) -> None:
    debouncer = make()
    for number in range(3):
        called = time.monotonic()
        handle = debouncer.debounce("key", SOON_S, number)
    assert handle.get_result() == [2]
    assert time.monotonic() - called >= SOON_S
    assert rounds() == [handle.workflow_id]


def test_timeout_counts_from_the_first_call_however_often_it_is_put_off(make: Make) -> None:
    """It is put off all the time, until a call finds it started and begins the next round."""
    debouncer = make(debounce_timeout_sec=SOON_S)
    called = time.monotonic()
    first = debouncer.debounce("key", HOUR_S, 0)
    number = 1
    while debouncer.debounce("key", HOUR_S, number).workflow_id == first.workflow_id:
        assert time.monotonic() - called < PATIENCE_S, "it is put off for ever"
        number += 1
    assert time.monotonic() - called >= SOON_S
    assert first.get_result() == [number - 1]


def test_shorter_period_of_a_later_call_counts_within_the_timeout(make: Make) -> None:
    debouncer = make(debounce_timeout_sec=HOUR_S)
    first = debouncer.debounce("key", HOUR_S, 1)
    assert debouncer.debounce("key", SOON_S, 2).workflow_id == first.workflow_id
    assert first.get_result() == [2]


def test_timeout_of_zero_starts_at_once(make: Make) -> None:
    debouncer = make(debounce_timeout_sec=0)
    handles = [debouncer.debounce("key", HOUR_S, number) for number in range(2)]
    assert [handle.get_result() for handle in handles][-1] == [1]


def test_keys_and_functions_are_independent(app: App, make: Make) -> None:
    debouncer = make()
    keys = [" ", "a", "A", "a-b", "ключ 🔑", "%_'\"\\", "k" * 1024]
    handles = {key: debouncer.debounce(key, HOUR_S, key) for key in keys}
    theirs = Debouncer.create(note_async).debounce("a", HOUR_S)
    assert len({handle.workflow_id for handle in [*handles.values(), theirs]}) == len(keys) + 1
    for key in keys:
        assert debouncer.debounce(key, 0, key).workflow_id == handles[key].workflow_id
    assert [handles[key].get_result() for key in keys] == [[key] for key in keys]
    assert theirs.get_status().status == "ENQUEUED"


def test_debouncers_and_clients_of_one_function_share_their_rounds(app: App) -> None:
    """The round belongs to the function and the key; the first call says where it goes."""
    client = DBOSClient(system_database_url=app.url)
    on_queue = Queue("of the first call")
    debouncers: list[Any] = [
        Debouncer.create(note, queue=on_queue),
        Debouncer.create(note),
        Twins(Debouncer.create(note)),
        DebouncerClient(client, {"workflow_name": NAME, "queue_name": "nobody's"}),
    ]
    ids = {debouncer.debounce("key", HOUR_S).workflow_id for debouncer in debouncers}
    assert ids == {debouncers[3].debounce("key", 0, "last").workflow_id}
    assert next_run()[1] == ("last",)
    (workflow_id,) = ids
    assert DBOS.get_result(workflow_id) == ["last"]
    assert recorded(workflow_id).queue_name == "of the first call"
    client.destroy()


def test_next_call_after_the_start_begins_a_new_round(app: App) -> None:
    """Though the workflow of the first one is still running."""
    roadblock = Roadblock()

    @DBOS.step()
    def stop(number: int) -> None:
        if number == 1:
            roadblock.stop()

    @DBOS.workflow()
    def workflow(number: int) -> int:
        stop(number)
        return number

    debouncer = Debouncer.create(workflow)
    first = debouncer.debounce("key", 0, 1)
    roadblock.wait_until_reached()
    second = debouncer.debounce("key", HOUR_S, 2)
    assert second.workflow_id != first.workflow_id
    assert recorded(second.workflow_id).status == "ENQUEUED"
    assert debouncer.debounce("key", 0, 3).workflow_id == second.workflow_id
    assert second.get_result() == 3
    assert status_of(first.workflow_id) == "PENDING"
    roadblock.open()
    assert first.get_result() == 1


async def test_coroutine_workflows_are_debounced_on_the_callers_loop(app: App) -> None:
    debouncer = Debouncer.create_async(note_async)
    handles = [await debouncer.debounce_async("key", HOUR_S, number) for number in range(3)]
    last = await debouncer.debounce_async("key", 0, 3)
    assert await asyncio.gather(*(handle.get_result() for handle in [*handles, last])) == [[3]] * 4
    assert next_run() == (last.workflow_id, (3,), {})
    with pytest.raises(RuntimeError, match="debounce_async"):
        debouncer.debounce("key", 0, 4)
    client = DBOSClient(system_database_url=app.url)
    remote = DebouncerClient(client, {"workflow_name": NAME, "queue_name": "no matter"})
    with pytest.raises(RuntimeError, match="debounce_async"):
        remote.debounce("key", 0, 4)
    await asyncio.to_thread(client.destroy)
    assert len(await DBOS.list_workflows_async()) == 1


def test_awaited_call_takes_what_was_set_where_it_was_made(app: App) -> None:
    """The options belong to the coroutine that was made inside of the block."""

    async def main() -> str:
        debouncer = Debouncer.create_async(note_async)
        with SetWorkflowID("made inside"), SetWorkflowTimeout(HOUR_S):
            call = debouncer.debounce_async("key", HOUR_S)
        return (await call).workflow_id

    assert asyncio.run(main()) == "made inside"
    assert recorded("made inside").workflow_timeout_ms == HOUR_S * 1000


# ------------------------------------------------------------------------------------------------------------ options


def test_id_belongs_to_the_round_and_a_later_one_is_ignored(app: App) -> None:
    debouncer = Debouncer.create(note)
    with SetWorkflowID("first"):
        assert debouncer.debounce("key", HOUR_S, 1).workflow_id == "first"
    with SetWorkflowID("second"):
        later = debouncer.debounce("key", 0, 2)
    assert (later.workflow_id, later.get_result()) == ("first", [2])
    assert rounds() == ["first"]
    with SetWorkflowID("second"):
        assert debouncer.debounce("key", 0, 3).workflow_id == "second"
    assert DBOS.get_result("second") == [3]


def test_id_that_ran_already_gives_its_handle_and_starts_nothing(app: App) -> None:
    with SetWorkflowID("ran"):
        note("before")
    assert next_run()[1] == ("before",)
    client = DBOSClient(system_database_url=app.url)
    of_client = DebouncerClient(client, {"workflow_name": NAME, "queue_name": "no matter", "workflow_id": "ran"})
    for debouncer in (Debouncer.create(note), Twins(Debouncer.create(note)), of_client, Twins(of_client)):
        with SetWorkflowID("ran"):
            handle: Any = debouncer.debounce("key", 0, "again")
        assert (handle.workflow_id, handle.get_result()) == ("ran", ["before"])
    client.destroy()
    fresh = Debouncer.create(note).debounce("key", 0, "fresh")
    assert fresh.get_result() == ["fresh"]
    assert rounds() == ["ran", fresh.workflow_id]
    assert next_run()[1] == ("fresh",)
    assert RAN.empty()


def test_id_of_another_function_is_refused(app: App) -> None:
    with SetWorkflowID("theirs"):
        other()
    client = DBOSClient(system_database_url=app.url)
    remote = DebouncerClient(client, {"workflow_name": NAME, "queue_name": "q", "workflow_id": "theirs"})
    with pytest.raises(error.DBOSConflictingWorkflowError, match="theirs"), SetWorkflowID("theirs"):
        Debouncer.create(note).debounce("key", 0)
    with pytest.raises(error.DBOSConflictingWorkflowError, match="theirs"):
        remote.debounce("key", 0)
    client.destroy()
    assert [status.workflow_id for status in DBOS.list_workflows()] == ["theirs"]


def test_workflow_timeout_of_the_first_call_begins_with_the_start(app: App) -> None:
    @DBOS.workflow()
    def sleeping() -> None:
        DBOS.sleep(HOUR_S)

    debouncer = Debouncer.create(sleeping)
    with SetWorkflowTimeout(SOON_S):
        handle = debouncer.debounce("key", HOUR_S)
    with SetWorkflowTimeout(2 * HOUR_S):
        debouncer.debounce("key", HOUR_S)
    waiting = handle.get_status()
    assert (waiting.workflow_timeout_ms, waiting.workflow_deadline_epoch_ms) == (SOON_S * 1000, None)
    debouncer.debounce("key", SOON_S)
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        handle.get_result()
    ended = handle.get_status()
    assert ended.status == "CANCELLED"
    assert waiting.created_at is not None
    assert ended.workflow_deadline_epoch_ms is not None
    assert ended.workflow_deadline_epoch_ms >= waiting.created_at + 2 * SOON_S * 1000


def test_round_goes_to_its_queue_when_its_delay_is_over_and_waits_there(app: App, make: Make) -> None:
    """It obeys the queue's limits, and frees its key when it goes there."""
    roadblock = Roadblock()

    @DBOS.workflow()
    def holding() -> None:
        roadblock.stop()

    narrow = Queue("debounced, one by one", concurrency=1)
    holder = narrow.enqueue(holding)
    roadblock.wait_until_reached()
    debouncer = make(queue=narrow)
    first = debouncer.debounce("key", 0, 1)
    eventually(lambda: recorded(first.workflow_id).queue_name == narrow.name, "the round is on its queue")
    assert recorded(first.workflow_id).deduplication_id is None
    second = debouncer.debounce("key", HOUR_S, 2)
    assert second.workflow_id != first.workflow_id
    waiting = [(one.workflow_id, one.queue_name) for one in DBOS.list_queued_workflows(status="ENQUEUED")]
    assert waiting == [(first.workflow_id, narrow.name), (second.workflow_id, INTERNAL_QUEUE)]
    roadblock.open()
    assert (holder.get_result(), first.get_result()) == (None, [1])
    debouncer.debounce("key", 0, 3)
    assert second.get_result() == [3]


def test_priority_of_the_first_call_counts_on_the_queue(app: App) -> None:
    roadblock = Roadblock()

    @DBOS.workflow()
    def holding() -> None:
        roadblock.stop()

    urgent = Queue("debounced with priorities", concurrency=1, priority_enabled=True)
    holder = urgent.enqueue(holding)
    roadblock.wait_until_reached()
    debouncer = Debouncer.create(note, queue=urgent)
    ids = {}
    for key, priority in (("late", 9), ("soon", 1)):
        with SetEnqueueOptions(priority=priority):
            ids[key] = debouncer.debounce(key, HOUR_S, key).workflow_id
        with SetEnqueueOptions(priority=5):
            debouncer.debounce(key, 0, key)
        eventually(lambda key=key: recorded(ids[key]).queue_name == urgent.name, "it is on its queue")
        assert recorded(ids[key]).priority == priority
    roadblock.open()
    holder.get_result()
    assert [next_run()[0], next_run()[0]] == [ids["soon"], ids["late"]]


def test_partition_of_the_first_call_counts_on_the_queue(app: App) -> None:
    roadblock = Roadblock()

    @DBOS.workflow()
    def holding() -> None:
        roadblock.stop()

    parts = Queue("debounced in partitions", partition_queue=True, concurrency=1)
    debouncer = Debouncer.create(note, queue=parts)
    with pytest.raises(error.DBOSException, match="partition"):
        debouncer.debounce("key", 0)
    with SetEnqueueOptions(queue_partition_key="held"):
        holder = parts.enqueue(holding)
        roadblock.wait_until_reached()
        held = debouncer.debounce("held", 0, "held")
    with SetEnqueueOptions(queue_partition_key="free"):
        free = debouncer.debounce("free", 0, "free")
    assert free.get_result() == ["free"]
    assert (held.get_status().status, held.get_status().queue_partition_key) == ("ENQUEUED", "held")
    roadblock.open()
    assert (holder.get_result(), held.get_result()) == (None, ["held"])


def test_deduplication_id_of_the_first_call_holds_on_the_queue_from_the_start_on(app: App) -> None:
    """Until then it is nobody's; a round whose id is taken when its delay is over waits until it is free."""
    roadblock = Roadblock()

    @DBOS.workflow()
    def holding() -> str:
        roadblock.stop()
        return "held"

    wide = Queue("debounced, deduplicated")
    debouncer = Debouncer.create(note, queue=wide)
    with SetEnqueueOptions(deduplication_id="one"):
        waiting = debouncer.debounce("key", HOUR_S, "waiting")
        holder = wide.enqueue(holding)
        roadblock.wait_until_reached()
        with pytest.raises(error.DBOSQueueDeduplicatedError, match="'one'"):
            wide.enqueue(note)
    debouncer.debounce("key", 0, "waiting")
    with SetEnqueueOptions(deduplication_id="two"):
        assert debouncer.debounce("another", 0, "passes").get_result() == ["passes"]
    assert waiting.get_status().status == "ENQUEUED"
    assert debouncer.debounce("key", 0, "put off").workflow_id == waiting.workflow_id
    roadblock.open()
    assert (holder.get_result(), waiting.get_result()) == ("held", ["put off"])


def test_rounds_with_one_deduplication_id_start_one_after_the_other(app: App) -> None:
    """Though their delays are over at the same moment; and they hold up no other round."""
    lock = threading.Lock()
    together = threading.Event()

    @DBOS.workflow()
    def alone(key: str) -> str:
        if key != "of its own":
            if not lock.acquire(blocking=False):
                together.set()
                return key
            DBOS.sleep(0.01)
            lock.release()
        return key

    wide = Queue("debounced, one id")
    debouncer = Debouncer.create(alone, queue=wide)
    timer = Debouncer.create(alone, queue=wide, debounce_timeout_sec=SOON_S)
    with SetEnqueueOptions(deduplication_id="same"):
        handles = [timer.debounce(key, HOUR_S, key) for key in ("a", "b", "c")]
    handles.append(debouncer.debounce("of its own", 2 * SOON_S, "of its own"))
    assert [handle.get_result() for handle in handles] == ["a", "b", "c", "of its own"]
    assert not together.is_set()


def test_application_version_of_the_first_call_starts_it(app: App) -> None:
    with SetEnqueueOptions(app_version="next"):
        handle = Debouncer.create(note).debounce("key", 0, "by the next version")
    assert Debouncer.create(note).debounce("another", SOON_S, "by this one").get_result() == ["by this one"]
    assert (handle.get_status().status, handle.get_status().app_version) == ("ENQUEUED", "next")
    app.relaunch(application_version="next")
    assert DBOS.get_result(handle.workflow_id) == ["by the next version"]


def test_round_belongs_to_the_application_version_of_its_last_call(app: App) -> None:
    """After a deployment its calls are those of the new version, which starts it; a client's leave it as it is."""
    waiting = Debouncer.create(note).debounce("key", HOUR_S, "old").workflow_id
    app.relaunch(application_version="next")
    assert Debouncer.create(note).debounce("key", HOUR_S, "new").workflow_id == waiting
    client = DBOSClient(system_database_url=app.url)
    of_any = DebouncerClient(client, {"workflow_name": NAME, "queue_name": "of no matter"})
    assert of_any.debounce("key", 0, "newest").workflow_id == waiting
    client.destroy()
    assert DBOS.get_result(waiting) == ["newest"]
    assert recorded(waiting).app_version == "next"


def test_options_of_a_client_hold_for_the_round(app: App) -> None:
    priorities = Queue("debounced by a client, with options", priority_enabled=True)
    client = DBOSClient(system_database_url=app.url)
    debouncer = DebouncerClient(
        client,
        {
            "workflow_name": NAME,
            "queue_name": "is overruled",
            "workflow_id": "by a client",
            "workflow_timeout": HOUR_S,
            "deduplication_id": "its id",
            "priority": 7,
            "app_version": "test",
            "authenticated_user": "ann",
            "authenticated_roles": ["editor"],
        },
        queue=priorities,
    )
    waiting = debouncer.debounce("key", HOUR_S, 1).get_status()
    assert (waiting.queue_name, waiting.deduplication_id) == (INTERNAL_QUEUE, f"{NAME}-key")
    handle = debouncer.debounce("key", 0, 2)
    assert handle.get_result() == [2]
    status = handle.get_status()
    assert (status.workflow_id, status.queue_name, status.priority) == ("by a client", priorities.name, 7)
    assert (status.workflow_timeout_ms, status.app_version) == (HOUR_S * 1000, "test")
    assert (status.authenticated_user, status.authenticated_roles) == ("ann", ["editor"])
    client.destroy()


# ------------------------------------------------------------------------------------------------------ what is refused


class Methods:
    @DBOS.workflow(name="debounced.method")
    def method(self) -> None: ...


@pytest.mark.parametrize("create", [Debouncer.create, Debouncer.create_async])
def test_methods_and_undecorated_functions_are_refused(create: Any) -> None:
    with pytest.raises(TypeError, match=r"Methods\.method is a method"):
        create(Methods().method)
    with pytest.raises(error.DBOSException, match="not a workflow"):
        create(lambda: None)


BAD_TIMES: list[tuple[Any, type[Exception]]] = [
    (-0.001, ValueError),
    (-1, ValueError),
    (float("nan"), ValueError),
    (float("inf"), ValueError),
    (101 * 366 * 24 * HOUR_S, ValueError),
    (10**400, ValueError),
    ("10", TypeError),
    (None, TypeError),
    (True, TypeError),
]


def test_bad_periods_and_keys_are_refused_and_change_nothing(make: Make) -> None:
    debouncer = make()
    handle = debouncer.debounce("key", HOUR_S, "kept")
    for period, kind in BAD_TIMES:
        with pytest.raises(kind, match="debounce_period_sec"):
            debouncer.debounce("key", period, "lost")
    for key, kind in ((7, TypeError), (None, TypeError), ("a\x00b", ValueError), ("k" * 1025, ValueError)):
        with pytest.raises(kind, match="debounce key"):
            debouncer.debounce(key, HOUR_S, "lost")
    for bad_timeout, kind in BAD_TIMES:
        if bad_timeout is not None:
            with pytest.raises(kind, match="debounce_timeout_sec"):
                make(debounce_timeout_sec=bad_timeout)
    assert rounds() == [handle.workflow_id]
    assert handle.get_status().input == {"args": ("kept",), "kwargs": {}}


def test_key_may_be_empty(make: Make) -> None:
    debouncer = make()
    handle = debouncer.debounce("", HOUR_S, "first")
    assert debouncer.debounce("other", HOUR_S, "other").workflow_id != handle.workflow_id
    assert debouncer.debounce("", 0, "last").workflow_id == handle.workflow_id
    assert handle.get_result() == ["last"]


def test_a_hundred_years_are_not_too_long(make: Make) -> None:
    ages = 100 * 365 * 24 * HOUR_S
    debouncer = make(debounce_timeout_sec=ages)
    handle = debouncer.debounce("key", ages, 1)
    assert debouncer.debounce("key", ages, 2).workflow_id == handle.workflow_id
    assert handle.get_status().status == "ENQUEUED"
    debouncer.debounce("key", 0, 3)
    assert handle.get_result() == [3]


def test_arguments_that_cannot_be_stored_change_nothing(make: Make) -> None:
    debouncer = make()
    with pytest.raises(error.DBOSException, match="arguments"):
        debouncer.debounce("key", 0, lambda: None)
    assert rounds() == []
    handle = debouncer.debounce("key", HOUR_S, "kept")
    with pytest.raises(error.DBOSException, match="arguments"):
        debouncer.debounce("key", 0, threading.Lock())
    assert handle.get_status().input == {"args": ("kept",), "kwargs": {}}
    assert handle.get_status().status == "ENQUEUED"
    debouncer.debounce("key", 0, "end")
    assert handle.get_result() == ["end"]


def test_enqueue_options_without_a_queue_are_refused(app: App) -> None:
    debouncer = Debouncer.create(note)
    for options in ({"priority": 1}, {"deduplication_id": "d"}, {"queue_partition_key": "p"}):
        with pytest.raises(error.DBOSException, match="queue"), SetEnqueueOptions(**options):  # type: ignore[arg-type]
            debouncer.debounce("key", 0)
    with pytest.raises(error.DBOSException, match="priorit"), SetEnqueueOptions(priority=1):
        Debouncer.create(note, queue=Queue("debounced without priorities")).debounce("key", 0)
    assert rounds() == []


def test_debouncing_in_a_step_is_refused(app: App) -> None:
    debouncer, debouncer_async = Debouncer.create(note), Debouncer.create_async(note_async)

    @DBOS.step()
    def step() -> str:
        with pytest.raises(error.DBOSException, match="from a step"):
            debouncer.debounce("key", 0)
        return "refused"

    @DBOS.step()
    async def step_async() -> str:
        with pytest.raises(error.DBOSException, match="from a step"):
            await debouncer_async.debounce_async("key", 0)
        return "refused"

    @DBOS.workflow()
    async def workflow() -> list[str]:
        return [await asyncio.to_thread(step), await step_async()]

    assert asyncio.run(workflow()) == ["refused"] * 2
    assert rounds() == []


def test_debouncing_before_the_launch_is_refused(unlaunched: Path) -> None:
    with pytest.raises(error.DBOSException, match=r"DBOS\.launch"):
        Debouncer.create(note).debounce("key", 0)


def test_name_and_key_that_look_like_those_of_another_function_are_refused(app: App) -> None:
    """`a` with the key `b-c` and `a-b` with the key `c` have the same deduplication id."""

    @DBOS.workflow(name=f"{NAME}-b")
    def namesake() -> None: ...

    handle = Debouncer.create(note).debounce("b-c", HOUR_S, 1)
    with pytest.raises(error.DBOSException, match="Use another key"):
        Debouncer.create(namesake).debounce("c", 0)
    assert Debouncer.create(note).debounce("b-c", 0, 2).workflow_id == handle.workflow_id
    assert handle.get_result() == [2]


# -------------------------------------------------------------------------------------------------------- in workflows


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_workflow_calls_once_and_its_replay_does_not_call_again(app: App, is_async: bool) -> None:
    roadblock = Roadblock()
    debouncer, debouncer_async = Debouncer.create(note), Debouncer.create_async(note)  # type: ignore[arg-type]

    @DBOS.step()
    def stop() -> None:
        roadblock.stop()

    @DBOS.step()
    async def stop_async() -> None:
        await roadblock.stop_async()

    @DBOS.workflow()
    def calling() -> list[Any]:
        handles = [debouncer.debounce("key", HOUR_S, "from the workflow", number) for number in range(2)]
        stop()
        return [handle.workflow_id for handle in handles] + handles[0].get_result()

    @DBOS.workflow()
    async def calling_async() -> list[Any]:
        handles = [await debouncer_async.debounce_async("key", HOUR_S, "from the workflow", 1) for _ in range(2)]
        await stop_async()
        return [handle.workflow_id for handle in handles] + await handles[0].get_result()

    with SetWorkflowID("parent"):
        DBOS.start_workflow(calling_async if is_async else calling)
    roadblock.wait_until_reached()
    assert recorded("parent-1").input == {"args": ("from the workflow", 1), "kwargs": {}}
    assert recorded("parent-1").parent_workflow_id == "parent"
    assert debouncer.debounce("key", HOUR_S, "from outside").workflow_id == "parent-1"
    interrupt_at(roadblock, app)
    ended = eventually(lambda: len(steps_of("parent")) == 3, "the step behind it is recorded")
    assert ended
    assert recorded("parent-1").input == {"args": ("from outside",), "kwargs": {}}
    assert [(step["function_name"], step["child_workflow_id"]) for step in DBOS.list_workflow_steps("parent")[:2]] == [
        ("DBOS.debounce", "parent-1")
    ] * 2
    debouncer.debounce("key", 0, "end")
    assert DBOS.get_result("parent") == ["parent-1", "parent-1", "end"]
    assert rounds() == ["parent-1"]
    assert [name for _, name in steps_of("parent")[3:]] == ["DBOS.getResult"]


def test_workflow_joins_a_round_and_hands_its_deadline_on_to_one_that_it_begins(app: App) -> None:
    debouncer = Debouncer.create(note)

    @DBOS.workflow()
    def calling() -> list[str]:
        joined = debouncer.debounce("theirs", HOUR_S, "joined")
        begun = debouncer.debounce("ours", HOUR_S, "begun")
        with SetWorkflowTimeout(None):
            detached = debouncer.debounce("detached", HOUR_S)
        with SetWorkflowID("named"):
            named = debouncer.debounce("named", HOUR_S)
        return [joined.workflow_id, begun.workflow_id, detached.workflow_id, named.workflow_id]

    theirs = debouncer.debounce("theirs", HOUR_S, 1).workflow_id
    with SetWorkflowID("parent"), SetWorkflowTimeout(HOUR_S):
        assert calling() == [theirs, "parent-2", "parent-3", "named"]
    deadline = recorded("parent").workflow_deadline_epoch_ms
    assert deadline is not None
    assert recorded("parent-2").workflow_deadline_epoch_ms == deadline
    assert recorded("parent-3").workflow_deadline_epoch_ms is None
    assert recorded(theirs).workflow_deadline_epoch_ms is None
    assert recorded(theirs).input == {"args": ("joined",), "kwargs": {}}


@pytest.mark.parametrize("refusal", ["id of another function", "round of another function"])
def test_refusal_in_a_workflow_is_its_steps_error_for_ever(app: App, refusal: str) -> None:
    """Also when the reason is gone by the time of the replay."""
    roadblock = Roadblock()

    @DBOS.workflow(name=f"{NAME}-{refusal}")
    def namesake() -> None: ...

    debouncer = Debouncer.create(namesake)

    @DBOS.step()
    def stop() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def calling() -> str:
        try:
            with SetWorkflowID("theirs"):
                answer = "accepted " + debouncer.debounce("key", HOUR_S).workflow_id
        except error.DBOSException as refused:
            answer = type(refused).__name__
        stop()
        return answer

    with SetWorkflowID("theirs" if refusal == "id of another function" else "holder"):
        Debouncer.create(note).debounce(f"{refusal}-key", HOUR_S)
    with SetWorkflowID("parent"):
        DBOS.start_workflow(calling)
    roadblock.wait_until_reached()
    DBOS.delete_workflow("holder")
    interrupt_at(roadblock, app)
    by_reason = {"id of another function": "DBOSConflictingWorkflowError", "round of another function": "DBOSException"}
    assert DBOS.get_result("parent") == by_reason[refusal]
    assert [name for _, name in steps_of("parent")] == ["DBOS.debounce", stop.__qualname__]


# ---------------------------------------------------------------------------------------------------------- management


@pytest.mark.parametrize("on_queue", [False, True], ids=["internal", "queue"])
def test_waiting_round_is_cancelled_resumed_or_deleted(app: App, on_queue: bool) -> None:
    """Each ends the round: the next call begins another."""
    debouncer = Debouncer.create(note, queue=Queue("debounced, managed") if on_queue else None)
    ids: dict[str, str] = {}
    for key in ("cancelled", "resumed", "deleted"):
        ids[key] = debouncer.debounce(key, SOON_S if key != "resumed" else HOUR_S, key).workflow_id
    DBOS.cancel_workflow(ids["cancelled"])
    DBOS.delete_workflow(ids["deleted"])
    assert status_of(ids["cancelled"]) == "CANCELLED"
    assert status_of(ids["deleted"]) is None
    assert DBOS.resume_workflow(ids["resumed"]).get_result() == ["resumed"]
    assert next_run()[0] == ids["resumed"]

    new = {key: debouncer.debounce(key, HOUR_S, "new").workflow_id for key in ids}
    assert not set(new.values()) & set(ids.values())
    later = debouncer.debounce("later", SOON_S, "later")
    assert later.get_result() == ["later"]
    assert next_run()[1] == ("later",)
    assert RAN.empty(), "what was cancelled or deleted does not start"
    assert DBOS.resume_workflow(ids["cancelled"]).get_result() == ["cancelled"]
    assert {status_of(workflow_id) for workflow_id in new.values()} == {"ENQUEUED"}
    DBOS.cancel_workflow(new["resumed"])
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        DBOS.get_result(new["resumed"])


def test_forked_round_starts_at_once_and_leaves_the_round_alone(app: App) -> None:
    debouncer = Debouncer.create(note)
    handle = debouncer.debounce("key", HOUR_S, 1)
    assert DBOS.fork_workflow(handle.workflow_id, 1).get_result() == [1]
    assert debouncer.debounce("key", 0, 2).workflow_id == handle.workflow_id
    assert handle.get_result() == [2]


# ----------------------------------------------------------------------------------------- cost, races, other processes


@pytest.fixture
def counted(database_url: str) -> Iterator[tuple[App, CountingGate]]:
    """An application whose transactions are counted."""
    gate = CountingGate()
    app = UnpolledApp(database_url)
    DBOS(config=app.config())
    application().gate = gate
    DBOS.launch()
    yield app, gate
    DBOS.destroy()
    while not RAN.empty():
        RAN.get()


def test_burst_of_a_thousand_calls_is_one_workflow_and_one_transaction_for_each_call(
    counted: tuple[App, CountingGate],
) -> None:
    _, gate = counted
    debouncer = Debouncer.create(note)
    gate.wait_for("find_orphans", "after_commit", 1)
    before = gate.counts("begin")
    ids = {debouncer.debounce("key", HOUR_S, number).workflow_id for number in range(1000)}
    after = gate.counts("begin")
    assert len(ids) == 1
    assert rounds() == [*ids]
    assert recorded(*ids).input == {"args": (999,), "kwargs": {}}
    cost = {name: count - before.get(name, 0) for name, count in after.items()}
    assert cost["debounce"] == 1000
    writing = {name for name, count in cost.items() if count >= 100}
    assert writing == {"debounce"}, "nothing else is done for each call"


def test_call_in_a_workflow_is_one_transaction(counted: tuple[App, CountingGate]) -> None:
    """It holds the call, and the record of the call. Beside it the run asks, at most, whether it may go on."""
    _, gate = counted
    debouncer = Debouncer.create(note)

    @DBOS.workflow()
    def calling() -> None:
        for number in range(50):
            debouncer.debounce("key", HOUR_S, number)

    gate.wait_for("find_orphans", "after_commit", 1)
    before = gate.counts("before_commit")
    calling()
    after = gate.counts("before_commit")
    cost = {name: count - before.get(name, 0) for name, count in after.items()}
    assert cost.pop("debounce") == 50
    assert cost.pop("journal") <= 52
    assert {name for name, count in cost.items() if count >= 10} == set()


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
@pytest.mark.parametrize("caller", ["outside", "workflow"])
def test_call_counts_once_when_its_commit_fails_once(database_url: str, moment: Any, caller: str) -> None:
    """Before the commit nothing has happened; after it only the answer is lost."""
    app = App(database_url)
    DBOS(config=app.config())
    gate = application().gate = FailingGate("debounce", moment, TransientStorageError("cut"))  # type: ignore[arg-type]
    DBOS.launch()
    debouncer = Debouncer.create(note)

    @DBOS.workflow()
    def calling() -> list[str]:
        return [debouncer.debounce("key", SOON_S, number).workflow_id for number in range(2)]

    try:
        if caller == "workflow":
            with SetWorkflowID("parent"):
                ids = calling()
            assert steps_of("parent") == [(1, "DBOS.debounce"), (2, "DBOS.debounce")]
            assert recorded("parent").recovery_attempts == 1
            assert gate.count("read_checkpoints", "begin") == 0, "it was not replayed"
            assert ids == ["parent-1"] * 2
        else:
            ids = [debouncer.debounce("key", SOON_S, number).workflow_id for number in range(2)]
        assert gate.count("debounce", "begin") == 3
        assert DBOS.get_result(ids[0]) == [1]
        assert rounds() == [ids[0]] == [ids[1]]
        assert next_run()[1] == (1,)
        assert RAN.empty()
    finally:
        DBOS.destroy()


def test_no_call_is_lost_when_threads_of_two_processes_race_with_the_starts(
    app: App, spawn: Spawner, tmp_path: Path
) -> None:
    """Every call belongs to the round that it was told, and each round runs once, with the arguments of its last call.

    Which call was the last one nobody can tell, but it is the last of its thread in the round.
    """
    DBOS.destroy()
    ledger_file = tmp_path / "ledger"
    peers = [Remote(spawn(PEER)) for _ in range(2)]
    for peer in peers:
        peer.new("launch", app.config(), str(ledger_file))
    calls: list[tuple[int, int, int, str]] = []
    for told in in_threads([partial(peer.new, "storm", number) for number, peer in enumerate(peers)]):
        calls += told
    last = peers[0].new("debounce", 0, "the last of all")
    client = DBOSClient(system_database_url=app.url)
    assert client.retrieve_workflow(last).get_result() == ["the last of all"]
    of_round: dict[str, list[tuple[int, int, int]]] = {}
    for process, thread, number, workflow_id in calls:
        of_round.setdefault(workflow_id, []).append((process, thread, number))
    for workflow_id in of_round:
        client.retrieve_workflow(workflow_id).get_result()
    client.destroy()

    ran = {entry["id"]: entry["args"] for entry in ledger.read(ledger_file)}
    assert len(ran) == len(ledger.read(ledger_file)), "each round runs once"
    assert set(ran) == set(of_round) | {last}
    assert len(calls) > len(of_round) > 4, "calls shared their rounds, and rounds started meanwhile"
    assert ran.pop(last) == ["the last of all"]
    for workflow_id, args in ran.items():
        process, thread, number = args
        its_calls = of_round[workflow_id]
        assert (process, thread, number) in its_calls
        assert number == max(one[2] for one in its_calls if one[:2] == (process, thread))


def test_round_outlives_the_process_that_was_called_in(app: App, spawn: Spawner, tmp_path: Path) -> None:
    """Its process is killed; the one that is launched next starts it, not before its time, with the last arguments."""
    DBOS.destroy()
    peer = Remote(spawn(PEER))
    peer.new("launch", app.config(), str(tmp_path / "ledger"))
    called = time.monotonic()
    joined = peer.new("debounce", HOUR_S, "joined")
    begun = [peer.new("debounce_key", key, 2 * SOON_S, key) for key in ("a", "b")]
    peer.child.kill()
    app.launch()
    assert [DBOS.get_result(workflow_id) for workflow_id in begun] == [["a"], ["b"]]
    assert time.monotonic() - called >= 2 * SOON_S
    assert [recorded(workflow_id).recovery_attempts for workflow_id in begun] == [1, 1]
    assert Debouncer.create(note).debounce("key", 0, "last").workflow_id == joined
    assert DBOS.get_result(joined) == ["last"]
    assert not ledger.read(tmp_path / "ledger"), "none of them ran in the process that was killed"


def test_round_whose_time_passes_while_nothing_runs_starts_at_the_next_launch(app: App) -> None:
    client = DBOSClient(system_database_url=app.url)
    Queue("debounced, of a client alone")
    DBOS.destroy()
    debouncer = DebouncerClient(client, {"workflow_name": NAME, "queue_name": "debounced, of a client alone"})
    overdue = debouncer.debounce("key", 0, "overdue")
    assert overdue.get_status().status == "ENQUEUED"
    assert debouncer.debounce("key", 0, "last").workflow_id == overdue.workflow_id
    app.launch()
    assert overdue.get_result() == ["last"]
    client.destroy()


def test_burst_of_a_client_in_another_process_is_one_workflow(app: App, spawn: Spawner) -> None:
    """Its rounds are started by the application, though that looks too seldom by itself; and shared with it."""
    queue = Queue("debounced from elsewhere")
    peer = Remote(spawn(PEER))
    ids = peer.new("burst", app.url, queue.name, 300, HOUR_S)
    assert len(ids) == 1
    debouncer = Debouncer.create(note)
    assert debouncer.debounce("key", HOUR_S, "from here").workflow_id == ids[0]
    assert peer.new("burst", app.url, queue.name, 1, SOON_S) == ids
    assert DBOS.get_result(ids[0]) == [0]
    assert next_run() == (ids[0], (0,), {})
    assert (recorded(ids[0]).queue_name, rounds()) == (queue.name, ids)
    new = peer.new("burst", app.url, queue.name, 1, 0)
    assert new != ids
    assert DBOS.get_result(new[0]) == [0]
