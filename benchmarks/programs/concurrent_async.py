"""Async workflows, all started on one event loop before the first result is waited for: workflows per second."""

import argparse
import asyncio
import time

from support import config, expect, finish

from dbos import DBOS

WARM_UP = 20


@DBOS.step()
async def add_one(number: int) -> int:
    return number + 1


@DBOS.workflow()
async def count_up(start: int, steps: int) -> int:
    number = start
    for _ in range(steps):
        number = await add_one(number)
    return number


async def run_all(count: int, steps: int) -> list[int]:
    starts = (DBOS.start_workflow_async(count_up, number, steps) for number in range(count))
    handles = await asyncio.gather(*starts)
    return await asyncio.gather(*(handle.get_result() for handle in handles))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()

    DBOS(config=config())
    DBOS.launch()
    await run_all(WARM_UP, options.steps)

    started = time.perf_counter()
    results = await run_all(options.count, options.steps)
    elapsed = time.perf_counter() - started

    expect(results, [number + options.steps for number in range(options.count)], "results")
    workflows = WARM_UP + options.count
    expect(len(await DBOS.list_workflows_async(status="SUCCESS")), workflows, "number of successful workflows")
    finish(options.count / elapsed, workflows=workflows, checkpoints=workflows * options.steps)


if __name__ == "__main__":
    asyncio.run(main())
