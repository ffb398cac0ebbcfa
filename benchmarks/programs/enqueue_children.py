"""One workflow enqueues many children: children per second, from the first call.

`--until returned`: until the last call has returned. `--until durable`: until the workflow's next step begins, which
then finds all children in the database by plain SQL. Nobody listens to the queue, so that nothing else is measured.
"""

import argparse
import time

from support import config, connect, count_rows, declare_queue, expect, finish

from dbos import DBOS

QUEUE = "backlog"
WARM_UP = 20

enqueued: dict[str, object] = {}
"""The inputs of the children."""


@DBOS.workflow()
def no_op(number: int) -> int:
    return number


@DBOS.step()
def look(expected: int) -> float:
    """When it began; by then all children are durable."""
    began = time.perf_counter()
    expect(count_rows(connect(), "workflow_status", "status = 'ENQUEUED'"), expected, "number of children enqueued")
    return began


@DBOS.workflow()
def fan_out(count: int, expected: int) -> tuple[float, float, float]:
    """When the first call was made, when the last one returned, when all were durable."""
    started = time.perf_counter()
    for number in range(count):
        enqueued[queue.enqueue(no_op, number).workflow_id] = {"args": (number,), "kwargs": {}}
    returned = time.perf_counter()
    return started, returned, look(expected)


def main() -> None:
    global queue
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--until", choices=["returned", "durable"], default="returned")
    options = parser.parse_args()

    DBOS(config=config())
    DBOS.listen_queues([])
    DBOS.launch()
    queue = declare_queue(QUEUE)
    fan_out(WARM_UP, WARM_UP)
    children = WARM_UP + options.count
    started, returned, durable = fan_out(options.count, children)

    listed = DBOS.list_queued_workflows(queue_name=QUEUE)
    expect({status.workflow_id: status.input for status in listed}, enqueued, "children on the queue")
    ended = returned if options.until == "returned" else durable
    finish(options.count / (ended - started), workflows=children + 2, enqueued=children, checkpoints=children + 2)


if __name__ == "__main__":
    main()
