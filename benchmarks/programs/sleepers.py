"""What workflows that sleep for a day cost: memory of each, processor time of all, or the time of a shutdown.

`--measure memory`: kilobytes of resident memory per sleeping workflow, over those that slept before.
`--measure cpu`: percent of one processor that the process uses while nothing happens.
`--measure shutdown`: milliseconds of `DBOS.destroy()`; every other workflow waits for a message instead.
"""

import argparse
import asyncio
import gc
import os
import sys
import threading
import time
from collections.abc import Coroutine
from typing import Any

from support import config, connect, count_rows, expect, finish

from dbos import DBOS

A_DAY_S = 86400.0
WARM_UP = 1000  # fills what is bounded, such as the database's cache
CHUNK = 100  # started at a time, so that it is not a burst of starts whose memory is measured
SETTLE_S = 3.0
OBSERVE_S = 10.0
PATIENCE_S = 500.0


@DBOS.workflow()
def sleep_sync() -> None:
    DBOS.sleep(A_DAY_S)


@DBOS.workflow()
async def sleep_async() -> None:
    await DBOS.sleep_async(A_DAY_S)


@DBOS.workflow()
def receive_sync() -> None:
    DBOS.recv(timeout_seconds=A_DAY_S)


@DBOS.workflow()
async def receive_async() -> None:
    await DBOS.recv_async(timeout_seconds=A_DAY_S)


class Sleepers:
    """Starts sleeping workflows, and counts by plain SQL how many sleep."""

    def __init__(self, kind: str, *, some_receive: bool) -> None:
        self._is_async = kind == "async"
        self._some_receive = some_receive
        self._asleep = 0
        self._connection = connect()
        self._loop = asyncio.new_event_loop()
        if self._is_async:
            threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def add(self, count: int) -> None:
        """Start `count` more and return when all of them sleep."""
        for _ in range(count // CHUNK):
            if self._is_async:
                asyncio.run_coroutine_threadsafe(self._start_chunk_async(), self._loop).result()
            else:
                self._start_chunk_sync()
            self._asleep += CHUNK
            self._wait_until_asleep()

    def _start_chunk_sync(self) -> None:
        for number in range(CHUNK):
            DBOS.start_workflow(receive_sync if self._receives(number) else sleep_sync)

    async def _start_chunk_async(self) -> None:
        starts: list[Coroutine[Any, Any, Any]] = [
            DBOS.start_workflow_async(receive_async if self._receives(number) else sleep_async)
            for number in range(CHUNK)
        ]
        await asyncio.gather(*starts)

    def _receives(self, number: int) -> bool:
        return self._some_receive and number % 2 == 1

    def _wait_until_asleep(self) -> None:
        """The wake-up time is recorded before a sleep or a wait for a message begins."""
        deadline = time.monotonic() + PATIENCE_S
        while (
            found := count_rows(self._connection, "operation_outputs", "function_name = 'DBOS.sleep'")
        ) < self._asleep:
            expect(time.monotonic() < deadline, True, f"sleepers in time ({found} of {self._asleep} sleep)")
            time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=["async", "sync"], default="async")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--measure", choices=["memory", "cpu", "shutdown"], default="memory")
    options = parser.parse_args()

    DBOS(config=config())
    DBOS.launch()
    sleepers = Sleepers(options.kind, some_receive=options.measure == "shutdown")
    warm_up = WARM_UP if options.measure == "memory" else 0
    sleepers.add(warm_up)
    before = resident_bytes()
    sleepers.add(options.count)
    if options.measure == "memory":
        value = (resident_bytes() - before) / 1024 / options.count
    elif options.measure == "cpu":
        value = processor_percent()
    else:
        value = shutdown_ms()
    workflows = warm_up + options.count
    finish(value, workflows=workflows, pending=workflows, sleeps=workflows)


def resident_bytes() -> int:
    gc.collect()
    if not sys.platform.startswith("linux"):
        sys.exit("how much memory is resident is only known on Linux")
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def processor_percent() -> float:
    time.sleep(SETTLE_S)
    used, started = time.process_time(), time.perf_counter()
    time.sleep(OBSERVE_S)
    return (time.process_time() - used) / (time.perf_counter() - started) * 100


def shutdown_ms() -> float:
    started = time.perf_counter()
    DBOS.destroy()
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
