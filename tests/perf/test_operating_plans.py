"""What housekeeping and diagnosis cost on a long history: what they look at, not what there is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from dbos.runtime.executor import Executor
from dbos.storage.diagnosis import read_load, read_queues, read_stalled, read_versions
from dbos.storage.retention import Place, delete_ended, find_live_before
from tests.perf.test_listing_plans import cost
from tests.perf.test_listing_plans import executor as executor  # a fixture
from tests.perf.test_query_plans import recorded

_NEWEST_MS = 1700000000000 + 20_000

LOOKS: dict[str, Callable[[Executor], Any]] = {
    "the next bite": lambda its: delete_ended(
        its.database, Place(_NEWEST_MS), Place(1700000000000 + 10_000, 10_000), 50
    ),
    "what is live": lambda its: find_live_before(its.database, _NEWEST_MS, 50),
    "queues": lambda its: read_queues(its.database),
    "load": lambda its: read_load(its.database),
    "versions": lambda its: read_versions(its.database),
    "what is stalled": lambda its: read_stalled(its.database, quiet_ms=0, examples=3, limit=50),
    "one by its id": lambda its: read_stalled(its.database, quiet_ms=0, examples=3, limit=50, ids=["w7"]),
}


@pytest.mark.parametrize("look", LOOKS)
def test_history_is_not_walked_through(executor: Executor, monkeypatch: pytest.MonkeyPatch, look: str) -> None:
    with recorded(monkeypatch, threading.current_thread()) as statements:
        LOOKS[look](executor)
    spent, allowed = cost(executor.database, next(one for one in statements if "workflow_status" in one[0]))
    assert spent <= allowed, statements[0]
