"""Metrics: scraped from the admin server and from a registry of the application's, read by a real parser."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from dbos import DBOS, DBOSClient, SetWorkflowID, SetWorkflowTimeout
from dbos.api.instance import get_executor
from dbos.edges.metrics.load import PATIENCE_S
from dbos.edges.metrics.meter import MAX_NAMES, OTHERS, Meter
from dbos.storage.leases import bury_lease, read_live_leases
from tests.support.admin import AdminApp, admin_client
from tests.support.apps import App, Roadblock, eventually, interrupt_at, status_of


class Samples:
    """What a scrape has told, by the names of the samples and their labels."""

    def __init__(self, families: Iterator[Metric]) -> None:
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    def get(self, name: str, **labels: str) -> float:
        """A sample's value; 0 if there is none."""
        return self._values.get((name, frozenset(labels.items())), 0.0)

    def labels(self, name: str, label: str) -> set[str]:
        """The values of a label."""
        return {dict(labels)[label] for its_name, labels in self._values if its_name == name}


def scrape(client: httpx.Client) -> Samples:
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    return Samples(text_string_to_metric_families(answer.text))


@pytest.fixture
def scraped(admin: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Samples]:
    """Scrapes the admin server; the database is asked each time."""
    monkeypatch.setattr("dbos.edges.metrics.load.FRESH_S", 0.0)
    monkeypatch.setattr("dbos.edges.metrics.load._SHARE", 0)
    return lambda: scrape(admin)


# -- the workflows


@DBOS.step(name="metrics.step", retries_allowed=True, interval_seconds=0.001)
def step(number: int) -> int:
    if number == 2 and DBOS.step_status.current_attempt == 0:
        raise ConnectionError("not yet")
    return number


@DBOS.step(name="metrics.step_async")
async def step_async() -> None: ...


@DBOS.transaction(name="metrics.transaction")
def transaction() -> None: ...


@DBOS.workflow(name="metrics.sum")
def add_up(steps: int) -> int:
    transaction()
    return sum(step(number) for number in range(steps))


@DBOS.workflow(name="metrics.async")
async def asynchronous() -> None:
    await step_async()


@DBOS.workflow(name="metrics.failing")
def failing() -> None:
    raise ValueError("wrong")


@DBOS.workflow(name="metrics.waiting")
def waiting() -> Any:
    return DBOS.recv("topic", timeout_seconds=600)


# -- what this process does


def test_steps_retries_ends_and_commits_are_counted(scraped: Callable[[], Samples]) -> None:
    before = scraped()
    assert add_up(3) == 3
    with pytest.raises(ValueError, match="wrong"):
        failing()
    after = scraped()

    def more(name: str, **labels: str) -> float:
        return after.get(name, **labels) - before.get(name, **labels)

    assert more("dbos_step_duration_seconds_count", step="metrics.step") == 3
    assert more("dbos_step_duration_seconds_bucket", step="metrics.step", le="+Inf") == 3
    assert more("dbos_step_duration_seconds_sum", step="metrics.step") > 0
    assert more("dbos_step_duration_seconds_count", step="metrics.transaction") == 1
    assert more("dbos_step_retries_total", step="metrics.step") == 1
    assert more("dbos_workflows_ended_total", workflow="metrics.sum", state="SUCCESS") == 1
    assert more("dbos_workflows_ended_total", workflow="metrics.failing", state="ERROR") == 1
    commits = more("dbos_commit_duration_seconds_count")
    assert commits >= 4
    assert more("dbos_commit_writes_sum") >= commits
    assert more("dbos_workflows_claimed_total") == 0
    assert after.get("dbos_lease_held") == 1
    assert after.get("dbos_lease_age_seconds") >= 0
    assert after.get("dbos_executor_info", executor_id="local", application_version="test") == 1


async def test_steps_of_coroutines_are_measured_until_they_are_over(application: App) -> None:
    registry = CollectorRegistry()
    registry.register(DBOS.metrics_collector())
    application.launch()
    before = Samples(iter(registry.collect()))
    await asynchronous()
    after = Samples(iter(registry.collect()))
    name, step = "dbos_step_duration_seconds_count", "metrics.step_async"
    assert after.get(name, step=step) - before.get(name, step=step) == 1


def test_names_that_a_program_makes_up_do_not_make_series_without_end() -> None:
    meter = Meter()
    for number in range(MAX_NAMES + 20):
        meter.step_ended(f"step {number}", 0.1)
    meter.step_ended("step 0", 0.1)
    samples = Samples(iter(meter.collect()))
    assert len(samples.labels("dbos_step_duration_seconds_count", "step")) == MAX_NAMES + 1
    assert samples.get("dbos_step_duration_seconds_count", step=OTHERS) == 20
    assert samples.get("dbos_step_duration_seconds_count", step="step 0") == 2


def test_claims_recoveries_and_timeouts_are_counted(application: App) -> None:
    roadblock = Roadblock()

    @DBOS.workflow(name="metrics.interrupted")
    def interrupted() -> None:
        DBOS.run_step({"name": "metrics.held"}, roadblock.stop)

    registry = CollectorRegistry()
    registry.register(DBOS.metrics_collector())
    before = Samples(iter(registry.collect()))
    assert before.get("dbos_database_up") == 0, "nothing is launched"

    def more(name: str, **labels: str) -> float:
        return Samples(iter(registry.collect())).get(name, **labels) - before.get(name, **labels)

    application.launch()
    with SetWorkflowID("interrupted"):
        DBOS.start_workflow(interrupted)
    interrupt_at(roadblock, application)
    eventually(lambda: status_of("interrupted") == "SUCCESS", "it is recovered")
    assert more("dbos_workflows_recovered_total") == 1
    assert more("dbos_workflows_claimed_total") == 1
    assert more("dbos_claim_duration_seconds_count") >= 1
    with SetWorkflowID("late"), SetWorkflowTimeout(0.01):
        DBOS.start_workflow(waiting)
    eventually(lambda: more("dbos_workflows_timed_out_total") == 1, "it is cancelled in time")
    eventually(
        lambda: more("dbos_workflows_ended_total", workflow="metrics.waiting", state="CANCELLED") == 1, "its run ends"
    )


def test_a_lease_that_was_lost_is_counted(application: App) -> None:
    registry = CollectorRegistry()
    registry.register(DBOS.metrics_collector())
    application.launch(lease_timeout_sec=2)

    def samples() -> Samples:
        return Samples(iter(registry.collect()))

    before = samples().get("dbos_leases_lost_total")
    database = get_executor("the test").database
    for lease in read_live_leases(database, "none of these"):
        bury_lease(database, lease)
    eventually(lambda: samples().get("dbos_leases_lost_total") == before + 1, "the executor notices it")
    eventually(lambda: samples().get("dbos_lease_held") == 1, "it has another one")


# -- what is to be done


def test_what_has_not_ended_is_told_from_the_database(scraped: Callable[[], Samples], admin_app: AdminApp) -> None:
    strange = 'a "queue"\nwith \\ in its näme'
    with DBOSClient(system_database_url=admin_app.url) as client:
        for number in range(3):
            client.enqueue({"workflow_name": "metrics.sum", "queue_name": strange, "workflow_id": f"q{number}"}, 1)
    with SetWorkflowID("waits"):
        DBOS.start_workflow(waiting)
    samples = eventually(
        lambda: its if (its := scraped()).get("dbos_workflows", workflow="metrics.waiting", state="PENDING") else None,
        "the workflow that waits is told of",
    )
    assert samples.get("dbos_database_up") == 1
    assert samples.get("dbos_workflows", workflow="metrics.sum", state="ENQUEUED") == 3
    assert samples.get("dbos_queue_workflows", queue=strange, state="waiting") == 3
    assert samples.get("dbos_executor_runs") == 1
    assert samples.get("dbos_executors", application_version="test") == 1
    eventually(lambda: scraped().get("dbos_queue_oldest_seconds", queue=strange) > 0.001, "the oldest one grows older")


def test_while_the_database_does_not_answer_the_process_tells_what_it_knows(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbos.edges.metrics.load.FRESH_S", 0.0)
    monkeypatch.setattr("dbos.edges.metrics.load._SHARE", 0)
    assert PATIENCE_S < 10, "what a scraper waits for by default"
    application = AdminApp(postgres_url)
    application.launch()
    try:
        with admin_client() as client, psycopg.connect(postgres_url) as connection:
            monkeypatch.setattr("dbos.edges.metrics.load.PATIENCE_S", 30.0)
            assert scrape(client).get("dbos_database_up") == 1
            monkeypatch.setattr("dbos.edges.metrics.load.PATIENCE_S", 0.1)
            connection.execute("LOCK TABLE dbos.workflow_status IN ACCESS EXCLUSIVE MODE")
            samples = scrape(client)
            assert samples.get("dbos_database_up") == 0
            assert samples.get("dbos_lease_age_seconds") > 0
            assert not samples.labels("dbos_workflows", "workflow")
            connection.rollback()
            eventually(lambda: scrape(client).get("dbos_database_up") == 1, "the database answers again")
    finally:
        DBOS.destroy()


# -- access


def test_metrics_are_behind_the_guards(sqlite_url: str) -> None:
    application = AdminApp(sqlite_url)
    application.launch(admin_token="a-token-nobody-guesses")
    try:
        with admin_client() as client:
            assert client.get("/metrics").status_code == 401
            assert client.get("/metrics", headers={"Host": "evil.example"}).status_code == 421
            token = {"Authorization": "Bearer a-token-nobody-guesses"}
            assert client.get("/metrics", headers=token).status_code == 200
            assert client.post("/metrics", headers=token).status_code == 405
    finally:
        DBOS.destroy()


def test_without_its_package_metrics_say_what_to_install(admin: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("dbos.edges.metrics.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ["prometheus_client", *(name for name in sys.modules if name.startswith("prometheus_client."))]:
        monkeypatch.setitem(sys.modules, name, None)
    answer = admin.get("/metrics")
    assert answer.status_code == 501
    assert answer.json()["error"].endswith("pip install 'dbos[metrics]'")
    with pytest.raises(Exception, match=r"DBOS.metrics_collector\(\) needs the package 'dbos\[metrics\]'"):
        DBOS.metrics_collector()


def test_it_is_registered_once() -> None:
    registry = CollectorRegistry()
    registry.register(DBOS.metrics_collector())
    assert DBOS.metrics_collector() is DBOS.metrics_collector()
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(DBOS.metrics_collector())
