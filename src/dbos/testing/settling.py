"""When a program has settled: nothing happens any more unless time moves or somebody outside does something.

That is so when all that was written is durable, what has arrived is delivered, what may start has started, and every
run waits: for a time, for a message, for a workflow that it called and that waits. What cannot be seen is what a
coroutine does between two waits of the library; its event loop is given some turns for that.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from dbos.storage.claims import read_duties
from dbos.storage.hints import EVERYTHING
from dbos.storage.waiting import OutcomeQuery
from dbos.testing.calls import CallWatch

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from dbos.runtime.executor import Executor
    from dbos.runtime.run import Run
    from dbos.testing.clock import VirtualClock

_TURNS = 10
"""How many turns an event loop gets to go on by itself."""

_TURNS_S = 1.0
_PAUSE_S = 0.001


def settle(executor: Executor, clock: VirtualClock, patience_s: float) -> None:
    """Wait until the program has settled.

    Raises:
        TimeoutError: Something runs for longer than ``patience_s`` seconds.
        RuntimeError: It was called in a running event loop.
    """
    _refuse_on_loop()
    gives_up_at = time.monotonic() + patience_s
    while not executor.is_closing:
        before, busy = _state(executor, clock), _busy(executor, clock)
        if not busy and _has_come_to_rest(executor):
            # What was delivered meanwhile may have made somebody busy.
            busy = _busy(executor, clock)
            if not busy and _state(executor, clock) == before:
                return
        if time.monotonic() > gives_up_at:
            raise TimeoutError(_complaint(busy, patience_s))
        time.sleep(_PAUSE_S)


def next_due_ms(executor: Executor, now_ms: int) -> int | None:
    """When something is due next that is not a wait of a run: deadlines, delays, rates, schedules."""
    duties = read_duties(executor.database, executor.lease_id)
    opens_in_s, fires_at_ms = executor.dispatcher.opens_in_s(), executor.schedules.next_ms
    dues_in_ms = (
        duties.deadline_in_ms,
        duties.delayed_in_ms,
        None if opens_in_s is None else math.ceil(round(opens_in_s * 1000, 3)),
        None if fires_at_ms is None else fires_at_ms - now_ms,
    )
    # What is overdue is being attended to, and needs no time.
    return min((now_ms + in_ms for in_ms in dues_in_ms if in_ms is not None and in_ms > 0), default=None)


def _state(executor: Executor, clock: VirtualClock) -> object:
    return clock.changes, sorted(run.log.token for run in executor.runs)


def _busy(executor: Executor, clock: VirtualClock) -> list[Run]:
    """The runs that will go on by themselves."""
    runs = executor.runs
    # By their ids, as a run that was begun anew goes on as another.
    alive = {run.workflow_id for run in runs if not run.is_over}
    return [run for run in runs if not _is_waiting(run, clock, alive)]


def _is_waiting(run: Run, clock: VirtualClock, alive: Container[str]) -> bool:
    waits = clock.waits_of(run)
    if any(wait.is_over for wait in waits) or any(child.workflow_id not in alive for child in run.calling):
        return False
    overseer = run.executor.overseer
    is_in_step = isinstance(overseer, CallWatch) and overseer.steps_of(run)
    return not is_in_step and bool(waits or run.calling)


def _has_come_to_rest(executor: Executor) -> bool:
    """Have done what there is to do in the background; returns whether nothing is under way."""
    executor.journal.flush()
    executor.duties.attend(True)
    executor.waits.wake([EVERYTHING])
    # Looked for together with all that is waited for.
    executor.waits.look(OutcomeQuery("")).block()
    _turn({run.loop for run in executor.runs if run.loop is not None})
    return not executor.threads.errands


def _turn(loops: Iterable[asyncio.AbstractEventLoop]) -> None:
    async def turn() -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    for loop in loops:
        if not loop.is_running():
            continue
        turning = turn()
        try:
            future = asyncio.run_coroutine_threadsafe(turning, loop)
        except RuntimeError:
            # It was closed just now.
            turning.close()
            continue
        try:
            future.result(_TURNS_S)
        except Exception:
            # Something blocks it, or stops it; then there is more to wait for.
            future.cancel()


def _complaint(busy: Sequence[Run], patience_s: float) -> str:
    what = "; ".join(_describe(run) for run in busy[:5]) or "something in the background"
    return (
        f"The program did not settle within {patience_s:g} s, so time was not moved further. Still running: {what}. A "
        "step that waits for the test has to be let go first; for slow ones give a longer patience_s."
    )


def _describe(run: Run) -> str:
    overseer = run.executor.overseer
    steps = overseer.steps_of(run) if isinstance(overseer, CallWatch) else []
    where = f"in step {', '.join(steps)}" if steps else "outside of its steps"
    return f"workflow {run.workflow_id!r} ({run.function.name}), {where}"


def _refuse_on_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("Moving time would block the running event loop. Use `await clock.advance_async(...)`.")
