"""Housekeeping on request: deleting workflows that have ended, cancelling those that began long ago.

Done bite by bite, with a rest after each that is as long as the bite took: at most half of the database's time goes
into it, and whoever writes meanwhile waits for one bite at most.
"""

from __future__ import annotations

import threading

from dbos.runtime.gateway import Gateway
from dbos.storage.management import cancel
from dbos.storage.reads import read_now_ms
from dbos.storage.retention import Place, delete_ended, find_bound, find_live_before

BITE = 50
"""How many workflows one transaction looks at."""

_REST = threading.Event()
"""Never set: a wait for it is a rest."""


def collect_garbage(gateway: Gateway, *, before_ms: int | None = None, rows_kept: int | None = None) -> int:
    """Delete workflows that have ended, with all that belongs to them; returns how many.

    Workflows that have not ended are kept, and their children.

    Args:
        gateway: The way to the database.
        before_ms: Delete those that were created before this moment, in epoch milliseconds.
        rows_kept: Delete those that are not among the newest so many workflows.
    """
    bounds = [] if before_ms is None else [before_ms]
    if rows_kept is not None:
        bound = find_bound(gateway.database, rows_kept)
        bounds.extend([] if bound is None else [bound])
    if not bounds:
        return 0
    deleted = 0
    place: Place | None = Place()
    while place is not None and not gateway.is_closed:
        began = gateway.clock.monotonic()
        ids, place = delete_ended(gateway.database, max(bounds), place, BITE)
        deleted += len(ids)
        if ids:
            gateway.application.forget(ids)
            _REST.wait(gateway.clock.monotonic() - began)
    return deleted


def cancel_all_before(gateway: Gateway, before_ms: int) -> int:
    """Cancel the workflows that have not ended and were created before a moment, in epoch milliseconds.

    Returns:
        How many were cancelled. Those that are created meanwhile are not, also if the moment is in the future.
    """
    before_ms = min(before_ms, read_now_ms(gateway.database) + 1)
    cancelled = 0
    while not gateway.is_closed and (ids := find_live_before(gateway.database, before_ms, BITE)):
        stopped = cancel(gateway.database, ids)
        gateway.cancelled(stopped)
        cancelled += len(stopped)
    return cancelled
