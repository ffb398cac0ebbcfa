"""How many workflows of each queue were started of late.

No index knows when something was started. But a queue starts what waits in the order in which it came: what was started
of late lies right before the one that is next, or, if it was more urgent, among the newest. So many rows are looked at
there, and no more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from dbos.storage.database import Database
from dbos.storage.schema import PARTITION, WAITS

LOOKED_AT = 500
"""How many workflows are looked at on either side of the one that is next."""

_STARTED = f"""(SELECT count(*) FROM (
        SELECT started_at_epoch_ms FROM {{schema}}workflow_status
        WHERE queue_name = wanted.queue AND created_at SIDE ORDER BY created_at DESC, seq DESC LIMIT {LOOKED_AT}
    ) AS newest WHERE started_at_epoch_ms > {{now}} - :period_ms)"""

# Without one that waits everything lies before it.
_NEXT = f"""COALESCE((
        SELECT created_at FROM {{schema}}workflow_status WHERE {WAITS} AND queue_name = wanted.queue
        ORDER BY {PARTITION}, COALESCE(application_version, ''), priority, seq LIMIT 1), 9000000000000000)"""

_READ_RATES = f"""
SELECT wanted.queue, {_STARTED.replace("SIDE", f"<= {_NEXT}")} + {_STARTED.replace("SIDE", f"> {_NEXT}")}
FROM ROWS_OF(:wanted, queue text)"""


def read_recent_starts(database: Database, queue_names: Sequence[str], period_ms: int) -> dict[str, int]:
    """How many workflows were started within the last ``period_ms``, by queue.

    It is exact for queues that start first what came first, up to ``LOOKED_AT``; for others it is about right.
    """
    parameters = {"wanted": json.dumps([{"queue": name} for name in queue_names]), "period_ms": period_ms}
    rows = database.run("read_recent_starts", lambda t: t.rows(_READ_RATES, parameters), "read")
    return {name: int(count) for name, count in rows}
