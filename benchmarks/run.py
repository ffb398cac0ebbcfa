"""Measure this library side by side with the peer, the PyPI package `dbos`. See README.md next to this file."""

import argparse
import contextlib
import sys
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from harness.contestants import DEFAULT_PEER_VENV, Contestant, find_ours, prepare_peer
from harness.databases import Source, Sqlite, postgres
from harness.machine import machine_facts
from harness.measure import BenchmarkFailed, measure
from harness.registry import BENCHMARKS, Benchmark, Database
from harness.report import Result, format_number, markdown_page, plain_table

QUICK_ROUNDS = 1


def main() -> int:
    options = _parse_options()
    ours = find_ours(options.ours_python)
    peer = prepare_peer(options.peer_venv, base_python=options.ours_python)
    chosen = [benchmark for benchmark in BENCHMARKS if options.only is None or benchmark.name in options.only]
    rounds = QUICK_ROUNDS if options.quick else options.rounds
    with _sources(options.database) as sources:
        facts = _facts(ours, peer, sources, rounds)
        planned = [(each, database) for each in chosen for database in each.targets if database in sources]
        results, failures = _run_all(planned, sources, ours, peer, rounds)
    print(plain_table(results))
    print("\n" + "\n".join(f"{name}: {value}" for name, value in facts.items()))
    for failure in failures:
        print(f"\nFAILED {failure}", file=sys.stderr)
    if options.write is not None and not failures:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(markdown_page(results, facts), encoding="utf-8")
    return 1 if failures else 0


def _parse_options() -> argparse.Namespace:
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of measurements per benchmark (default 5)")
    parser.add_argument("--quick", action="store_true", help=f"only {QUICK_ROUNDS} round")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"repeatable; one of {names}")
    parser.add_argument("--database", choices=["sqlite", "postgres", "both"], default="both")
    parser.add_argument("--ours-python", type=Path, default=Path(sys.executable), help="default: this interpreter")
    parser.add_argument("--peer-venv", type=Path, default=DEFAULT_PEER_VENV, help="made when it is not there")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the Markdown page there (if nothing failed)")
    return parser.parse_args()


@contextlib.contextmanager
def _sources(choice: str) -> Generator[Mapping[Database, Source | None], None, None]:
    """The chosen databases; a benchmark without a database is always possible."""
    sources: dict[Database, Source | None] = {Database.NONE: None}
    with contextlib.ExitStack() as stack:
        if choice in ("postgres", "both"):
            sources[Database.POSTGRES] = stack.enter_context(postgres())
        if choice in ("sqlite", "both"):
            sources[Database.SQLITE] = Sqlite()
        yield sources


def _run_all(
    planned: Sequence[tuple[Benchmark, Database]],
    sources: Mapping[Database, Source | None],
    ours: Contestant,
    peer: Contestant,
    rounds: int,
) -> tuple[list[Result], list[BenchmarkFailed]]:
    """Every planned benchmark; one that fails does not stop the others."""
    results: list[Result] = []
    failures: list[BenchmarkFailed] = []
    for benchmark, database in planned:
        try:
            pairs = [
                _measure_pair(benchmark, sources[database], ours, peer, number)
                for number in range(min(rounds, benchmark.max_rounds or rounds))
            ]
        except BenchmarkFailed as failure:
            failures.append(failure)
            print(f"{benchmark.name} {database.value}: FAILED", file=sys.stderr, flush=True)
            continue
        results.append(Result(benchmark, database, pairs))
        shown = ", ".join(f"{format_number(a)}/{format_number(b)}" for a, b in pairs)
        print(f"{benchmark.name} {database.value}: {shown} {benchmark.unit}", file=sys.stderr, flush=True)
    return results, failures


def _measure_pair(
    benchmark: Benchmark, source: Source | None, ours: Contestant, peer: Contestant, number: int
) -> tuple[float, float]:
    """Ours and the peer right after each other; who is first changes from round to round."""
    if number % 2 == 0:
        first = measure(benchmark, ours, source)
        return first, measure(benchmark, peer, source)
    second = measure(benchmark, peer, source)
    return measure(benchmark, ours, source), second


def _facts(
    ours: Contestant, peer: Contestant, sources: Mapping[Database, Source | None], rounds: int
) -> dict[str, str]:
    facts = {"Date": datetime.now(timezone.utc).strftime("%Y-%m-%d"), "Rounds": str(rounds)} | machine_facts()
    for source in sources.values():
        facts |= {} if source is None else source.facts
    for contestant in (ours, peer):
        facts[contestant.name.capitalize()] = ", ".join(f"{name} {it}" for name, it in contestant.versions.items())
    return facts


if __name__ == "__main__":
    sys.exit(main())
