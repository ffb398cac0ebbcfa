"""The work itself: counts words, slowly. Knows nothing of workflows."""

from __future__ import annotations

import os
import time

PAGE_S = float(os.environ.get("PAGE_S", "2"))


def count(page: str) -> int:
    """How many words there are on a page."""
    time.sleep(PAGE_S)  # as if it were hard
    return len(page.split())
