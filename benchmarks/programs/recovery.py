"""Recovery after a SIGKILL: seconds from just before the launch until all interrupted workflows have finished.

A first process starts the workflows, each of which records two steps and then blocks inside the third. Once all are
there it is killed. In the second process the third step returns at once. Imports are done before the clock starts; the
launch is inside the measurement.
"""

import argparse
import signal
import subprocess
import sys
import threading
import time
from typing import Any, NoReturn

from support import config, connect, count_rows, expect, finish

STEPS = 3
POLL_S = 0.005
PATIENCE_S = 280.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--life", choices=["first", "second"], help="set by the process that starts the two")
    options = parser.parse_args()
    if options.life is None:
        kill_and_recover(options.count)
    else:
        live(options.count, is_second_life=options.life == "second")


def kill_and_recover(count: int) -> None:
    """Start the first life, kill it when all workflows are blocked in step 3, then run the second, which reports."""
    command = [sys.executable, __file__, "--count", str(count), "--life"]
    with subprocess.Popen([*command, "first"], stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout is not None
            expect(first.stdout.readline(), "blocked\n", "answer of the first process")
            connection = connect()
            recorded, finished = count_rows(connection, "operation_outputs"), count_finished(connection)
            expect(recorded, count * (STEPS - 1), "number of steps recorded before the kill")
            expect(finished, 0, "number of workflows finished before the kill")
        finally:
            first.send_signal(signal.SIGKILL)
    sys.exit(subprocess.run([*command, "second"], check=False).returncode)


def live(count: int, *, is_second_life: bool) -> NoReturn:
    """One process: register, launch, and either start and block, or wait for the recovery."""
    # Neither library shall pay here for what it imports late; "launch" measures that.
    import psycopg  # noqa: F401
    import sqlalchemy.dialects.postgresql.psycopg
    import sqlalchemy.dialects.sqlite  # noqa: F401

    from dbos import DBOS, SetWorkflowID

    all_in_last_step = threading.Event()
    entered: list[int] = []

    @DBOS.step()
    def add_one(number: int) -> int:
        return number + 1

    @DBOS.step()
    def last_step(number: int) -> int:
        entered.append(number)
        if len(entered) == count:
            all_in_last_step.set()
        if not is_second_life:
            threading.Event().wait()  # for ever: the kill comes while this step is running
        return number + 1

    @DBOS.workflow()
    def count_up(start: int) -> int:
        return last_step(add_one(add_one(start)))

    started = time.perf_counter()
    DBOS(config=config())
    DBOS.launch()
    if not is_second_life:
        for number in range(count):
            with SetWorkflowID(f"recovery-{number}"):
                DBOS.start_workflow(count_up, number)
    expect(all_in_last_step.wait(PATIENCE_S), True, f"wait for the last step ({len(entered)} of {count} reached it)")
    if not is_second_life:
        print("blocked", flush=True)
        signal.pause()
    wait_until_finished(count)
    elapsed = time.perf_counter() - started

    expect(sorted(entered), [number + 2 for number in range(count)], "inputs of the last step")
    outputs = {status.workflow_id: status.output for status in DBOS.list_workflows(status="SUCCESS")}
    expect(outputs, {f"recovery-{number}": number + STEPS for number in range(count)}, "results")
    finish(elapsed, workflows=count, checkpoints=count * STEPS)


def wait_until_finished(count: int) -> None:
    """Look into the table by plain SQL every few milliseconds."""
    deadline = time.monotonic() + PATIENCE_S
    connection = connect()
    while (finished := count_finished(connection)) < count:
        expect(time.monotonic() < deadline, True, f"recovery in time ({finished} of {count} finished)")
        time.sleep(POLL_S)


def count_finished(connection: Any) -> int:
    return count_rows(connection, "workflow_status", "status = 'SUCCESS'")


if __name__ == "__main__":
    main()
