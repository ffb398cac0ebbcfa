"""Tells of workflows that wait for other versions of the application, at launch and whenever there are new ones.

An executor recovers and starts only what is of its own version. After an upgrade that is easily forgotten, and what the
former version began waits for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbos.runtime.threads import Errand
from dbos.storage.versions import Waiting, find_other_versions

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor

_logger = logging.getLogger("dbos")

_NAMED = 10
"""How many versions one line names."""


class OtherVersions:
    """See the module's description. Of each version is told once, and once more if its last executor goes."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._served: set[str | None] = set()
        self._unserved: set[str | None] = set()
        self._errand = Errand(executor.threads, self.report, "Looking for workflows of other versions")

    def report_soon(self) -> None:
        """Look and tell, in the background."""
        self._errand.run_soon()

    def stop(self) -> None:
        """Look no more."""
        self._errand.stop()

    def report(self) -> None:
        """Look, and tell what is new."""
        executor = self._executor
        found = find_other_versions(executor.database, executor.application_version)
        served = [one for one in found if one.executors and one.version not in self._served]
        unserved = [one for one in found if not one.executors and one.version not in self._unserved]
        self._served = {one.version for one in found if one.executors}
        self._unserved = {one.version for one in found if not one.executors}
        own = executor.application_version
        if served:
            _logger.info(
                "Workflows of other application versions wait for executors of theirs, which run: %s. This one, of "
                "version %r, leaves them alone.",
                *(_listed(served), own),
            )
        if unserved:
            _logger.warning(
                "Workflows of other application versions wait, and no executor of theirs runs: %s. This one, of "
                "version %r, leaves them alone. Start a process of their version to finish them, or let this version "
                "go on with one by DBOS.fork_workflow(workflow_id, start_step, application_version=%r).",
                *(_listed(unserved), own, own),
            )


def _listed(found: Sequence[Waiting]) -> str:
    texts = [_numbers(one) for one in found[:_NAMED]]
    if len(found) > _NAMED:
        texts.append(f"and more of {len(found) - _NAMED} other versions")
    return "; ".join(texts)


def _numbers(waiting: Waiting) -> str:
    numbers: list[str] = []
    if waiting.pending:
        numbers.append(f"{waiting.pending} PENDING")
    if waiting.enqueued:
        numbers.append(f"{'at least ' if waiting.is_at_least else ''}{waiting.enqueued} ENQUEUED")
    return f"{' and '.join(numbers)} of {'no version' if waiting.version is None else f'version {waiting.version!r}'}"
