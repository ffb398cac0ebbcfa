"""What is compared: every method of storage, its call on a database and on the oracle, and what an answer means."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from sqlalchemy import text

from dbos.model.values import AlreadyExists, Batch, BatchAnswer, Checkpoint, RunAnswer, StartAnswer, Started
from dbos.storage import (
    batches,
    claims,
    debouncing,
    diagnosis,
    fires,
    leases,
    management,
    queues,
    reads,
    retention,
    schedules,
    versions,
    waiting,
)
from dbos.storage.batches import batch_store
from dbos.storage.database import Database
from dbos.storage.debouncing import Debounced
from dbos.storage.fires import Fired
from dbos.storage.management import Forked
from dbos.storage.retention import NameFilter, Place
from dbos.storage.transactions import AlreadyRecorded, NotOwned, Recorded, TransactionStore
from dbos.storage.waiting import StreamPart
from tests.verify.oracle import Oracle

COMPARED: tuple[ModuleType, ...] = (
    batches,
    claims,
    debouncing,
    diagnosis,
    fires,
    leases,
    management,
    queues,
    reads,
    retention,
    schedules,
    versions,
    waiting,
)
"""Of these modules every public function that takes a database is compared."""

ELSEWHERE = {"batch_store": "makes what commits batches; its batches are compared as `commit`"}
"""Functions that are not, each with the reason."""

ORDERS = "orders_of_the_test"
"""What transactions of the application write to."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call; `tick` is not one of storage, but lets time pass."""

    name: str
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.name}({arguments})"


def methods() -> dict[str, Callable[..., Any]]:
    """The methods of storage by name, each called with a database and by keywords."""
    found: dict[str, Callable[..., Any]] = {"commit": _commit}
    for name in vars(TransactionStore):
        if not name.startswith("_"):
            found[f"transactions_{name}"] = _of_store(name)
    for module in COMPARED:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            is_own = function.__module__ == module.__name__ and not name.startswith("_")
            if (
                is_own
                and name not in ELSEWHERE
                and next(iter(inspect.signature(function).parameters), "") == "database"
            ):
                found[name] = function
    return found | {"delete_ended": _delete_ended, "find_bound": _find_bound, "transactions_begin": _transactions_begin}


def _commit(database: Database, batch: Batch) -> BatchAnswer:
    return batch_store(database).commit(batch)


def _delete_ended(
    database: Database, before_ms: int, limit: int, names: NameFilter | None, bites: int
) -> list[tuple[list[str], int, bool]]:
    """So many bites; each goes on where the last one ended, at a place that is each database's own."""
    place, answers = Place(), list[tuple[list[str], int, bool]]()
    for _ in range(bites):
        deleted, place, has_more = retention.delete_ended(database, Place(before_ms), place, limit, names)
        answers.append((sorted(deleted), place.created_at, has_more))
    return answers


def _find_bound(database: Database, rows_kept: int) -> int | None:
    """When the newest workflow was created that is not kept; its number is each database's own."""
    bound = retention.find_bound(database, rows_kept)
    return None if bound is None else bound.created_at


def _of_store(name: str) -> Callable[..., Any]:
    def call(database: Database, **arguments: Any) -> Any:
        return getattr(TransactionStore(database, has_guard=True), name)(**arguments)

    return call


def _transactions_begin(
    database: Database,
    *,
    has_guard: bool,
    isolation_level: str,
    order: str,
    workflow_id: str,
    token: str,
    checkpoint: Checkpoint,
    fails: bool,
) -> Any:
    """The application writes an order; then it is rolled back if the code fails, and recorded if it does not."""
    insert = text(f"INSERT INTO {database.schema_prefix}{ORDERS} (name) VALUES (:name)")
    with TransactionStore(database, has_guard=has_guard).begin(isolation_level) as transaction:
        transaction.run(lambda session: session.execute(insert, {"name": order}))
        if fails:
            return transaction.roll_back()
        return transaction.record(workflow_id, token, checkpoint)


METHODS = methods()


def on_database(database: Database, operation: Operation) -> Any:
    """Its answer."""
    return METHODS[operation.name](database, **operation.arguments)


def on_oracle(oracle: Oracle, operation: Operation) -> Any:
    """Its answer."""
    return getattr(oracle, operation.name)(**operation.arguments)


_IN_NO_ORDER = frozenset(
    {
        "read_live_leases",
        "read_claims",
        "read_stopping",
        "cancel",
        "cancel_overdue",
        "delete",
        "find_partitions",
        "find_waiting",
        "find_queues",
        "find_unknown_functions",
        "find_stranded",
        "read_active",
        "read_executors",
        "read_load",
        "read_queues",
        "read_versions",
        "read_starts",
        "read_stalled",
    }
)


def comparable(operation: Operation, answer: Any) -> Any:
    """The answer without what the databases may leave open: the order of sets, and which messages are known to be the
    first on their topic."""
    if isinstance(answer, BatchAnswer):
        runs = [
            (run.token, run.status, set(run.foreign), dict(run.children), set(run.undeliverable)) for run in answer.runs
        ]
        return (list(answer.starts), runs, list(answer.messages))
    if operation.name in _IN_NO_ORDER:
        return sorted(map(repr, answer))
    if operation.name == "read_live_children":
        return {parent: sorted(children) for parent, children in answer.items()}
    if operation.name == "find":
        return {query: _plain(its) for query, its in answer.items()}
    return answer


def _plain(found: Any) -> Any:
    return (list(found.entries), found.exists, found.is_live) if isinstance(found, StreamPart) else found


def verdicts(operation: Operation, answer: Any) -> set[str]:
    """What the call was an example of: of success, of refusal, and how."""
    name = operation.name
    if isinstance(answer, BatchAnswer):
        batch: Batch = operation.arguments["batch"]
        kinds = {f"commit {_start(start)}" for start in answer.starts}
        kinds |= {f"commit message {'sent' if is_sent else 'refused'}" for is_sent in answer.messages}
        for run, its in zip(batch.runs, answer.runs, strict=True):
            kinds |= {f"commit run {kind}" for kind in _run(its, run.token)}
            kinds |= {f"commit child {_start(child)}" for child in its.children.values()}
            if its.token == run.token and not its.foreign:
                done = [checkpoint.effect for checkpoint in run.checkpoints] + [own.effect for own in run.step_effects]
                kinds |= {f"commit {type(effect).__name__}" for effect in done if effect is not None}
                if run.outcome is not None:
                    kinds.add(f"commit outcome {'written' if its.status == 'PENDING' else 'refused'}")
        return kinds
    if name == "insert_start":
        return {f"{name} {_start(answer)}"}
    if name == "debounce":
        kind = "refused run" if isinstance(answer, RunAnswer) else type(answer).__name__
        if isinstance(answer, AlreadyExists):
            kind += " of this" if answer.runs_as(operation.arguments["call"].start) else " of another"
        elif isinstance(answer, Debounced):
            is_new = answer.workflow_id == operation.arguments["call"].start.workflow_id
            kind += " anew" if is_new else " off"
        return {f"{name} {kind}", *([f"{name} from a run"] if operation.arguments["caller"] is not None else [])}
    if name == "claim_enqueued":
        has_room = any(operation.arguments["rooms"].values())
        kinds = {f"{name} {'some' if answer.workflows else 'none'}"} if has_room else set[str]()
        return kinds | ({f"{name} closed"} if answer.opens_in_ms is not None else set())
    if name == "fork":
        return {f"{name} {type(answer).__name__}"} if not isinstance(answer, Forked) else {f"{name} done"}
    if isinstance(answer, Recorded | AlreadyRecorded | NotOwned):
        return {f"{name} {type(answer).__name__} {'behind' if operation.arguments['has_guard'] else 'without'} guard"}
    if isinstance(answer, Fired):
        late = len(operation.arguments["fires"]) - len(answer.early)
        settled = {f"{name} started" if answer.has_started else f"{name} settled"} if late else set[str]()
        return settled | ({f"{name} early"} if answer.early else set())
    if name == "delete_ended":
        return {f"{name} {'some' if any(ids for ids, *_ in answer) else 'none'}"}
    if answer is None:
        return {f"{name} {'none' if name in _MAY_BE_NONE else 'done'}"}
    return {f"{name} {'some' if answer else 'none'}"}


def _start(answer: StartAnswer) -> str:
    return type(answer).__name__ if not isinstance(answer, Started) else "Started"


def _run(answer: RunAnswer, token: str) -> Iterable[str]:
    if answer.token != token:
        yield "fenced" if answer.status is not None else "of no workflow"
        return
    yield str(answer.status)
    if answer.foreign:
        yield "outdated"
    if answer.undeliverable:
        yield "with a message to nobody"


_MAY_BE_NONE = ("find_bound", "transactions_look")

_SOME_OR_NONE = (
    "find_stranded has_orphans claim_orphans bury_lease renew_lease read_live_leases count_claims read_claims "
    "read_owners read_checkpoints read_stopping cancel cancel_overdue resume delete find_partitions find_waiting "
    "find_queues find_unknown_functions forget_starts put_back release_delayed read_workflows read_steps "
    "read_events find send_message forget_expired_keys claim_enqueued read_active_ids read_active create "
    "create_missing read_schedules find_bound delete_ended find_live_before transactions_read transactions_look "
    "find_other_versions read_starts read_stalled read_last_steps read_live_children read_unreceived"
)
"""Methods that have to find something at least once, and nothing at least once."""


def expected() -> set[str]:
    """The verdicts of which a run must have seen each: it has proved nothing about those that it has not."""
    done = ["register_lease", "release_lease", "release", "release_all", "note_starts", "fork"]
    done += ["note_decorated", "apply", "set_status", "delete_schedule", "vacuum"]
    done += ["transactions_begin", "transactions_delete", "transactions_delete_all"]
    done += ["note_serving"]
    kinds = {f"{name} {how}" for name in _SOME_OR_NONE.split() for how in ("some", "none")} | {
        f"{name} done" for name in done
    }
    kinds |= {"read_decorated some", "read_executors some", "read_queues some", "read_versions some"}
    kinds |= {"read_load some", "read_progress some"}
    kinds |= {"read_duties some", "read_now_ms some", "fork NoSuchWorkflow", "fork IdTaken", "claim_enqueued closed"}
    kinds |= {"fire started", "fire settled", "fire early", "transactions_begin NotOwned behind guard"}
    kinds |= {
        f"transactions_begin {answer} {how} guard"
        for answer in ("Recorded", "AlreadyRecorded")
        for how in ("behind", "without")
    }
    starts = ("Started", "AlreadyExists", "LeaseLost", "Deduplicated")
    kinds |= {f"{what} {answer}" for what in ("commit", "insert_start", "commit child") for answer in starts}
    kinds |= {"commit message sent", "commit message refused", "commit outcome written", "commit outcome refused"}
    kinds |= {f"commit {effect}" for effect in ("Message", "Receipt", "Event", "StreamEntry")}
    runs = ("PENDING", "CANCELLED", "fenced", "of no workflow", "outdated", "with a message to nobody")
    kinds |= {f"commit run {how}" for how in runs}
    rounds = ("Debounced anew", "Debounced off", "AlreadyExists of this", "AlreadyExists of another", "RoundTaken")
    return kinds | {f"debounce {how}" for how in (*rounds, "refused run", "from a run")}
