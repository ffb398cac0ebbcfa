"""The settings of an executor."""

from __future__ import annotations

from dataclasses import dataclass

from dbos.model.retention import KEEP_ALL, RetentionPolicy
from dbos.runtime.leases import RENEW_INTERVAL_S, TTL_S
from dbos.runtime.schedules import POLL_INTERVAL_S
from dbos.runtime.waits import LONGEST_INTERVAL_S


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """What one launch is told.

    Attributes:
        executor_id: A label; several executors may share it.
        application_version: Workflows of this version are recovered here, those of others are not.
        hold_back_s: The longest time that a checkpoint is held back; see the journal.
        renew_interval_s: How often the lease is renewed.
        lease_ttl_s: For how long another executor's lease must stand still until it counts as dead.
        longest_poll_s: How long to wait at most before looking without a hint from another process.
        is_patching_enabled: Whether workflows may ask for patches.
        retention: Which workflows are deleted when they have ended.
        schedules_poll_s: The same for changes of schedules.
    """

    executor_id: str
    application_version: str
    application_id: str = ""
    hold_back_s: float = 0.002
    renew_interval_s: float = RENEW_INTERVAL_S
    lease_ttl_s: float = TTL_S
    longest_poll_s: float = LONGEST_INTERVAL_S
    is_patching_enabled: bool = False
    retention: RetentionPolicy = KEEP_ALL
    schedules_poll_s: float = POLL_INTERVAL_S
