"""Diagnosis: why each workflow that does not move does not, as far as the database tells.

What only the processes know is not there: what code a workflow runs between two checkpoints, which instances of classes
there are; and of executors that do not tell, which queues they listen to and which functions they know. Where that
decides, the diagnosis says what it may be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from dbos.model.durations import in_words
from dbos.model.limits import NO_TOPIC
from dbos.model.queues import INTERNAL_QUEUE, QueueRules
from dbos.model.status import ENQUEUED, LIVE
from dbos.model.values import ProcessIdentity
from dbos.runtime.processes import is_gone, this_process
from dbos.runtime.sleeping import SLEEP
from dbos.serialization.display import display
from dbos.storage.database import Database
from dbos.storage.diagnosis import (
    ExecutorRow,
    LastStep,
    QueueRow,
    StalledRow,
    StartsRow,
    VersionRow,
    read_executors,
    read_last_steps,
    read_live_children,
    read_queues,
    read_stalled,
    read_starts,
    read_unreceived,
    read_versions,
)
from dbos.storage.rates import read_recent_starts
from dbos.storage.reads import read_now_ms


class Cause(str, Enum):
    """Why a workflow does not move."""

    NO_EXECUTOR_OF_ITS_VERSION = "no executor of its version"
    NOBODY_LISTENS = "no executor listens to its queue"
    FUNCTION_UNKNOWN = "no executor knows its function"
    NOBODY_TAKES_IT = "nobody takes it from its queue"
    OWNER_DEAD = "its executor is dead"
    LIMIT = "its queue is at a limit"
    NOT_ITS_TURN = "others are before it"
    DELAYED = "delayed"
    SLEEPING = "sleeping"
    WAITING_FOR_MESSAGE = "waiting for a message or an event"
    WAITING_FOR_CHILD = "waiting for a child"
    RUNNING = "running code"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a workflow does not move.

    Attributes:
        workflow_id: The workflow.
        status: Its status.
        name: Its function.
        cause: Why.
        explanation: The same in words, and what to do about it.
        is_wrong: Whether it takes somebody to do something, or only patience.
        alike: How many workflows of the same status, function, version, queue and owner there are, with this one.
        place: Which of them it is, from 1 on, the oldest first.
        queue_name: The queue that it is on, or came from.
        application_version: Its version; ``None`` if any may start it.
        quiet_ms: For how long nothing was written to its row.
    """

    workflow_id: str
    status: str
    name: str
    cause: Cause
    explanation: str
    is_wrong: bool
    alike: int
    place: int
    queue_name: str | None
    application_version: str | None
    quiet_ms: int


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found out about a system database."""

    executors: Sequence[ExecutorRow]
    queues: Sequence[QueueRow]
    versions: Sequence[VersionRow]
    findings: Sequence[Finding]

    def rules_of(self, queue_name: str) -> list[QueueRules]:
        """The rules of a queue, as the executors that listen to it tell: one, or several that contradict each other."""
        return declared_rules(self.executors).get(queue_name, [])


def declared_rules(executors: Sequence[ExecutorRow]) -> dict[str, list[QueueRules]]:
    """The rules of the queues that executors listen to, by name; those that differ one after the other."""
    declared: dict[str, list[QueueRules]] = {}
    for executor in executors:
        if executor.is_alive and executor.serving is not None:
            for rules in executor.serving.queues:
                its = declared.setdefault(rules.name, [])
                if rules not in its:
                    its.append(rules)
    return declared


def diagnose(
    database: Database, *, quiet_ms: int, examples: int, limit: int, ids: Sequence[str] | None = None
) -> Diagnosis:
    """Find out why workflows do not move.

    Args:
        database: The system database.
        quiet_ms: For how long a workflow must have done nothing to be looked at.
        examples: How many to name of those that are alike.
        limit: How many to name at most.
        ids: Look at these workflows instead.
    """
    rows = read_stalled(database, quiet_ms=quiet_ms, examples=examples, limit=limit, ids=ids)
    doctor = _Doctor(database, [row.workflow_id for row in rows])
    findings = [doctor.examine(row) for row in rows]
    if ids is None:
        # The row of a workflow that runs is not written to by its steps.
        findings = [finding for finding in findings if not doctor.is_busy(finding, quiet_ms)]
    return Diagnosis(doctor.executors, doctor.queues, read_versions(database), findings)


def explain(database: Database, workflow_id: str) -> tuple[Finding | None, Sequence[ExecutorRow]]:
    """Why one workflow does not move, if there is one of this id, and the executors that there are."""
    rows = read_stalled(database, quiet_ms=0, examples=1, limit=1, ids=[workflow_id])
    doctor = _Doctor(database, [workflow_id])
    return (doctor.examine(rows[0]) if rows else None), doctor.executors


_RECENT_MS = 60_000
"""A queue of which something was started within this time is at work."""

_Verdict = tuple[Cause, str, bool]


class _Doctor:
    """Has read what is needed to examine the workflows."""

    def __init__(self, database: Database, ids: Sequence[str]) -> None:
        self._database = database
        self.executors = read_executors(database)
        self._steps = read_last_steps(database, ids) if ids else {}
        self._children = read_live_children(database, ids) if ids else {}
        self._messages = read_unreceived(database, ids) if ids else {}
        self._now_ms = read_now_ms(database)
        here = this_process()
        self._leases = {executor.lease_id: executor for executor in self.executors}
        self._alive = [one for one in self.executors if one.is_alive and not is_gone(one.process, here)]
        self._here: ProcessIdentity = here

    @cached_property
    def queues(self) -> list[QueueRow]:
        """What is on the queues; it is not needed for what runs."""
        return read_queues(self._database)

    @cached_property
    def _starts(self) -> list[StartsRow]:
        return read_starts(self._database)

    def is_busy(self, finding: Finding, quiet_ms: int) -> bool:
        """Whether it records one step after the other."""
        step = self._steps.get(finding.workflow_id)
        is_moving = step is not None and step.ago_ms is not None and step.ago_ms < quiet_ms
        return finding.cause is Cause.RUNNING and is_moving

    def examine(self, row: StalledRow) -> Finding:
        if row.status not in LIVE:
            verdict: _Verdict = Cause.ENDED, f"It has ended: {row.status}.", False
        elif row.status == ENQUEUED:
            verdict = self._enqueued(row)
        else:
            verdict = self._pending(row)
        return Finding(
            row.workflow_id,
            row.status,
            row.name,
            *verdict,
            alike=row.alike,
            place=row.place,
            queue_name=row.queue_name,
            application_version=row.application_version,
            quiet_ms=row.quiet_ms,
        )

    # -- waiting to be started

    def _enqueued(self, row: StalledRow) -> _Verdict:
        if row.starts_in_ms is not None and (row.starts_in_ms > 0 or self._alive):
            return Cause.DELAYED, f"It is to start in {in_words(row.starts_in_ms)}.", False
        if not self._of_version(row.application_version):
            return self._no_executor(row, "It waits")
        return self._unserved(row) or self._at_limit(row) or self._in_line(row) or self._not_taken(row)

    def _unserved(self, row: StalledRow) -> _Verdict | None:
        """Whether the executors that might take it tell that they do not serve it."""
        listening = [one for one in self._of_version(row.application_version) if _may_listen(one, row.queue_name)]
        if not listening:
            return (
                Cause.NOBODY_LISTENS,
                f"No executor {'of its version ' if row.application_version else ''}listens to queue "
                f"{row.queue_name!r}; alive are "
                f"{_labels(self._of_version(row.application_version))}. "
                + (
                    "They were deactivated: start one."
                    if row.queue_name == INTERNAL_QUEUE
                    else f"Declare it in one of them: Queue({row.queue_name!r}). (One that was deactivated, or that "
                    "DBOS.listen_queues told of others, does not listen.)"
                ),
                True,
            )
        return self._unknown(row, listening)

    def _unknown(self, row: StalledRow, executors: Sequence[ExecutorRow]) -> _Verdict | None:
        """Whether all of these executors tell that they do not know its function."""
        if any(one.serving is None or row.name in one.serving.functions for one in executors):
            return None
        return (
            Cause.FUNCTION_UNKNOWN,
            f"None of the executors that might run it ({_labels(executors)}) has registered the function "
            f"{row.name!r}. Import the module that defines it there before DBOS.launch(), or start an executor that "
            "does.",
            True,
        )

    def _at_limit(self, row: StalledRow) -> _Verdict | None:
        rules = [
            one.serving.rules_of(row.queue_name or "")
            for one in self._of_version(row.application_version)
            if one.serving is not None
        ]
        declared = [its for its in rules if its is not None]
        if row.queue_name == INTERNAL_QUEUE or (declared and not any(its.limits for its in declared)):
            return None
        queues = [queue for queue in self.queues if queue.name == row.queue_name]
        running = Counter({queue.application_version: queue.running for queue in queues if queue.running})
        stranded = [version for version in running if version and not self._of_version(version)]
        if stranded:
            count = sum(running[version] for version in stranded)
            return (
                Cause.LIMIT,
                f"{count} workflows of queue {row.queue_name!r} keep their slots, and no executor of their version "
                f"is alive ({_listed(stranded)}). Start one, or cancel them.",
                True,
            )
        if running:
            count = running.total()
            limits = f"its limits are {declared[0].limits}" if declared else "nobody tells its limits"
            return (
                Cause.LIMIT,
                f"{count} of queue {row.queue_name!r} {'runs' if count == 1 else 'run'}, and {limits}; it starts when "
                "they let it and its turn comes.",
                False,
            )
        starts = [its for its in self._starts if its.queue_name == row.queue_name]
        if starts:
            most = max(starts, key=lambda its: its.starts)
            return (
                Cause.LIMIT,
                f"{most.starts} of queue {row.queue_name!r} were started within {in_words(most.period_ms)}; it starts "
                "when the rate limit lets it.",
                False,
            )
        return None

    def _in_line(self, row: StalledRow) -> _Verdict | None:
        """Whether others of its queue are started, which may be many without a limit."""
        name = row.queue_name or ""
        if not read_recent_starts(self._database, [name], _RECENT_MS)[name]:
            return None
        return (
            Cause.NOT_ITS_TURN,
            f"Others of queue {name!r} were started within {in_words(_RECENT_MS)}, and its turn comes. (If it is a "
            "method of an instance, an executor must have made that instance.)",
            False,
        )

    def _not_taken(self, row: StalledRow) -> _Verdict:
        executors = self._of_version(row.application_version)
        if all(one.serving is not None for one in executors):
            why = (
                f"though they listen to queue {row.queue_name!r} and know the function {row.name!r}. If it is a method "
                "of an instance, none may have made that instance"
            )
        else:
            why = f"none may listen to queue {row.queue_name!r}, or have registered the function {row.name!r}"
        return (
            Cause.NOBODY_TAKES_IT,
            f"Executors of its version are alive ({_labels(executors)}) and leave it: {why}. Their logs say more.",
            True,
        )

    # -- started

    def _pending(self, row: StalledRow) -> _Verdict:
        owner = self._leases.get(row.lease_id or "") if row.is_owned else None
        if owner is not None and owner in self._alive:
            return self._running(row)
        if not self._of_version(row.application_version):
            return self._no_executor(row, f"{self._owner(owner)} It waits to be recovered")
        unknown = self._unknown(row, self._of_version(row.application_version))
        if unknown is not None:
            cause, text, is_wrong = unknown
            return cause, f"{self._owner(owner)} {text}", is_wrong
        taken_up = "An executor of its version takes it up within seconds. If it stays so, their logs say why."
        return Cause.OWNER_DEAD, f"{self._owner(owner)} {taken_up}", owner is None or owner.state != "LIVE"

    def _owner(self, owner: ExecutorRow | None) -> str:
        if owner is None:
            return "No executor owns it."
        who = f"Its executor {owner.executor_id!r} (process {owner.process.pid} on {owner.process.hostname})"
        if owner.state != "LIVE":
            return f"{who} is dead."
        if is_gone(owner.process, self._here):
            return f"{who} is dead: the process has ended."
        return f"{who} is dead, or stopped: it has not renewed its lease for {in_words(owner.silent_ms)}."

    def _running(self, row: StalledRow) -> _Verdict:
        step = self._steps.get(row.workflow_id)
        wakes_in_ms = self._wakes_in_ms(step)
        if step is not None and wakes_in_ms is not None:
            if step.follows_on or step.function_id == 1:
                return Cause.SLEEPING, f"It sleeps for another {in_words(wakes_in_ms)} (DBOS.sleep).", False
            return Cause.WAITING_FOR_MESSAGE, self._awaits(row, wakes_in_ms), False
        children = self._children.get(row.workflow_id)
        if children:
            (child, status), more = children[0], len(children) - 1
            others = f", and {more} more have not ended" if more else ""
            return Cause.WAITING_FOR_CHILD, f"Its child {child!r} is {status}{others}.", False
        after = "its first step" if step is None else f"what comes after step {step.function_id} ({step.name})"
        ago = row.quiet_ms if step is None or step.ago_ms is None else step.ago_ms
        return Cause.RUNNING, f"It has been running {after} for {in_words(ago)}.", False

    def _wakes_in_ms(self, step: LastStep | None) -> float | None:
        """In how many milliseconds a recorded wait is over; ``None`` if it is, or the step is none."""
        if step is None or step.name != SLEEP:
            return None
        wakes_at = display(step.output, step.serialization)
        if not isinstance(wakes_at, int | float):
            return None
        left_ms = wakes_at * 1000 - self._now_ms
        return left_ms if left_ms > 0 else None

    def _awaits(self, row: StalledRow, wakes_in_ms: float) -> str:
        text = f"It waits for a message (DBOS.recv) or an event (DBOS.get_event), for another {in_words(wakes_in_ms)}."
        there = self._messages.get(row.workflow_id)
        if there:
            topics = ", ".join("no topic" if topic == NO_TOPIC else repr(topic) for topic, _ in there)
            count = sum(number for _, number in there)
            are_there = "message is" if count == 1 else "messages are"
            text += f" {count} {are_there} there that it does not take, on: {topics}."
        return text

    # -- executors

    def _of_version(self, version: str | None) -> list[ExecutorRow]:
        """The executors that are alive and may run what is of this version; ``None`` is what any may run."""
        return [one for one in self._alive if version is None or one.application_version == version]

    def _no_executor(self, row: StalledRow, what: str) -> _Verdict:
        alive = sorted({executor.application_version for executor in self._alive})
        others = f"those alive are of {_listed(alive)}" if alive else "no executor is alive at all"
        version = "any version" if row.application_version is None else f"version {row.application_version!r}"
        remedy = (
            "Start the application."
            if row.application_version is None or not alive
            else "Start one of that version, or fork the workflow for another."
        )
        return Cause.NO_EXECUTOR_OF_ITS_VERSION, f"{what} for an executor of {version}; {others}. {remedy}", True


def _may_listen(executor: ExecutorRow, queue_name: str | None) -> bool:
    return executor.serving is None or executor.serving.rules_of(queue_name or "") is not None


def _labels(executors: Sequence[ExecutorRow]) -> str:
    return _listed([f"{executor.executor_id} (process {executor.process.pid})" for executor in executors])


def _listed(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
