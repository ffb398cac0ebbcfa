"""Keeps this executor's lease, and buries those of executors that died.

Renewal runs in a thread of its own, which nothing the user runs can hold up. With each renewal it looks at the other
leases. One whose process is known to be gone is buried at once. Any other is buried when its renewal count stood still
for a full ``ttl_s`` during which this executor's own renewals succeeded: while the database is away or the machine is
suspended, nobody's time runs. After each look, workflows that nobody runs are taken up.
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from dbos.model.clock import Clock
from dbos.model.values import Lease
from dbos.runtime.processes import is_gone
from dbos.storage.claims import count_claims
from dbos.storage.database import Database
from dbos.storage.leases import bury_lease, read_live_leases, renew_lease

_logger = logging.getLogger("dbos")

TTL_S = 10.0
STOP_S = 5.0
"""How long shutdown waits for a round that is under way; the database may be away."""

_ROUNDS_IN_TTL = 4


def renew_interval_s(ttl_s: float) -> float:
    """How often to renew a lease that counts as dead when it stood still for so long.

    Whoever looks as often sees a death a round later at most: it takes five rounds until somebody has buried the lease.
    """
    return ttl_s / _ROUNDS_IN_TTL


RENEW_INTERVAL_S = renew_interval_s(TTL_S)


class LeaseHolder(Protocol):
    """What the keeper needs of its executor."""

    @property
    def lease(self) -> Lease: ...
    def replace_lease(self, lost: str) -> None:
        """The lease was buried: register another."""
        ...

    def look_after_runs(self) -> None:
        """Take up what nobody runs."""
        ...

    def buried(self, lease: Lease, reason: str, left_behind: int) -> None:
        """Another executor is dead, for this reason, and has left so many workflows behind."""
        ...


class LeaseKeeper:
    """Renews, watches, buries. See the module's description."""

    def __init__(
        self,
        database: Database,
        holder: LeaseHolder,
        clock: Clock,
        renew_interval_s: float = RENEW_INTERVAL_S,
        ttl_s: float = TTL_S,
    ) -> None:
        self._database = database
        self._holder = holder
        self._clock = clock
        self._renew_interval_s = renew_interval_s
        self._ttl_s = ttl_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="dbos-lease", daemon=True)
        self._standing: dict[str, tuple[int, float]] = {}
        """For each other lease its renewal count, and since when we see it stand there."""
        self._renewed_at = clock.monotonic()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(STOP_S)

    def trusts(self, lease_id: str, now: float) -> bool:
        """Whether the lease is alive for certain: nobody buries it before it has stood still for its time to live."""
        return lease_id == self._holder.lease.lease_id and now - self._renewed_at < self._ttl_s

    @property
    def renewed_ago_s(self) -> float:
        """For how long the lease has not been renewed, in seconds."""
        return self._clock.monotonic() - self._renewed_at

    def bury_the_gone(self) -> None:
        """Bury the leases of processes that are known to have ended."""
        for lease in read_live_leases(self._database, self._holder.lease.lease_id):
            if is_gone(lease.process, self._holder.lease.process):
                self._bury(lease, "its process has ended")

    def _keep(self) -> None:
        while not self._stopping.wait(self._renew_interval_s):
            try:
                self.renew_and_look()
            except Exception as error:
                self._standing.clear()
                _logger.warning("The lease could not be renewed, trying again: %s", error)

    def renew_and_look(self) -> None:
        """One round: renew, bury who died, take up what is left behind."""
        began = self._clock.monotonic()
        lease_id = self._holder.lease.lease_id
        if not renew_lease(self._database, lease_id):
            _logger.warning(
                "This executor was taken for dead, its workflows run elsewhere; it goes on with a new lease"
            )
            self._holder.replace_lease(lease_id)
        if began - self._renewed_at > self._ttl_s:
            # We were away ourselves, so we cannot say what the others did meanwhile.
            self._standing.clear()
        self._renewed_at = began
        self._look(began)
        self._holder.look_after_runs()

    def _look(self, now: float) -> None:
        leases = read_live_leases(self._database, self._holder.lease.lease_id)
        standing: dict[str, tuple[int, float]] = {}
        for lease in leases:
            renewals, since = self._standing.get(lease.lease_id, (lease.renewals, now))
            if renewals != lease.renewals:
                renewals, since = lease.renewals, now
            standing[lease.lease_id] = (renewals, since)
            if is_gone(lease.process, self._holder.lease.process):
                self._bury(lease, "its process has ended")
            elif now - since >= self._ttl_s:
                self._bury(lease, f"it was not renewed for {self._ttl_s:g} s")
        self._standing = standing

    def _bury(self, lease: Lease, reason: str) -> None:
        if bury_lease(self._database, lease):
            left_behind = count_claims(self._database, lease.lease_id)
            _logger.log(
                logging.WARNING if left_behind else logging.INFO,
                "Executor %s (process %d on %s) is dead, as %s; it left %d workflows to be recovered",
                *(lease.executor_id, lease.process.pid, lease.process.hostname, reason, left_behind),
            )
            self._holder.buried(lease, reason, left_behind)
