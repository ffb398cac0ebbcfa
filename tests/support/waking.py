"""What tests of waiting workflows need: applications that do not poll, and bodies that tell how they ended."""

from __future__ import annotations

import queue
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from dbos import DBOS, DBOSConfig
from dbos.api.lifecycle import Application
from tests.support.apps import PATIENCE_S, App, eventually


class UnpolledApp(App):
    """An application that polls too seldom for any test: whatever wakes somebody in time is a wake-up."""

    def config(self, **changes: Any) -> DBOSConfig:
        """The configuration of `App`, with long poll intervals."""
        return super().config(
            **{"notification_listener_polling_interval_sec": 600.0, "scheduler_polling_interval_sec": 600.0, **changes}
        )


class Body:
    """What became of a workflow's function: tests wrap its code in `with body.watched()`."""

    def __init__(self) -> None:
        self._endings: queue.Queue[tuple[BaseException | None, float]] = queue.Queue()

    @contextmanager
    def watched(self) -> Generator[None]:
        """Note how the code inside ends, and when."""
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._endings.put((error, time.monotonic()))

    def wait(self) -> BaseException | None:
        """Wait for its end; what it raised."""
        return self.wait_timed()[0]

    def wait_timed(self) -> tuple[BaseException | None, float]:
        """Wait for its end; what it raised, and when by the monotonic clock."""
        try:
            return self._endings.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError("the body of the workflow did not come to its end") from None


def application() -> Application:
    """What is configured, for the seams that it offers to tests."""
    configured = DBOS._application  # pyright: ignore[reportPrivateUsage]
    assert configured is not None
    return configured


def wait_until_idle() -> None:
    """Wait until no workflow runs in this process: whatever would have been written, has been."""
    executor = application().executor
    assert executor is not None
    eventually(lambda: executor.run_count == 0, "no workflow runs")
