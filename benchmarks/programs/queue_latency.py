"""From before a workflow is enqueued on an idle queue until its result is there: milliseconds, the median.

Workflows are enqueued at any time of the second after the queue has become idle, evenly spread: who looks once in a
while neither profits nor suffers from when they come.
"""

import argparse
import sys
import time
from statistics import median
from typing import Any

from outside import Outside, answer, connect_client
from support import config, declare_queue, expect, finish

from dbos import DBOS

QUEUE = "idle"
SETTLE_S = 0.03


@DBOS.workflow()
def tell_time() -> float:
    return time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--from", dest="enqueuer", choices=["thread", "process"], default="thread")
    parser.add_argument("--outside", action="store_true", help="set by the process that starts the second one")
    options = parser.parse_args()
    if options.outside:
        enqueue_from_outside()
    else:
        measure(options.count, from_process=options.enqueuer == "process")


def measure(count: int, *, from_process: bool) -> None:
    DBOS(config=config())
    DBOS.launch()
    queue = declare_queue(QUEUE)
    outside = Outside() if from_process else None
    latencies: list[float] = []
    for number in range(count):
        time.sleep(SETTLE_S + number / count)
        if outside is None:
            started = time.monotonic()
            latencies.append(milliseconds(started, queue.enqueue(tell_time).get_result()))
        else:
            outside.tell("enqueue")
            latencies.append(float(outside.hear()))
    if outside is not None:
        outside.end()
    finish(median(latencies), workflows=count)


def enqueue_from_outside() -> None:
    client = connect_client()
    for _ in sys.stdin:
        started = time.monotonic()
        handle: Any = client.enqueue({"queue_name": QUEUE, "workflow_name": tell_time.__qualname__})
        answer(repr(milliseconds(started, handle.get_result())))


def milliseconds(started: float, ran_at: object) -> float:
    """From the start until now; the workflow ran in between."""
    ended = time.monotonic()
    expect(isinstance(ran_at, float) and started < ran_at < ended, True, f"order of times, with {ran_at!r},")
    return (ended - started) * 1000


if __name__ == "__main__":
    main()
