"""What must hold after the last life of a program, whatever happened to the ones before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.verify.rows import Rows, decode

Entries = Sequence[Mapping[str, Any]]
"""The ledger."""


def check_finished(entries: Entries, rows: Rows, crashes: int) -> None:
    """Every workflow succeeded, ran the right steps, and recorded what really ran."""
    program = next(entry for entry in entries if entry["kind"] == "program")
    expected, root = program["expected"], program["root"]
    assert set(rows.workflows) == set(expected), "each workflow has exactly one row"
    statuses = {id: row["status"] for id, row in rows.workflows.items()}
    assert set(statuses.values()) == {"SUCCESS"}, f"not all ended well: {statuses}"
    names = {(id, number): name for id, names in expected.items() for number, name in enumerate(names, 1)}
    assert {key: row["function_name"] for key, row in rows.steps.items()} == names, "each step is recorded once"
    check_records(entries, rows)
    executed = _executions(entries)
    recorded = sorted(decode(rows.steps[key]["output"]) for key in executed)
    outcome = decode(rows.workflows[root]["output"])
    assert sorted(_flat(outcome)) == recorded, "the outcome is made of the recorded values"
    ends = [entry for entry in entries if entry["kind"] == "end"]
    assert ends, "the last life came to its end"
    assert ends[-1].get("value") == outcome, f"the caller got the recorded outcome: {ends[-1]}"
    counts = {key: len(values) for key, values in executed.items()}
    assert max(counts.values()) <= 1 + crashes, f"a step ran more often than {crashes} crashes explain: {counts}"


def check_records(entries: Entries, rows: Rows) -> None:
    """Every recorded value was returned by an execution of that very step; every recorded child exists."""
    for key, values in _executions(entries).items():
        row = rows.steps.get(key)
        if row is not None and row["error"] is None:
            assert decode(row["output"]) in values, f"step {key} recorded a value that no execution of it returned"
    for key, row in rows.steps.items():
        child = row["child_workflow_id"]
        if child is None:
            assert key in _executions(entries), f"step {key} is recorded and never ran"
        else:
            assert child in rows.workflows, f"step {key} recorded the start of {child}, which does not exist"


def check_kept(before: Rows, after: Rows, entries: Entries, life: int) -> None:
    """What was recorded before a life is unchanged after it, and its steps did not run in that life."""
    for key, row in before.steps.items():
        assert after.steps.get(key) == row, f"the record of step {key} changed: {row} -> {after.steps.get(key)}"
        again = [entry for entry in entries if entry["kind"] == "step" and _key(entry) == key and entry["life"] >= life]
        assert not again, f"step {key} was recorded before life {life} and ran again"
    for id, row in before.workflows.items():
        if row["status"] != "PENDING":
            assert after.workflows.get(id) == row, f"workflow {id} had ended and changed"


def check_unchanged(before: Rows, after: Rows) -> None:
    """Nothing at all changed."""
    assert after.workflows == before.workflows
    assert after.steps == before.steps


def _executions(entries: Entries) -> dict[tuple[str, int], list[str]]:
    executed: dict[tuple[str, int], list[str]] = {}
    for entry in entries:
        if entry["kind"] == "step":
            executed.setdefault(_key(entry), []).append(entry["value"])
    counts = Counter(value for values in executed.values() for value in values)
    assert max(counts.values(), default=1) == 1, "values in the ledger are unique"
    return executed


def _key(entry: Mapping[str, Any]) -> tuple[str, int]:
    return entry["workflow"], entry["step"]


def _flat(value: Any) -> Iterator[str]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    else:
        yield value
