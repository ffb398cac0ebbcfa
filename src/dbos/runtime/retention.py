"""Housekeeping: deleting workflows that have ended, by a policy or on request; cancelling those that began long ago.

Done bite by bite, with a rest after each that is as long as the bite took: at most half of the database's time goes
into it, and whoever writes meanwhile waits for one bite at most.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbos.model.retention import RetentionPolicy
from dbos.runtime.gateway import Gateway
from dbos.runtime.threads import Errand
from dbos.storage.management import cancel
from dbos.storage.reads import read_now_ms
from dbos.storage.retention import NameFilter, Place, delete_ended, find_bound, find_live_before

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor

_logger = logging.getLogger("dbos")

BITE = 50
"""How many workflows one transaction looks at."""

_PASSES_PER_ROUND = 12
"""Every so many passes, what earlier ones left is looked at again: it may have ended meanwhile."""

_REST = threading.Event()
"""Never set: a wait for it is a rest."""


def collect_garbage(
    gateway: Gateway,
    *,
    before_ms: int | None = None,
    rows_kept: int | None = None,
    names: NameFilter | None = None,
    told: Callable[[int], None] = lambda _: None,
) -> int:
    """Delete workflows that have ended, with all that belongs to them; returns how many.

    Workflows that have not ended are kept, and their children.

    Args:
        gateway: The way to the database.
        before_ms: Delete those that were created before this moment, in epoch milliseconds.
        rows_kept: Delete those that are not among the newest so many workflows.
        names: Delete only some of them; ``None`` for all.
        told: Is told after each bite how many were deleted so far.
    """
    bound = find_bound(gateway.database, rows_kept) if rows_kept is not None else None
    deleted = 0

    def count(number: int) -> None:
        nonlocal deleted
        deleted += number
        told(deleted)

    end = max(Place(before_ms or 0), bound or Place())
    _delete_before(gateway, end, Place(), names, count)
    return deleted


def _delete_before(
    gateway: Gateway, end: Place, place: Place, names: NameFilter | None, count: Callable[[int], None]
) -> Place:
    """Delete from the place to the end; returns up to where it was looked."""
    has_more = end > Place(0)
    while has_more and not gateway.is_closed:
        began = gateway.clock.monotonic()
        ids, place, has_more = delete_ended(gateway.database, end, place, BITE, names)
        count(len(ids))
        if ids:
            gateway.application.forget(ids)
            _REST.wait(gateway.clock.monotonic() - began)
    return place


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


class Retention:
    """Deletes, now and then and in the background, what a policy does not keep.

    Every executor that has one does; what one is deleting, the others pass over.
    """

    def __init__(self, executor: Executor, policy: RetentionPolicy) -> None:
        self._executor = executor
        self._policy = policy
        self._passes = 0
        self._places: dict[object, Place] = {}
        """Up to where earlier passes have looked, by rule."""
        self._errand = Errand(executor.threads, self.make_pass, "Deleting workflows that are not kept")

    def run_soon(self) -> None:
        """Make a pass in the background, if there is a policy."""
        if not self._policy.keeps_all:
            self._errand.run_soon()

    def stop(self) -> None:
        """Make no more passes. (One that is under way ends after its bite, as the executor is closing.)"""
        self._errand.stop()

    def make_pass(self) -> int:
        """Delete what is not kept by now; returns how many workflows."""
        policy, database = self._policy, self._executor.database
        if self._passes % _PASSES_PER_ROUND == 0:
            self._places.clear()
        self._passes += 1
        now_ms = read_now_ms(database)
        ages = policy.max_age_ms_by_name
        deleted = 0

        def count(number: int) -> None:
            nonlocal deleted
            deleted += number

        def delete(end: Place, rule: object, names: NameFilter | None) -> None:
            place = self._places.get(rule, Place())
            self._places[rule] = _delete_before(self._executor, end, place, names, count)

        for name, age_ms in ages.items():
            delete(Place(now_ms - age_ms), ("age", name), NameFilter([name], is_only=True))
        if policy.max_age_ms is not None:
            names = NameFilter(list(ages), is_only=False) if ages else None
            delete(Place(now_ms - policy.max_age_ms), "age", names)
        if policy.max_workflows is not None:
            delete(find_bound(database, policy.max_workflows) or Place(), "number", None)
        if deleted:
            _logger.info("%d workflows that ended long ago were deleted, as the configuration says", deleted)
        return deleted
