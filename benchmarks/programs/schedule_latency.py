"""Schedules that fire each second: from the fire time until the workflow runs, in milliseconds, the median.

Or, with `--measure cpu`, what schedules cost that do not fire: percent of a CPU, of the process alone.

The times are compared by the machine's clock, which is the database's too. The first fires are left out: they come with
the launch.
"""

import argparse
import json
import os
import threading
import time
from datetime import datetime
from statistics import median
from typing import Any

from support import config, expect

from dbos import DBOS

WARM_UP = 2
IDLE_S = 15.0
SETTLE_S = 3.0

latencies: list[float] = []
changed = threading.Condition()


@DBOS.workflow()
def tell_time(scheduled: datetime, context: Any) -> None:
    now = time.time()
    with changed:
        latencies.append((now - scheduled.timestamp()) * 1000)
        changed.notify_all()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", choices=["latency", "cpu"], default="latency")
    parser.add_argument("--count", type=int, default=20)
    options = parser.parse_args()
    DBOS(config=config())
    DBOS.launch()
    leave(latency(options.count) if options.measure == "latency" else idle_cpu(options.count))


def latency(count: int) -> float:
    DBOS.create_schedule(schedule_name="secondly", workflow_fn=tell_time, schedule="* * * * * *")
    wanted = WARM_UP + count
    with changed:
        expect(changed.wait_for(lambda: len(latencies) >= wanted, 5 * wanted), True, "number of fires")
        measured = latencies[WARM_UP:wanted]
    expect(min(measured) >= 0, True, f"order of times, with {measured},")
    return median(measured)


def idle_cpu(count: int) -> float:
    """That many schedules for one date in the year, and how much of a CPU the process then takes."""
    DBOS.apply_schedules(
        [
            {
                "schedule_name": f"yearly-{number}",
                "workflow_fn": tell_time,
                "schedule": f"{number % 60} 0 29 2 *",
                "context": {"number": number},
            }
            for number in range(count)
        ]
    )
    expect(len(DBOS.list_schedules()), count, "number of schedules")
    time.sleep(SETTLE_S)
    began, used = time.monotonic(), time.process_time()
    time.sleep(IDLE_S)
    return (time.process_time() - used) / (time.monotonic() - began) * 100


def leave(value: float) -> None:
    """Print the measurement; what is in the database grows as long as the process lives."""
    print(json.dumps({"value": value, "rows": {}}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
