"""From before `set_event` in a workflow until a `get_event` outside has returned: milliseconds, the median.

Events are set at any time in the second after the wait for them has begun, evenly spread: who looks once in a while
neither profits nor suffers from when they come.
"""

import argparse
import queue
import sys
import time
from statistics import median

from outside import Outside, answer, connect_client
from support import config, expect, finish

from dbos import DBOS, SetWorkflowID

SETTER = "setter"
PATIENCE_S = 60.0
SETTLE_S = 0.03

delays: "queue.Queue[float]" = queue.Queue()


@DBOS.workflow()
def set_events(count: int) -> int:
    for number in range(count):
        time.sleep(delays.get(timeout=PATIENCE_S))
        DBOS.set_event(f"event-{number}", time.monotonic())
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--from", dest="getter", choices=["thread", "process"], default="thread")
    parser.add_argument("--outside", action="store_true", help="set by the process that starts the second one")
    options = parser.parse_args()
    if options.outside:
        get_from_outside()
    else:
        measure(options.count, from_process=options.getter == "process")


def measure(count: int, *, from_process: bool) -> None:
    DBOS(config=config())
    DBOS.launch()
    outside = Outside() if from_process else None
    with SetWorkflowID(SETTER):
        handle = DBOS.start_workflow(set_events, count)
    latencies: list[float] = []
    for number in range(count):
        key, delay = f"event-{number}", SETTLE_S + number / count
        if outside is None:
            delays.put(delay)
            latencies.append(milliseconds_since(DBOS.get_event(SETTER, key, PATIENCE_S)))
        else:
            outside.tell(key)
            expect(outside.hear(), "waiting", "answer of the outside process")
            delays.put(delay)
            latencies.append(float(outside.hear()))
    expect(handle.get_result(), count, "result")
    if outside is not None:
        outside.end()
    finish(median(latencies), workflows=1, checkpoints=count)


def get_from_outside() -> None:
    client = connect_client()
    for line in sys.stdin:
        answer("waiting")
        answer(repr(milliseconds_since(client.get_event(SETTER, line.strip(), PATIENCE_S))))


def milliseconds_since(moment: object) -> float:
    now = time.monotonic()
    if not isinstance(moment, float):
        sys.exit(f"wrong event value: {moment!r}")
    return (now - moment) * 1000


if __name__ == "__main__":
    main()
