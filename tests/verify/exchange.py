"""What must hold at any moment of what workflows exchange: messages, events, streams; and of their waits and deadlines.

Messages are those of `tests.verify.life.new_message`: each says who sent it, as which of the sender's, on which topic.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tests.verify.rows import Rows, decode

CLOSED = "__DBOS_STREAM_CLOSED__"

OUTSIDE = "outside"
"""The sender of messages from outside of workflows."""

_CLOCKS_DIFFER_MS = 20.0
"""A wait ends when it should by the clock of the process; its record says when that is by the clock of the database."""

Entries = Sequence[Mapping[str, Any]]
Expectations = Mapping[str, Any]


def check_exchange(entries: Entries, rows: Rows, program: Expectations) -> None:
    """Whatever was recorded has happened exactly once, and nothing else has."""
    _check_messages(entries, rows, program)
    _check_events(entries, rows)
    _check_streams(entries, rows)
    _check_waits(entries, rows)
    _check_deadlines(rows, program)


def _check_messages(entries: Entries, rows: Rows, program: Expectations) -> None:
    """A message is delivered exactly once: it waits, or was received. It was sent in the commit that recorded it.

    One that is both, or neither, was not consumed in the commit that recorded its receipt.
    """
    arrived: dict[str, list[Any]] = defaultdict(list)
    for (workflow, _), row in sorted(rows.steps.items()):
        if row["function_name"] == "DBOS.recv" and (message := decode(row["output"])) is not None:
            arrived[workflow].append(message)
    for row in rows.messages:
        message = decode(row["message"])
        assert row["topic"] == (message[2] or "__null__topic__"), f"a message waits on another topic: {row}"
        arrived[row["destination_uuid"]].append(message)
    numbers: dict[str, list[int]] = defaultdict(list)
    for workflow, messages in arrived.items():
        in_line: dict[tuple[str, str | None], list[int]] = defaultdict(list)
        for sender, number, topic, _ in messages:
            in_line[sender, topic].append(number)
            numbers[sender].append(number)
        for line, its_numbers in in_line.items():
            if not program.get("unordered", False):
                assert its_numbers == sorted(its_numbers), f"{workflow} got messages of {line} out of order: {messages}"
    for sender, its_numbers in numbers.items():
        assert len(its_numbers) == len(set(its_numbers)), f"a message of {sender} was delivered twice: {arrived}"
    senders = (set(numbers) | {workflow for workflow, _ in rows.steps}) - {OUTSIDE}
    for sender in senders:
        sent = [row for (its, _), row in rows.steps.items() if its == sender and row["function_name"] == "DBOS.send"]
        count = sum(row["error"] is None for row in sent)
        assert sorted(numbers[sender]) == list(range(1, count + 1)), (
            f"{sender} recorded that it has sent {count} messages, delivered were {sorted(numbers[sender])}"
        )
    promised = {entry["number"] for entry in entries if entry["kind"] == "sent"}
    lost = promised - set(numbers[OUTSIDE])
    assert not lost, f"messages {sorted(lost)} from outside were lost: {arrived}"


def _check_events(entries: Entries, rows: Rows) -> None:
    """An event is the last value that was set. Each recorded `set_event` has set one, and nobody else in a workflow."""
    newest: dict[tuple[str, str], tuple[int, str]] = {}
    for (workflow, key, number), row in rows.history.items():
        newest[workflow, key] = max(newest.get((workflow, key), (0, "")), (number, row["value"]))
        step = rows.steps.get((workflow, number))
        if step is None:
            was_set = _executions(entries)[workflow, number]
            assert decode(row["value"]) in was_set, f"{(workflow, key)} was set by step {number}, which never ran"
        elif step["function_name"] != "DBOS.setEvent" and step["error"] is None:
            is_own = decode(row["value"]) == decode(step["output"])
            assert is_own, f"{(workflow, key)} holds what another execution of step {number} than the recorded one set"
    values = {event: row["value"] for event, row in rows.events.items()}
    assert values == {event: value for event, (_, value) in newest.items()}, "events are the last ones in the history"
    of_steps = {(workflow, number) for workflow, _, number in rows.history}
    for step_key, step in rows.steps.items():
        if step["function_name"] == "DBOS.setEvent":
            assert step_key in of_steps, f"step {step_key} recorded that it has set an event, and none is there"
    for entry in entries:
        if entry["kind"] == "events":
            stored = {key: decode(row["value"]) for (its, key), row in rows.events.items() if its == entry["workflow"]}
            assert entry["values"] == stored, f"somebody saw other events of the ended workflow: {entry}"


def _check_streams(entries: Entries, rows: Rows) -> None:
    """Streams have no gaps, and one entry for each recorded write of a workflow; what readers saw is what stands."""
    written: dict[tuple[str, int], int] = defaultdict(int)
    for stream, stored in rows.streams.items():
        assert [row["offset"] for row in stored] == list(range(len(stored))), f"stream {stream} has gaps: {stored}"
        order = [row["function_id"] for row in stored]
        assert order == sorted(order), f"stream {stream} is not in the order of its writes: {stored}"
        for row in stored:
            written[stream[0], row["function_id"]] += 1
            step = rows.steps.get((stream[0], row["function_id"]))
            if step is None:
                was_written = _executions(entries)[stream[0], row["function_id"]]
                assert decode(row["value"]) in was_written, f"{row} was written by no step"
    for key, step in rows.steps.items():
        if step["function_name"] in ("DBOS.writeStream", "DBOS.closeStream") and step["error"] is None:
            assert written[key] == 1, f"step {key} recorded one entry of a stream, {written[key]} are there"
    for entry in entries:
        if entry["kind"] == "read":
            values = [decode(row["value"]) for row in rows.streams.get((entry["workflow"], entry["key"]), [])]
            expected = values[: values.index(CLOSED)] if CLOSED in values else values
            assert entry["values"] == expected, f"a reader saw something else than {expected}: {entry}"
        if entry["kind"] == "written":
            stored = rows.streams.get((entry["workflow"], entry["key"]), [])
            assert entry["value"] in [decode(row["value"]) for row in stored], f"a step's entry was lost: {entry}"


def _check_waits(entries: Entries, rows: Rows) -> None:
    """What comes after a wait that nothing ended came after its recorded end."""
    for (workflow, number), row in rows.steps.items():
        if row["function_name"] != "DBOS.sleep":
            continue
        waiting = rows.steps.get((workflow, number - 1))
        is_of_a_call = waiting is not None and waiting["function_name"] in ("DBOS.recv", "DBOS.getEvent")
        if is_of_a_call and waiting is not None and decode(waiting["output"]) is not None:
            continue
        wakes_at_ms = decode(row["output"]) * 1000 - _CLOCKS_DIFFER_MS
        early = [e for e in entries if e["kind"] == "step" and e["workflow"] == workflow and e["step"] > number]
        early = [entry for entry in early if entry["at_ms"] < wakes_at_ms]
        assert not early, f"the wait in step {(workflow, number)} should end at {wakes_at_ms}: {early}"


def _check_deadlines(rows: Rows, program: Expectations) -> None:
    """Nobody is cancelled before the deadline, and children have their parent's."""
    for id, row in rows.workflows.items():
        deadline_ms = row["workflow_deadline_epoch_ms"]
        if deadline_ms is not None and row["status"] == "CANCELLED":
            assert row["completed_at"] >= deadline_ms, f"workflow {id} was cancelled before its deadline: {row}"
        parent = rows.workflows.get(row["parent_workflow_id"] or "")
        if parent is not None:
            inherited = None if id in program.get("detached", []) else parent["workflow_deadline_epoch_ms"]
            assert deadline_ms == inherited, f"workflow {id} should have the deadline {inherited}: {row}"


def _executions(entries: Entries) -> dict[tuple[str, int], set[str]]:
    executed: dict[tuple[str, int], set[str]] = defaultdict(set)
    for entry in entries:
        if entry["kind"] == "step":
            executed[entry["workflow"], entry["step"]].add(entry["value"])
    return executed
