"""Measures what the engine does in this process, from the first moment that somebody asks for metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from dbos.model.values import Batch, ClaimedWorkflow, Lease
from dbos.runtime.observing import Observer
from dbos.runtime.run import Run

MAX_NAMES = 200
"""How many different names of functions or queues a metric has; programs may make names up while they run."""

OTHERS = "(others)"
"""The name under which all further ones are counted together."""

_STEP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_TRANSACTION_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)

M = TypeVar("M", bound=MetricWrapperBase)


class _ByName(Generic[M]):
    """The children of a metric by their labels, of which the first is a name."""

    def __init__(self, metric: M) -> None:
        self._metric = metric
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._children: dict[tuple[str, ...], M] = {}

    def of(self, *labels: str) -> M:
        child = self._children.get(labels)
        return self._make(labels) if child is None else child

    def _make(self, labels: tuple[str, ...]) -> M:
        name, *more = labels
        with self._lock:
            if name not in self._names and len(self._names) >= MAX_NAMES:
                return self._metric.labels(OTHERS, *more)
            self._names.add(name)
            child = self._children[labels] = self._metric.labels(*labels)
            return child


class Meter(Observer):
    """Counts and measures what it hears. One for the whole process: what it has counted outlasts a launch."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._steps = _ByName(
            Histogram(
                "dbos_step_duration_seconds",
                "How long steps and transactions took that ran in this process, retries included.",
                ["step"],
                buckets=_STEP_SECONDS,
                registry=registry,
            )
        )
        self._retries = _ByName(
            Counter("dbos_step_retries", "How often a step failed and was tried again.", ["step"], registry=registry)
        )
        self._ended = _ByName(
            Counter(
                "dbos_workflows_ended",
                "Workflows that ended in this process, by the state in which they did.",
                ["workflow", "state"],
                registry=registry,
            )
        )
        self._timed_out = Counter(
            "dbos_workflows_timed_out",
            "Workflows that this process cancelled as their time was up, wherever they ran.",
            registry=registry,
        )
        self._claimed = Counter("dbos_workflows_claimed", "Workflows that this process took up.", registry=registry)
        self._recovered = Counter(
            "dbos_workflows_recovered",
            "Of those taken up, the ones that had been begun before: interrupted, resumed or forked.",
            registry=registry,
        )
        self._claims = Histogram(
            "dbos_claim_duration_seconds",
            "How long it took to claim workflows.",
            buckets=_TRANSACTION_SECONDS,
            registry=registry,
        )
        self._commits = Histogram(
            "dbos_commit_duration_seconds",
            "How long commits of the journal took.",
            buckets=_TRANSACTION_SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "dbos_commit_writes",
            "How many writes a commit of the journal carried.",
            buckets=_BATCH_SIZES,
            registry=registry,
        )
        self._failed_commits = Counter(
            "dbos_commit_retries", "Commits of the journal that failed and were tried again.", registry=registry
        )
        self._lost_leases = Counter(
            "dbos_leases_lost", "How often this executor was taken for dead by another one.", registry=registry
        )
        self._dead = Counter("dbos_executors_lost", "Executors that this process has found dead.", registry=registry)

    def collect(self) -> Iterable[Metric]:
        """What was measured until now."""
        return self._registry.collect()

    def step_ended(self, name: str, seconds: float) -> None:
        self._steps.of(name).observe(seconds)

    def step_retried(self, name: str) -> None:
        self._retries.of(name).inc()

    def workflow_ended(self, run: Run, status: str, error: BaseException | None) -> None:
        self._ended.of(run.function.name, status).inc()

    def deadlines_passed(self, workflow_ids: Sequence[str]) -> None:
        self._timed_out.inc(len(workflow_ids))

    def claimed(self, workflows: Sequence[ClaimedWorkflow], seconds: float) -> None:
        self._claims.observe(seconds)
        self._claimed.inc(len(workflows))
        self._recovered.inc(sum(not workflow.is_fresh for workflow in workflows))

    def committed(self, batch: Batch, seconds: float) -> None:
        self._commits.observe(seconds)
        self._batches.observe(batch.writes)

    def commit_failed(self) -> None:
        self._failed_commits.inc()

    def lease_lost(self) -> None:
        self._lost_leases.inc()

    def executor_died(self, lease: Lease, reason: str, left_behind: int) -> None:
        self._dead.inc()
