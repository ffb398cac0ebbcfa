"""Fail-over as users configure it: executors that hang, come back, and are asked to end."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from dbos.runtime.leases import TTL_S, renew_interval_s
from tests.runtime.conftest import PROGRAMS
from tests.support import ledger
from tests.support.processes import Child, Spawner
from tests.support.waiting import wait_until
from tests.verify.rows import decode, query, read_rows

PROGRAM = PROGRAMS / "failing_over.py"

ONE_SECOND = 0.8
"""The lease's time-out with which a take-over takes a second."""

NEVER = 600

TOLERANCE_S = 4.0
"""What the start of a step and a busy machine may take."""


class Processes:
    """Starts the program on one database."""

    def __init__(self, spawn: Spawner, url: str, directory: Path) -> None:
        self._spawn, self.url = spawn, url
        self.ledger = directory / "ledger.jsonl"

    def start(self, role: str, stands: int = 0, **config: Any) -> Child:
        child = self._spawn(PROGRAM, self.url, self.ledger, json.dumps(config), role, str(stands))
        child.wait_for_line("launched")
        return child

    def steps(self, role: str) -> list[int]:
        """The steps that a process of this role began."""
        return [entry["step"] for entry in ledger.read(self.ledger) if entry["role"] == role]

    def result(self) -> Any:
        """What is recorded of the workflow; `None` if it has not ended."""
        return decode(read_rows(self.url).workflows["w"]["output"])

    def leases(self) -> int:
        return int(query(self.url, "SELECT count(*) FROM {schema}executors WHERE state = 'LIVE'")[0][0])


@pytest.fixture
def processes(spawn: Spawner, database_url: str, tmp_path: Path) -> Processes:
    return Processes(spawn, database_url, tmp_path)


def _hang_and_come_back(processes: Processes, within_s: float, **config: Any) -> None:
    hung = processes.start("caller", stands=2, **config)
    server = processes.start("server", **config)
    hung.wait_for_line("standing")
    hung.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    wait_until(lambda: processes.steps("server") != [], "the other process has taken over", within_s + TOLERANCE_S + 5)
    assert time.monotonic() - began < within_s + TOLERANCE_S
    wait_until(lambda: processes.result() is not None, "the other process has finished the workflow")
    recorded = processes.result()

    hung.send_signal(signal.SIGCONT)
    hung.write_line()
    seen = hung.wait_for_line(r"^result (.*)$")[1]
    assert json.loads(seen) == recorded, "its caller gets the recorded outcome"
    assert processes.steps("caller") == [1, 2], "it starts no step after the one in flight"
    assert processes.steps("server") == [2, 3], "what was recorded does not run again"
    assert processes.result() == recorded, "it changes nothing"
    server.send_signal(signal.SIGTERM)
    assert server.wait() == -signal.SIGTERM


def test_hung_executor_is_replaced_within_a_second_where_so_configured_and_fenced(processes: Processes) -> None:
    _hang_and_come_back(processes, within_s=1.0, lease_timeout_sec=ONE_SECOND)


def test_hung_executor_is_replaced_within_fifteen_seconds_by_default(
    spawn: Spawner, postgres_url: str, tmp_path: Path
) -> None:
    assert TTL_S + 2 * renew_interval_s(TTL_S) <= 15
    _hang_and_come_back(Processes(spawn, postgres_url, tmp_path), within_s=15.0 - TOLERANCE_S)


def test_sigterm_lets_running_work_complete_and_starts_nothing_more(processes: Processes) -> None:
    """Also what is enqueued already waits for another process; the lease is given back."""
    child = processes.start("queueing", stands=1, termination_timeout_sec=60)
    child.wait_for_line("standing")
    child.send_signal(signal.SIGTERM)
    child.wait_for_line("SIGTERM", stream="stderr")
    child.write_line()
    assert child.wait() == -signal.SIGTERM
    rows = read_rows(processes.url).workflows
    assert [rows[f"job-{number}"]["status"] for number in range(3)] == ["SUCCESS", "ENQUEUED", "ENQUEUED"]
    assert processes.leases() == 0


def test_sigterm_hands_back_what_does_not_complete_in_time(processes: Processes) -> None:
    """No lease has to run out for others to take it up, and that counts no attempt."""
    child = processes.start("caller", stands=2, termination_timeout_sec=0.2)
    child.wait_for_line("standing")
    child.send_signal(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM
    row = read_rows(processes.url).workflows["w"]
    assert (row["status"], row["owner_xid"], processes.leases()) == ("PENDING", None, 0)
    processes.start("server", lease_timeout_sec=NEVER)
    wait_until(lambda: processes.result() is not None, "the next process has finished the workflow")
    assert processes.steps("server") == [2, 3]
    assert read_rows(processes.url).workflows["w"]["recovery_attempts"] == 1


def test_second_sigterm_ends_the_process_at_once(processes: Processes) -> None:
    child = processes.start("queueing", stands=1, termination_timeout_sec=600)
    child.wait_for_line("standing")
    child.send_signal(signal.SIGTERM)
    child.wait_for_line("SIGTERM", stream="stderr")
    child.send_signal(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM


def test_handler_of_the_application_is_left_alone(processes: Processes) -> None:
    child = processes.start("handling")
    child.send_signal(signal.SIGTERM)
    child.wait_for_line("handled by the application")
    assert child.returncode is None
