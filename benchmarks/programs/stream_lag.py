"""From before `write_stream` in a workflow until a reader outside has the value: milliseconds, the median.

The reader reads all the time, the workflow writes one value every 20 ms.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterable
from statistics import median
from typing import Any

from outside import Outside, answer, connect_client
from support import config, expect, finish

from dbos import DBOS, SetWorkflowID

WRITER, KEY = "writer", "values"
PERIOD_S = 0.02
SETTLE_S = 0.3
PATIENCE_S = 60.0

reader_is_there = threading.Event()


@DBOS.workflow()
def write(count: int) -> int:
    expect(reader_is_there.wait(PATIENCE_S), True, "wait for the reader")
    time.sleep(SETTLE_S)
    for _ in range(count):
        DBOS.write_stream(KEY, time.monotonic())
        time.sleep(PERIOD_S)
    DBOS.close_stream(KEY)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--from", dest="reader", choices=["thread", "process"], default="thread")
    parser.add_argument("--outside", action="store_true", help="set by the process that starts the second one")
    options = parser.parse_args()
    if options.outside:
        read_from_outside()
    else:
        measure(options.count, from_process=options.reader == "process")


def measure(count: int, *, from_process: bool) -> None:
    DBOS(config=config())
    DBOS.launch()
    outside = Outside() if from_process else None
    with SetWorkflowID(WRITER):
        handle = DBOS.start_workflow(write, count)
    if outside is None:
        reader_is_there.set()
        lags = read(DBOS.read_stream(WRITER, KEY))
    else:
        outside.tell("read")
        expect(outside.hear(), "reading", "answer of the outside process")
        reader_is_there.set()
        lags = json.loads(outside.hear())
        outside.end()
    expect(handle.get_result(), count, "result")
    expect(len(lags), count, "number of values read")
    finish(median(lags), workflows=1, checkpoints=count + 1, stream_values=count + 1)


def read_from_outside() -> None:
    client = connect_client()
    for _ in sys.stdin:
        answer("reading")
        answer(json.dumps(read(client.read_stream(WRITER, KEY))))


def read(values: Iterable[Any]) -> list[float]:
    """For each value, as it comes, how long ago it was written."""
    return [(time.monotonic() - written_at) * 1000 for written_at in values]


if __name__ == "__main__":
    main()
