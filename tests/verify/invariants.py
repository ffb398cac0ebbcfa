"""What must hold after the last life of a program, whatever happened to the ones before."""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from dbos.error import DBOSQueueDeduplicatedError
from tests.verify.exchange import check_exchange
from tests.verify.rows import Row, Rows, decode

Entries = Sequence[Mapping[str, Any]]
"""The ledger."""

Step = tuple[str, int]
"""A step: its workflow's id, and its function id."""

_LIBRARY = "DBOS."
_ANSWERS = ("DBOS.recv", "DBOS.getEvent", "DBOS.getResult")
"""The library's steps whose results workflows return."""

_LIVE = ("PENDING", "ENQUEUED")


def check_finished(entries: Entries, rows: Rows, crashes: int) -> None:
    """Every workflow ended as it should, ran the right steps, and recorded what really ran."""
    program = _program(entries)
    allowed = program.get("statuses", {})
    wrong = {id: row for id, row in rows.workflows.items() if row["status"] not in allowed.get(id, ["SUCCESS"])}
    assert not wrong, f"not all ended well: {wrong}"
    missing = set(program["expected"]) - set(rows.workflows) - set(program.get("optional", []))
    assert not missing, f"workflows are missing: {missing}"
    assert set(rows.workflows) <= set(program["expected"]), f"each workflow has exactly one row: {set(rows.workflows)}"
    for id in rows.workflows:
        _check_names(program["expected"][id], id, rows)
    check_records(entries, rows)
    for id, row in rows.workflows.items():
        if row["status"] == "SUCCESS":
            _check_outcome(id, row, rows)
    _check_counts(entries, rows, crashes)
    _check_serial(entries, program.get("serial", []))
    _check_observers(entries, rows)


def check_records(entries: Entries, rows: Rows) -> None:
    """Every recorded value was returned by an execution of that very step; every recorded child exists.

    What was sent and published is where it should be. It holds at any moment, also between two lives.
    """
    program = next((entry for entry in entries if entry["kind"] == "program"), {})
    executed = _executions(entries)
    forks = {id: (source, start) for id, (source, start) in program.get("forks", {}).items() if id in rows.workflows}
    for key, row in rows.steps.items():
        source, start = forks.get(key[0], ("", 0))
        if key[1] < start:
            assert _recorded(row) == _recorded(rows.steps.get((source, key[1]), {})), f"step {key} is no true copy"
        elif row["child_workflow_id"] is not None:
            child = row["child_workflow_id"]
            assert child in rows.workflows, f"step {key} recorded the start of {child}, which does not exist"
        elif not row["function_name"].startswith(_LIBRARY) and not _is_refused(row):
            assert key in executed, f"step {key} is recorded and never ran"
            if row["error"] is None:
                assert decode(row["output"]) in executed[key], f"step {key} recorded what no execution of it returned"
    for id, (source, _) in forks.items():
        assert rows.workflows[id]["forked_from"] == source, f"{id} does not know that it was forked from {source}"
    for key in map(tuple, program.get("never", [])):
        assert key not in executed, f"step {key} must never begin"
    check_exchange(entries, rows, program)


def check_kept(before: Rows, after: Rows, entries: Entries, life: int) -> None:
    """What was recorded before a life is unchanged after it, and its steps did not run in that life."""
    resumes = next((entry.get("resumes", False) for entry in entries if entry["kind"] == "program"), False)
    for key, row in before.steps.items():
        assert after.steps.get(key) == row, f"the record of step {key} changed: {row} -> {after.steps.get(key)}"
        again = [entry for entry in entries if entry["kind"] == "step" and _key(entry) == key and entry["life"] >= life]
        assert not again, f"step {key} was recorded before life {life} and ran again"
    for id, row in before.workflows.items():
        if row["status"] not in _LIVE and not (resumes and row["status"] == "CANCELLED"):
            assert after.workflows.get(id) == row, f"workflow {id} had ended and changed"
        now = after.workflows[id]["workflow_deadline_epoch_ms"]
        was = row["workflow_deadline_epoch_ms"]
        assert was in (None, now), f"the deadline of workflow {id} moved: {was} -> {now}"
    for stream, entries_before in before.streams.items():
        entries_now = after.streams.get(stream, [])
        assert entries_now[: len(entries_before)] == entries_before, f"what was written to stream {stream} changed"


def check_unchanged(before: Rows, after: Rows) -> None:
    """Nothing at all changed, but that runs of cancelled workflows recorded their step in flight, and let go."""
    cancelled = {id for id, row in before.workflows.items() if row["status"] == "CANCELLED"}
    assert set(after.workflows) == set(before.workflows), "no workflow came or went"
    for id, row in before.workflows.items():
        now = after.workflows[id]
        is_released = id in cancelled and now["owner_xid"] is None
        assert now == ({**row, "owner_xid": None} if is_released else row), f"workflow {id} changed: {row} -> {now}"
    steps = {key: row for key, row in after.steps.items() if key in before.steps or key[0] not in cancelled}
    assert steps == before.steps, "steps changed"
    assert after.messages == before.messages, "messages changed"
    assert after.events == before.events, "events changed"
    assert after.history == before.history, "the history of events changed"
    assert after.streams == before.streams, "streams changed"


def _check_names(names: Sequence[str], id: str, rows: Rows) -> None:
    """The workflow recorded the steps that it should, each once; if it was cancelled, maybe not all of them."""
    is_whole = rows.workflows[id]["status"] == "SUCCESS"
    recorded = {number: row["function_name"] for (its, number), row in rows.steps.items() if its == id}
    known = {number: name.rstrip("?") for number, name in enumerate(names, 1)}
    unknown = {number: name for number, name in recorded.items() if known.get(number) != name}
    assert not unknown, f"workflow {id} recorded steps that it does not have: {unknown}"
    needed = {number for number, name in enumerate(names, 1) if name and not name.endswith("?")}
    missing = sorted(needed - set(recorded))
    assert not (is_whole and missing), f"steps {missing} of workflow {id} are not recorded"


def _check_outcome(id: str, row: Row, rows: Rows) -> None:
    answers: list[Any] = []
    for (its, number), step in sorted(rows.steps.items()):
        name: str = step["function_name"]
        if its != id or (name.startswith(_LIBRARY) and name not in _ANSWERS and step["error"] is None):
            continue
        if name in _ANSWERS or step["child_workflow_id"] is None:
            # A workflow of ours returns the name of what it catches.
            answers.append(decode(step["output"]) if step["error"] is None else type(decode(step["error"])).__name__)
        child = rows.workflows.get(step["child_workflow_id"] or "")
        if name == "DBOS.getResult" and child is not None:
            is_alike = step["output"] == child["output"] and (step["error"] is None) == (child["status"] == "SUCCESS")
            assert is_alike, f"step {(id, number)} recorded another outcome of {child['workflow_uuid']} than its row"
    outcome = decode(row["output"])
    assert sorted(_flat(outcome), key=repr) == sorted(_flat(answers), key=repr), (
        f"the outcome of {id} is made of the recorded values: {outcome} of {answers}"
    )


def _check_counts(entries: Entries, rows: Rows, crashes: int) -> None:
    executed = _executions(entries)
    for key in executed:
        has_succeeded = rows.workflows[key[0]]["status"] == "SUCCESS"
        assert key in rows.steps or not has_succeeded, f"step {key} ran and is not recorded"
    counts = {key: len(values) for key, values in executed.items()}
    most = max(counts.values(), default=0)
    assert most <= 1 + crashes, f"a step ran more often than {crashes} crashes explain: {counts}"


def _check_serial(entries: Entries, serial: Sequence[str]) -> None:
    """In each life one of them ran at a time, to its end."""
    for life in {entry["life"] for entry in entries if entry["kind"] == "step"}:
        steps = [e["workflow"] for e in entries if e["kind"] == "step" and e["life"] == life]
        order = [id for id, _ in groupby(id for id in steps if id in serial)]
        assert len(order) == len(set(order)), f"they ran at the same time in life {life}: {steps}"


def _check_observers(entries: Entries, rows: Rows) -> None:
    """The last caller, and whoever else looked in any life, saw the recorded outcome."""
    root = _program(entries)["root"]
    ends = [entry for entry in entries if entry["kind"] == "end"]
    assert ends, "the last life came to its end"
    assert _is_seen(ends[-1], rows.workflows[root]), f"the caller got the recorded outcome: {ends[-1]}"
    for entry in entries:
        if entry["kind"] == "seen":
            assert _is_seen(entry, rows.workflows[entry["workflow"]]), f"an observer saw another outcome: {entry}"


def _is_seen(entry: Mapping[str, Any], row: Row) -> bool:
    if row["status"] == "CANCELLED":
        return str(entry.get("error")).startswith("DBOSAwaitedWorkflowCancelledError")
    return bool(entry.get("value") == decode(row["output"]))


def _program(entries: Entries) -> Mapping[str, Any]:
    return next(entry for entry in entries if entry["kind"] == "program")


def _executions(entries: Entries) -> dict[Step, list[str]]:
    executed: dict[Step, list[str]] = {}
    for entry in entries:
        if entry["kind"] == "step":
            executed.setdefault(_key(entry), []).append(entry["value"])
    counts = Counter(value for values in executed.values() for value in values)
    assert max(counts.values(), default=1) == 1, "values in the ledger are unique"
    return executed


def _recorded(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(column) for column in ("function_name", "output", "error", "child_workflow_id"))


def _is_refused(row: Row) -> bool:
    """Whether it records that a queue refused a child. Not decoded: another program's exceptions cannot be, here."""
    return row["error"] is not None and DBOSQueueDeduplicatedError.__name__.encode() in b64decode(row["error"])


def _key(entry: Mapping[str, Any]) -> Step:
    return entry["workflow"], entry["step"]


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    else:
        yield value
