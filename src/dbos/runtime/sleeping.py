"""Durable sleep: when it is over is recorded when it begins, so that a restart sleeps on for what is left.

Other waits with a timeout record theirs as a sleep too, under a function id of its own.
"""

from __future__ import annotations

from dbos.error import DBOSSerializationError
from dbos.runtime.drivers import Core, Ending, Pause, Returned, Wait
from dbos.runtime.run import Run
from dbos.serialization.codec import Codec

SLEEP = "DBOS.sleep"

_CODEC = Codec()
"""The moment of waking is the library's own value, which the application's serializer need not know."""


def sleep(run: Run, function_id: int, seconds: float) -> Core[Ending[None]]:
    """Sleep in a workflow."""
    left_s = recorded_wait(run, function_id)
    if left_s is None:
        run.check()
        until = run.executor.time.moment_in(seconds)
        record_wait(run, function_id, seconds)
        # It carries what the run holds, and tells whether the run may go on. Another thread commits it: this one is
        # going to sleep, maybe with thousands of others, and its stack shall stay small.
        ticket = run.executor.journal.submit(run.log)
        run.executor.journal.kick()
        yield Wait((ticket,))
        yield from run.settle(ticket)
        # It may be a long sleep, and one of ten thousands: nothing is kept that is not needed.
        del ticket
    else:
        until = run.executor.time.moment_in(left_s)
    # As in Run.wait: a frame less, of which there may be ten thousands.
    while (left_s := run.executor.time.seconds_left(until)) > 0:
        yield run.executor.time.wait(run, (run.interruption,), left_s)
        run.check()
    return Returned(None)


def pause(seconds: float) -> Core[Ending[None]]:
    """Sleep in a step: nothing is recorded."""
    yield Pause(seconds)
    return Returned(None)


def recorded_wait(run: Run, function_id: int) -> float | None:
    """For how many seconds a wait that an earlier run began goes on; ``None`` if none did."""
    recorded = run.find_recorded(function_id, SLEEP)
    if recorded is None:
        return None
    # By its format; a row of the older library names none, and was written by the configured serializer.
    wakes_at = run.executor.codec.decode(recorded.output, recorded.serialization)
    if not isinstance(wakes_at, int | float):
        raise DBOSSerializationError(
            f"The recorded end of the wait in step {function_id} of workflow {run.workflow_id!r} is no time."
        )
    return run.executor.time.seconds_until(wakes_at * 1000)


def record_wait(run: Run, function_id: int, seconds: float) -> None:
    """Record when a wait that begins now is over, in seconds of the database's clock.

    It is held back: what arrives at once is recorded together with it, and a crash before looks like one before the
    wait.
    """
    wakes_at = _CODEC.encode(run.executor.time.in_ms(seconds) / 1000, lambda: "The end of a wait")
    checkpoint = run.note(
        function_id, SLEEP, run.executor.clock.now_ms(), output=wakes_at.text, serialization=wakes_at.format
    )
    run.executor.journal.hold(run.log, checkpoint, is_leisurely=True)
