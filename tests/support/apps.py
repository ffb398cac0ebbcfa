"""Applications for tests of the public API: configured, launched, interrupted, launched again."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from dbos import DBOS, DBOSConfig

T = TypeVar("T")

PATIENCE_S = 30.0
"""How long a test waits for something that is about to happen."""


class App:
    """An application on one database, which can be launched several times."""

    def __init__(self, url: str) -> None:
        self.url = url

    def config(self, **changes: Any) -> DBOSConfig:
        """The configuration. The version is fixed, as tests define workflows at any time."""
        config: dict[str, Any] = {
            "name": "app",
            "system_database_url": self.url,
            "application_version": "test",
            "run_admin_server": False,
            **changes,
        }
        return config  # type: ignore[return-value]

    def launch(self, **changes: Any) -> None:
        """Configure and launch."""
        DBOS(config=self.config(**changes))
        DBOS.launch()

    def relaunch(self, **changes: Any) -> None:
        """Destroy and launch again: what was interrupted is recovered."""
        DBOS.destroy()
        self.launch(**changes)


class Roadblock:
    """A place in a step that nobody passes until it is opened: steps that come there can be interrupted."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._is_open = threading.Event()

    def stop(self) -> None:
        """Stay here until it is open. For steps in threads."""
        self.reached.set()
        assert self._is_open.wait(PATIENCE_S), "nobody opened the roadblock"

    async def stop_async(self) -> None:
        """Stay here until it is open. For coroutines, on any loop."""
        self.reached.set()
        while not self._is_open.is_set():
            await asyncio.sleep(0.002)

    def wait_until_reached(self) -> None:
        """Wait until somebody stands here."""
        assert self.reached.wait(PATIENCE_S), "nobody reached the roadblock"

    def open(self) -> None:
        """Let everybody pass from now on."""
        self._is_open.set()


def interrupt_at(roadblock: Roadblock, app: App) -> None:
    """Destroy the application while a step stands at the roadblock; open it, and launch again."""
    roadblock.wait_until_reached()
    DBOS.destroy()
    roadblock.open()
    app.launch()


def eventually(condition: Callable[[], T], what: str) -> T:
    """Ask until the answer is true, for facts that no event tells of; return the answer."""
    give_up = time.monotonic() + PATIENCE_S
    while not (answer := condition()):
        assert time.monotonic() < give_up, f"it never came true that {what}"
        time.sleep(0.01)
    return answer


def in_threads(functions: list[Callable[[], T]]) -> list[T]:
    """Call all functions at the same moment, each in a thread of its own; their results in order."""
    start = threading.Barrier(len(functions))
    results: list[Any] = [None] * len(functions)
    errors: list[BaseException] = []

    def call(number: int, function: Callable[[], T]) -> None:
        try:
            start.wait(PATIENCE_S)
            results[number] = function()
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=call, args=(number, function), daemon=True) for number, function in enumerate(functions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "a thread did not come to an end"
    if errors:
        raise errors[0]
    return results


def steps_of(workflow_id: str) -> list[tuple[int, str]]:
    """The numbers and names of a workflow's recorded steps."""
    return [(step["function_id"], step["function_name"]) for step in DBOS.list_workflow_steps(workflow_id)]


def status_of(workflow_id: str) -> str | None:
    """The recorded status of a workflow; None if there is no such workflow."""
    status = DBOS.get_workflow_status(workflow_id)
    return None if status is None else status.status
