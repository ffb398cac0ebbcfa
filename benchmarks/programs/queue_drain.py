"""Two worker processes drain a queue of workflows that do nothing.

`--measure rate`: workflows per second, from the moment the backlog is there until the last one has succeeded.
`--measure share`: how many of them the worker that ran fewer has run, as a share of one half of all.

The workers are launched and have run some workflows when the backlog comes. One workflow is enqueued that nobody runs,
being of another version; the backlog are copies of its row, made by plain SQL in one transaction, with the workers'
version. The last one is enqueued by a client, so that the workers may be told of it.
"""

import argparse
import itertools
import json
import sys
import time
from typing import Any

from outside import Outside, answer
from support import (
    VERSION,
    config,
    connect,
    copy_workflow,
    count_rows,
    database_url,
    declare_queue,
    expect,
    finish,
)

from dbos import DBOS, DBOSClient

QUEUE = "backlog"
WORKERS = 2
WARM_UP = 20
POLL_S = 0.02
PATIENCE_S = 500.0
NOBODY = "nobody"

ran: list[str | None] = []


@DBOS.workflow()
def no_op(number: int) -> int:
    ran.append(DBOS.workflow_id)
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=8000)
    parser.add_argument("--worker-concurrency", type=int, default=None)
    parser.add_argument("--measure", choices=["rate", "share"], default="rate")
    parser.add_argument("--worker", metavar="NAME", help="set by the process that starts the workers")
    options = parser.parse_args()
    limits = {} if options.worker_concurrency is None else {"worker_concurrency": options.worker_concurrency}
    if options.worker is None:
        measure(options.count, limits, is_share=options.measure == "share")
    else:
        work(options.worker, limits)


def measure(count: int, limits: dict[str, int], *, is_share: bool) -> None:
    arguments = ["--worker-concurrency", str(limits["worker_concurrency"])] if limits else []
    workers = [Outside("--worker", f"worker-{number}", *arguments) for number in range(WORKERS)]
    client = DBOSClient(system_database_url=database_url())
    for number in range(WARM_UP):
        enqueue(client, f"warm-up-{number}", VERSION)
    connection = connect()
    wait_until_succeeded(connection, WARM_UP)
    enqueue(client, NOBODY, "another version")
    replaced = {"workflow_uuid": "'drained-' || number", "application_version": f"'{VERSION}'"}
    copy_workflow(connection, NOBODY, count - 1, replaced)

    started = time.perf_counter()
    enqueue(client, f"drained-{count}", VERSION)
    wait_until_succeeded(connection, WARM_UP + count)
    elapsed = time.perf_counter() - started

    shares = [workflows_of(worker) for worker in workers]
    expected = [f"drained-{number}" for number in range(1, count + 1)]
    expect(sorted(itertools.chain(*shares)), sorted(expected), "workflows that ran")
    outputs = [status.output for status in client.list_workflows(status="SUCCESS")]
    expect(outputs, [7] * (WARM_UP + count), "results")
    for worker in workers:
        worker.end()
    value = min(map(len, shares)) / (count / WORKERS) if is_share else count / elapsed
    finish(value, workflows=WARM_UP + 1 + count, enqueued=1)


def enqueue(client: DBOSClient, workflow_id: str, version: str) -> None:
    client.enqueue(
        {
            "queue_name": QUEUE,
            "workflow_name": no_op.__qualname__,
            "workflow_id": workflow_id,
            "app_version": version,
        },
        7,
    )


def workflows_of(worker: Outside) -> list[str]:
    """Those of the backlog that it has run."""
    worker.tell("report")
    return [workflow_id for workflow_id in json.loads(worker.hear()) if workflow_id.startswith("drained-")]


def wait_until_succeeded(connection: Any, count: int) -> None:
    """Look into the table by plain SQL every now and then."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := count_rows(connection, "workflow_status", "status = 'SUCCESS'")) < count:
        expect(time.monotonic() < deadline, True, f"end in time ({found} of {count} succeeded)")
        time.sleep(POLL_S)


def work(name: str, limits: dict[str, int]) -> None:
    DBOS(config=config(executor_id=name))
    DBOS.launch()
    declare_queue(QUEUE, **limits)
    answer("ready")
    for _ in sys.stdin:
        answer(json.dumps(ran))
    DBOS.destroy()


if __name__ == "__main__":
    main()
