"""Workflows enqueued one after the other, outside of any workflow: workflows per second.

Nobody listens to the queue, so that nothing else is measured. Each call returns when its workflow is durable.
"""

import argparse
import sys
import time
from collections.abc import Iterable
from typing import Any

from outside import Outside, answer, connect_client
from support import config, declare_queue, expect, finish

from dbos import DBOS

QUEUE = "backlog"
WARM_UP = 20


@DBOS.workflow()
def no_op(number: int) -> int:
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--by", choices=["queue", "client"], default="queue")
    parser.add_argument("--outside", action="store_true", help="set by the process that starts the second one")
    options = parser.parse_args()
    if options.outside:
        enqueue_from_outside()
    else:
        measure(options.count, by_client=options.by == "client")


def measure(count: int, *, by_client: bool) -> None:
    DBOS(config=config())
    DBOS.listen_queues([])
    DBOS.launch()
    queue = declare_queue(QUEUE)
    if by_client:
        outside = Outside()
        outside.tell(str(WARM_UP))
        outside.hear()
        outside.tell(str(count))
        elapsed = float(outside.hear())
        outside.end()
    else:
        enqueue_in_queue(queue, range(WARM_UP))
        elapsed = enqueue_in_queue(queue, range(count))

    inputs: list[Any] = [status.input for status in DBOS.list_queued_workflows(queue_name=QUEUE)]
    expect([its_input["kwargs"] for its_input in inputs], [{}] * (WARM_UP + count), "keyword arguments on the queue")
    arguments = sorted(its_input["args"] for its_input in inputs)
    expect(arguments, sorted((number,) for number in (*range(WARM_UP), *range(count))), "arguments on the queue")
    finish(count / elapsed, workflows=len(inputs), enqueued=len(inputs))


def enqueue_in_queue(queue: Any, numbers: Iterable[int]) -> float:
    """In how many seconds."""
    started = time.perf_counter()
    for number in numbers:
        queue.enqueue(no_op, number)
    return time.perf_counter() - started


def enqueue_from_outside() -> None:
    client = connect_client()
    for line in sys.stdin:
        started = time.perf_counter()
        for number in range(int(line)):
            client.enqueue({"queue_name": QUEUE, "workflow_name": no_op.__qualname__}, number)
        answer(repr(time.perf_counter() - started))


if __name__ == "__main__":
    main()
