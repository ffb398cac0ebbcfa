"""The collector: gives all metrics of this process to whoever scrapes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from dbos.api.instance import find_executor, observe
from dbos.edges.metrics.load import Load, LoadReader
from dbos.edges.metrics.meter import MAX_NAMES, OTHERS, Meter
from dbos.model.status import PENDING
from dbos.runtime.registry import QUEUES
from dbos.storage.diagnosis import LoadRow

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor

_encode, CONTENT_TYPE = choose_encoder("application/openmetrics-text")

WAITING = "waiting"

_METER = Meter()


class MetricsCollector(Collector):
    """What this process does, and what is to be done in its database. May be registered before the launch.

    Without a launched application it tells only what was counted until then.
    """

    def __init__(self) -> None:
        observe(_METER)
        self._lock = threading.Lock()
        self._reader: LoadReader | None = None

    def describe(self) -> Iterable[Metric]:
        """The names alone, so that nobody asks the database when it is registered."""
        yield from _METER.collect()
        yield from _of_executor(None)
        yield from _of_database(None, None)

    def collect(self) -> Iterator[Metric]:
        executor = find_executor()
        yield from _METER.collect()
        yield from _of_executor(executor)
        yield from _of_database(executor, None if executor is None else self._read(executor))

    def _read(self, executor: Executor) -> Load | None:
        with self._lock:
            if self._reader is None or self._reader.executor is not executor:
                self._reader = LoadReader(executor)
            reader = self._reader
        return reader.read()


_collector: MetricsCollector | None = None
_lock = threading.Lock()


def collector() -> MetricsCollector:
    """The one collector of this process. Measuring begins when somebody asks for it first."""
    global _collector
    with _lock:
        if _collector is None:
            _collector = MetricsCollector()
        return _collector


def exposition() -> bytes:
    """All metrics in the text format of OpenMetrics 1.0."""
    registry = CollectorRegistry()
    registry.register(collector())
    return _encode(registry)


def _of_executor(executor: Executor | None) -> Iterator[Metric]:
    identity = InfoMetricFamily("dbos_executor", "The executor of this process.")
    runs = GaugeMetricFamily(
        "dbos_executor_runs", "Workflows that run in this process; those that wait for something are among them."
    )
    is_held = GaugeMetricFamily("dbos_lease_held", "1 if this executor's lease is alive for certain.")
    age = GaugeMetricFamily("dbos_lease_age_seconds", "For how long this executor's lease has not been renewed.")
    if executor is not None:
        identity.add_metric(
            [], {"executor_id": executor.executor_id, "application_version": executor.application_version}
        )
        runs.add_metric([], executor.run_count)
        is_held.add_metric([], executor.trusts_lease(executor.lease_id, executor.clock.monotonic()))
        age.add_metric([], executor.lease_age_s)
    yield from (identity, runs, is_held, age)


def _of_database(executor: Executor | None, load: Load | None) -> Iterator[Metric]:
    is_up = GaugeMetricFamily("dbos_database_up", "1 if the database has told what only it knows.")
    workflows = GaugeMetricFamily(
        "dbos_workflows", "Workflows of all executors that have not ended.", labels=["workflow", "state"]
    )
    queues = GaugeMetricFamily(
        "dbos_queue_workflows", "Workflows on queues, of all executors.", labels=["queue", "state"]
    )
    oldest = GaugeMetricFamily(
        "dbos_queue_oldest_seconds",
        "For how long the oldest workflow that may be started has been waiting.",
        labels=["queue"],
    )
    executors = GaugeMetricFamily("dbos_executors", "Executors that are alive.", labels=["application_version"])
    if executor is not None:
        is_up.add_metric([], load is not None)
    if load is not None:
        for (name, status), count in _bounded(_by_function(load.rows)).items():
            workflows.add_metric([name, status], count)
        for (queue, state), count in _bounded(_by_queue(load.rows)).items():
            queues.add_metric([queue, state], count)
        for queue, seconds in _oldest(load.rows).items():
            oldest.add_metric([queue], seconds)
        versions: Counter[tuple[str, ...]] = Counter(
            (one.application_version,) for one in load.executors if one.is_alive
        )
        for (version,), count in _bounded(versions).items():
            executors.add_metric([version], count)
    yield from (is_up, workflows, queues, oldest, executors)


def _by_function(rows: Sequence[LoadRow]) -> Counter[tuple[str, ...]]:
    counts: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        counts[row.name, row.status] += row.workflows
    return counts


def _by_queue(rows: Sequence[LoadRow]) -> Counter[tuple[str, ...]]:
    # A queue that is empty is told of too, if it is known here: nobody is alarmed by what is not there.
    counts: Counter[tuple[str, ...]] = Counter({(rules.name, WAITING): 0 for rules in QUEUES.declared()})
    for row in rows:
        if row.queue_name is not None:
            counts[row.queue_name, _state(row)] += row.workflows
    return counts


def _oldest(rows: Sequence[LoadRow]) -> dict[str, float]:
    seconds = {rules.name: 0.0 for rules in QUEUES.declared()[:MAX_NAMES]}
    for row in rows:
        if row.queue_name is not None and _state(row) == WAITING:
            queue = row.queue_name if row.queue_name in seconds or len(seconds) < MAX_NAMES else OTHERS
            seconds[queue] = max(seconds.get(queue, 0.0), row.oldest_ms / 1000)
    return seconds


def _state(row: LoadRow) -> str:
    return "running" if row.status == PENDING else "delayed" if row.is_delayed else WAITING


def _bounded(counts: Counter[tuple[str, ...]]) -> Counter[tuple[str, ...]]:
    """The counts by labels, of which the first is a name: of rare names, if there are too many, all together."""
    totals: Counter[str] = Counter()
    for (name, *_), count in counts.items():
        totals[name] += count
    kept = {name for name, _ in totals.most_common(MAX_NAMES)}
    bounded: Counter[tuple[str, ...]] = Counter()
    for labels, count in counts.items():
        kept_labels = labels if labels[0] in kept else (OTHERS, *labels[1:])
        bounded[kept_labels] += count
    return bounded
