"""PostgreSQL restarts, or cuts off everybody, while workflows run and others wait in a queue.

All of them end with their results, none of their steps runs twice, and nothing has to be launched again.
"""

from __future__ import annotations

from typing import Literal

import pytest

from tests.support.busy import STEPS, Busy
from tests.support.postgres import PostgresAdmin, PostgresServer

pytestmark = [pytest.mark.usefixtures("destroyed"), pytest.mark.postgres]


@pytest.mark.parametrize("queue", [False, True], ids=["started", "queued"])
@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_workflows_outlast_a_restart_of_the_server(
    own_server: PostgresServer, own_url: str, how: Literal["immediate", "fast"], queue: bool
) -> None:
    busy = Busy(own_url, queue=queue, workflows=20)
    busy.launch()
    handles = busy.start()
    busy.wait_for(STEPS // 2)
    own_server.shut_down(how)
    assert busy.executions.total() < STEPS * busy.workflows, "all had ended before the restart"
    own_server.start_again()
    busy.wait_for(STEPS * 5)
    own_server.restart(how)
    busy.finish(handles)


def test_queue_goes_on_while_all_sessions_are_terminated_again_and_again(
    postgres_admin: PostgresAdmin, postgres_url: str
) -> None:
    """Also those that claim, listen and renew the lease."""
    busy = Busy(postgres_url, queue=True)
    busy.launch()
    handles = busy.start()
    cuts = 0
    for executions in range(5, STEPS * busy.workflows, 20):
        busy.wait_for(executions)
        cuts += postgres_admin.terminate_connections(postgres_url)
    busy.finish(handles)
    assert cuts >= 10, "hardly a connection was cut, so nothing was proved"
