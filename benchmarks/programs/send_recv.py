"""From before a send outside of any workflow until `recv` has returned in the workflow: milliseconds, the median.

Messages come at any time in the second after the receiver has begun to wait, evenly spread: who looks once in a while
neither profits nor suffers from when they come.
"""

import argparse
import queue
import sys
import time
from statistics import median

from outside import Outside, connect_client
from support import config, expect, finish

from dbos import DBOS, SetWorkflowID

RECEIVER = "receiver"
TOPIC = "bench"
PATIENCE_S = 60.0
SETTLE_S = 0.03

arrivals: "queue.Queue[float]" = queue.Queue()


@DBOS.workflow()
def receive(count: int) -> int:
    for number in range(count):
        sent_at = DBOS.recv(TOPIC, PATIENCE_S)
        expect(isinstance(sent_at, float), True, f"message {number}: {sent_at!r}")
        arrivals.put((time.monotonic() - sent_at) * 1000)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--from", dest="sender", choices=["thread", "process"], default="thread")
    parser.add_argument("--outside", action="store_true", help="set by the process that starts the second one")
    options = parser.parse_args()
    if options.outside:
        send_from_outside()
    else:
        measure(options.count, from_process=options.sender == "process")


def measure(count: int, *, from_process: bool) -> None:
    DBOS(config=config())
    DBOS.launch()
    outside = Outside() if from_process else None
    with SetWorkflowID(RECEIVER):
        handle = DBOS.start_workflow(receive, count)
    latencies: list[float] = []
    for number in range(count):
        time.sleep(SETTLE_S + number / count)
        if outside is None:
            DBOS.send(RECEIVER, time.monotonic(), TOPIC)
        else:
            outside.tell("send")
        latencies.append(arrivals.get(timeout=PATIENCE_S))
    expect(handle.get_result(), count, "result")
    if outside is not None:
        outside.end()
    finish(median(latencies), workflows=1, checkpoints=count)


def send_from_outside() -> None:
    client = connect_client()
    for _ in sys.stdin:
        client.send(RECEIVER, time.monotonic(), TOPIC)


if __name__ == "__main__":
    main()
