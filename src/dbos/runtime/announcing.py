"""Tells in this executor's row which queues it listens to and which functions it knows.

Nothing that runs depends on it; whoever asks why a workflow is not started does. It is told at the launch, when a queue
is declared later, and with the renewals of the lease when it has become another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbos.model.serving import Serving
from dbos.runtime.threads import Errand
from dbos.storage.leases import note_serving

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor


class Announcement:
    """See the module's description."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._told: tuple[str, Serving] | None = None
        """Under which lease was told what."""
        self._errand = Errand(executor.threads, self.tell, "Telling what this executor serves")

    def tell(self) -> None:
        """Tell it, if it was not told yet."""
        executor = self._executor
        lease_id = executor.lease_id
        serving = Serving(executor.dispatcher.served(), tuple(sorted(executor.registry.names())))
        if self._told != (lease_id, serving):
            note_serving(executor.database, lease_id, serving)
            self._told = lease_id, serving

    def tell_soon(self) -> None:
        """As ``tell``, in the background."""
        self._errand.run_soon()

    def stop(self) -> None:
        """Tell nothing any more."""
        self._errand.stop()
