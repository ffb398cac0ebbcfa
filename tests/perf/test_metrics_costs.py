"""What metrics cost, counted: nothing but a look where they are off, and no transaction of the workflows' where on."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from dbos import DBOS
from dbos.runtime.executor import Executor
from dbos.runtime.observing import ObservedStore, Observer
from dbos.storage.journal import BatchStore
from tests.perf.test_commit_counts import Counter, sequence
from tests.support.processes import Spawner

OFF = """
    import sys

    from dbos import DBOS

    @DBOS.step()
    def step() -> int:
        return 1

    @DBOS.workflow()
    def workflow() -> int:
        return step()

    DBOS(config={"name": "off", "system_database_url": sys.argv[1], "admin_port": 0})
    DBOS.launch()
    workflow()
    executor = DBOS._application.executor
    ours = ("prometheus", "dbos.edges.metrics", "dbos.runtime.alerts")
    print(sorted(name for name in sys.modules if name.startswith(ours)))
    print(executor.observers, type(executor.journal.store).__name__)
    DBOS.destroy()
"""


def test_off_nothing_is_imported_or_put_in_between(spawn: Spawner, sqlite_url: str) -> None:
    assert spawn(OFF, sqlite_url).succeed().splitlines() == ["[]", "() SqliteBatchStore"]


def test_off_a_step_and_a_workflow_look_once_whether_somebody_listens(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def look(executor: Executor) -> tuple[Observer, ...]:
        nonlocal looks
        looks += 1
        return ()

    counter = Counter(sqlite_url)
    try:
        # A property of the class is found before what the instance has.
        monkeypatch.setattr(Executor, "observers", property(look), raising=False)
        counter.transactions(lambda: sequence(0))
        assert looks == 1
        looks = 0
        counter.transactions(lambda: sequence(10))
        assert looks == 11
    finally:
        monkeypatch.undo()
        DBOS.destroy()


def test_on_workflows_make_no_more_transactions_and_scrapes_few(database_url: str) -> None:
    registry = CollectorRegistry()
    registry.register(DBOS.metrics_collector())
    counter = Counter(database_url)
    try:
        executor = DBOS._application.executor  # type: ignore[union-attr]
        assert executor is not None
        store: BatchStore = executor.journal.store
        assert isinstance(store, ObservedStore)
        assert counter.transactions(lambda: sequence(5)) == {"journal": 6}

        def scrape_twice() -> None:
            list(registry.collect())
            list(registry.collect())

        assert counter.transactions(scrape_twice) == {"read_load": 1, "read_executors": 1}
    finally:
        DBOS.destroy()
