"""From before the import of the library until it is launched on a new database: milliseconds.

One workflow, run after the clock has stopped, is the proof that the launch is complete.
"""

import time

from support import config, expect, finish

STARTED = time.perf_counter()

from dbos import DBOS  # noqa: E402  (the import is part of what is measured)


@DBOS.step()
def add_one(number: int) -> int:
    return number + 1


@DBOS.workflow()
def example(number: int) -> int:
    return add_one(number)


def main() -> None:
    DBOS(config=config())
    DBOS.launch()
    elapsed = time.perf_counter() - STARTED

    expect(example(1), 2, "result")
    expect([status.output for status in DBOS.list_workflows(status="SUCCESS")], [2], "results in the database")
    finish(elapsed * 1000, workflows=1, checkpoints=1)


if __name__ == "__main__":
    main()
