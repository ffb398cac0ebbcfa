"""Workflows that do nothing, enqueued one after the other, until all have given their results: workflows per second."""

import argparse
import time

from support import config, declare_queue, expect, finish

from dbos import DBOS

WARM_UP = 20


@DBOS.workflow()
def no_op(number: int) -> int:
    return number


def run_all(count: int) -> list[int]:
    handles = [queue.enqueue(no_op, number) for number in range(count)]
    return [handle.get_result() for handle in handles]


def main() -> None:
    global queue
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    count = parser.parse_args().count

    DBOS(config=config())
    DBOS.launch()
    queue = declare_queue("work")
    run_all(WARM_UP)

    started = time.perf_counter()
    results = run_all(count)
    elapsed = time.perf_counter() - started

    expect(results, list(range(count)), "results")
    workflows = WARM_UP + count
    expect(len(DBOS.list_workflows(status="SUCCESS")), workflows, "number of successful workflows")
    finish(count / elapsed, workflows=workflows)


if __name__ == "__main__":
    main()
