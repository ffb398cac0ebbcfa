"""Executors, and the application versions of what has not ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dbos.model.queues import INTERNAL_QUEUE
from dbos.model.values import ProcessIdentity
from dbos.runtime.gateway import Gateway
from dbos.runtime.processes import is_gone, this_process
from dbos.runtime.registry import TEMPORARY_PREFIX
from dbos.storage.diagnosis import ExecutorRow, VersionRow, read_executors, read_versions

if TYPE_CHECKING:
    from dbos.edges.console.app import Console

MAX_EXECUTORS = 200
"""How many executors are shown, those that are alive first."""


class LeaseState(str, Enum):
    """What is known of an executor."""

    ALIVE = "alive"
    SILENT = "silent"
    ENDED = "process has ended"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class ShownExecutor:
    """An executor as the page shows it.

    Attributes:
        row: What is recorded.
        state: Whether it is alive.
        queues: The queues that it listens to; ``None`` if it does not tell.
        functions: The functions that it knows; ``None`` if it does not tell.
    """

    row: ExecutorRow
    state: LeaseState
    queues: Sequence[str] | None
    functions: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class ShownVersion:
    """An application version.

    Attributes:
        row: What has not ended.
        executors: How many executors of it are alive; of all versions, if any may start it.
    """

    row: VersionRow
    executors: int

    @property
    def is_unserved(self) -> bool:
        """Whether there is something that nobody starts or recovers."""
        return not self.executors and self.row.enqueued + self.row.pending > 0


def shown_executors(gateway: Gateway) -> tuple[list[ShownExecutor], list[ShownVersion]]:
    """The executors, those that are alive first, the latest launch of each kind first; and the versions."""
    here = this_process()
    executors = [_shown(row, here) for row in read_executors(gateway.database)]
    executors.sort(key=lambda one: (one.state is not LeaseState.ALIVE, one.state.value, -one.row.started_at))
    alive = [one.row.application_version for one in executors if one.state is LeaseState.ALIVE]
    rows = {row.application_version: row for row in read_versions(gateway.database)}
    for version in alive:
        rows.setdefault(version, VersionRow(version, 0, 0))
    versions = [
        ShownVersion(rows[version], len(alive) if version is None else alive.count(version))
        for version in sorted(rows, key=lambda version: version or "")
    ]
    return executors, versions


def _shown(row: ExecutorRow, here: ProcessIdentity) -> ShownExecutor:
    serving = row.serving
    return ShownExecutor(
        row=row,
        state=_state(row, here),
        queues=None if serving is None else [its.name for its in serving.queues if its.name != INTERNAL_QUEUE],
        functions=(
            None if serving is None else [name for name in serving.functions if not name.startswith(TEMPORARY_PREFIX)]
        ),
    )


def _state(row: ExecutorRow, here: ProcessIdentity) -> LeaseState:
    if row.state != "LIVE":
        return LeaseState.DEAD
    if is_gone(row.process, here):
        return LeaseState.ENDED
    return LeaseState.ALIVE if row.is_alive else LeaseState.SILENT


def routes(console: Console) -> list[BaseRoute]:
    """The routes of this page."""

    async def show(request: Request) -> Response:
        executors, versions = await console.work(shown_executors)
        return await console.page(
            request,
            "executors.html",
            executors=executors[:MAX_EXECUTORS],
            left_out=len(executors[MAX_EXECUTORS:]),
            versions=versions,
            colours={"alive": "LIVE", "silent": "PAUSED", "dead": "DEAD", "process has ended": "DEAD"},
        )

    return [Route("/executors", show, methods=["GET"], name="executors")]
