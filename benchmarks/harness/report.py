"""The comparison as a plain table for the terminal and as a Markdown page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from harness.registry import Benchmark, Database, Direction

_HEADER = ("benchmark", "database", "unit", "ours", "peer", "times better", "range", "target", "met")


@dataclass(frozen=True, slots=True)
class Result:
    """The measurements of one benchmark on one database, in pairs (ours, peer) taken one right after the other."""

    benchmark: Benchmark
    database: Database
    pairs: Sequence[tuple[float, float]]

    @property
    def ours(self) -> float:
        return median(ours for ours, _ in self.pairs)

    @property
    def peer(self) -> float:
        return median(peer for _, peer in self.pairs)

    @property
    def ratios(self) -> list[float]:
        return sorted(self.benchmark.ratio(ours, peer) for ours, peer in self.pairs)

    @property
    def ratio(self) -> float:
        """Median of the ratios, pair by pair: what slows the whole machine down for a while slows both of a pair."""
        return median(self.ratios)

    @property
    def target(self) -> str:
        """As shown: times better, and a bound of our own measurement with its sign."""
        target = self.benchmark.targets[self.database]
        sign = "≤" if self.benchmark.direction is Direction.LOWER else "≥"
        parts = ["" if target.ratio is None else f"{target.ratio:g}"]
        parts += [] if target.bound is None else [f"ours {sign} {target.bound:g}"]
        return ", ".join(part for part in parts if part)

    @property
    def is_met(self) -> bool:
        return self.benchmark.is_met(self.benchmark.targets[self.database], ours=self.ours, ratio=self.ratio)


def plain_table(results: Sequence[Result]) -> str:
    """Columns aligned by spaces; numbers to the right."""
    rows = [_HEADER, *(_cells(result, result.benchmark.name) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def markdown_page(results: Sequence[Result], facts: Mapping[str, str]) -> str:
    """The page that is kept in the documentation."""
    lines = [
        "# Benchmarks",
        "",
        "This library (*ours*) against the PyPI package `dbos` (*peer*). `make bench` measures again and prints this",
        "table; `python benchmarks/run.py --write docs/benchmarks.md` writes this page as well. What is measured, and",
        "why it is fair, is told in [`benchmarks/README.md`](../benchmarks/README.md).",
        "",
        "Medians over the rounds. *Times better* is the median of the ratios of pairs measured one right after the",
        "other, *range* the smallest and the largest of them. A *target* is such a ratio, or a bound for ours alone.",
        "Ratios depend on the machine, above all on its disk: where flushing is slow, durability dominates both",
        "libraries.",
        "",
        f"| {' | '.join(_HEADER)} |",
        f"| {' | '.join(['---'] * 3 + ['---:'] * (len(_HEADER) - 3))} |",
        *(f"| {' | '.join(_cells(result, result.benchmark.title))} |" for result in results),
        "",
        "## Measured on",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in facts.items()),
        "",
    ]
    return "\n".join(lines)


def format_number(value: float) -> str:
    """Three significant digits, never in exponents."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _cells(result: Result, title: str) -> tuple[str, ...]:
    return (
        title,
        "-" if result.database is Database.NONE else result.database.value,
        result.benchmark.unit,
        format_number(result.ours),
        format_number(result.peer),
        format_number(result.ratio),
        f"{format_number(result.ratios[0])} - {format_number(result.ratios[-1])}",
        result.target,
        "-" if not result.target else "yes" if result.is_met else "no",
    )
