"""For how long workflows that have ended are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """What is kept of the workflows that have ended; without limits, all of them.

    Attributes:
        max_age_ms: They are deleted so long after they were created.
        max_workflows: They are deleted when so many newer workflows were created.
        max_age_ms_by_name: The age for workflows of these functions, instead of the general one.
    """

    max_age_ms: int | None = None
    max_workflows: int | None = None
    max_age_ms_by_name: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def keeps_all(self) -> bool:
        return self.max_age_ms is None and self.max_workflows is None and not self.max_age_ms_by_name


KEEP_ALL = RetentionPolicy()
