"""One measurement: a program under one interpreter, in a fresh process on a fresh database, and its check.

A program checks its own results through the library, then leaves by `os._exit`, so nothing can be written late; here
its database is looked into by plain SQL, so nothing can be claimed that is not there.
"""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from harness.contestants import Contestant, clean_environment
from harness.databases import Source, UnreadableDatabase
from harness.registry import Benchmark

PROGRAMS = Path(__file__).resolve().parent.parent / "programs"


class BenchmarkFailed(Exception):
    """A program crashed, hung, gave a wrong result, or left something else in the database than it said."""


def measure(benchmark: Benchmark, contestant: Contestant, source: Source | None) -> float:
    """The median of the benchmark's samples, in its unit. Raises `BenchmarkFailed`."""
    return median(_sample(benchmark, contestant, source) for _ in range(benchmark.samples))


def _sample(benchmark: Benchmark, contestant: Contestant, source: Source | None) -> float:
    if source is None:
        return float(_run_program(benchmark, contestant, {})["value"])
    with source.fresh() as url:
        answer = _run_program(benchmark, contestant, {"BENCH_DATABASE_URL": url})
        try:
            found = source.counts(url)
        except UnreadableDatabase as error:
            raise BenchmarkFailed(f"{benchmark.name}, {contestant.label}: {error}") from error
        expected: dict[str, int] = answer["rows"]
        if {what: found[what] for what in expected} != expected:
            message = f"{benchmark.name}, {contestant.label}: the database holds {found}, expected {expected}"
            raise BenchmarkFailed(message)
        return float(answer["value"])


def _run_program(benchmark: Benchmark, contestant: Contestant, variables: Mapping[str, str]) -> dict[str, Any]:
    command = [str(contestant.python), str(PROGRAMS / benchmark.program), *benchmark.arguments]
    with tempfile.TemporaryDirectory(prefix="dbos-bench-") as directory:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**clean_environment(), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=benchmark.timeout_s)
        except subprocess.TimeoutExpired:
            message = f"{benchmark.name}, {contestant.label}: not done after {benchmark.timeout_s} s"
            raise BenchmarkFailed(message) from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # and with it whatever the program itself has started
                process.wait()
    if process.returncode != 0:
        message = f"{benchmark.name}, {contestant.label}: exit code {process.returncode}\n{errors[-4000:]}"
        raise BenchmarkFailed(message)
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer
