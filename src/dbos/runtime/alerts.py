"""Alerts: the application's handler is told of what somebody should look at.

What happens (a workflow fails, an executor dies) an observer notes. What lasts (work that nobody takes, a queue that is
slow) is looked for in the database now and then. One thread tells the handler of both, so that a handler that is slow,
or raises, holds up nothing but other alerts.

Each alert has a subject: a function, a queue, a version, an executor. Of one subject there is an alert at once, and
then none until ``repeat_interval_s`` has passed; the next one tells how often it happened meanwhile.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from dbos.model.durations import in_words
from dbos.model.status import ENQUEUED, ERROR, MAX_RECOVERY_ATTEMPTS_EXCEEDED
from dbos.runtime.diagnosis import Cause, Finding, diagnose
from dbos.runtime.observing import Observer
from dbos.storage.promise import Bell
from dbos.storage.reads import WorkflowFilter, read_workflows

if TYPE_CHECKING:
    from dbos.model.values import Lease
    from dbos.runtime.executor import Executor
    from dbos.runtime.run import Run

_logger = logging.getLogger("dbos")

AlertHandler = Callable[[str, str, dict[str, str]], object]
"""Takes an alert's name, its message and its metadata; may be a coroutine function."""

WORKFLOW_FAILED = "WorkflowFailed"
WORKFLOW_GIVEN_UP = "WorkflowGivenUp"
WORKFLOW_TIMED_OUT = "WorkflowTimedOut"
EXECUTOR_LOST = "ExecutorLost"
SLOW_QUEUE = "SlowQueue"
QUEUE_WITHOUT_LISTENER = "QueueWithoutListener"
FUNCTION_WITHOUT_EXECUTOR = "FunctionWithoutExecutor"
VERSION_WITHOUT_EXECUTOR = "VersionWithoutExecutor"

STOP_S = 3.0
"""How long shutdown waits for the handler."""

_LONGEST_CHECK_S = 15.0
_CHECKS_IN_WAIT = 4
"""What lasts is looked for so often in the time that work may wait, but at least every ``_LONGEST_CHECK_S``."""
_REST = 20
"""How many times as long as a look took there is none after it, at least."""
_MAX_FINDINGS = 1000
_MAX_ERROR_CHARS = 500
_NAMED_AT_ONCE = 500
"""How many workflows are looked up at once."""


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """When alerts are raised.

    Attributes:
        handler: Who is told.
        queue_wait_s: For how long work may wait to be taken up.
        repeat_interval_s: The shortest time between two alerts of one subject.
    """

    handler: AlertHandler
    queue_wait_s: float
    repeat_interval_s: float


@dataclass(frozen=True, slots=True)
class _Alert:
    """What the handler is to be told: the latest of ``count`` occurrences, or, if that is 0, of what lasts."""

    name: str
    subject: str
    message: str
    metadata: Mapping[str, str]
    count: int = 1

    @property
    def key(self) -> tuple[str, str]:
        return self.name, self.subject


class Alerts(Observer):
    """See the module's description. ``start`` begins to observe the executor, ``stop`` tells what is to be told."""

    def __init__(self, executor: Executor, settings: AlertSettings) -> None:
        self._executor = executor
        self._settings = settings
        self._clock = executor.clock
        self._lock = threading.Lock()
        self._bell = Bell()
        self._waiting: dict[tuple[str, str], _Alert] = {}
        self._told: dict[tuple[str, str], float] = {}
        """When the handler was told last, by alert and subject; monotonic."""
        self._timed_out: list[str] = []
        """Cancelled workflows whose functions are to be looked up."""
        self._check_interval_s = min(_LONGEST_CHECK_S, settings.queue_wait_s / _CHECKS_IN_WAIT)
        self._looks_at = self._clock.monotonic() + self._check_interval_s
        self._is_stopping = False
        self._thread = threading.Thread(target=self._work, name="dbos-alerts", daemon=True)

    def start(self) -> None:
        self._executor.observe(self)
        self._thread.start()

    def stop(self) -> None:
        """Tell what may be told by now, for ``STOP_S`` at most, and nothing more."""
        self._is_stopping = True
        self._bell.ring()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(STOP_S)

    # -- what happens

    def workflow_ended(self, run: Run, status: str, error: BaseException | None) -> None:
        name, workflow_id = run.function.name, run.workflow_id
        metadata = {"workflow_id": workflow_id, "workflow_name": name}
        if status == ERROR:
            text = _text_of(error)
            message = f"Workflow {workflow_id!r} ({name}) failed: {text}"
            self._happened(WORKFLOW_FAILED, name, message, {**metadata, "error": text})
        elif status == MAX_RECOVERY_ATTEMPTS_EXCEEDED:
            message = (
                f"Workflow {workflow_id!r} ({name}) is not recovered any more: its processes died "
                f"{run.function.max_recovery_attempts} times and more while they ran it."
            )
            self._happened(WORKFLOW_GIVEN_UP, name, message, metadata)

    def deadlines_passed(self, workflow_ids: Sequence[str]) -> None:
        with self._lock:
            self._timed_out.extend(workflow_ids)
        self._bell.ring()

    def executor_died(self, lease: Lease, reason: str, left_behind: int) -> None:
        process = lease.process
        message = (
            f"Executor {lease.executor_id!r} (process {process.pid} on {process.hostname}) is dead, as {reason}; "
            f"it left {left_behind} workflows to be recovered."
        )
        metadata = {
            "lost_executor_id": lease.executor_id,
            "lost_application_version": lease.application_version,
            "hostname": process.hostname,
            "pid": str(process.pid),
            "workflows": str(left_behind),
        }
        self._happened(EXECUTOR_LOST, lease.executor_id, message, metadata)

    def _happened(self, name: str, subject: str, message: str, metadata: Mapping[str, str], count: int = 1) -> None:
        alert = _Alert(name, subject, message, metadata, count)
        with self._lock:
            earlier = self._waiting.get(alert.key)
            self._waiting[alert.key] = alert if earlier is None else replace(alert, count=earlier.count + count)
        self._bell.ring()

    # -- the thread

    def _work(self) -> None:
        while True:
            is_last = self._is_stopping
            try:
                self._name_timed_out()
                if not is_last and self._clock.monotonic() >= self._looks_at:
                    self._look()
            except Exception as error:
                if not self._is_stopping:
                    _logger.warning("Alerts could not ask the database, they try again soon: %s", error)
                    self._looks_at = self._clock.monotonic() + self._check_interval_s
            self._tell()
            if is_last:
                return
            self._bell.wait(self._idle_s())

    def _idle_s(self) -> float:
        """In how many seconds there is something to do."""
        with self._lock:
            due = [self._told.get(key, -math.inf) + self._settings.repeat_interval_s for key in self._waiting]
        return max(0.0, min([*due, self._looks_at]) - self._clock.monotonic())

    def _tell(self) -> None:
        """Tell what was not told within the interval."""
        now, interval_s = self._clock.monotonic(), self._settings.repeat_interval_s
        with self._lock:
            self._told = {key: at for key, at in self._told.items() if now - at < interval_s}
            due = [alert for key, alert in self._waiting.items() if key not in self._told]
            for alert in due:
                del self._waiting[alert.key]
                self._told[alert.key] = now
        for alert in due:
            self._call(alert)

    def _call(self, alert: _Alert) -> None:
        executor = self._executor
        message = alert.message
        if alert.count > 1:
            message += f" ({alert.count} times since the last alert; this is the latest.)"
        metadata = {
            **alert.metadata,
            **({"count": str(alert.count)} if alert.count else {}),
            "executor_id": executor.executor_id,
            "application_version": executor.application_version,
        }
        try:
            result = self._settings.handler(alert.name, message, metadata)
            if inspect.isawaitable(result):
                asyncio.run(_awaited(cast("Awaitable[object]", result)))
        except BaseException:
            _logger.exception("The alert handler failed; it was told of %s: %s", alert.name, message)

    def _name_timed_out(self) -> None:
        with self._lock:
            ids, self._timed_out = self._timed_out[:_NAMED_AT_ONCE], self._timed_out[_NAMED_AT_ONCE:]
        if not ids:
            return
        try:
            rows = read_workflows(self._executor.database, WorkflowFilter(workflow_ids=ids))
        except Exception:
            with self._lock:
                self._timed_out = ids + self._timed_out
            raise
        for row in rows:
            message = f"Workflow {row.workflow_id!r} ({row.name}) was cancelled, as its time was up."
            metadata = {"workflow_id": row.workflow_id, "workflow_name": row.name or ""}
            self._happened(WORKFLOW_TIMED_OUT, row.name or "", message, metadata)

    # -- what lasts

    def _look(self) -> None:
        began = self._clock.monotonic()
        wait_ms = round(self._settings.queue_wait_s * 1000)
        found = diagnose(self._executor.database, quiet_ms=wait_ms, examples=1, limit=_MAX_FINDINGS).findings
        alerts: dict[tuple[str, str], tuple[Finding, int]] = {}
        for finding in found:
            key = _kind_of(finding)
            if key is not None:
                first, count = alerts.get(key, (finding, 0))
                alerts[key] = first, count + finding.alike
        lasting = [_lasting(*key, finding, count) for key, (finding, count) in alerts.items()]
        with self._lock:
            # What was seen by an earlier look, and is to be told again, lasts no more if it is not there now.
            self._waiting = {key: alert for key, alert in self._waiting.items() if alert.count}
            self._waiting.update((alert.key, alert) for alert in lasting)
        ended = self._clock.monotonic()
        self._looks_at = ended + max(self._check_interval_s, _REST * (ended - began))


def _kind_of(finding: Finding) -> tuple[str, str] | None:
    """The alert that tells of it, and its subject; ``None`` if there is nothing to be told."""
    if finding.cause is Cause.NO_EXECUTOR_OF_ITS_VERSION:
        return VERSION_WITHOUT_EXECUTOR, finding.application_version or ""
    if finding.cause is Cause.NOBODY_LISTENS:
        return QUEUE_WITHOUT_LISTENER, finding.queue_name or ""
    if finding.cause is Cause.FUNCTION_UNKNOWN:
        return FUNCTION_WITHOUT_EXECUTOR, finding.name
    if finding.status == ENQUEUED and finding.cause in (Cause.LIMIT, Cause.NOBODY_TAKES_IT):
        return SLOW_QUEUE, finding.queue_name or ""
    return None


def _lasting(name: str, subject: str, finding: Finding, count: int) -> _Alert:
    others = f", and {count - 1} more wait like it" if count > 1 else ""
    message = (
        f"Workflow {finding.workflow_id!r} ({finding.name}) has been waiting for {in_words(finding.quiet_ms)}{others}. "
        f"{finding.explanation}"
    )
    metadata = {
        "workflow_id": finding.workflow_id,
        "workflow_name": finding.name,
        "queue_name": finding.queue_name or "",
        "waiting_version": finding.application_version or "",
        "waiting_sec": str(round(finding.quiet_ms / 1000)),
        "workflows": str(count),
    }
    return _Alert(name, subject, message, metadata, count=0)


def _text_of(error: BaseException | None) -> str:
    """The error's type and words; those may be anything, as they are the application's."""
    try:
        return f"{type(error).__name__}: {error}"[:_MAX_ERROR_CHARS]
    except Exception:
        return type(error).__name__


async def _awaited(result: Awaitable[object]) -> None:
    await result
