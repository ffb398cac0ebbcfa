"""`list_workflows` of 100 out of 20 000 finished workflows, everything loaded: milliseconds per call, the median.

One workflow is run; the others are copies of its rows, made by plain SQL, each a millisecond younger.
"""

import argparse
import time
from statistics import median

from support import config, connect, copy_workflow, expect, finish, gather_statistics

from dbos import DBOS, SetWorkflowID

PAGE = 100
REPLACED = {
    "workflow_uuid": "'listed-' || substr('00000' || number, length('00000' || number) - 5)",
    "created_at": "created_at + number",
    "updated_at": "updated_at + number",
}
WARM_UP = 5


@DBOS.step()
def add_up(numbers: list[int]) -> int:
    return sum(numbers)


@DBOS.workflow()
def example(customer: str, numbers: list[int]) -> dict[str, object]:
    return {"customer": customer, "sum": add_up(numbers)}


def workflow_id(number: int) -> str:
    return f"listed-{number:06}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--total", type=int, default=20_000)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=40)
    options = parser.parse_args()

    DBOS(config=config())
    DBOS.launch()
    with SetWorkflowID(workflow_id(0)):
        result = example("someone", numbers=[1, 2, 3])
    connection = connect()
    copy_workflow(connection, workflow_id(0), options.total - 1, REPLACED)
    gather_statistics(connection)

    times: list[float] = []
    for _ in range(WARM_UP + options.repeats):
        started = time.perf_counter()
        page = DBOS.list_workflows(limit=PAGE, offset=options.offset)
        values = [(status.input, status.output) for status in page]
        times.append((time.perf_counter() - started) * 1000)
        expected = [workflow_id(number) for number in range(options.offset, options.offset + PAGE)]
        expect([status.workflow_id for status in page], expected, "page")
        inputs = {"args": ("someone",), "kwargs": {"numbers": [1, 2, 3]}}
        expect(values, [(inputs, result)] * PAGE, "inputs and outputs")
    finish(median(times[WARM_UP:]), workflows=options.total, checkpoints=options.total)


if __name__ == "__main__":
    main()
