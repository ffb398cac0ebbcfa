"""What runs write and what storage answers, as frozen values.

A run submits checkpoints, the starts of its children and at last its outcome; the journal gathers what several runs
submitted into a ``Batch``, storage commits it in one transaction and answers for each part what it found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dbos.model.authentication import NOBODY, Authentication, stored_authentication
from dbos.model.queues import SEPARATOR


def owner_key(class_name: str, config_name: str | None) -> str:
    """One text for what a method is called on: an instance, or, without its name, the class."""
    return f"{class_name}{SEPARATOR}{config_name or ''}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how an enqueued workflow waits to be started.

    Attributes:
        queue: The queue's name.
        deduplication_id: Of those with this id, the queue holds one at a time.
        priority: The lowest goes first.
        partition_key: The part of the queue, if it is partitioned.
    """

    queue: str
    deduplication_id: str | None = None
    priority: int = 0
    partition_key: str | None = None


@dataclass(frozen=True, slots=True)
class WorkflowStart:
    """The row of a new workflow.

    ``token`` is the claim of the run that begins with it, ``None`` if nobody runs it; ``place`` is where it waits then.
    """

    workflow_id: str
    name: str
    status: str
    inputs: str
    serialization: str
    token: str | None
    lease_id: str | None
    executor_id: str | None
    class_name: str | None = None
    config_name: str | None = None
    authentication: Authentication = NOBODY
    application_version: str | None = None
    application_id: str | None = None
    parent_workflow_id: str | None = None
    timeout_ms: int | None = None
    deadline_ms: int | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message on its way to a workflow.

    Attributes:
        message_id: Unique for every message.
        destination_id: The workflow that it is sent to.
        topic: What it is about; see ``dbos.model.limits.NO_TOPIC``.
        text: The serialized value.
        serialization: The value's format.
        key: Sent from outside of workflows: a message with this key is delivered to this destination once.
        lasts: Whether the key is the sender's own and kept; else it only tells tries of one send from each other.
    """

    message_id: str
    destination_id: str
    topic: str
    text: str
    serialization: str
    key: str | None = None
    lasts: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """A message that its receiver takes: it is deleted."""

    message_id: str


@dataclass(frozen=True, slots=True)
class Event:
    """A new value of one of the workflow's events."""

    key: str
    text: str
    serialization: str


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """What is appended to one of the workflow's streams."""

    key: str
    text: str
    serialization: str


Effect = Message | Receipt | Event | StreamEntry
"""What a run does to the world beside recording: it happens in the transaction that records it, or not at all."""


@dataclass(frozen=True, slots=True)
class StepEffect:
    """An effect of code inside a step: not recorded apart, it happens whenever the step gets there."""

    function_id: int
    effect: Event | StreamEntry


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The recorded outcome of one step, or of one library call that counts as a step.

    Its effect happens only if this very checkpoint is inserted. The checkpoint of a message to an unknown workflow is
    not inserted.
    """

    function_id: int
    name: str
    output: str | None
    error: str | None
    serialization: str | None
    child_workflow_id: str | None = None
    started_at_ms: int | None = None
    completed_at_ms: int | None = None
    effect: Effect | None = None

    @classmethod
    def of_child(cls, function_id: int, name: str, child_workflow_id: str, now_ms: int) -> Checkpoint:
        """The record that a child was started, or enqueued."""
        return cls(function_id, name, None, None, None, child_workflow_id, started_at_ms=now_ms, completed_at_ms=now_ms)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a workflow ended: its status and its serialized result or error."""

    status: str
    output: str | None
    error: str | None
    serialization: str | None


@dataclass(frozen=True, slots=True)
class ChildStart:
    """A child workflow that starts only if the checkpoint that records it was inserted by the same transaction."""

    function_id: int
    start: WorkflowStart


@dataclass(slots=True)
class RunWrites:
    """Everything that one batch holds of one run. Empty, it only asks who owns the run and for its status."""

    workflow_id: str
    token: str
    checkpoints: list[Checkpoint] = field(default_factory=list[Checkpoint])
    children: list[ChildStart] = field(default_factory=list[ChildStart])
    outcome: Outcome | None = None
    step_effects: list[StepEffect] = field(default_factory=list[StepEffect])

    @property
    def is_check(self) -> bool:
        """Whether there is nothing to write."""
        return not self.checkpoints and not self.step_effects and self.outcome is None


@dataclass(slots=True)
class Batch:
    """What one commit of the journal writes."""

    starts: list[WorkflowStart] = field(default_factory=list[WorkflowStart])
    messages: list[Message] = field(default_factory=list[Message])
    """Sent from outside of workflows; those from workflows ride with their checkpoints."""
    runs: list[RunWrites] = field(default_factory=list[RunWrites])

    @property
    def writes(self) -> int:
        """How many things are written: starts, messages, checkpoints, effects and outcomes."""
        of_runs = sum(
            len(run.checkpoints) + len(run.children) + len(run.step_effects) + (run.outcome is not None)
            for run in self.runs
        )
        return len(self.starts) + len(self.messages) + of_runs


@dataclass(frozen=True, slots=True)
class Started:
    """The workflow's row was inserted, and is owned by the token that it was submitted with."""


@dataclass(frozen=True, slots=True)
class AlreadyExists:
    """Another start with the same id came first; this is what it recorded."""

    status: str
    name: str
    class_name: str | None
    config_name: str | None
    token: str | None
    application_version: str | None = None

    def runs_as(self, start: WorkflowStart) -> bool:
        """Whether it is of the same function, on the same class and instance, as the other start."""
        recorded = (self.name, self.class_name, self.config_name)
        return recorded == (start.name, start.class_name, start.config_name)


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """Nothing was inserted: the lease that the start was made under is dead."""


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """Nothing was inserted: the queue holds another workflow with the same deduplication id."""


StartAnswer = Started | AlreadyExists | LeaseLost | Deduplicated


NO_STEPS: frozenset[int] = frozenset()
"""One for all: an empty set takes 200 bytes."""


@dataclass(frozen=True, slots=True)
class RunAnswer:
    """What the guard saw when it locked the run's row, and what became of the writes.

    Attributes:
        token: The owner of the row, ``None`` if it has none or there is no row. Unless it is the run's own, nothing
            of the run was written.
        status: The row's status before this batch; ``None`` if there is no row.
        foreign: Function ids for which another run's checkpoint stood already.
        children: The answers to the starts of children, by function id; without those whose function id is foreign.
        undeliverable: Function ids of messages to workflows that do not exist; they are not recorded.
        first: Function ids of messages that were sent, of which is known that they are the oldest on their topic. The
            database may leave that open.
    """

    token: str | None
    status: str | None
    foreign: frozenset[int] = NO_STEPS
    children: Mapping[int, StartAnswer] = field(default_factory=dict[int, StartAnswer])
    undeliverable: frozenset[int] = NO_STEPS
    first: frozenset[int] = NO_STEPS


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The answers to a batch, in its order; for a message whether its destination exists."""

    starts: Sequence[StartAnswer]
    runs: Sequence[RunAnswer]
    messages: Sequence[bool] = ()


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """A checkpoint as replay loads it.

    ``is_checkpoint``: it stands among the checkpoints; if not, only in the record of a transaction.
    """

    function_id: int
    name: str
    output: str | None
    error: str | None
    serialization: str | None
    child_workflow_id: str | None
    is_checkpoint: bool = True


@dataclass(frozen=True, slots=True)
class ClaimedWorkflow:
    """A workflow that this executor now owns and has to run.

    ``is_fresh``: it never ran before, so it has no checkpoints.
    """

    workflow_id: str
    token: str
    name: str
    class_name: str | None
    config_name: str | None
    user: str | None
    assumed_role: str | None
    roles: str | None
    inputs: str | None
    serialization: str | None
    recovery_attempts: int
    deadline_ms: int | None
    queue: str | None = None
    partition_key: str | None = None
    is_fresh: bool = False

    @property
    def authentication(self) -> Authentication:
        """Whom it runs for."""
        return stored_authentication(self.user, self.assumed_role, self.roles)


@dataclass(frozen=True, slots=True)
class RecordedOutcome:
    """The end of a workflow as it is recorded."""

    workflow_id: str
    status: str
    output: str | None
    error: str | None
    serialization: str | None


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """What tells whether the process behind a lease still exists, as far as the system lets us see.

    Two processes see each other's process ids only if ``boot_id`` and ``pid_namespace`` are equal; ``pid_started``
    tells a process from a later one with the same number.
    """

    hostname: str
    pid: int
    boot_id: str | None
    pid_namespace: str | None
    pid_started: str | None


@dataclass(frozen=True, slots=True)
class Lease:
    """One launch of one executor, as it stands in the database."""

    lease_id: str
    executor_id: str
    application_version: str
    process: ProcessIdentity
    renewals: int = 0
