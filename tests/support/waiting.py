"""Waiting for a condition that no event announces."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], what: str, timeout: float = 30.0) -> None:
    """Look again and again until the condition holds; fail after the timeout, naming `what` was waited for."""
    give_up = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > give_up:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.002)
