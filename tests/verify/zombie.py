"""Executors that are given up for dead, and come back."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support import ledger
from tests.support.waiting import wait_until
from tests.verify.crash import Nurseries
from tests.verify.gate import Plan
from tests.verify.life import Life


class Zombie:
    """A life that stops itself at a moment of its k-th commit, and goes on when it is told to."""

    def __init__(
        self,
        nurseries: Nurseries,
        program: Path,
        url: str,
        directory: Path,
        plan: Plan,
        renew_interval_s: float,
        lease_ttl_s: float = 0.4,
        variant: str = "",
        application_url: str = "",
    ) -> None:
        self.entries, self.output = directory / f"ledger-{plan.k}.jsonl", directory / f"output-{plan.k}.txt"
        self._nurseries = nurseries
        self._pool = ThreadPoolExecutor(1)
        self.life = Life(
            program=str(program),
            url=url.replace("{k}", str(plan.k)),
            ledger=str(self.entries),
            schema=f"k{plan.k}",
            plan=plan,
            renew_interval_s=renew_interval_s,
            lease_ttl_s=lease_ttl_s,
            variant=variant,
            application_url=application_url.replace("{k}", str(plan.k)),
        )
        self._ended = self._pool.submit(nurseries.run, self.life, self.output)

    def __enter__(self) -> Zombie:
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._ended.done():
            os.kill(self._reached()[0]["pid"], signal.SIGKILL)

    def wait_until_stopped(self) -> bool:
        """Whether it stopped; else it has ended without reaching k."""
        wait_until(lambda: self._ended.done() or self._is_stopped(), "the process has stopped")
        return not self._ended.done()

    def start_survivor(self) -> Future[int]:
        """Another life of the same program, in which nothing goes wrong."""
        survivor = replace(self.life, number=2, plan=None, renew_interval_s=0.05)
        return ThreadPoolExecutor(1).submit(self._nurseries.run, survivor, self.output.with_suffix(".survivor.txt"))

    def go_on(self) -> None:
        os.kill(self._reached()[0]["pid"], signal.SIGCONT)

    def end(self) -> int:
        """Its exit code, when it has ended."""
        return self._ended.result()

    def _is_stopped(self) -> bool:
        return any(_state(entry["pid"]) == "T" for entry in self._reached())

    def _reached(self) -> list[dict[str, Any]]:
        return [entry for entry in ledger.read(self.entries) if entry["kind"] == "reached"]

    def steps_executed(self) -> list[tuple[str, int]]:
        """The steps that this life executed so far."""
        entries = ledger.read(self.entries)
        return [(e["workflow"], e["step"]) for e in entries if e["kind"] == "step" and e["life"] == 1]

    def results(self) -> list[Any]:
        """What the callers in both lives got."""
        entries = ledger.read(self.entries)
        return [(e.get("value"), e.get("error")) for e in entries if e["kind"] == "end"]

    def guards(self) -> set[str]:
        """The guards that stopped a run of this life."""
        return {e["guard"] for e in ledger.read(self.entries) if e["kind"] == "guard" and e["life"] == 1}


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
