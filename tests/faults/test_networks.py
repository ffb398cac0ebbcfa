"""The network between the library and PostgreSQL cuts, delays and swallows."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from dbos import DBOS
from dbos.storage.opening import open_database
from tests.runtime.conftest import PROGRAMS
from tests.support import ledger
from tests.support.apps import eventually
from tests.support.background import InBackground
from tests.support.busy import STEPS, Busy
from tests.support.processes import Spawner
from tests.support.proxy import Proxy
from tests.verify.rows import decode, read_rows

pytestmark = [pytest.mark.usefixtures("destroyed"), pytest.mark.postgres]


def test_workflows_outlast_connections_that_are_cut(proxy: Proxy, postgres_url: str) -> None:
    """In the middle of whatever they carry, so that answers to commits are lost too."""
    busy = Busy(proxy.url, postgres_url)
    busy.launch()
    handles = busy.start()
    for executions in range(10, STEPS * busy.workflows, 20):
        busy.wait_for(executions)
        proxy.cut()
    busy.finish(handles)
    assert proxy.cuts >= 5, "hardly a connection was cut, so nothing was proved"


def test_slow_network_makes_workflows_slow_and_nothing_else(proxy: Proxy, postgres_url: str) -> None:
    busy = Busy(proxy.url, postgres_url, queue=True)
    busy.launch()
    proxy.delay(0.005)
    began = time.monotonic()
    busy.finish(busy.start())
    assert time.monotonic() - began > STEPS * 0.005, "nothing was delayed"


def test_network_that_swallows_everything_stops_workflows_and_loses_nothing(proxy: Proxy, postgres_url: str) -> None:
    """No workflow takes more than a step ahead of what is recorded; when the network is back, all go on."""

    @DBOS.workflow(name="networks.another")
    def another() -> str:
        return "another"

    busy = Busy(proxy.url, postgres_url, workflows=20)
    busy.launch()
    handles = busy.start()
    busy.wait_for(STEPS)
    proxy.swallow()
    eventually(lambda: proxy.swallowed, "something was swallowed")
    assert busy.executions.total() < STEPS * busy.workflows, "all had ended before"
    starting = InBackground(DBOS.start_workflow, another)
    assert not starting.is_done(within_s=0.5), "a start is not acknowledged before it is durable"
    ahead = busy.executions.total() - len(read_rows(postgres_url).steps)
    # A synchronous workflow is one step ahead at most, a coroutine those that it has gathered.
    assert ahead <= busy.workflows // 2 * (1 + STEPS // 2)
    proxy.go_on()
    assert starting.result().get_result() == "another"
    busy.finish(handles)


def test_executor_behind_a_network_that_swallows_is_replaced_and_fenced(
    postgres_url: str, proxy: Proxy, spawn: Spawner, tmp_path: Path
) -> None:
    """It does not hear that it was taken for dead, and learns it from the database when the network is back."""
    path, config = tmp_path / "ledger.jsonl", json.dumps({"lease_timeout_sec": 0.8})
    program = PROGRAMS / "failing_over.py"
    cut_off = spawn(program, proxy.url, path, config, "caller", "2")
    cut_off.wait_for_line("standing")
    other = spawn(program, postgres_url, path, config, "server")
    other.wait_for_line("launched")
    proxy.swallow()
    eventually(lambda: read_rows(postgres_url).workflows["w"]["status"] == "SUCCESS", "the other one has taken over")
    cut_off.write_line()
    proxy.go_on()
    recorded = decode(read_rows(postgres_url).workflows["w"]["output"])
    assert json.loads(cut_off.wait_for_line(r"^result (.*)$")[1]) == recorded, "its caller gets the recorded outcome"
    steps = [(entry["role"], entry["step"]) for entry in ledger.read(path)]
    assert steps == [("caller", 1), ("caller", 2), ("server", 2), ("server", 3)]


def test_connection_to_a_host_that_vanished_is_given_up(proxy: Proxy) -> None:
    """By the system, after a bounded time: it is told to, as by default it tries for a quarter of an hour."""
    database = open_database(url=proxy.url)
    connection = database.detached_connection()
    try:
        driver: Any = connection.dbapi_connection
        with socket.socket(fileno=driver.fileno()) as its_socket:
            timeout_ms = its_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            idle_s = its_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            its_socket.detach()
        assert 5_000 <= timeout_ms <= 30_000
        assert idle_s <= 30
    finally:
        connection.close()
        database.close()


def test_pool_of_two_connections_runs_two_hundred_workflows(proxy: Proxy, postgres_url: str) -> None:
    """And outlasts that both are cut."""
    busy = Busy(proxy.url, postgres_url, workflows=200)
    busy.launch(sys_db_pool_size=2)
    handles = busy.start()
    busy.wait_for(STEPS * 20)
    proxy.cut()
    busy.finish(handles)
