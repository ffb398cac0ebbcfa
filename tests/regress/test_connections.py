"""Connections that are dead when they are needed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from dbos import DBOS
from tests.regress.conftest import Launcher
from tests.support.gates import CountingGate
from tests.support.postgres import PostgresAdmin

CONNECTIONS = 15


def test_after_a_restart_of_the_server_a_workflow_needs_a_few_tries_only(
    launch_postgres: Launcher, postgres_admin: PostgresAdmin, postgres_url: str
) -> None:
    """All connections of the pool died; not each of them may cost a try."""
    gate = CountingGate()
    executor = launch_postgres(gate=gate)

    @DBOS.workflow()
    def work() -> str:
        return "result"

    assert work() == "result"
    together = threading.Barrier(CONNECTIONS)

    def hold() -> None:
        with executor.database.transaction("hold", "read") as transaction:
            transaction.rows("SELECT 1")
            together.wait(30)

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for holding in [threads.submit(hold) for _ in range(CONNECTIONS)]:
            holding.result()
    assert postgres_admin.terminate_connections(postgres_url) >= CONNECTIONS
    before = gate.count("journal", "begin"), gate.count("journal", "after_commit")
    assert work() == "result"
    tries = gate.count("journal", "begin") - before[0]
    commits = gate.count("journal", "after_commit") - before[1]
    assert commits == 2
    assert tries - commits <= 3
