"""A workflow of numbered steps that note each of their runs, and stop or fail where the test says so."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

from dbos import DBOS, SetWorkflowID, WorkflowHandle
from tests.support.apps import Roadblock


class Stage:
    """Where the steps of `play` and `play_async` run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ran: list[tuple[str | None, int]] = []
        self._roadblocks: list[Roadblock] = []
        self._stops: dict[int, Roadblock] = {}
        self._errors: dict[int, Exception] = {}

    def stop_at(self, step: int) -> Roadblock:
        """The next run of this step stops at a roadblock; those after it pass."""
        roadblock = self._stops[step] = Roadblock()
        self._roadblocks.append(roadblock)
        return roadblock

    def fail_at(self, step: int, error: Exception) -> None:
        """The next run of this step raises."""
        self._errors[step] = error

    def steps_run_by(self, workflow_id: str | None) -> list[int]:
        """The steps whose code ran in this workflow, in order."""
        with self._lock:
            return [step for id, step in self._ran if id == workflow_id]

    def note(self, step: int) -> tuple[str, Roadblock | None, Exception | None]:
        """A step runs: what it is to return, where it is to stop, what it is to raise."""
        with self._lock:
            self._ran.append((DBOS.workflow_id, step))
            run = sum(one == step for _, one in self._ran)
            return f"{step}.{run}", self._stops.pop(step, None), self._errors.pop(step, None)

    def open_all(self) -> None:
        """Let everybody go on."""
        for roadblock in self._roadblocks:
            roadblock.open()


_current = Stage()


@contextmanager
def new_stage() -> Generator[Stage, None, None]:
    """The stage of one test; whoever still stands on it in the end is let go."""
    global _current
    _current = stage = Stage()
    yield stage
    stage.open_all()


@DBOS.step(name="act")
def act(step: int) -> str:
    """Return "step.run": "2.3" is what the third run of step 2 returns, in whichever workflow."""
    value, roadblock, error = _current.note(step)
    if roadblock is not None:
        roadblock.stop()
    if error is not None:
        raise error
    return value


@DBOS.step(name="act")
async def act_async(step: int) -> str:
    """As `act`."""
    value, roadblock, error = _current.note(step)
    if roadblock is not None:
        await roadblock.stop_async()
    if error is not None:
        raise error
    return value


@DBOS.workflow(name="play")
def play(steps: int, *, title: str = "untitled") -> list[str]:
    """Act so many steps; their values."""
    return [title] + [act(step) for step in range(1, steps + 1)]


@DBOS.workflow(name="play_async")
async def play_async(steps: int, *, title: str = "untitled") -> list[str]:
    """As `play`."""
    return [title] + [await act_async(step) for step in range(1, steps + 1)]


def begin(workflow_id: str, steps: int = 3, *, is_async: bool = False) -> WorkflowHandle[list[str]]:
    """Start `play` or `play_async` with this id, in the background."""
    with SetWorkflowID(workflow_id):
        if is_async:
            return DBOS.start_workflow(play_async, steps, title="hamlet")
        return DBOS.start_workflow(play, steps, title="hamlet")


def perform(workflow_id: str, steps: int = 3) -> list[str]:
    """Run `play` with this id to its end."""
    return begin(workflow_id, steps).get_result()
