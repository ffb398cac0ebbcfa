"""Sync workflows called directly, one after the other: milliseconds per workflow."""

import argparse
import time

from support import config, expect, finish

from dbos import DBOS

WARM_UP = 20


@DBOS.step()
def add_one(number: int) -> int:
    return number + 1


@DBOS.workflow()
def count_up(start: int, steps: int) -> int:
    number = start
    for _ in range(steps):
        number = add_one(number)
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--count", type=int, default=150)
    options = parser.parse_args()

    DBOS(config=config())
    DBOS.launch()
    for number in range(WARM_UP):
        expect(count_up(number, options.steps), number + options.steps, "result")

    started = time.perf_counter()
    results = [count_up(number, options.steps) for number in range(options.count)]
    elapsed = time.perf_counter() - started

    expect(results, [number + options.steps for number in range(options.count)], "results")
    workflows = WARM_UP + options.count
    expect(len(DBOS.list_workflows(status="SUCCESS")), workflows, "number of successful workflows")
    finish(elapsed * 1000 / options.count, workflows=workflows, checkpoints=workflows * options.steps)


if __name__ == "__main__":
    main()
