"""Short words for what tests of the storage layer write and read."""

from __future__ import annotations

from typing import Any

from dbos.model.values import (
    AlreadyExists,
    Batch,
    BatchAnswer,
    Checkpoint,
    ChildStart,
    Lease,
    Message,
    Outcome,
    ProcessIdentity,
    RunAnswer,
    RunWrites,
    StartAnswer,
    StepEffect,
    WorkflowStart,
)
from dbos.storage.batches import batch_store
from dbos.storage.database import Database, Row
from dbos.storage.errors import TransientStorageError
from dbos.storage.reads import StepRow, WorkflowFilter, WorkflowRow, read_steps, read_workflows

VERSION = "version-1"
SUCCEEDED = Outcome("SUCCESS", "the result", None, "pickle")
FAILED = Outcome("ERROR", None, "the error", "pickle")

Part = WorkflowStart | Message | RunWrites
"""What a batch is made of."""


def lease(lease_id: str = "lease-1", **others: Any) -> Lease:
    """A lease of some process far away."""
    fields: dict[str, Any] = {
        "lease_id": lease_id,
        "executor_id": "local",
        "application_version": VERSION,
        "process": ProcessIdentity("far-away", 1, None, None, None),
    }
    return Lease(**fields | others)


def start(workflow_id: str, token: str | None = "token-1", **others: Any) -> WorkflowStart:
    """The start of a workflow under the lease `lease-1`."""
    fields: dict[str, Any] = {
        "workflow_id": workflow_id,
        "name": "work",
        "status": "PENDING",
        "inputs": "the inputs",
        "serialization": "pickle",
        "token": token,
        "lease_id": "lease-1",
        "executor_id": "local",
        "application_version": VERSION,
    }
    return WorkflowStart(**fields | others)


def existing(token: str | None = "token-1", **others: Any) -> AlreadyExists:
    """What a start is told that finds another one's row."""
    fields: dict[str, Any] = {
        "status": "PENDING",
        "name": "work",
        "class_name": None,
        "config_name": None,
        "token": token,
        "application_version": VERSION,
    }
    return AlreadyExists(**fields | others)


def checkpoint(function_id: int, output: str | None = "the output", **others: Any) -> Checkpoint:
    """The checkpoint of a step that succeeded."""
    fields: dict[str, Any] = {"name": f"step-{function_id}", "output": output, "error": None, "serialization": "pickle"}
    return Checkpoint(function_id, **fields | others)


def child(function_id: int, child_id: str, token: str | None = "child-token", **others: Any) -> ChildStart:
    """The start of a child that rides with the checkpoint of this number."""
    return ChildStart(function_id, start(child_id, token, **others))


def run(
    workflow_id: str,
    *checkpoints: Checkpoint,
    token: str = "token-1",
    children: tuple[ChildStart, ...] = (),
    outcome: Outcome | None = None,
    step_effects: tuple[StepEffect, ...] = (),
) -> RunWrites:
    """What a run writes; with nothing given, a check."""
    return RunWrites(workflow_id, token, list(checkpoints), list(children), outcome, list(step_effects))


def batch_of(*parts: Part) -> Batch:
    """Starts, messages from outside and writes of runs as one batch."""
    batch = Batch()
    for part in parts:
        if isinstance(part, WorkflowStart):
            batch.starts.append(part)
        elif isinstance(part, Message):
            batch.messages.append(part)
        else:
            batch.runs.append(part)
    return batch


def commit(database: Database, *parts: Part) -> BatchAnswer:
    """Commit starts, messages from outside and writes of runs as one batch."""
    return batch_store(database).commit(batch_of(*parts))


def commit_patiently(database: Database, *parts: Part) -> BatchAnswer:
    """Commit as the journal does: again while the database is busy."""
    while True:
        try:
            return commit(database, *parts)
        except TransientStorageError:
            continue


def commit_start(database: Database, one: WorkflowStart) -> StartAnswer:
    """Commit one start."""
    return commit(database, one).starts[0]


def commit_run(database: Database, one: RunWrites) -> RunAnswer:
    """Commit the writes of one run."""
    return commit(database, one).runs[0]


def sql(database: Database, statement: str, **parameters: Any) -> list[Row]:
    """Rows that a statement reads; `{schema}` stands for the schema's prefix."""
    return database.run("test", lambda transaction: transaction.rows(statement, parameters))


def change(database: Database, statement: str, **parameters: Any) -> int:
    """How many rows a statement changed."""
    return database.run("test", lambda transaction: transaction.write(statement, parameters))


def workflow(database: Database, workflow_id: str) -> WorkflowRow | None:
    """The workflow's row, if there is one."""
    rows = read_workflows(database, WorkflowFilter(workflow_ids=[workflow_id]))
    return rows[0] if rows else None


def status(database: Database, workflow_id: str) -> str | None:
    """The workflow's status, if there is one."""
    row = workflow(database, workflow_id)
    return None if row is None else row.status


def owner(database: Database, workflow_id: str) -> tuple[str | None, str | None]:
    """Token and lease in the workflow's row."""
    statement = "SELECT owner_xid, lease_id FROM {schema}workflow_status WHERE workflow_uuid = :id"
    token, lease_id = sql(database, statement, id=workflow_id)[0]
    return token, lease_id


def set_status(database: Database, workflow_id: str, new: str) -> None:
    """Set a workflow's status as an operator would, by SQL."""
    statement = "UPDATE {schema}workflow_status SET status = :status WHERE workflow_uuid = :id"
    assert change(database, statement, id=workflow_id, status=new) == 1


def set_owner(database: Database, workflow_id: str, token: str | None, lease_id: str | None) -> None:
    """Hand a workflow to another owner, as a take-over does."""
    statement = "UPDATE {schema}workflow_status SET owner_xid = :token, lease_id = :lease WHERE workflow_uuid = :id"
    assert change(database, statement, id=workflow_id, token=token, lease=lease_id) == 1


def steps(database: Database, workflow_id: str) -> list[StepRow]:
    """The workflow's checkpoints."""
    return read_steps(database, workflow_id)


def step_ids(database: Database, workflow_id: str) -> list[int]:
    """The numbers of the workflow's checkpoints."""
    return [step.function_id for step in steps(database, workflow_id)]
