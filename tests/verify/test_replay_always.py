"""A part of the tests of the public API, with every run dropped and replayed after each checkpoint.

`make replay` runs all of them so; see `tests.verify.replay`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support.processes import ROOT
from tests.verify import replay

PART = ("steps", "messages", "message_replay", "events", "fork")


@pytest.mark.timeout(300)
def test_api_holds_with_every_run_replayed_after_each_checkpoint() -> None:
    files = [f"tests/api/test_{name}.py" for name in PART]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not postgres", *files]
    run = subprocess.run(command, cwd=ROOT, env={**os.environ, "REPLAY": "always"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    count = re.search(r"(\d+) passed", run.stdout)
    assert count is not None
    assert int(count[1]) > 100, "hardly anything ran"


def test_what_cannot_be_replayed_exists_and_has_a_reason() -> None:
    """A test that was renamed would run again, or hide another."""
    for test, reason in replay.CANNOT.items():
        file, name = test.split("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"there is no {test}"
        assert reason
