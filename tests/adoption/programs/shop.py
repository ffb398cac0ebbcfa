"""An application that runs with either library. The older one's process is killed when everything in it has begun.

Arguments: the database's URL, the ledger, and which library runs it: ``older`` or ``ours``.

With the older library it starts workflows of all kinds, whose ``hold`` steps then stand still. With ours, it waits for
them to end, does what the lines that it reads say, and prints what became of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from datetime import datetime
from typing import Any

from dbos import (
    DBOS,
    DBOSConfiguredInstance,
    Debouncer,
    Queue,
    SetEnqueueOptions,
    SetWorkflowID,
    SetWorkflowTimeout,
    WorkflowHandle,
)

URL, LEDGER, LIBRARY = sys.argv[1:4]
IS_OLDER = LIBRARY == "older"

jobs = Queue("jobs", concurrency=1)
ranked = Queue("ranked", concurrency=1, priority_enabled=True)
parts = Queue("parts", concurrency=1, partition_queue=True)

held = ticks = 0
changed = threading.Condition()


def note(what: str, **more: Any) -> None:
    """One line of the ledger: what ran, in which workflow, by which library, when."""
    entry = {"what": what, "workflow": DBOS.workflow_id, "library": LIBRARY, "at": time.time(), **more}
    descriptor = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, (json.dumps(entry) + "\n").encode())
    os.close(descriptor)


@DBOS.step()
def work(n: int) -> int:
    note("work", n=n)
    return n * 10


@DBOS.step()
def hold() -> str:
    """With the older library it stands still until the process is killed."""
    global held
    note("hold")
    if IS_OLDER:
        with changed:
            held += 1
            changed.notify_all()
        time.sleep(1000)
    return LIBRARY


@DBOS.step(name="hold_async")
async def hold_async() -> str:
    global held
    note("hold")
    if IS_OLDER:
        with changed:
            held += 1
            changed.notify_all()
        await asyncio.sleep(1000)
    return LIBRARY


@DBOS.workflow()
def finished(n: int, *, text: str = "") -> dict[str, Any]:
    return {"first": work(n), "second": work(n + 1), "text": text}


@DBOS.workflow()
def failed() -> None:
    raise ValueError("no luck", 7)


@DBOS.step(retries_allowed=True, interval_seconds=0.001, max_attempts=2)
def unlucky() -> None:
    raise KeyError("k")


@DBOS.workflow()
def out_of_attempts() -> None:
    unlucky()


@DBOS.workflow()
def astray() -> None:
    DBOS.retrieve_workflow("nowhere")


@DBOS.workflow()
def between(n: int) -> list[Any]:
    first = work(n)
    held_by = hold()
    return [first, held_by, work(n + 1)]


@DBOS.workflow()
async def between_async(n: int) -> list[Any]:
    first, second = await asyncio.gather(asyncio.to_thread(lambda: n), child_async(n))
    held_by = await hold_async()
    return [first, second, held_by]


@DBOS.workflow()
async def child_async(n: int) -> int:
    return n * 10


@DBOS.workflow()
def sleeper(seconds: float) -> float:
    work(1)
    DBOS.sleep(seconds)
    note("woke")
    return time.time()


@DBOS.workflow()
def parent(n: int) -> list[Any]:
    done = finished(n)
    handle = DBOS.start_workflow(between, n)
    return [done, handle.get_result()]


@DBOS.workflow()
def receiver() -> list[Any]:
    first = DBOS.recv("news", 60)
    held_by = hold()
    return [first, held_by, DBOS.recv("news", 60), DBOS.recv("news", 60), DBOS.recv(None, 60), DBOS.recv("none", 0)]


@DBOS.workflow()
def waiting_for_news() -> Any:
    return DBOS.recv("news", 3600)


@DBOS.workflow()
def herald() -> str:
    DBOS.set_event("stage", 1)
    DBOS.set_event("stage", 2)
    DBOS.set_event("other", {"a": [1]})
    DBOS.write_stream("log", "one")
    DBOS.write_stream("log", "two")
    hold()
    DBOS.set_event("stage", 3)
    DBOS.write_stream("log", "three")
    DBOS.close_stream("log")
    return "told"


@DBOS.workflow()
def listener() -> Any:
    return DBOS.get_event("herald", "later", 3600)


@DBOS.workflow()
def manager() -> list[Any]:
    """Records what its calls of the library returned, and goes on from that."""
    status = DBOS.retrieve_workflow("finished").get_status()
    listed = DBOS.list_workflows(workflow_ids=["finished", "failed"])
    steps = DBOS.list_workflow_steps("finished")
    fork = DBOS.fork_workflow("finished", 2)
    events = DBOS.get_all_events("finished")
    missing = []
    for call in (lambda: DBOS.retrieve_workflow("nowhere"), lambda: DBOS.resume_workflow("nowhere")):
        try:
            call()
            missing.append("found")
        except Exception as error:
            missing.append(type(error).__name__)
    try:
        with SetEnqueueOptions(deduplication_id="one of it"):
            jobs.enqueue(between, 0)
    except Exception as error:
        missing.append(type(error).__name__)
    hold()
    return [
        status.status,
        status.input,
        # Within a second the older library has no order.
        sorted(one.workflow_id for one in listed),
        [step["function_name"] for step in steps],
        fork.get_result(),
        events,
        missing,
        work(5),
    ]


@DBOS.workflow()
def bouncing() -> list[Any]:
    debouncer = Debouncer.create(finished)
    first = debouncer.debounce("mine", 1.5, 50)
    second = debouncer.debounce("mine", 1.5, 51)
    hold()
    return [first.workflow_id == second.workflow_id, second.get_result()]


@DBOS.workflow()
def numbered(n: int) -> int:
    note("numbered", n=n)
    hold()
    return n


@DBOS.workflow()
def limited() -> str:
    hold()
    return "in time"


@DBOS.dbos_class()
class Shop(DBOSConfiguredInstance):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    @DBOS.workflow()
    def order(self, n: int) -> list[Any]:
        first = self.price(n)
        hold()
        return [self.name, first]

    @DBOS.step()
    def price(self, n: int) -> int:
        note("price", n=n)
        return n

    @classmethod
    @DBOS.workflow()
    def count(cls, n: int) -> list[Any]:
        hold()
        return [cls.__name__, n]


@DBOS.transaction()
def pay(n: int) -> int:
    from sqlalchemy import text

    note("pay", n=n)
    DBOS.sql_session.execute(text("CREATE TABLE IF NOT EXISTS payments (n INTEGER)"))
    DBOS.sql_session.execute(text("INSERT INTO payments (n) VALUES (:n)"), {"n": n})
    return n


@DBOS.workflow()
def buyer(n: int) -> list[Any]:
    paid = pay(n)
    hold()
    return [paid, pay(n + 1)]


@DBOS.workflow()
def tick(scheduled_at: datetime, context: Any) -> None:
    global ticks
    note("tick", context=context, scheduled_at=scheduled_at.isoformat())
    with changed:
        ticks += 1
        changed.notify_all()


shop = Shop("corner")


def start(workflow_id: str, function: Any, *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
    with SetWorkflowID(workflow_id):
        return DBOS.start_workflow(function, *args, **kwargs)


def enqueue(workflow_id: str, queue: Queue, function: Any, *args: Any) -> None:
    with SetWorkflowID(workflow_id):
        queue.enqueue(function, *args)


def wait_for_ticks() -> None:
    """Wait until the schedule has fired with this library."""
    with changed:
        assert changed.wait_for(lambda: ticks > 0, 20)


def begin() -> None:
    """Start everything, and say so when all of it has come as far as it gets."""
    start("finished", finished, 1, text="told").get_result()
    for workflow_id, function in (("failed", failed), ("unlucky", out_of_attempts), ("astray", astray)):
        try:
            start(workflow_id, function).get_result()
        except Exception as error:
            print(workflow_id, repr(error), flush=True)
    start("between", between, 1)
    start("long sleeper", sleeper, 3600.0)
    start("parent", parent, 3)
    receiving = start("receiver", receiver)
    for message, topic in (("first", "news"), ("second", "news"), ("third", "news"), ("plain", None)):
        DBOS.send(receiving.workflow_id, message, topic)
    start("waiting for news", waiting_for_news)
    start("herald", herald)
    start("listener", listener)
    start("order", shop.order, 7)
    start("count", Shop.count, 8)
    start("buyer", buyer, 20)
    start("bouncing", bouncing)
    start("cancelled", waiting_for_news)
    DBOS.cancel_workflow("cancelled")
    with SetWorkflowTimeout(3600):
        start("limited", limited)
    for n in (1, 2, 3):
        enqueue(f"job {n}", jobs, numbered, n)
    with SetEnqueueOptions(deduplication_id="one of it"):
        enqueue("single", jobs, numbered, 4)
    with SetEnqueueOptions(priority=1):
        enqueue("ranked first", ranked, numbered, 1)
    wait_for(11)
    for n, priority in ((5, 5), (2, 2), (3, 3)):
        with SetEnqueueOptions(priority=priority):
            enqueue(f"ranked {n}", ranked, numbered, n)
    for n, part in enumerate(("a", "a", "b")):
        with SetEnqueueOptions(queue_partition_key=part):
            enqueue(f"part {n}", parts, numbered, n)
    start("manager", manager)
    # Its end would wait for all threads of the library.
    threading.Thread(target=lambda: asyncio.run(start_async()), daemon=True).start()
    wait_for(15)
    Debouncer.create(finished).debounce("waits", 3600.0, 60)
    DBOS.create_schedule(schedule_name="often", workflow_fn=tick, schedule="* * * * * *", context={"by": "schedule"})
    start("sleeper", sleeper, 4.0)
    while len(DBOS.list_workflow_steps("sleeper")) < 2:
        time.sleep(0.01)


async def start_async() -> None:
    with SetWorkflowID("between, async"):
        handle = await DBOS.start_workflow_async(between_async, 4)
    await handle.get_result()


def wait_for(count: int) -> None:
    with changed:
        assert changed.wait_for(lambda: held >= count, 20), f"{held} of {count} hold"


def main() -> None:
    config: Any = {"name": "shop", "system_database_url": URL, "application_database_url": URL}
    DBOS(config={**config, "run_admin_server": False, "log_level": "INFO", "max_executor_threads": 100})
    DBOS.launch()
    print("launched", flush=True)
    if IS_OLDER:
        begin()
        print("everything has begun", flush=True)
    for line in sys.stdin:
        try:
            answer = eval(line, globals())
        except Exception as error:
            answer = repr(error)
        print("answer", json.dumps(answer, default=repr), flush=True)
    if not IS_OLDER:
        DBOS.destroy()


main()
