"""Two executors at the same time leave what they would leave one after the other, in whatever order their transactions
overlap.

What each order of calls must answer and leave, the oracle tells. Calls that pass over what another one holds locked may
also answer that there is nothing, if they overlap with one that may hold it.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import make_url

from dbos.model.queues import INTERNAL_QUEUE, QueueRules, RateLimit
from dbos.model.values import Checkpoint, Message, Outcome, Place, Receipt
from dbos.storage.database import Database
from dbos.storage.debouncing import Round
from dbos.storage.errors import TransientStorageError
from dbos.storage.queues import Claim, Claimant
from dbos.storage.waiting import MessageQuery
from tests.differential.comparison import BEGINNING_MS, content, database_with_clock, empty
from tests.differential.operations import METHODS, Operation, comparable, on_database, on_oracle
from tests.support.postgres import PostgresAdmin
from tests.support.storage import VERSION, batch_of, checkpoint, lease, run, start
from tests.verify.interleaving import Held, schedules
from tests.verify.oracle import Oracle

RUNS_ALL = "SECONDS" in os.environ
MOST_ORDERS = 20
"""So many orders are run of each encounter, or a few more, unless all are."""


def call(method: str, **arguments: Any) -> Operation:
    """A call of storage."""
    assert method in METHODS
    return Operation(method, arguments)


def commit(*parts: Any) -> Operation:
    """A batch of the journal."""
    return call("commit", batch=batch_of(*parts))


def claim(lease_id: str, limit: int = 10) -> Operation:
    """An executor takes up orphans."""
    own = {"nonce": f"by {lease_id}", "lease_id": lease_id, "executor_id": "local"}
    return call("claim_orphans", **own, application_version=VERSION, names=["work"], owners=[], limit=limit)


def dequeue(lease_id: str, rules: QueueRules, room: int = 1) -> Operation:
    """An executor takes from a queue."""
    claimant = Claimant(lease_id, "local", VERSION, ["work"])
    return call("claim_enqueued", rules=rules, claimant=claimant, nonce=f"by {lease_id}", rooms={None: room})


def enqueued(workflow_id: str, queue: str, deduplication_id: str | None = None) -> Any:
    """The start of a workflow that waits on a queue."""
    place = Place(queue, deduplication_id)
    return start(workflow_id, None, status="ENQUEUED", lease_id=None, executor_id=None, place=place)


def message(number: int, key: str | None = None) -> Message:
    """A message to the workflow `w`."""
    return Message(f"message-{number}", "w", "topic", f"text {number}", "pickle", key, lasts=key is not None)


def receiving(function_id: int, number: int) -> Checkpoint:
    """The checkpoint of a received message."""
    return checkpoint(function_id, f"text {number}", effect=Receipt(f"message-{number}"))


def debounced(workflow_id: str, inputs: str) -> Operation:
    """One call of a debouncer."""
    place = Place(INTERNAL_QUEUE, "round")
    row = start(workflow_id, None, status="ENQUEUED", lease_id=None, executor_id=None, inputs=inputs, place=place)
    return call("debounce", call=Round(row, 1000, None, "plain", None), caller=None)


DONE = Outcome("SUCCESS", "the result", None, "pickle")
ONE = QueueRules("one", concurrency=1)
SLOW = QueueRules("slow", rate=RateLimit(1, 500))
PLAIN = QueueRules("plain")

BOTH_LIVE = (call("register_lease", lease=lease("lease-1")), call("register_lease", lease=lease("lease-2")))
RUNNING = (*BOTH_LIVE, commit(start("w")))
ORPHAN = (*RUNNING, call("release_lease", lease_id="lease-1"), call("register_lease", lease=lease("lease-1")))
TAKE_OVER = (call("bury_lease", lease=lease("lease-1")), claim("lease-2"), call("read_checkpoints", workflow_ids=["w"]))
CANCELLED = (*RUNNING, commit(run("w", checkpoint(1))), call("cancel", workflow_ids=["w"]))
RESUME = call("resume", workflow_id="w")
FORK = call("fork", workflow_id="w", new_id="fork", start_step=3, application_version=None, timeout_ms=None)
DELETE = call("delete", workflow_ids=["w"], with_descendants=False)
ROUND = (*BOTH_LIVE, debounced("round-1", "first"), Operation("tick", {"ms": 1000}))


@dataclass(frozen=True)
class Encounter:
    """What was there, and what two executors do at the same time."""

    name: str
    before: Sequence[Operation]
    first: Sequence[Operation]
    second: Sequence[Operation]


ENCOUNTERS = (
    Encounter("claim/claim", ORPHAN, [claim("lease-1")], [claim("lease-2")]),
    Encounter("start/start", BOTH_LIVE, [commit(start("w"))], [commit(start("w", "token-2", lease_id="lease-2"))]),
    Encounter("outcome/cancel", RUNNING, [commit(run("w", outcome=DONE))], [call("cancel", workflow_ids=["w"])]),
    Encounter(
        "checkpoints/take-over",
        RUNNING,
        [commit(run("w", checkpoint(1))), commit(run("w", checkpoint(2), outcome=DONE))],
        TAKE_OVER,
    ),
    Encounter("renew/bury", RUNNING, [call("renew_lease", lease_id="lease-1")], TAKE_OVER),
    Encounter("claim/bury", ORPHAN, [claim("lease-1")], TAKE_OVER),
    Encounter("start/bury", BOTH_LIVE, [commit(start("w"))], TAKE_OVER),
    Encounter("release/take-over", RUNNING, [call("release_lease", lease_id="lease-1")], TAKE_OVER),
    *(
        Encounter(
            f"dequeue/dequeue {rules.name}",
            (*BOTH_LIVE, commit(enqueued("w1", rules.name), enqueued("w2", rules.name))),
            [dequeue("lease-1", rules)],
            [dequeue("lease-2", rules)],
        )
        for rules in (ONE, SLOW, PLAIN)
    ),
    Encounter(
        "dequeue/end of the one that runs",
        (*BOTH_LIVE, commit(enqueued("w1", "one")), dequeue("lease-1", ONE), commit(enqueued("w2", "one"))),
        [commit(run("w1", token="by lease-1:w1", outcome=DONE))],
        [dequeue("lease-2", ONE)],
    ),
    Encounter(
        "dequeue/cancel",
        (*BOTH_LIVE, commit(enqueued("w", "plain"))),
        [dequeue("lease-1", PLAIN)],
        [call("cancel", workflow_ids=["w"])],
    ),
    Encounter(
        "enqueue/enqueue with one deduplication id",
        BOTH_LIVE,
        [commit(enqueued("w1", "plain", "only"))],
        [call("insert_start", start=enqueued("w2", "plain", "only"))],
    ),
    Encounter("resume/complete", CANCELLED, [commit(run("w", checkpoint(2), outcome=DONE))], [RESUME]),
    Encounter("resume/release", CANCELLED, [call("release", workflow_id="w", token="token-1")], [RESUME]),
    Encounter("resume/resume", CANCELLED, [RESUME, dequeue("lease-1", QueueRules(INTERNAL_QUEUE))], [RESUME]),
    Encounter("fork/complete", RUNNING, [commit(run("w", checkpoint(1), checkpoint(2), outcome=DONE))], [FORK]),
    Encounter("fork/fork", CANCELLED, [FORK], [FORK]),
    Encounter("delete/complete", CANCELLED[:-1], [commit(run("w", checkpoint(2), outcome=DONE))], [DELETE]),
    Encounter("delete/send", RUNNING, [call("send_message", message=message(1))], [DELETE]),
    Encounter(
        "recv/send",
        (*RUNNING, call("send_message", message=message(1))),
        [call("find", queries=[MessageQuery("w", "topic")]), commit(run("w", receiving(1, 1)))],
        [call("send_message", message=message(2))],
    ),
    Encounter(
        "recv/recv of a successor",
        (*RUNNING, call("send_message", message=message(1))),
        [commit(run("w", receiving(1, 1)))],
        [*TAKE_OVER, commit(run("w", receiving(1, 1), token="by lease-2:w"))],
    ),
    Encounter(
        "send/send with one key",
        RUNNING,
        [call("send_message", message=message(1, "key"))],
        [call("send_message", message=message(2, "key"))],
    ),
    Encounter("debounce/start", ROUND, [debounced("round-2", "second")], [call("release_delayed")]),
    Encounter("debounce/debounce", BOTH_LIVE, [debounced("round-1", "first")], [debounced("round-2", "second")]),
)

_READS = ("find", "read_checkpoints")
"""Calls of one step: they commit nothing."""

_NOTHING: dict[str, Any] = {"claim_orphans": [], "bury_lease": False, "claim_enqueued": Claim([])}
"""What calls may answer that pass over what is locked."""


@dataclass(frozen=True)
class Pair:
    """The same database twice, and how to know that one waits for a lock that the other one holds."""

    databases: tuple[Database, Database]
    is_blocked: Callable[[], bool]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    admin: PostgresAdmin | None = None
    if request.param == "postgres":
        admin = request.getfixturevalue("postgres_admin")
        url = admin.create_database()
    else:
        url = f"sqlite:///{tmp_path_factory.mktemp('pair')}/dbos.sqlite"
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
    name = make_url(url).database
    with database_with_clock(url) as first, database_with_clock(url) as second:
        yield Pair((first, second), lambda: admin is not None and bool(admin.execute(waiting, (name,))))
    if admin is not None:
        admin.drop_database(url)


@pytest.mark.parametrize("encounter", ENCOUNTERS, ids=lambda encounter: encounter.name.replace(" ", "-"))
def test_calls_that_overlap_leave_what_one_after_the_other_would(pair: Pair, encounter: Encounter) -> None:
    sides = {"A": encounter.first, "B": encounter.second}
    steps = {side: sum(1 if one.name in _READS else 2 for one in calls) for side, calls in sides.items()}
    seen: set[int] = set()
    orders = list(schedules(steps["A"], steps["B"]))
    for schedule in orders[:: 1 if RUNS_ALL else 1 + len(orders) // MOST_ORDERS]:
        empty(pair.databases[0])
        oracle = Oracle(BEGINNING_MS)
        for operation in encounter.before:
            _prepare(pair.databases[0], oracle, operation)
        answers = _run(pair, sides, schedule)
        left = content(pair.databases[0])
        allowed = list(_serial(oracle, sides, overlaps=_overlaps(schedule, sides)))
        matching = [number for number, one in enumerate(allowed) if one == (answers, left)]
        assert matching, _explain(schedule, answers, left, allowed)
        seen.add(matching[0])
    has_choice = len({repr(one) for one in allowed}) > 1
    assert len(seen) > 1 or not has_choice, "all orders came to the same, so nothing was shown"


def _prepare(database: Database, oracle: Oracle, operation: Operation) -> None:
    if operation.name == "tick":
        oracle.now += operation.arguments["ms"]
        statement = "UPDATE {schema}clock_of_the_test SET now = :now"
        database.run("test", lambda t: t.write(statement, {"now": oracle.now}))
        return
    assert comparable(operation, on_database(database, operation)) == comparable(
        operation, on_oracle(oracle, operation)
    )


def _run(pair: Pair, sides: dict[str, Sequence[Operation]], schedule: str) -> list[Any]:
    """Make the calls in this order; their answers."""
    held = {side: Held(pair.is_blocked) for side in sides}
    with ThreadPoolExecutor(2) as threads:
        for (side, calls), database in zip(sides.items(), pair.databases, strict=True):
            database._gate = held[side]
            held[side].start(threads, [lambda d=database, o=one: _patiently(d, o) for one in calls])
        try:
            for side in schedule:
                held[side].step()
        finally:
            for one in held.values():
                one.free()
            answers = [one.answers() for one in held.values()]
    for database in pair.databases:
        database._gate = None
    operations = [one for calls in sides.values() for one in calls]
    given = [one for its in answers for one in its]
    return [comparable(operation, _plain(answer)) for operation, answer in zip(operations, given, strict=True)]


def _patiently(database: Database, operation: Operation) -> Any:
    """As the journal does it: again while it is held up."""
    while True:
        try:
            return on_database(database, operation)
        except TransientStorageError:
            continue


def _plain(answer: Any) -> Any:
    """That somebody else was claiming at the same time is no part of what is compared."""
    return Claim(answer.workflows, answer.opens_in_ms) if isinstance(answer, Claim) else answer


def _serial(
    before: Oracle, sides: dict[str, Sequence[Operation]], *, overlaps: bool
) -> Iterator[tuple[list[Any], dict[str, Any]]]:
    """What the calls may answer and leave, one after the other in each order that keeps that of either side."""
    shy = [one for calls in sides.values() for one in calls if one.name in _NOTHING] if overlaps else []
    for size in range(len(shy) + 1):
        for passed_over in itertools.combinations(shy, size):
            for order in schedules(len(sides["A"]), len(sides["B"])):
                oracle = copy.deepcopy(before)
                calls = {side: iter(its) for side, its in sides.items()}
                answers: dict[str, list[Any]] = {"A": [], "B": []}
                for side in order:
                    one = next(calls[side])
                    answer = _NOTHING[one.name] if one in passed_over else on_oracle(oracle, one)
                    answers[side].append(comparable(one, _plain(answer)))
                yield [*answers["A"], *answers["B"]], oracle.content()


def _overlaps(schedule: str, sides: dict[str, Sequence[Operation]]) -> bool:
    """Whether a call of one side is made while one of the other is under way."""
    under_way: dict[str, int] = {"A": 0, "B": 0}
    left = {side: [1 if one.name in _READS else 2 for one in calls] for side, calls in sides.items()}
    for side in schedule:
        under_way[side] += 1
        if under_way[side] == left[side][0]:
            under_way[side] = 0
            left[side].pop(0)
        elif any(count for other, count in under_way.items() if other != side):
            return True
        if under_way["A"] and under_way["B"]:
            return True
    return False


def _explain(schedule: str, answers: list[Any], left: dict[str, Any], allowed: Sequence[Any]) -> str:
    def distance(one: Any) -> int:
        its_answers, its_left = one
        is_wrong = [mine != its for mine, its in zip(answers, its_answers, strict=True)]
        return sum(is_wrong) * 10 + sum(left[table] != its_left[table] for table in left)

    its_answers, its_left = min(allowed, key=distance)
    lines = [f"In the order {schedule} they came to what no order of calls does; the nearest one:"]
    pairs = list(zip(answers, its_answers, strict=True))
    lines += [f"  answered {mine}\n    instead of {its}" for mine, its in pairs if mine != its]
    tables = [table for table in left if left[table] != its_left[table]]
    lines += [f"  {table} holds {left[table]}\n    instead of {its_left[table]}" for table in tables]
    return "\n".join(lines)
