"""Debouncing: calls that put each other off make one round; none is lost, and each is recorded by whoever made it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from dbos.model.authentication import Authentication
from dbos.model.queues import INTERNAL_QUEUE, QueueRules
from dbos.model.values import ClaimedWorkflow, Place, RunAnswer
from dbos.storage.claims import read_duties
from dbos.storage.database import Database
from dbos.storage.debouncing import Caller, Debounced, Round, RoundTaken, debounce
from dbos.storage.errors import TransientStorageError
from dbos.storage.management import cancel, delete, resume
from dbos.storage.queues import Claimant, claim_enqueued, release_delayed
from tests.storage.conftest import Opener
from tests.support.gates import FailingGate, PausingGate
from tests.support.obstacles import wait_for_obstacle
from tests.support.storage import (
    VERSION,
    change,
    checkpoint,
    commit,
    existing,
    set_owner,
    set_status,
    sql,
    start,
    status,
    steps,
    workflow,
)

HOUR_MS = 3_600_000


@pytest.fixture
def database_url(emptied_url: str) -> str:
    """The tests share a database."""
    return emptied_url


def call(
    workflow_id: str,
    inputs: str = "the inputs",
    *,
    key: str = "work-key",
    period_ms: int = HOUR_MS,
    timeout_ms: int | None = None,
    queue: str | None = "queue",
    deduplication_id: str | None = None,
    **others: Any,
) -> Round:
    """A call that has this id if it begins a round."""
    place = {"place": Place(INTERNAL_QUEUE, deduplication_id=key)}
    nobody: dict[str, Any] = {"token": None, "lease_id": None, "status": "ENQUEUED", "executor_id": None}
    one = start(workflow_id, **nobody | place | {"inputs": inputs} | others)
    return Round(one, period_ms, timeout_ms, queue, deduplication_id)


@dataclass(frozen=True)
class Waiting:
    """What stands of a round."""

    workflow_id: str
    inputs: str
    version: str | None
    starts_in_ms: int
    limit_in_ms: int | None


_WAITING = """
SELECT workflow_uuid, inputs, application_version, delay_until_epoch_ms - {now}, delay_limit_epoch_ms - {now}
FROM {schema}workflow_status WHERE status = 'ENQUEUED' AND delay_until_epoch_ms IS NOT NULL ORDER BY seq"""


def waiting(database: Database) -> list[Waiting]:
    """The rounds that are open."""
    return [Waiting(*row) for row in sql(database, _WAITING)]


def close(database: Database) -> int:
    """Let the time of all rounds come; how many were closed."""
    change(database, "UPDATE {schema}workflow_status SET delay_until_epoch_ms = 1 WHERE delay_until_epoch_ms > 1")
    return release_delayed(database)


def started(database: Database, queue: str = "queue") -> list[ClaimedWorkflow]:
    """What can be started."""
    claimant = Claimant("lease-1", "executor", VERSION, ["work", "other"])
    nonce = f"nonce {queue} {len(sql(database, 'SELECT 1 FROM {schema}workflow_status WHERE owner_xid IS NOT NULL'))}"
    return claim_enqueued(database, QueueRules(queue), claimant, nonce=nonce, rooms={None: 100}).workflows


def is_about(ms: int | None, expected_ms: int) -> bool:
    """Whether it is that time, less what has passed since."""
    return ms is not None and expected_ms - 30_000 < ms <= expected_ms


# -- rounds


def test_calls_of_a_round_put_its_start_off_and_replace_its_arguments(database: Database) -> None:
    assert debounce(database, call("w1", "first")) == Debounced("w1")
    (only,) = waiting(database)
    assert (only.workflow_id, only.inputs, only.version) == ("w1", "first", VERSION)
    assert is_about(only.starts_in_ms, HOUR_MS)
    for number, (inputs, period_ms) in enumerate((("second", 2 * HOUR_MS), ("third", HOUR_MS // 2))):
        assert debounce(database, call(f"other-{number}", inputs, period_ms=period_ms)) == Debounced("w1")
        (only,) = waiting(database)
        assert (only.workflow_id, only.inputs) == ("w1", inputs)
        assert is_about(only.starts_in_ms, period_ms)
    assert read_duties(database, "lease-1").delayed_in_ms in range(HOUR_MS // 2 - 30_000, HOUR_MS // 2 + 1)
    assert started(database, INTERNAL_QUEUE) == started(database) == []
    assert close(database) == 1
    assert [(one.workflow_id, one.inputs) for one in started(database)] == [("w1", "third")]
    assert workflow(database, "other-0") is None


@pytest.mark.parametrize(
    ("period_ms", "timeout_ms", "first_ms", "then_ms"),
    [
        (HOUR_MS, 3 * HOUR_MS, HOUR_MS, HOUR_MS),
        (HOUR_MS, HOUR_MS // 2, HOUR_MS // 2, HOUR_MS // 2),
        (2 * HOUR_MS, 3 * HOUR_MS, 2 * HOUR_MS, 2 * HOUR_MS),
        (HOUR_MS, 0, 0, 0),
        (HOUR_MS, None, HOUR_MS, HOUR_MS),
    ],
)
def test_nobody_puts_a_round_off_for_longer_than_its_first_call_allows(
    database: Database, period_ms: int, timeout_ms: int | None, first_ms: int, then_ms: int
) -> None:
    """Whatever timeout a later one has; it is counted from the first call on."""
    debounce(database, call("w1", period_ms=period_ms, timeout_ms=timeout_ms))
    assert is_about(waiting(database)[0].starts_in_ms, first_ms)
    debounce(database, call("w2", period_ms=period_ms, timeout_ms=100 * HOUR_MS))
    assert is_about(waiting(database)[0].starts_in_ms, then_ms)
    (limit_ms,) = [one.limit_in_ms for one in waiting(database)]
    assert limit_ms is not None
    if timeout_ms is None:
        assert limit_ms > 100 * 365 * 24 * HOUR_MS
    else:
        assert is_about(limit_ms, timeout_ms)
        debounce(database, call("w3", period_ms=1000 * HOUR_MS))
        assert is_about(waiting(database)[0].starts_in_ms, timeout_ms)


def test_rounds_of_other_keys_are_apart(database: Database) -> None:
    for number in range(3):
        for key in ("a", "b"):
            assert debounce(database, call(f"{key}{number}", f"{number}", key=key)) == Debounced(f"{key}0")
    assert [(one.workflow_id, one.inputs) for one in waiting(database)] == [("a0", "2"), ("b0", "2")]


def test_the_last_call_says_which_version_runs_the_round(database: Database) -> None:
    """Its arguments are meant for that one."""
    debounce(database, call("w1", application_version=None))
    assert waiting(database)[0].version is None
    for version in ("version-2", VERSION):
        debounce(database, call("w2", application_version=version))
        assert waiting(database)[0].version == version
    debounce(database, call("w3", application_version=None))
    assert waiting(database)[0].version == VERSION, "who has none does not know better"


@pytest.mark.parametrize("state", ["ENQUEUED", "PENDING", "SUCCESS", "CANCELLED", "deleted", "cancelled before"])
def test_a_call_after_the_end_of_a_round_begins_a_new_one(database: Database, state: str) -> None:
    """Whatever became of the one before."""
    debounce(database, call("w1", "first"))
    if state == "cancelled before":
        assert cancel(database, ["w1"])
    else:
        assert close(database) == 1
    if state == "deleted":
        delete(database, ["w1"], with_descendants=False)
    elif state != "cancelled before":
        set_status(database, "w1", state)
    assert debounce(database, call("w2", "second")) == Debounced("w2")
    assert [(one.workflow_id, one.inputs) for one in waiting(database)] == [("w2", "second")]
    if state != "deleted":
        row = workflow(database, "w1")
        assert row is not None
        assert row.inputs == "first"


def test_a_round_that_is_resumed_starts_at_once_and_is_closed(database: Database) -> None:
    debounce(database, call("w1"))
    assert resume(database, "w1")
    assert debounce(database, call("w2")) == Debounced("w2")
    assert [one.workflow_id for one in started(database, INTERNAL_QUEUE)] == ["w1"]
    assert [one.workflow_id for one in waiting(database)] == ["w2"]


def test_a_round_goes_to_its_queue_with_its_place_there(database: Database) -> None:
    one = call("w1", deduplication_id="one")
    place = Place(INTERNAL_QUEUE, "work-key", priority=5, partition_key="p")
    nobody: dict[str, Any] = {"token": None, "lease_id": None, "status": "ENQUEUED", "executor_id": None}
    who = Authentication("alice", ("admin",))
    started_as = start("w1", **nobody, place=place, authentication=who)
    debounce(database, Round(started_as, HOUR_MS, None, one.queue, one.deduplication_id))
    close(database)
    columns = "queue_name, deduplication_id, priority, queue_partition_key, authenticated_user, authenticated_roles"
    row = sql(database, f"SELECT {columns} FROM {{schema}}workflow_status WHERE workflow_uuid = 'w1'")
    assert row == [("queue", "one", 5, "p", "alice", '["admin"]')]


def test_without_a_queue_a_round_is_started_where_it_waits(database: Database) -> None:
    debounce(database, call("w1", queue=None))
    close(database)
    assert [one.workflow_id for one in started(database, INTERNAL_QUEUE)] == ["w1"]
    assert debounce(database, call("w2", queue=None)) == Debounced("w2"), "its key is free again"


def test_a_known_id_or_a_round_of_another_function_is_told(database: Database) -> None:
    """Nothing has changed then."""
    commit(database, start("known"), start("known too", name="other"))
    assert debounce(database, call("known")) == existing("token-1")
    assert debounce(database, call("known too", key="b")) == existing("token-1", name="other")
    debounce(database, call("w1", "first"))
    assert debounce(database, call("w2", "second", name="other")) == RoundTaken("work")
    assert [(one.workflow_id, one.inputs) for one in waiting(database)] == [("w1", "first")]
    assert workflow(database, "w2") is None


# -- failures, and several at once


@pytest.mark.parametrize("moment", ["begin", "before_commit", "after_commit"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_call_that_fails_once_counts_once(
    open_again: Opener, database: Database, moment: Any, is_first: bool
) -> None:
    if not is_first:
        debounce(database, call("w1", "first"))
    gate = FailingGate("debounce", moment, TransientStorageError("the answer was lost"))
    expected = "w2" if is_first else "w1"
    assert debounce(open_again(gate=gate), call("w2", "second")) == Debounced(expected)
    assert gate.count("debounce", "begin") == 2
    assert [(one.workflow_id, one.inputs) for one in waiting(database)] == [(expected, "second")]


def test_a_call_whose_round_was_closed_before_its_answer_came_is_known(open_again: Opener, database: Database) -> None:
    """It began the round, which was started meanwhile: it does not begin another."""

    class ClosingGate(FailingGate):
        def __call__(self, operation: str, moment: Any) -> None:
            if (operation, moment) == ("debounce", "after_commit") and self.count("debounce") == 0:
                assert close(database) == 1
                assert len(started(database)) == 1
            super().__call__(operation, moment)

    gate = ClosingGate("debounce", "after_commit", TransientStorageError("the answer was lost"))
    answer = debounce(open_again(gate=gate), call("w1"))
    assert (type(answer).__name__, status(database, "w1")) == ("AlreadyExists", "PENDING")
    assert waiting(database) == []


def test_a_call_waits_for_the_end_of_the_round_and_begins_another(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor
) -> None:
    """The round is being closed: its arguments are not replaced any more."""
    debounce(database, call("w1", "first"))
    change(database, "UPDATE {schema}workflow_status SET delay_until_epoch_ms = 1")
    gate, calling_gate = PausingGate("release_delayed", "before_commit"), PausingGate("nothing", "begin")
    closing = threads.submit(release_delayed, open_again(gate=gate))
    gate.wait_until_reached()
    calling = threads.submit(debounce, open_again(gate=calling_gate), call("w2", "second"))
    wait_for_obstacle(database, calling_gate, "debounce")
    gate.go()
    assert (closing.result(30), calling.result(30)) == (1, Debounced("w2"))
    assert [(one.workflow_id, one.inputs) for one in started(database)] == [("w1", "first")]
    assert [(one.workflow_id, one.inputs) for one in waiting(database)] == [("w2", "second")]


def test_the_end_of_a_round_waits_for_a_call_and_is_put_off(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor
) -> None:
    debounce(database, call("w1", "first"))
    change(database, "UPDATE {schema}workflow_status SET delay_until_epoch_ms = 1")
    gate, closing_gate = PausingGate("debounce", "before_commit"), PausingGate("nothing", "begin")
    calling = threads.submit(debounce, open_again(gate=gate), call("w2", "second"))
    gate.wait_until_reached()
    closing = threads.submit(release_delayed, open_again(gate=closing_gate))
    wait_for_obstacle(database, closing_gate, "release_delayed")
    gate.go()
    assert (calling.result(30), closing.result(30)) == (Debounced("w1"), 0)
    assert [(one.workflow_id, one.inputs) for one in waiting(database)] == [("w1", "second")]


def test_calls_at_the_same_moment_begin_one_round(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor
) -> None:
    together = threading.Barrier(6)
    databases = [open_again() for _ in range(6)]

    def make(number: int) -> Any:
        together.wait(10)
        return debounce(databases[number], call(f"w{number}", f"inputs {number}"))

    for round_ in range(5):
        answers = set(threads.map(make, range(6)))
        (only,) = waiting(database)
        assert answers == {Debounced(only.workflow_id)}, round_
        delete(database, [only.workflow_id], with_descendants=False)


def test_no_call_is_lost_while_rounds_are_closed(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor
) -> None:
    """The last call of each caller came to run with its arguments, or was replaced by a later one of the same round."""
    together = threading.Barrier(4)
    databases = [open_again() for _ in range(4)]

    def make(number: int) -> list[tuple[str, str]]:
        together.wait(10)
        made: list[tuple[str, str]] = []
        for n in range(25):
            answer = debounce(databases[number], call(f"{number}/{n}", f"inputs {number}/{n}", period_ms=0))
            assert isinstance(answer, Debounced)
            made.append((answer.workflow_id, f"inputs {number}/{n}"))
            if n % 4 == number:
                release_delayed(databases[number])
        return made

    made = [one for share in threads.map(make, range(4)) for one in share]
    close(database)
    ran = {one.workflow_id: one.inputs for one in started(database)}
    while more := started(database):
        ran |= {one.workflow_id: one.inputs for one in more}
    rounds: dict[str, set[str | None]] = {}
    for workflow_id, inputs in made:
        rounds.setdefault(workflow_id, set()).add(inputs)
    assert set(ran) == set(rounds), "each call belongs to a round that came to run, and each round to a call"
    assert all(inputs in rounds[workflow_id] for workflow_id, inputs in ran.items()), "with the arguments of one of it"
    assert len(ran) > 1


# -- calls of workflows


@pytest.fixture
def caller(database: Database) -> Caller:
    """A run that calls in its third step."""
    commit(database, start("caller", "token-1"))
    return Caller("caller", "token-1", checkpoint(3, None, name="DBOS.debounce", serialization=None, started_at_ms=1))


def recorded(database: Database) -> list[tuple[int, str, str | None]]:
    """The checkpoints of the caller."""
    return [(one.function_id, one.name, one.child_workflow_id) for one in steps(database, "caller")]


def test_a_workflow_records_the_round_of_its_call(database: Database, caller: Caller) -> None:
    debounce(database, call("w1"))
    assert debounce(database, call("w2"), caller) == Debounced("w1")
    assert recorded(database) == [(3, "DBOS.debounce", "w1")]


@pytest.mark.parametrize("moment", ["begin", "before_commit", "after_commit"])
def test_a_call_of_a_workflow_that_fails_once_counts_once(
    open_again: Opener, database: Database, caller: Caller, moment: Any
) -> None:
    """Even if the round was closed before its answer came: it is recorded."""

    class ClosingGate(FailingGate):
        def __call__(self, operation: str, its_moment: Any) -> None:
            if (operation, its_moment) == ("debounce", "after_commit") and self.count("debounce") == 0:
                close(database)
            super().__call__(operation, its_moment)

    debounce(database, call("w1"))
    error = TransientStorageError("the answer was lost")
    gate = (
        ClosingGate("debounce", moment, error) if moment == "after_commit" else FailingGate("debounce", moment, error)
    )
    assert debounce(open_again(gate=gate), call("w2", "second"), caller) == Debounced("w1")
    assert gate.count("debounce", "begin") == 2
    assert recorded(database) == [(3, "DBOS.debounce", "w1")]
    assert workflow(database, "w2") is None
    assert len(waiting(database)) == (0 if moment == "after_commit" else 1)


def test_a_run_that_was_replaced_does_nothing(database: Database, caller: Caller) -> None:
    debounce(database, call("w1", "first"))
    set_owner(database, "caller", "token-2", "lease-1")
    assert debounce(database, call("w2", "second"), caller) == RunAnswer("token-2", "PENDING")
    delete(database, ["caller"], with_descendants=False)
    assert debounce(database, call("w2", "second"), caller) == RunAnswer(None, None)
    assert [(one.workflow_id, one.inputs) for one in waiting(database)] == [("w1", "first")]
    assert recorded(database) == []


def test_a_step_that_another_run_recorded_is_foreign(database: Database, caller: Caller) -> None:
    debounce(database, call("w1", "first"), caller)
    set_owner(database, "caller", "token-2", "lease-1")
    later = Caller("caller", "token-2", caller.checkpoint)
    assert debounce(database, call("w2", "second"), later) == RunAnswer("token-2", "PENDING", frozenset([3]))
    assert [(one.workflow_id, one.inputs) for one in waiting(database)] == [("w1", "first")]


def test_a_refusal_is_left_to_the_run_to_record(database: Database, caller: Caller) -> None:
    commit(database, start("known", "token-k"), start("known too", "token-k", name="other"))
    assert debounce(database, call("known too"), caller) == existing("token-k", name="other")
    debounce(database, call("w1", key="taken", name="other"))
    assert debounce(database, call("w2", key="taken"), caller) == RoundTaken("other")
    assert recorded(database) == []
    assert debounce(database, call("known"), caller) == existing("token-k")
    assert recorded(database) == [(3, "DBOS.debounce", "known")]


def test_a_take_over_waits_for_the_call_in_flight(
    open_again: Opener, database: Database, caller: Caller, threads: ThreadPoolExecutor
) -> None:
    """So that what the run did is recorded for the next one, or did not happen."""
    gate, taking_gate = PausingGate("debounce", "before_commit"), PausingGate("nothing", "begin")
    calling = threads.submit(debounce, open_again(gate=gate), call("w1"), caller)
    gate.wait_until_reached()
    taking = threads.submit(set_owner, open_again(gate=taking_gate), "caller", "token-2", "lease-1")
    wait_for_obstacle(database, taking_gate, "test")
    gate.go()
    assert calling.result(30) == Debounced("w1")
    taking.result(30)
    assert recorded(database) == [(3, "DBOS.debounce", "w1")]
