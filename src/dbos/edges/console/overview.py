"""The first page: how much there is, what needs somebody, what failed, what is new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dbos.model.status import WorkflowStatusString
from dbos.runtime.diagnosis import Diagnosis, diagnose
from dbos.runtime.gateway import Gateway
from dbos.storage.overview import Counts, Page, count_workflows, read_page
from dbos.storage.reads import WorkflowFilter

if TYPE_CHECKING:
    from dbos.edges.console.app import Console

BOUND = 10_000
"""Where counting stops."""

MAX_EXAMINED = 2_000
"""Of how many workflows that have not ended at most it is found out why they do not move."""

DAY_MS = 86_400_000
_QUIET_MS = 10_000
_SHOWN = 8
_FAILED = (WorkflowStatusString.ERROR.value, WorkflowStatusString.MAX_RECOVERY_ATTEMPTS_EXCEEDED.value)


@dataclass(frozen=True, slots=True)
class Overview:
    """What the page shows.

    Attributes:
        counts: How many workflows there are.
        diagnosis: Why some do not move; ``None`` if there are too many to find out.
        failed: The newest that failed.
        newest: The newest of all.
    """

    counts: Counts
    diagnosis: Diagnosis | None
    failed: Page
    newest: Page

    @property
    def counted_newest(self) -> int:
        """How many were created within the last day, up to the bound."""
        return sum(self.counts.newest.values())


def read_overview(gateway: Gateway) -> Overview:
    """Everything that the page shows."""
    database = gateway.database
    counts = count_workflows(database, bound=BOUND, since_ms=DAY_MS)
    is_examined = counts.running + counts.waiting + counts.delayed <= MAX_EXAMINED
    return Overview(
        counts=counts,
        diagnosis=diagnose(database, quiet_ms=_QUIET_MS, examples=1, limit=50) if is_examined else None,
        failed=_newest(gateway, _FAILED),
        newest=_newest(gateway, None),
    )


def _newest(gateway: Gateway, statuses: Sequence[str] | None) -> Page:
    return read_page(gateway.database, WorkflowFilter(statuses=statuses), size=_SHOWN)


def routes(console: Console) -> list[BaseRoute]:
    """The routes of this page."""

    async def show(request: Request) -> Response:
        overview = await console.work(read_overview)
        return await console.page(request, "overview.html", its=overview, bound=BOUND, max_examined=MAX_EXAMINED)

    return [Route("/", show, methods=["GET"], name="overview")]
