"""Workflows that keep an application busy while a test disturbs it, and what must be true in the end."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from dbos import DBOS, Queue, SetWorkflowID, WorkflowHandle
from tests.support.apps import App
from tests.verify.rows import decode, read_rows

STEPS = 20


class Busy:
    """Workflows, half of them coroutines, that take steps; each step counts its executions.

    Args:
        url: The database as the application reaches it.
        direct_url: As the test reaches it, in the end. Default: in the same way.
        workflows: How many there are.
        queue: Whether they wait in a queue that runs 4 at a time.
    """

    def __init__(self, url: str, direct_url: str | None = None, *, workflows: int = 10, queue: bool = False) -> None:
        self.url = url
        self.direct_url = direct_url or url
        self.workflows = workflows
        self.executions: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()
        self._progress = threading.Condition(self._lock)
        self._queue = Queue("busy", concurrency=4, polling_interval_sec=0.1) if queue else None

        def count() -> str:
            assert DBOS.workflow_id is not None
            assert DBOS.step_id is not None
            with self._progress:
                self.executions[DBOS.workflow_id, DBOS.step_id] += 1
                self._progress.notify_all()
            return f"{DBOS.workflow_id}/{DBOS.step_id}"

        @DBOS.step(name="step")
        def step() -> str:
            return count()

        @DBOS.step(name="async_step")
        async def async_step() -> str:
            return count()

        @DBOS.workflow(name="busy")
        def busy() -> list[str]:
            return [step() for _ in range(STEPS)]

        @DBOS.workflow(name="busy_async")
        async def busy_async() -> list[str]:
            return [await async_step() for _ in range(STEPS // 2)] + await asyncio.gather(
                *(async_step() for _ in range(STEPS - STEPS // 2))
            )

        self._functions = (busy, busy_async)

    def start(self) -> list[WorkflowHandle[list[str]]]:
        handles: list[WorkflowHandle[list[str]]] = []
        for number in range(self.workflows):
            with SetWorkflowID(f"busy-{number}"):
                function: Callable[[], list[str]] = self._functions[number % 2]  # type: ignore[assignment]
                handles.append(self._queue.enqueue(function) if self._queue else DBOS.start_workflow(function))
        return handles

    def launch(self, **changes: Any) -> None:
        DBOS(config=App(self.url).config(**changes))
        DBOS.launch()

    def wait_for(self, executions: int) -> None:
        """Wait until so many steps were executed."""
        with self._progress:
            assert self._progress.wait_for(lambda: self.executions.total() >= executions, timeout=30), "no progress"

    def finish(self, handles: list[WorkflowHandle[list[str]]]) -> None:
        """Wait for all results, and check what was recorded."""
        assert [len(handle.get_result()) for handle in handles] == [STEPS] * self.workflows
        self.check()

    def check(self) -> None:
        """All have succeeded, each step has run once, and what it returned was recorded."""
        rows = read_rows(self.direct_url)
        expected = {(f"busy-{w}", s): f"busy-{w}/{s}" for w in range(self.workflows) for s in range(1, STEPS + 1)}
        assert {row["status"] for row in rows.workflows.values()} == {"SUCCESS"}
        assert {key: decode(row["output"]) for key, row in rows.steps.items()} == expected
        assert self.executions == Counter(dict.fromkeys(expected, 1)), "each step ran once"
