"""Every promise in docs/guarantees.md, and every fault in docs/reliability.md, names tests; and those exist."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.support.processes import ROOT

GUARANTEES = ROOT / "docs" / "guarantees.md"
RELIABILITY = ROOT / "docs" / "reliability.md"

_ITEM = re.compile(r"^- (.*?)(?=^- |^#|^$|\Z)", re.MULTILINE | re.DOTALL)
_TEST = re.compile(r"`(tests/[\w/]+\.py::\w+)`")


def test_every_promise_names_a_test() -> None:
    promised, _, not_promised = GUARANTEES.read_text(encoding="utf-8").partition("## What is not promised")
    assert not_promised, "the page also says what is not promised"
    promises = _ITEM.findall(promised)
    assert len(promises) > 10
    assert [promise for promise in promises if not _TEST.search(promise)] == []


def test_every_fault_names_a_test() -> None:
    _, _, catalogue = RELIABILITY.read_text(encoding="utf-8").partition("## The fault catalogue")
    rows = [line for line in catalogue.partition("\n## ")[0].splitlines() if line.startswith("|")][2:]
    assert len(rows) > 30
    assert [row for row in rows if not _TEST.search(row)] == []


def test_every_named_test_exists() -> None:
    text = GUARANTEES.read_text(encoding="utf-8") + RELIABILITY.read_text(encoding="utf-8")
    names = sorted(set(_TEST.findall(text)))
    assert _collect(*names) == ""


def test_a_name_of_no_test_is_noticed() -> None:
    """The check of this module, on a test that was renamed."""
    gone = "tests/docs/test_guarantees.py::test_that_was_renamed"
    assert gone in _collect("tests/docs/test_guarantees.py::test_every_promise_names_a_test", gone)


def _collect(*names: str) -> str:
    """Let pytest find the tests, without running them; what it complains of, nothing if it found all."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *names]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    return "" if collected.returncode == 0 else collected.stdout + collected.stderr
