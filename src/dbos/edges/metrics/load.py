"""What is to be done, as the database tells: read when somebody scrapes, and not more often than is cheap."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dbos.storage.diagnosis import ExecutorRow, LoadRow, read_executors, read_load
from dbos.storage.promise import Promise, sleep_on_any

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor

_logger = logging.getLogger("dbos")

FRESH_S = 5.0
"""For how long what was read is given out again."""

_SHARE = 20
"""How many times as long as reading took it is given out again, at least: a long backlog takes long to count."""

LONGEST_S = 60.0
"""For how long it is given out again at most."""

PATIENCE_S = 3.0
"""How long a scrape waits for the database, in seconds; without it, only what this process knows is told."""


@dataclass(frozen=True, slots=True)
class Load:
    """What has not ended, and who runs it."""

    rows: Sequence[LoadRow]
    executors: Sequence[ExecutorRow]


class LoadReader:
    """Reads the load for one executor, once for all that ask for it at the same time."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self._lock = threading.Lock()
        self._reading: Promise[Load | None] | None = None
        """The latest reading, under way or done."""
        self._fresh_until = 0.0
        """Until when its result is given out, once it is done; monotonic."""

    def read(self) -> Load | None:
        """The load, a few seconds old at most; ``None`` if the database does not answer in time."""
        with self._lock:
            reading = self._reading
            if reading is None or (reading.is_done and self.executor.clock.monotonic() >= self._fresh_until):
                reading = self._reading = Promise()
                self.executor.threads.submit(partial(self._read, reading))
        sleep_on_any([reading], PATIENCE_S)
        return reading.result() if reading.is_done else None

    def _read(self, reading: Promise[Load | None]) -> None:
        clock, database = self.executor.clock, self.executor.database
        began = clock.monotonic()
        load: Load | None = None
        try:
            load = Load(read_load(database), read_executors(database))
        except Exception as error:
            _logger.warning("Metrics are without what the database knows: %s", error)
        ended = clock.monotonic()
        takes_s = ended - began if load is not None else 0.0
        self._fresh_until = ended + min(max(FRESH_S, _SHARE * takes_s), LONGEST_S)
        reading.resolve(load)
