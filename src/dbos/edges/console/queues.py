"""Queues: how much is on them, their limits, who starts what waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dbos.model.queues import INTERNAL_QUEUE, QueueRules
from dbos.runtime.diagnosis import declared_rules
from dbos.runtime.gateway import Gateway
from dbos.storage.diagnosis import ExecutorRow, QueueRow, read_executors, read_queues
from dbos.storage.rates import LOOKED_AT, read_recent_starts

if TYPE_CHECKING:
    from dbos.edges.console.app import Console

MINUTE_MS = 60_000

MAX_QUEUES = 100
"""How many queues are shown: the first by name."""


@dataclass(frozen=True, slots=True)
class ShownQueue:
    """A queue with all that is known of it.

    Attributes:
        name: Its name.
        waiting: How many may be started.
        delayed: How many are to go there later.
        running: How many run.
        oldest_ms: For how long the oldest one waits, if one does.
        starts: How many were started within the last minute.
        rules: Its limits, as the executors have them that listen to it: none, one, or several that differ.
        listeners: How many living executors tell that they listen to it.
        is_unheard: Whether something waits and every living executor tells that it does not listen.
    """

    name: str
    waiting: int
    delayed: int
    running: int
    oldest_ms: int | None
    starts: int
    rules: Sequence[QueueRules]
    listeners: int
    is_unheard: bool


def shown_queues(gateway: Gateway) -> list[ShownQueue]:
    """The queues that executors listen to and those on which there is something, by name."""
    alive = [one for one in read_executors(gateway.database) if one.is_alive]
    rows: dict[str, list[QueueRow]] = {}
    for row in read_queues(gateway.database):
        rows.setdefault(row.name, []).append(row)
    declared = declared_rules(alive)
    names = sorted((rows.keys() | declared.keys()) - ({INTERNAL_QUEUE} - rows.keys()))
    starts = read_recent_starts(gateway.database, names[:MAX_QUEUES], MINUTE_MS)
    return [_shown(name, rows.get(name, []), declared.get(name, []), alive, starts.get(name, 0)) for name in names]


def _shown(
    name: str, rows: Sequence[QueueRow], rules: Sequence[QueueRules], alive: Sequence[ExecutorRow], starts: int
) -> ShownQueue:
    waiting = sum(row.waiting for row in rows)
    listeners = sum(one.serving is not None and one.serving.rules_of(name) is not None for one in alive)
    return ShownQueue(
        name=name,
        waiting=waiting,
        delayed=sum(row.delayed for row in rows),
        running=sum(row.running for row in rows),
        oldest_ms=max((row.oldest_ms for row in rows if row.oldest_ms is not None), default=None),
        starts=starts,
        rules=rules,
        listeners=listeners,
        is_unheard=waiting > 0 and not listeners and all(one.serving is not None for one in alive),
    )


def routes(console: Console) -> list[BaseRoute]:
    """The routes of this page."""

    async def show(request: Request) -> Response:
        queues = await console.work(shown_queues)
        return await console.page(
            request,
            "queues.html",
            queues=queues[:MAX_QUEUES],
            left_out=len(queues[MAX_QUEUES:]),
            looked_at=LOOKED_AT,
            internal=INTERNAL_QUEUE,
        )

    return [Route("/queues", show, methods=["GET"], name="queues")]
