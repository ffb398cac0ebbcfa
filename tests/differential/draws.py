"""What all random operations draw from: names and ids, mostly of what stands in the tables."""

from __future__ import annotations

from random import Random
from typing import TypeVar

from dbos.model.authentication import NOBODY, Authentication
from dbos.model.queues import INTERNAL_QUEUE, QueueRules, RateLimit
from dbos.model.values import Place, WorkflowStart
from tests.verify.oracle import Oracle

T = TypeVar("T")

NAMES = ("order", "ship")
VERSIONS = ("1", "2")
OWNERS = ("Shop\x1f", "Shop\x1fmain")
WHO = (NOBODY, NOBODY, Authentication("ann", ("buyer", "admin"), "admin"), Authentication(None, ()))
KEYS = ("a", "b")
LEASES = tuple(f"lease-{number}" for number in range(4))
IDS = tuple(f"w{number}" for number in range(12))
FORMATS = ("py_pickle", "json")
QUEUES = (
    QueueRules("plain"),
    QueueRules("few", concurrency=2),
    QueueRules("slow", rate=RateLimit(2, 500)),
    QueueRules("parted", concurrency=1, is_partitioned=True),
    QueueRules("parted slow", rate=RateLimit(1, 400), is_partitioned=True),
    QueueRules(INTERNAL_QUEUE),
)


class Draws:
    """The same seed and the same oracle give the same draws."""

    def __init__(self, random: Random, oracle: Oracle) -> None:
        self.random = random
        self.oracle = oracle
        self._number = 0

    def _one(self, *values: T) -> T:
        return self.random.choice(values)

    def _is(self, percent: int) -> bool:
        return self.random.randrange(100) < percent

    def _new(self, what: str) -> str:
        self._number += 1
        return f"{what}-{self._number}"

    def _id(self) -> str:
        """Mostly of a workflow that exists."""
        if self.oracle.workflows and self._is(80):
            return self._one(*self.oracle.workflows)
        return self._one(*IDS)

    def _ids(self) -> list[str]:
        return [self._id() for _ in range(self._one(1, 1, 2, 3))]

    def _lease(self) -> str:
        """Mostly of a lease that is alive."""
        alive = [lease for lease in self.oracle.leases if self.oracle.is_alive(lease)]
        return self._one(*alive) if alive and self._is(75) else self._one(*LEASES)

    def _token_of(self, workflow_id: str) -> str:
        """Mostly of the run that owns it."""
        row = self.oracle.workflows.get(workflow_id)
        if row is not None and row["owner_xid"] is not None and self._is(85):
            return str(row["owner_xid"])
        return self._new("token")

    def _claims(self) -> list[tuple[str, str]]:
        rows = self.oracle.workflows.values()
        owned = [(row["workflow_uuid"], row["owner_xid"]) for row in rows if row["owner_xid"] is not None]
        stale = (self._id(), self._new("token"))
        return [self._one(stale, *owned) for _ in range(self._one(1, 2))]

    def _start(
        self, workflow_id: str | None = None, parent: str | None = None, *, must_wait: bool = False
    ) -> WorkflowStart:
        is_enqueued = must_wait or self._is(50)
        lease = None if is_enqueued else self._lease()
        timeout_ms = self._one(None, None, None, 200, 2000)
        deadline_ms = None if timeout_ms is None or is_enqueued else self.oracle.now + timeout_ms
        return WorkflowStart(
            workflow_id=workflow_id or self._one(*IDS),
            name=self._one(*NAMES),
            status="ENQUEUED" if is_enqueued else "PENDING",
            inputs=self._new("inputs"),
            serialization=self._one(*FORMATS),
            token=None if is_enqueued else self._new("token"),
            lease_id=lease,
            executor_id=None if is_enqueued else self._one("local", "vm"),
            class_name=self._one(None, "Shop"),
            config_name=self._one(None, "main"),
            authentication=self._one(*WHO),
            application_version=self._one(*VERSIONS, *([None] if is_enqueued else [])),
            application_id=self._one(None, "app"),
            parent_workflow_id=parent,
            timeout_ms=timeout_ms,
            deadline_ms=deadline_ms,
            place=self._place() if is_enqueued else None,
        )

    def _place(self) -> Place:
        rules = self._one(*QUEUES[:-1], QUEUES[0], QUEUES[0], QUEUES[2], QUEUES[2])
        return Place(
            rules.name,
            self._one(None, "only"),
            self._one(0, 0, 1, 5),
            self._one(None, *KEYS) if rules.is_partitioned else None,
        )
