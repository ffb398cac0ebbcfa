"""What `destroy()` interrupts is handed back at once, and that is no recovery attempt."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dbos import DBOS, SetWorkflowID
from tests.runtime.conftest import PROGRAMS
from tests.support import ledger
from tests.support.waiting import wait_until
from tests.verify.crash import Nurseries
from tests.verify.life import Life
from tests.verify.rows import decode, read_rows

pytestmark = pytest.mark.usefixtures("destroyed")


class Interrupted:
    """A workflow of two steps, which stands in its second step until `go_on`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._standing, self._may_go_on = threading.Event(), threading.Event()
        self.executions: list[int] = []

        @DBOS.step(name="step")
        def step() -> str:
            assert DBOS.step_id is not None
            self.executions.append(DBOS.step_id)
            if DBOS.step_id == 2:
                self._standing.set()
                assert self._may_go_on.wait(30)
            return f"here-{DBOS.step_id}"

        @DBOS.workflow(name="handed_back", max_recovery_attempts=0)
        def handed_back() -> list[str]:
            return [step(), step()]

        self._workflow = handed_back

    def launch(self) -> None:
        DBOS(config={"name": "app", "system_database_url": self._url, "application_version": "1"})
        DBOS.launch()

    def start(self) -> None:
        self.launch()
        with SetWorkflowID("handed-back"):
            DBOS.start_workflow(self._workflow)
        assert self._standing.wait(30)

    def go_on(self) -> None:
        self._may_go_on.set()


def test_next_launch_takes_up_what_destroy_interrupted(database_url: str) -> None:
    """However often: its limit of recoveries is zero."""
    workflow = Interrupted(database_url)
    workflow.start()
    for _ in range(3):
        DBOS.destroy()
        row = read_rows(database_url).workflows["handed-back"]
        assert (row["status"], row["owner_xid"]) == ("PENDING", None)
        count = len(workflow.executions)
        workflow.launch()
        wait_until(lambda count=count: len(workflow.executions) > count or _is_over(database_url), "it is taken up")  # type: ignore[misc]
    workflow.go_on()
    assert DBOS.get_result("handed-back") == ["here-1", "here-2"]
    assert workflow.executions == [1, 2, 2, 2, 2], "the first step is recorded and never runs again"
    assert read_rows(database_url).workflows["handed-back"]["recovery_attempts"] == 1


def test_live_process_takes_up_what_another_one_hands_back(
    database_url: str, nurseries: Nurseries, tmp_path: Path
) -> None:
    """It does not wait for any lease to run out: that would take longer than this test may."""
    workflow = Interrupted(database_url)
    workflow.start()
    life = Life(
        str(PROGRAMS / "taking_over.py"), database_url, str(tmp_path / "ledger"), renew_interval_s=0.05, lease_ttl_s=600
    )
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(nurseries.run, life, tmp_path / "output.txt")
        wait_until(Path(life.ledger + ".running").exists, "the other process is launched")
        DBOS.destroy()
        workflow.go_on()
        assert other.result() == 0, (tmp_path / "output.txt").read_text()

    [value] = [entry["value"] for entry in ledger.read(life.ledger) if entry["kind"] == "step"]
    rows = read_rows(database_url)
    assert decode(rows.workflows["handed-back"]["output"]) == ["here-1", value]
    assert rows.workflows["handed-back"]["recovery_attempts"] == 1


def _is_over(url: str) -> bool:
    return bool(read_rows(url).workflows["handed-back"]["status"] != "PENDING")
