"""One workflow writes values to a stream until all are durable and the workflow has succeeded: values per second."""

import argparse
import time

from support import config, expect, finish

from dbos import DBOS, SetWorkflowID

WRITER, KEY = "writer", "values"
WARM_UP = 20


@DBOS.workflow()
def write(count: int) -> int:
    for number in range(count):
        DBOS.write_stream(KEY, {"number": number})
    DBOS.close_stream(KEY)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    count = parser.parse_args().count

    DBOS(config=config())
    DBOS.launch()
    expect(write(WARM_UP), WARM_UP, "result")

    started = time.perf_counter()
    with SetWorkflowID(WRITER):
        result = write(count)
    elapsed = time.perf_counter() - started

    expect(result, count, "result")
    expect([value["number"] for value in DBOS.read_stream(WRITER, KEY)], list(range(count)), "values in the stream")
    rows = WARM_UP + count + 2  # with what closes the two streams
    finish(count / elapsed, workflows=2, checkpoints=rows, stream_values=rows)


if __name__ == "__main__":
    main()
