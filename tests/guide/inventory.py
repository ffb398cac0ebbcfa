"""What becomes of each block of the guide: the test that executes it, or why there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.guide import Place, Program, guide_blocks

EXECUTED: dict[Place, str] = {}
"""The programs, each with the test that executes it; filled by the tests' decorators."""

TEXTS: dict[Place, str] = {
    ("DBOS Agent Skills", 1): "a command of another project",
    ("Configuring DBOS", 3): "the shape of a URL; test_configuration fills it in",
    ("Configuring DBOS", 4): "the shape of a URL; test_configuration fills it in",
    ("Configuring DBOS", 5): "the shape of a URL; test_configuration fills it in",
}
"""What is no Python."""

WARNED_OF: dict[Place, str] = {
    ("Running Async Steps In Parallel", 2): "two chains of steps race for their numbers",
}
"""What the guide says not to do, and no test does. (The first block on determinism is executed: to see the error.)"""

REPAIRS: dict[Place, dict[str, str]] = {
    ("Deduplication", 1): {"# Handle deduplication error": "refused.append(e)"},
    ("Explicit Queue Listening", 1): {'if worker_type = "gpu"': 'if worker_type == "gpu"'},
    ("Running Async Steps In Parallel", 1): {"    # Start steps": "async def in_parallel():\n    # Start steps"},
}
"""The programs that Python cannot parse: an `except` without a body, an assignment for a comparison, a function's body
without the function. Each with what is replaced."""


def runs(*places: Place) -> Callable[[Any], Any]:
    """Give the test these blocks as its `program`. Each block is some test's, and no other's."""

    def decorate(test: Any) -> Any:
        for place in places:
            assert place not in EXECUTED, f"{place} is executed by {EXECUTED[place]} already"
            EXECUTED[place] = f"{test.__module__}::{test.__name__}"
        name = places[0][0].replace(" ", "-")
        return pytest.mark.parametrize("program", [places], indirect=True, ids=[name])(test)

    return decorate


def guide_program(*places: Place) -> Program:
    """These blocks, in a namespace of their own; skips the test where there is no guide."""
    blocks = guide_blocks()
    return Program([blocks[place] for place in places], [REPAIRS.get(place, {}) for place in places])
