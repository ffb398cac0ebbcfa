"""What runs write and what storage answers, as frozen values.

A run submits checkpoints, the starts of its children and at last its outcome; the journal gathers what several runs
submitted into a ``Batch``, storage commits it in one transaction and answers for each part what it found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WorkflowStart:
    """The row of a new workflow. ``token`` is the claim of the run that begins with it, ``None`` if nobody runs it."""

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
    application_version: str | None = None
    application_id: str | None = None
    parent_workflow_id: str | None = None
    timeout_ms: int | None = None
    deadline_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The recorded outcome of one step, or of one library call that counts as a step."""

    function_id: int
    name: str
    output: str | None
    error: str | None
    serialization: str | None
    child_workflow_id: str | None = None
    started_at_ms: int | None = None
    completed_at_ms: int | None = None


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

    @property
    def is_check(self) -> bool:
        """Whether there is nothing to write."""
        return not self.checkpoints and self.outcome is None


@dataclass(slots=True)
class Batch:
    """What one commit of the journal writes."""

    starts: list[WorkflowStart] = field(default_factory=list[WorkflowStart])
    runs: list[RunWrites] = field(default_factory=list[RunWrites])


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


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """Nothing was inserted: the lease that the start was made under is dead."""


StartAnswer = Started | AlreadyExists | LeaseLost


@dataclass(frozen=True, slots=True)
class RunAnswer:
    """What the guard saw when it locked the run's row, and what became of the writes.

    Attributes:
        token: The owner of the row, ``None`` if it has none or there is no row. Unless it is the run's own, nothing
            of the run was written.
        status: The row's status before this batch; ``None`` if there is no row.
        foreign: Function ids for which another run's checkpoint stood already.
        children: The answers to the starts of children, by function id; without those whose function id is foreign.
    """

    token: str | None
    status: str | None
    foreign: frozenset[int] = frozenset()
    children: Mapping[int, StartAnswer] = field(default_factory=dict[int, StartAnswer])


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The answers to a batch, in its order."""

    starts: Sequence[StartAnswer]
    runs: Sequence[RunAnswer]


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """A checkpoint as replay loads it."""

    function_id: int
    name: str
    output: str | None
    error: str | None
    serialization: str | None
    child_workflow_id: str | None


@dataclass(frozen=True, slots=True)
class ClaimedWorkflow:
    """A workflow that this executor now owns and has to run."""

    workflow_id: str
    token: str
    name: str
    class_name: str | None
    config_name: str | None
    inputs: str | None
    serialization: str | None
    recovery_attempts: int
    deadline_ms: int | None


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
