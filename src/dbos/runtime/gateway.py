"""A process's way to the system database: to read, to wait, to send and to steer, whether or not it runs workflows.

A client holds one; an executor is one that runs workflows too.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from dbos.error import DBOSException
from dbos.model.clock import Clock
from dbos.runtime.application import ApplicationDatabase
from dbos.runtime.drivers import Ending
from dbos.runtime.threads import ElasticThreads
from dbos.runtime.waits import LONGEST_INTERVAL_S, Waits
from dbos.serialization.codec import Codec
from dbos.storage.database import Database
from dbos.storage.hints import DUTIES, SCHEDULES, STOPPING, Hints, open_hints
from dbos.storage.management import Owned
from dbos.storage.promise import Promise
from dbos.storage.waiting import find, hint, queue_hint

_MAX_DELAYED = 1000
"""Of how many delayed workflows is remembered what others were told."""


class Gateway:
    """See the module's description.

    Args:
        database: The system database.
        codec: Encodes and decodes values.
        clock: Measures durations.
        hints: How other processes tell of what they do; ``None`` for the best way that the database offers.
        longest_poll_s: How long to wait at most before looking without a hint.
        stopped: What those are told who still wait when this is closed.
        application: Where the application's transactions run; by default in the system database.
    """

    def __init__(
        self,
        database: Database,
        codec: Codec,
        clock: Clock,
        hints: Hints | None = None,
        longest_poll_s: float = LONGEST_INTERVAL_S,
        stopped: str = "DBOS was shut down while something was waited for.",
        application: ApplicationDatabase | None = None,
    ) -> None:
        self.database = database
        self.application = ApplicationDatabase(database) if application is None else application
        self.codec = codec
        self.clock = clock
        self.longest_poll_s = longest_poll_s
        self.is_closed = False
        self._delayed: dict[str, float] = {}
        """When delayed workflows are to be enqueued, as far as others were told by this process; monotonic."""
        self._stopped = stopped
        self.threads = ElasticThreads("dbos-worker")
        self.hints = open_hints(database) if hints is None else hints
        self.waits = Waits(partial(find, database), self.hints, clock, longest_poll_s, stopped)

    def connect(self) -> None:
        """Begin to listen to other processes."""
        self.hints.start(self.receive_hints)

    def check_open(self) -> None:
        """Raise ``DBOSException`` if it is closed."""
        if self.is_closed:
            raise DBOSException(self._stopped)

    def close(self) -> None:
        """Wait for nothing any more; whoever does is told."""
        self.is_closed = True
        self.waits.stop()
        self.hints.stop()

    def receive_hints(self, hints: Sequence[str]) -> None:
        """Another process has done something that may be waited for here."""
        self.waits.wake(hints)

    def publish(self, hints: Iterable[str]) -> None:
        """Something was done that may be waited for, here or elsewhere."""
        hints = list(hints)
        self.waits.wake(hints)
        self.hints.publish(hints)

    # -- what an executor has more to do for

    def ending_here(self, workflow_id: str) -> Promise[Ending[Any]] | None:
        """Where the workflow's end will show, if the run that owns it is in this process."""
        return None

    def flush(self) -> None:
        """Make durable what this process holds back, so that whoever reads next does not miss it."""

    def cancelled(self, workflows: Sequence[Owned]) -> None:
        """These workflows were cancelled: their runs are to stop, and who waits for them is to know."""
        if workflows:
            self.publish([STOPPING, *(hint("outcome", workflow.workflow_id) for workflow in workflows)])

    def deleted(self, workflows: Sequence[Owned]) -> None:
        """These workflows are no more: their runs are to stop, and who waits for them is to know."""
        if workflows:
            self.publish([STOPPING, *(hint("outcome", workflow.workflow_id) for workflow in workflows)])

    def delayed(self, workflow_id: str, seconds: float) -> None:
        """A workflow is to be enqueued in so many seconds; others are told unless they know of an earlier time."""
        due = self.clock.monotonic() + seconds
        told = self._delayed.pop(workflow_id, math.inf)
        self._delayed[workflow_id] = min(due, told)
        if len(self._delayed) > _MAX_DELAYED:
            with contextlib.suppress(StopIteration, KeyError, RuntimeError):
                del self._delayed[next(iter(self._delayed))]
        if due < told:
            self.publish([DUTIES])

    def enqueued(self, queues: Iterable[str] = ()) -> None:
        """There are workflows to be started, on these queues; without names, on some queue."""
        self.publish([queue_hint(name) for name in queues] or [DUTIES])

    def rescheduled(self) -> None:
        """Schedules were made, changed or deleted."""
        self.publish([SCHEDULES])
