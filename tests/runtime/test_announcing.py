"""Executors tell what they serve."""

from __future__ import annotations

from dbos import DBOS, Queue
from dbos.api.instance import get_executor
from dbos.model.serving import Serving
from dbos.storage.diagnosis import read_executors
from tests.support.apps import App, eventually


def told() -> Serving | None:
    """What this process tells under its lease of now."""
    executor = get_executor("The test")
    (row,) = (row for row in read_executors(executor.database) if row.lease_id == executor.lease_id)
    return row.serving


def queues() -> list[str]:
    serving = told()
    assert serving is not None
    return [rules.name for rules in serving.queues]


def test_what_is_there_at_the_launch_is_told_with_it(database_url: str) -> None:
    @DBOS.workflow(name="announced")
    def announced() -> None: ...

    Queue("early", concurrency=2)
    Queue("of others")
    DBOS(config=App(database_url).config())
    DBOS.listen_queues([Queue("listened", limiter={"limit": 5, "period": 0.5})])
    try:
        DBOS.launch()
        serving = told()
        assert serving is not None
        assert "announced" in serving.functions
        listened = serving.rules_of("listened")
        assert listened is not None
        assert listened.limits == "5 in 0.5 s"
        assert (serving.rules_of("early"), serving.rules_of("of others")) == (None, None)
    finally:
        DBOS.destroy()


def test_what_comes_later_is_told_with_the_next_renewal(database_url: str) -> None:
    app = App(database_url)
    app.launch(lease_timeout_sec=1)
    try:
        Queue("late", concurrency=2, worker_concurrency=1, partition_queue=True)
        eventually(lambda: "late" in queues(), "the queue is told")
        serving = told()
        assert serving is not None
        late = serving.rules_of("late")
        assert late is not None
        assert late.limits == "2 at once, 1 at once in a process (each partition)"

        @DBOS.workflow(name="defined later")
        def defined_later() -> None: ...

        eventually(lambda: "defined later" in (told() or Serving((), ())).functions, "the function is told")
    finally:
        DBOS.destroy()


def test_a_new_lease_tells_it_too(database_url: str) -> None:
    app = App(database_url)
    app.launch()
    try:
        executor = get_executor("The test")
        executor.replace_lease(executor.lease_id)
        executor.look_after_runs()
        eventually(lambda: told() is not None, "it is told under the new lease")
    finally:
        DBOS.destroy()
