"""A workflow that takes its process down is given up after as many recoveries as it may have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.runtime.conftest import PROGRAMS
from tests.support import ledger
from tests.verify.crash import Nurseries
from tests.verify.life import Life
from tests.verify.rows import query, read_rows


def test_workflow_is_given_up_after_its_recoveries(nurseries: Nurseries, database_url: str, tmp_path: Path) -> None:
    """Limit 2: two recoveries run, the third marks it, and awaiters are told; without a limit it goes on for ever."""
    output = tmp_path / "output.txt"
    life = Life(str(PROGRAMS / "poison.py"), database_url, str(tmp_path / "ledger.jsonl"))
    for number in (1, 2, 3):
        assert nurseries.run(replace(life, number=number), output) == -9, output.read_text()
        assert read_rows(database_url).workflows["poison"]["status"] == "PENDING"
    query(database_url, "UPDATE {schema}workflow_status SET recovery_attempts = 5000 WHERE workflow_uuid = 'stubborn'")
    assert nurseries.run(replace(life, number=4), output) == 0, output.read_text()

    entries, rows = ledger.read(life.ledger), read_rows(database_url).workflows
    assert [e["life"] for e in entries if e["kind"] == "step" and e["workflow"] == "poison"] == [1, 2, 3]
    assert rows["poison"]["status"] == "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    assert rows["poison"]["recovery_attempts"] == 4
    end = entries[-1]["value"]
    assert end["error"] == "DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded"
    assert "poison" in end["text"]
    assert rows["stubborn"]["status"] == "SUCCESS"

    assert nurseries.run(replace(life, number=5), output) == 0, output.read_text()
    assert read_rows(database_url).workflows["poison"] == rows["poison"], "given up for good"
