"""Two workflows of one process that send a message to and fro: milliseconds per round, the median."""

import argparse
import time
from statistics import median

from support import config, expect, finish

from dbos import DBOS, SetWorkflowID

PINGER, PONGER = "pinger", "ponger"
TOPIC = "bench"
PATIENCE_S = 60.0
MINIMUM = 5


@DBOS.workflow()
def ping(count: int, seconds: float) -> list[float]:
    """Up to `count` rounds, as many as fit into `seconds`; the milliseconds each of them took."""
    times: list[float] = []
    ends = time.monotonic() + seconds
    while len(times) < MINIMUM or (len(times) < count and time.monotonic() < ends):
        started = time.monotonic()
        DBOS.send(PONGER, len(times), TOPIC)
        expect(DBOS.recv(TOPIC, PATIENCE_S), len(times), "echo")
        times.append((time.monotonic() - started) * 1000)
    DBOS.send(PONGER, None, TOPIC)
    return times


@DBOS.workflow()
def pong() -> int:
    """Echo until told to stop; how many."""
    echoed = 0
    while (message := DBOS.recv(TOPIC, PATIENCE_S)) is not None:
        DBOS.send(PINGER, message, TOPIC)
        echoed += 1
    return echoed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()

    DBOS(config=config())
    DBOS.launch()
    with SetWorkflowID(PONGER):
        ponger = DBOS.start_workflow(pong)
    with SetWorkflowID(PINGER):
        pinger = DBOS.start_workflow(ping, options.count, options.seconds)
    times = pinger.get_result()

    expect(ponger.get_result(), len(times), "number of echoes")
    finish(median(times), workflows=2, checkpoints=4 * len(times) + 2)


if __name__ == "__main__":
    main()
