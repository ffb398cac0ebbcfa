"""Queues: what is claimed of them, in which order and within which limits; and what comes back to them."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from dbos.model.queues import INTERNAL_QUEUE, QueueRules, RateLimit
from dbos.model.values import ClaimedWorkflow, Place, WorkflowStart, owner_key
from dbos.storage.claims import claim_orphans
from dbos.storage.database import Database
from dbos.storage.errors import TransientStorageError
from dbos.storage.leases import bury_lease, register_lease, release_lease
from dbos.storage.management import cancel, delete, fork, resume
from dbos.storage.queues import (
    Claim,
    Claimant,
    claim_enqueued,
    find_partitions,
    find_queues,
    find_unknown_functions,
    find_waiting,
    note_starts,
    put_back,
    release_delayed,
)
from tests.storage.conftest import Opener
from tests.support.gates import FailingGate, PausingGate
from tests.support.obstacles import wait_for_obstacle
from tests.support.storage import (
    SUCCEEDED,
    VERSION,
    change,
    checkpoint,
    commit,
    commit_patiently,
    commit_run,
    lease,
    owner,
    run,
    set_owner,
    set_status,
    sql,
    start,
    status,
    workflow,
)

HOUR_MS = 3_600_000


@pytest.fixture
def database_url(emptied_url: str) -> str:
    """The tests share a database."""
    return emptied_url


def queued(workflow_id: str, queue: str = "queue", **others: Any) -> WorkflowStart:
    """The start of a workflow that waits on a queue; what concerns its place goes there."""
    place = {name: others.pop(name) for name in ("deduplication_id", "priority", "partition_key") if name in others}
    nobody: dict[str, Any] = {"token": None, "lease_id": None, "status": "ENQUEUED", "executor_id": None}
    return start(workflow_id, **nobody | {"place": Place(queue, **place)} | others)


def rules(name: str = "queue", **limits: Any) -> QueueRules:
    """A queue of this name."""
    return QueueRules(name, **limits)


def claimant(**others: Any) -> Claimant:
    """The executor with the lease `lease-1`."""
    fields: dict[str, Any] = {
        "lease_id": "lease-1",
        "executor_id": "claimer",
        "application_version": VERSION,
        "names": ["work"],
    }
    return Claimant(**fields | others)


_nonces = count(1)


def claim(
    database: Database,
    queue: QueueRules | None = None,
    rooms: int | Mapping[str | None, int] = 100,
    nonce: str | None = None,
    **others: Any,
) -> Claim:
    """Claim, by default up to a hundred of `queue`, under a new nonce; others are the claimant's."""
    return claim_enqueued(
        database,
        queue or rules(),
        claimant(**others),
        nonce=nonce or f"nonce-{next(_nonces)}",
        rooms={None: rooms} if isinstance(rooms, int) else rooms,
    )


def take(database: Database, queue: QueueRules | None = None, *args: Any, **others: Any) -> list[ClaimedWorkflow]:
    """What is claimed."""
    return claim(database, queue, *args, **others).workflows


def ids(claimed: Claim | list[ClaimedWorkflow]) -> list[str]:
    """The ids of what was claimed, in its order."""
    return [one.workflow_id for one in (claimed.workflows if isinstance(claimed, Claim) else claimed)]


def column(database: Database, name: str, workflow_id: str) -> Any:
    """One column of a workflow's row."""
    return sql(database, f"SELECT {name} FROM {{schema}}workflow_status WHERE workflow_uuid = :id", id=workflow_id)[0][
        0
    ]


def now_ms(database: Database) -> int:
    """The database's clock."""
    return int(sql(database, "SELECT {now}")[0][0])


def end(database: Database, *claimed: ClaimedWorkflow) -> None:
    """Record that they have succeeded."""
    for one in claimed:
        commit_patiently(database, run(one.workflow_id, token=one.token, outcome=SUCCEEDED))


def delay(database: Database, workflow_id: str, by_ms: int = HOUR_MS, **columns: Any) -> None:
    """Put off the start of a workflow; columns are set as well."""
    assignments = "".join(f", {name} = :{name}" for name in columns)
    change(
        database,
        "UPDATE {schema}workflow_status SET delay_until_epoch_ms = {now} + :by_ms"
        f"{assignments} WHERE workflow_uuid = :id",
        **{"id": workflow_id, "by_ms": by_ms, **columns},
    )


# -- what a claim takes, and what it leaves behind


def test_a_claimed_workflow_of_a_queue_is_started(database: Database) -> None:
    commit(database, queued("w", class_name="Class", config_name="instance", partition_key="p"))
    before = now_ms(database)
    (one,) = take(database, owners=[owner_key("Class", "instance")])
    after = now_ms(database)
    assert (one.workflow_id, one.name, one.class_name, one.config_name) == ("w", "work", "Class", "instance")
    assert (one.inputs, one.serialization, one.deadline_ms, one.recovery_attempts) == ("the inputs", "pickle", None, 1)
    assert (one.queue, one.partition_key, one.is_fresh) == ("queue", "p", True)
    assert owner(database, "w") == (one.token, "lease-1")
    row = workflow(database, "w")
    assert row is not None
    assert (row.status, row.executor_id, row.recovery_attempts) == ("PENDING", "claimer", 1)
    assert before <= column(database, "started_at_epoch_ms", "w") <= after
    assert column(database, "workflow_deadline_epoch_ms", "w") is None
    assert take(database) == []


def test_each_claim_has_a_token_of_its_own_and_the_run_writes_with_it(database: Database) -> None:
    commit(database, *(queued(f"w{n}") for n in range(5)))
    claimed = take(database)
    assert len({one.token for one in claimed}) == 5
    for one in claimed:
        assert commit_run(database, run(one.workflow_id, checkpoint(1), token=one.token)).token == one.token
    end(database, *claimed)
    assert {status(database, f"w{n}") for n in range(5)} == {"SUCCESS"}


def test_the_timeout_of_an_enqueued_workflow_begins_with_its_start(database: Database) -> None:
    """Unless it has a deadline already, as its parent's; and once: the next start keeps the deadline."""
    commit(database, queued("timeout", timeout_ms=60_000), queued("deadline", timeout_ms=60_000, deadline_ms=2**42))
    deadlines = {one.workflow_id: one.deadline_ms for one in take(database)}
    started_at = column(database, "started_at_epoch_ms", "timeout")
    assert deadlines == {"timeout": started_at + 60_000, "deadline": 2**42}
    assert column(database, "workflow_deadline_epoch_ms", "timeout") == started_at + 60_000
    bury_lease(database, lease())
    register_lease(database, lease("lease-2"))
    put_back(database, VERSION)
    assert {one.workflow_id: one.deadline_ms for one in take(database, lease_id="lease-2")} == deadlines


@pytest.mark.parametrize("limits", [{}, {"concurrency": 100}, {"is_partitioned": True}])
def test_work_is_claimed_by_priority_and_age_whatever_its_version(database: Database, limits: dict[str, Any]) -> None:
    """That of this version and that of none stand in one line; an answer is in the order of the line."""
    line = [
        queued(f"w{n}", priority=priority, application_version=VERSION if n % 3 else None)
        for n, priority in enumerate(random.Random(4).choices([0, 0, 1, 5, 2**31 - 1], k=40))
    ]
    for first in range(0, 40, 7):
        commit(database, *line[first : first + 7])
    priorities = {one.workflow_id: one.place.priority for one in line if one.place is not None}
    expected = sorted(priorities, key=lambda id: (priorities[id], int(id[1:])))
    claimed: list[str] = []
    for room in (1, 2, 9, 10, 100):
        claimed += ids(claim(database, rules(**limits), room))
        assert claimed == expected[: len(claimed)]
    assert len(claimed) == 40


def test_claims_are_for_what_can_run_here(database: Database) -> None:
    """What is of no version gets this one's; what is overdue is left to be cancelled, what is delayed to its time."""
    commit(
        database,
        queued("elsewhere", "other"),
        queued("w"),
        queued("of any version", application_version=None),
        queued("of another version", application_version="version-2"),
        queued("unknown function", name="other"),
        queued("overdue", deadline_ms=1),
        queued("delayed"),
        queued("cancelled"),
        start("running"),
        start("not of a queue", None, lease_id=None),
    )
    delay(database, "delayed", -1000)
    cancel(database, ["cancelled"])
    assert take(database, names=[]) == []
    assert take(database, rules("nothing")) == []
    assert ids(claim(database)) == ["w", "of any version"]
    row = workflow(database, "of any version")
    assert row is not None
    assert row.application_version == VERSION
    assert ids(claim(database, application_version="version-2")) == ["of another version"]
    assert ids(claim(database, names=["it's", "other"])) == ["unknown function"]
    assert ids(claim(database, rules("other"))) == ["elsewhere"]
    assert (status(database, "overdue"), status(database, "delayed")) == ("ENQUEUED", "ENQUEUED")


def test_a_queue_may_have_any_name(database: Database) -> None:
    for name in ("it's", '"quoted"', "percent%s", ":colon", "größe/1", "ANY_OF(:ids)"):
        commit(database, queued(f"on {name}", name, partition_key=name))
        assert find_queues(database) == [name]
        assert find_waiting(database, [name, "other"], VERSION, ["work"]) == [name]
        its_rules = rules(name, is_partitioned=True, concurrency=1, rate=RateLimit(1, HOUR_MS))
        assert find_partitions(database, its_rules) == [name]
        assert ids(claim(database, its_rules, {name: 5})) == [f"on {name}"]


def test_what_has_run_before_is_not_fresh(database: Database) -> None:
    """It may have checkpoints, which have to be read."""
    commit(database, queued("new"), queued("again"), start("resumed", "token-r"), start("forked", "token-f"))
    assert {one.is_fresh for one in take(database)} == {True}
    for one in ("again", "new"):
        set_owner(database, one, None, None)
    put_back(database, VERSION)
    cancel(database, ["resumed"])
    resume(database, "resumed")
    fork(database, workflow_id="forked", new_id="copy", start_step=1, application_version=None, timeout_ms=None)
    assert {one.workflow_id: one.is_fresh for one in take(database)} == {"again": False, "new": False}
    internal = take(database, rules(INTERNAL_QUEUE))
    assert {one.workflow_id: one.is_fresh for one in internal} == {"resumed": False, "copy": False}


@pytest.mark.parametrize("limits", [{}, {"concurrency": 50}, {"rate": RateLimit(50, HOUR_MS)}])
def test_nothing_is_claimed_under_a_dead_lease(database: Database, limits: dict[str, Any]) -> None:
    commit(database, queued("w"))
    assert take(database, rules(**limits), lease_id="never-registered") == []
    bury_lease(database, lease())
    assert take(database, rules(**limits)) == []
    assert (status(database, "w"), owner(database, "w")) == ("ENQUEUED", (None, None))
    assert sql(database, "SELECT * FROM {schema}queue_starts") == []


@pytest.mark.parametrize("room", [2, 100])
@pytest.mark.parametrize("limits", [{}, {"concurrency": 4}, {"rate": RateLimit(4, HOUR_MS)}])
@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
def test_a_claim_that_fails_once_is_made_once(
    open_again: Opener, database: Database, room: int, limits: dict[str, Any], moment: Any
) -> None:
    """If only its answer is lost, it returns what it has claimed: no more, no attempt counted, no start used up."""
    commit(database, *(queued(f"w{n}", timeout_ms=60_000) for n in range(5)))
    gate = FailingGate("claim_enqueued", moment, TransientStorageError("the answer was lost"))
    again = open_again(gate=gate)
    claimed = take(again, rules(**limits), room)
    expected = min(room, 4 if limits else 5)
    assert (ids(claimed), gate.count("claim_enqueued", "begin")) == ([f"w{n}" for n in range(expected)], 2)
    assert {one.recovery_attempts for one in claimed} == {1}
    assert {one.is_fresh for one in claimed} == {moment == "before_commit"}, "what is unknown is read"
    assert {one.token for one in claimed} == {owner(database, one.workflow_id)[0] for one in claimed}
    assert all(one.deadline_ms == column(database, "workflow_deadline_epoch_ms", one.workflow_id) for one in claimed)
    pending = sql(database, "SELECT count(*) FROM {schema}workflow_status WHERE status = 'PENDING'")
    starts = sql(database, "SELECT count(*) FROM {schema}queue_starts")
    assert (pending, starts) == ([(expected,)], [(expected if "rate" in limits else 0,)])


def test_a_claim_of_several_partitions_whose_answer_is_lost_returns_all_of_them(
    open_again: Opener, database: Database
) -> None:
    commit(database, *(queued(f"{key}{n}", partition_key=key) for key in "ab" for n in range(3)), queued("c"))
    gate = FailingGate("claim_enqueued", "after_commit", TransientStorageError("the answer was lost"))
    claimed = take(open_again(gate=gate), rules(is_partitioned=True, concurrency=2), {"a": 5, "b": 1, None: 1})
    assert {one.workflow_id: one.partition_key for one in claimed} == {"a0": "a", "a1": "a", "b0": "b", "c": None}


# -- several claim at once


def test_claimers_at_the_same_moment_share_a_queue(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor
) -> None:
    """Each workflow is claimed once, and none is left, while others enqueue, resume and cancel."""
    commit(database, *(start(f"r{n}", f"token-{n}") for n in range(60)))
    cancel(database, [f"r{n}" for n in range(60)])
    together, is_over = threading.Barrier(5), threading.Event()
    databases = [open_again() for _ in range(5)]

    def produce() -> list[str]:
        together.wait(10)
        try:
            for n in range(60):
                commit_patiently(databases[4], queued(f"w{n}", INTERNAL_QUEUE, priority=n % 3))
                assert resume(databases[4], f"r{n}")
        finally:
            is_over.set()
        return []

    def claim_all(number: int) -> list[str]:
        together.wait(10)
        claimed: list[str] = []
        while True:
            is_last = is_over.is_set()
            new = ids(claim(databases[number], rules(INTERNAL_QUEUE), 7))
            claimed += new
            if is_last and not new:
                return claimed

    shares = [threads.submit(claim_all, number) for number in range(4)]
    threads.submit(produce).result(60)
    claimed = [one for share in shares for one in share.result(60)]
    assert sorted(claimed) == sorted([f"w{n}" for n in range(60)] + [f"r{n}" for n in range(60)])


def test_a_claim_passes_over_what_another_one_is_just_claiming(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor
) -> None:
    """On Postgres it does not even wait for it; on SQLite it waits, and comes after it."""
    commit(database, *(queued(f"w{n}") for n in range(5)))
    gate, other_gate = PausingGate("claim_enqueued", "before_commit"), PausingGate("claim_enqueued", "after_commit")
    slow, other = open_again(gate=gate), open_again(gate=other_gate)
    first = threads.submit(take, slow, None, 2)
    gate.wait_until_reached()
    second = threads.submit(take, other, None, 2)
    if database.locks_rows:
        other_gate.wait_until_reached()
    else:
        wait_for_obstacle(database, other_gate, "claim_enqueued")
    gate.go()
    other_gate.go()
    assert (ids(first.result(30)), ids(second.result(30))) == (["w0", "w1"], ["w2", "w3"])


def test_queues_with_limits_do_not_wait_for_each_other(
    open_again: Opener, postgres_url: str, threads: ThreadPoolExecutor
) -> None:
    """Postgres: one's lock is not another's, nor a partition's that of the next."""
    from dbos.storage.opening import open_database

    plain = open_database(url=postgres_url)
    register_lease(plain, lease())
    commit(
        plain, *(queued(f"w{key}", partition_key=key) for key in "ab"), queued("other", "other"), queued("last", "b")
    )
    gate = PausingGate("claim_enqueued", "before_commit")
    slow = open_database(url=postgres_url, gate=gate)
    limited: dict[str, Any] = {"is_partitioned": True, "concurrency": 1}
    first = threads.submit(take, slow, rules(**limited), {"a": 1})
    gate.wait_until_reached()
    assert ids(claim(plain, rules(**limited), {"b": 1})) == ["wb"]
    assert ids(claim(plain, rules("other", concurrency=1))) == ["other"]
    assert ids(claim(plain, rules("b", rate=RateLimit(1, 1000)))) == ["last"]
    gate.go()
    assert ids(first.result(30)) == ["wa"]
    slow.close()
    plain.close()


@pytest.mark.parametrize(
    "limits",
    [
        {"concurrency": 5},
        {"rate": RateLimit(30, HOUR_MS)},
        {"concurrency": 4, "rate": RateLimit(40, HOUR_MS)},
        {"concurrency": 2, "is_partitioned": True},
    ],
)
def test_limits_are_never_exceeded_whoever_claims_at_the_same_moment(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor, limits: dict[str, Any]
) -> None:
    """Four claim, count what runs in each partition, and end what they claimed one by one."""
    queue = rules(**limits)
    keys: list[str | None] = ["a", "b"] if queue.is_partitioned else [None]
    commit(database, *(queued(f"{key}{n}", partition_key=key) for n in range(60 // len(keys)) for key in keys))
    together, is_over = threading.Barrier(4), threading.Event()
    databases = [open_again() for _ in range(4)]
    expected = min(60, queue.rate.limit if queue.rate else 60)
    claimed: list[str] = []
    counts: list[int] = []
    count_running = "SELECT count(*) FROM {schema}workflow_status WHERE status = 'PENDING' GROUP BY queue_partition_key"

    def work(mine: Database) -> None:
        together.wait(10)
        try:
            while not is_over.is_set():
                new = take(mine, queue, dict.fromkeys(keys, 3))
                counts.extend(row[0] for row in mine.run("test", lambda t: t.rows(count_running), "read"))
                for one in new:
                    end(mine, one)
                claimed.extend(ids(new))
                if len(claimed) >= expected:
                    is_over.set()
        finally:
            is_over.set()

    for working in [threads.submit(work, mine) for mine in databases]:
        working.result(60)
    assert len(claimed) == len(set(claimed)) == expected
    limit = queue.concurrency or expected
    assert min(3, limit) <= max(counts) <= limit
    assert take(database, queue, dict.fromkeys(keys, 3)) == [], "nothing is left, or may start"


# -- concurrency


def test_concurrency_counts_what_runs_whoever_runs_it(database: Database) -> None:
    """Those of dead owners too: they may run still."""
    register_lease(database, lease("lease-2"))
    commit(database, *(queued(f"w{n}") for n in range(10)), queued("other", "other"))
    queue = rules(concurrency=5)
    assert ids(claim(database, queue, 3, lease_id="lease-2")) == ["w0", "w1", "w2"]
    first = claim(database, queue)
    assert (ids(first), first.opens_in_ms) == (["w3", "w4"], None)
    bury_lease(database, lease("lease-2"))
    last = claim(database, queue)
    assert (last.workflows, last.opens_in_ms) == ([], None), "time alone does not open it"
    assert ids(claim(database, rules("other", concurrency=1))) == ["other"]
    end(database, first.workflows[0])
    cancel(database, ["w0"])
    assert ids(claim(database, queue)) == ["w5", "w6"]
    delete(database, ["w1"], with_descendants=False)
    assert ids(claim(database, queue)) == ["w7"]


def test_a_limit_that_was_lowered_is_kept_from_now_on(database: Database) -> None:
    commit(database, *(queued(f"w{n}") for n in range(10)))
    claimed = take(database, rules(concurrency=5))
    assert take(database, rules(concurrency=3)) == []
    end(database, *claimed[:2])
    assert take(database, rules(concurrency=3)) == []
    end(database, claimed[2])
    assert ids(claim(database, rules(concurrency=3))) == ["w5"]


# -- partitions


def test_limits_of_a_partitioned_queue_hold_for_each_partition(database: Database) -> None:
    commit(database, *(queued(f"{key}{n}", partition_key=key) for n in range(4) for key in ("a", "b", "c")))
    queue = rules(is_partitioned=True, concurrency=2, rate=RateLimit(3, HOUR_MS))
    assert find_partitions(database, queue) == ["a", "b", "c"]
    claimed = claim(database, queue, {"a": 5, "b": 1, "nobody": 3})
    assert ids(claimed) == ["a0", "a1", "b0"]
    assert find_partitions(database, queue) == ["b", "c"], "one that is full has no room"
    assert ids(claim(database, queue, {"a": 5, "b": 5})) == ["b1"]
    end(database, *claimed.workflows)
    last = claim(database, queue, {"a": 5, "b": 5})
    assert ids(last) == ["a2", "b2"], "each may start three in an hour"
    assert ids(claim(database, queue, {"c": 5})) == ["c0", "c1"]


def test_work_without_a_partition_is_a_partition_of_its_own(database: Database) -> None:
    """As that of a queue that was declared otherwise when it was enqueued."""
    commit(database, queued("a", partition_key="a"), queued("x"), queued("y"))
    queue = rules(is_partitioned=True, concurrency=1)
    assert find_partitions(database, queue) == [None, "a"]
    assert ids(claim(database, queue, {None: 5})) == ["x"]
    assert ids(claim(database, queue, {"a": 5})) == ["a"]
    assert ids(claim(database, queue, {None: 5})) == []
    assert ids(claim(database, rules())) == ["y"]


def test_partitions_are_found_while_they_hold_work(database: Database) -> None:
    queue = rules(is_partitioned=True)
    assert find_partitions(database, queue) == []
    keys = [f"key-{n:03}" for n in range(120)]
    commit(database, *(queued(f"{key}/{n}", partition_key=key) for key in keys for n in range(2)))
    commit(database, queued("elsewhere", "other", partition_key="key-other"), queued("delayed", partition_key="later"))
    delay(database, "delayed")
    assert find_partitions(database, queue) == keys
    claimed = take(database, queue, dict.fromkeys(keys[:60], 2))
    assert len(claimed) == 120
    assert find_partitions(database, queue) == keys[60:]
    cancel(database, [f"{keys[60]}/0", f"{keys[60]}/1"])
    assert find_partitions(database, queue) == keys[61:]


# -- rates


def starts_of(database: Database) -> dict[str, bool]:
    """The recorded starts, by token; whether the function was called."""
    rows = sql(database, "SELECT token, started_at FROM {schema}queue_starts")
    return {row[0]: row[1] is not None for row in rows}


def age(database: Database, ms: int) -> None:
    """Let so much time pass for what was started."""
    statement = "UPDATE {schema}queue_starts SET claimed_at = claimed_at - :ms, started_at = started_at - :ms"
    change(database, statement, ms=ms)


def test_a_rate_counts_starts_of_a_period_and_tells_when_the_next_may_be(database: Database) -> None:
    commit(database, *(queued(f"w{n}") for n in range(10)))
    queue = rules(rate=RateLimit(3, 60_000))
    claimed = take(database, queue)
    assert ids(claimed) == ["w0", "w1", "w2"]
    note_starts(database, [one.token for one in claimed])
    end(database, *claimed)
    closed = claim(database, queue)
    assert closed.workflows == []
    assert closed.opens_in_ms is not None
    assert 50_000 < closed.opens_in_ms <= 60_000
    age(database, 40_000)
    closed = claim(database, queue)
    assert closed.opens_in_ms is not None
    assert 10_000 < closed.opens_in_ms <= 20_000
    age(database, 20_000)
    assert ids(claim(database, queue)) == ["w3", "w4", "w5"]
    assert len(starts_of(database)) == 3, "those of older periods are forgotten"


def test_a_claim_whose_function_was_not_called_yet_uses_up_a_start_however_old_it_is(database: Database) -> None:
    """Its start may come at any moment: only from then on its period is counted."""
    commit(database, *(queued(f"w{n}") for n in range(10)))
    queue = rules(rate=RateLimit(3, 60_000))
    first, second, third = take(database, queue)
    note_starts(database, [first.token])
    age(database, 600_000)
    assert ids(claim(database, queue)) == ["w3"], "of the first one the period is over"
    closed = claim(database, queue)
    assert (closed.workflows, closed.opens_in_ms) == ([], 1), "nobody knows when it opens"
    note_starts(database, [second.token, third.token, "unknown"])
    assert [starts_of(database)[one.token] for one in (second, third)] == [True, True]
    closed = claim(database, queue)
    assert closed.workflows == []
    note_starts(database, [second.token])
    age(database, 60_000)
    assert ids(claim(database, queue)) == ["w4", "w5"]


def test_a_start_is_noted_once(database: Database) -> None:
    """Noted again, its period does not begin again."""
    commit(database, queued("w"))
    (one,) = take(database, rules(rate=RateLimit(1, 60_000)))
    note_starts(database, [one.token])
    noted = sql(database, "SELECT started_at, claimed_at, queue_name, partition_key FROM {schema}queue_starts")
    assert (noted[0][0] >= noted[0][1], noted[0][2:]) == (True, ("queue", ""))
    age(database, 30_000)
    note_starts(database, [one.token])
    ((started_at,),) = sql(database, "SELECT started_at FROM {schema}queue_starts")
    assert started_at == noted[0][0] - 30_000
    note_starts(database, [])


def test_starts_count_though_their_workflows_are_gone(database: Database) -> None:
    commit(database, *(queued(f"w{n}") for n in range(5)))
    queue = rules(rate=RateLimit(2, HOUR_MS))
    claimed = take(database, queue)
    note_starts(database, [one.token for one in claimed])
    cancel(database, ["w0"])
    delete(database, ["w0", "w1"], with_descendants=False)
    assert take(database, queue) == []
    assert ids(claim(database, rules(rate=RateLimit(3, HOUR_MS)))) == ["w2"]


def test_rates_of_queues_and_partitions_are_apart(database: Database) -> None:
    commit(
        database,
        *(queued(f"{name}{n}", name, partition_key=key) for n in range(2) for name, key in (("q", "a"), ("r", "a"))),
    )
    commit(database, *(queued(f"b{n}", "q", partition_key="b") for n in range(2)))
    limits: dict[str, Any] = {"is_partitioned": True, "rate": RateLimit(1, HOUR_MS)}
    assert ids(claim(database, rules("q", **limits), {"a": 5, "b": 5})) == ["q0", "b0"]
    assert ids(claim(database, rules("r", **limits), {"a": 5})) == ["r0"]
    assert ids(claim(database, rules("q", **limits), {"a": 5, "b": 5})) == []


def test_several_limits_hold_together(database: Database) -> None:
    commit(database, *(queued(f"w{n}") for n in range(10)))
    queue = rules(concurrency=2, rate=RateLimit(3, HOUR_MS))
    first = take(database, queue)
    assert ids(first) == ["w0", "w1"]
    assert claim(database, queue) == Claim([])
    end(database, first[0])
    assert ids(claim(database, queue)) == ["w2"]
    end(database, first[1])
    closed = claim(database, queue)
    assert (closed.workflows, closed.opens_in_ms is not None) == ([], True)


# -- looking for work


def test_queues_that_hold_work_for_an_executor_are_found(database: Database) -> None:
    commit(
        database,
        queued("a", "a"),
        queued("any", "any", application_version=None),
        queued("other version", "b", application_version="version-2"),
        queued("other function", "c", name="other"),
        queued("behind", "d", name="other"),
        queued("d", "d"),
        queued("delayed", "e"),
        queued("cancelled", "f"),
        queued("elsewhere", "g"),
    )
    delay(database, "delayed")
    cancel(database, ["cancelled"])
    names = ["f", "e", "d", "c", "b", "a", "any", "nothing"]
    assert sorted(find_waiting(database, names, VERSION, ["work"])) == ["a", "any", "d"]
    assert sorted(find_waiting(database, names, VERSION, ["work", "other"])) == ["a", "any", "c", "d"]
    assert sorted(find_waiting(database, names, "version-2", ["work"])) == ["any", "b"]
    assert find_waiting(database, [], VERSION, ["work"]) == find_waiting(database, names, VERSION, []) == []
    assert find_queues(database) == ["a", "any", "b", "c", "d", "g"]
    for name in ("a", "any", "d"):
        assert len(take(database, rules(name))) == 1
    assert find_waiting(database, names, VERSION, ["work"]) == []
    assert find_queues(database) == ["b", "c", "d", "g"]


def test_work_for_functions_that_nobody_here_knows_is_found(database: Database) -> None:
    commit(
        database,
        queued("w1"),
        queued("w2", name="unknown"),
        queued("w3", name="unknown"),
        queued("w4", name="strange", application_version=None),
        queued("w5", name="theirs", application_version="version-2"),
        queued("w6", "other", name="odd"),
        queued("w7", "unheard", name="odd"),
    )
    found = find_unknown_functions(database, ["queue", "other", "empty"], claimant())
    nothing = (None, None)
    assert sorted(found) == [("other", "odd", *nothing), ("queue", "strange", *nothing), ("queue", "unknown", *nothing)]
    known = claimant(names=["work", "unknown", "odd"])
    assert find_unknown_functions(database, ["queue", "other"], known) == [("queue", "strange", *nothing)]
    assert find_unknown_functions(database, [], claimant()) == []


def test_methods_are_claimed_for_the_classes_and_instances_that_are_there(database: Database) -> None:
    a_class, an_instance, another = {"class_name": "C"}, {"class_name": "C", "config_name": "a"}, {"class_name": "D"}
    commit(
        database,
        queued("function"),
        queued("class", **a_class),
        queued("instance", **an_instance),
        queued("other instance", **a_class, config_name="b"),
        queued("other class", **another, config_name="a"),
    )
    methods = ["C\x1f", "C\x1fa"]
    assert [owner_key("C", None), owner_key("C", "a")] == methods
    assert find_unknown_functions(database, ["queue"], claimant()) != []
    unknown = find_unknown_functions(database, ["queue"], claimant(owners=methods))
    assert sorted(unknown) == [("queue", "work", "C", "b"), ("queue", "work", "D", "a")]
    assert ids(take(database, owners=methods)) == ["function", "class", "instance"]
    assert find_waiting(database, ["queue"], VERSION, ["work"], methods) == []
    assert find_waiting(database, ["queue"], VERSION, ["work"], [owner_key("D", "a")]) == ["queue"]
    assert ids(take(database, owners=[owner_key("D", "a")])) == ["other class"]
    assert ids(take(database, names=["other"], owners=[owner_key("C", "b")])) == []
    assert ids(take(database, owners=[owner_key("C", "b")])) == ["other instance"]


# -- what its owner left


@pytest.mark.parametrize("left", ["dead", "unknown", "no lease", "released"])
def test_what_nobody_runs_any_more_goes_back_to_its_queue(database: Database, left: str) -> None:
    """In its old place, with its attempts; and nothing of what was recorded is lost."""
    register_lease(database, lease("lease-2"))
    commit(database, queued("w", priority=1, timeout_ms=HOUR_MS, deduplication_id="one"), queued("last", priority=2))
    (one,) = take(database, rules(concurrency=1), lease_id="lease-2")
    commit_run(database, run("w", checkpoint(1), token=one.token))
    if left == "dead":
        bury_lease(database, lease("lease-2"))
    elif left == "released":
        release_lease(database, "lease-2")
    else:
        set_owner(database, "w", one.token, "never-registered" if left == "unknown" else None)
    assert set(put_back(database, VERSION).values()) == {"queue"}
    assert (status(database, "w"), owner(database, "w")) == ("ENQUEUED", (None, None))
    assert commit_run(database, run("w", checkpoint(2), token=one.token)).token is None, "its old run is fenced"
    (again,) = take(database, rules(concurrency=1))
    attempts = 1 if left == "released" else 2
    assert (again.workflow_id, again.recovery_attempts, again.is_fresh) == ("w", attempts, False)
    assert again.deadline_ms == one.deadline_ms
    assert column(database, "deduplication_id", "w") == "one"
    assert put_back(database, VERSION) == {}


def test_only_what_came_from_queues_and_is_of_this_version_goes_back(database: Database) -> None:
    for lease_id in ("lease-2", "dead"):
        register_lease(database, lease(lease_id))
    commit(
        database,
        queued("mine"),
        queued("theirs", "b"),
        queued("left", "c"),
        queued("left too", "c"),
        queued("overdue", "d"),
        queued("older", "e", application_version="version-0"),
        queued("enqueued", "f"),
        queued("cancelled", "g"),
        queued("ended", "h"),
        start("not of a queue", "token", lease_id="dead"),
    )
    take(database)
    take(database, rules("b"), lease_id="lease-2")
    for name in "cdgh":
        take(database, rules(name), lease_id="dead")
    take(database, rules("e"), lease_id="dead", application_version="version-0")
    change(
        database, "UPDATE {schema}workflow_status SET workflow_deadline_epoch_ms = 1 WHERE workflow_uuid = 'overdue'"
    )
    cancel(database, ["cancelled"])
    set_status(database, "ended", "SUCCESS")
    assert put_back(database, VERSION) == {}, "their owners are alive"
    bury_lease(database, lease("dead"))
    assert set(put_back(database, VERSION).values()) == {"c", "d"}
    pending = sql(database, "SELECT workflow_uuid FROM {schema}workflow_status WHERE status = 'PENDING'")
    assert {row[0] for row in pending} == {"mine", "theirs", "older", "not of a queue"}
    assert (
        claim_orphans(
            database,
            nonce="n",
            lease_id="lease-1",
            executor_id="e",
            application_version=VERSION,
            names=["work"],
            limit=9,
        )[0].workflow_id
        == "not of a queue"
    )
    assert set(put_back(database, "version-0").values()) == {"e"}


def test_the_start_of_what_goes_back_is_over(database: Database) -> None:
    """Its function may have been called or not, but will not be any more: its period begins at the latest now."""
    register_lease(database, lease("lease-2"))
    commit(database, *(queued(f"w{n}") for n in range(5)))
    queue = rules(rate=RateLimit(2, 60_000))
    claimed = take(database, queue, lease_id="lease-2")
    age(database, 600_000)
    bury_lease(database, lease("lease-2"))
    put_back(database, VERSION)
    assert starts_of(database) == {one.token: True for one in claimed}
    closed = claim(database, queue)
    assert closed.workflows == []
    assert closed.opens_in_ms is not None
    assert 50_000 < closed.opens_in_ms <= 60_000
    age(database, 60_000)
    assert ids(claim(database, queue)) == ["w0", "w1"]


def test_more_goes_back_than_one_transaction_takes(database: Database) -> None:
    numbers = (
        "generate_series(1, 1500) AS numbers (n)"
        if database.locks_rows
        else "(WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1500) "
        "SELECT n FROM numbers) AS numbers"
    )
    change(
        database,
        "INSERT INTO {schema}workflow_status (workflow_uuid, status, name, created_at, updated_at, queue_name, "
        "application_version, owner_xid, lease_id) SELECT 'w' || n, 'PENDING', 'work', 0, 0, 'queue-' || (n / 1000), "
        ":version, 'token-' || n, 'dead' FROM " + numbers,
        version=VERSION,
    )
    assert set(put_back(database, VERSION).values()) == {"queue-0", "queue-1"}
    left = sql(database, "SELECT status, count(*) FROM {schema}workflow_status GROUP BY status")
    assert left == [("ENQUEUED", 1500)]


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
def test_putting_back_that_fails_once_names_all_queues(open_again: Opener, database: Database, moment: Any) -> None:
    """Or they would not be looked at."""
    register_lease(database, lease("dead"))
    commit(database, *(queued(f"w{n}", f"queue-{n % 2}") for n in range(6)))
    queue = {f"queue-{n}" for n in range(2)}
    for name in queue:
        take(database, rules(name, rate=RateLimit(9, HOUR_MS)), lease_id="dead")
    bury_lease(database, lease("dead"))
    gate = FailingGate("put_back", moment, TransientStorageError("the answer was lost"))
    assert set(put_back(open_again(gate=gate), VERSION).values()) == queue
    assert set(starts_of(database).values()) == {True}
    assert len(find_waiting(database, list(queue), VERSION, ["work"])) == 2


def test_those_who_put_back_at_the_same_moment_and_claim_do_not_meet(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor
) -> None:
    """What has gone back and was claimed again is not put back once more."""
    commit(database, *(queued(f"w{n}") for n in range(200)))
    register_lease(database, lease("dead"))
    assert len(take(database, None, 200, lease_id="dead")) == 200
    bury_lease(database, lease("dead"))
    together = threading.Barrier(4)
    databases = [open_again() for _ in range(4)]

    def serve(number: int) -> list[str]:
        together.wait(10)
        claimed: list[str] = []
        while True:
            put_back(databases[number], VERSION)
            new = ids(claim(databases[number], None, 30))
            claimed += new
            if not new:
                return claimed

    claimed = [one for share in [threads.submit(serve, n) for n in range(4)] for one in share.result(60)]
    assert sorted(claimed) == sorted(f"w{n}" for n in range(200))
    attempts = sql(database, "SELECT DISTINCT recovery_attempts FROM {schema}workflow_status")
    assert attempts == [(2,)]


# -- delays


def test_what_was_delayed_goes_to_its_queue_when_its_time_has_come(database: Database) -> None:
    commit(
        database, *(queued(name, INTERNAL_QUEUE, deduplication_id=f"round {name}") for name in ("w", "late", "here"))
    )
    delay(database, "w", -1, delayed_queue_name="queue", delayed_deduplication_id="one", delay_limit_epoch_ms=2**42)
    delay(database, "late", HOUR_MS, delayed_queue_name="queue")
    delay(database, "here", -1)
    assert take(database) == take(database, rules(INTERNAL_QUEUE)) == []
    assert release_delayed(database) == 2
    assert release_delayed(database) == 0
    columns = "queue_name, deduplication_id, delay_until_epoch_ms, delay_limit_epoch_ms, delayed_queue_name, "
    row = sql(
        database,
        f"SELECT {columns} delayed_deduplication_id FROM {{schema}}workflow_status WHERE workflow_uuid = 'w'",
    )
    assert row == [("queue", "one", None, None, None, None)]
    assert ids(claim(database)) == ["w"]
    assert ids(claim(database, rules(INTERNAL_QUEUE))) == ["here"]
    assert column(database, "deduplication_id", "here") is None, "another round may begin"


def test_what_was_delayed_waits_until_its_deduplication_id_is_free(database: Database) -> None:
    commit(database, queued("holder", deduplication_id="one"), queued("w", INTERNAL_QUEUE))
    delay(database, "w", -1, delayed_queue_name="queue", delayed_deduplication_id="one")
    assert release_delayed(database) == 0
    (holder,) = take(database)
    assert release_delayed(database) == 0
    end(database, holder)
    assert release_delayed(database) == 1
    assert ids(claim(database)) == ["w"]


def test_two_that_were_delayed_with_one_deduplication_id_go_one_after_the_other(database: Database) -> None:
    """Both are overdue: the one does not keep the other, nor all the rest, from its queue."""
    commit(database, *(queued(name, INTERNAL_QUEUE) for name in ("w1", "w2", "other")))
    for name in ("w1", "w2"):
        delay(database, name, -1, delayed_queue_name="queue", delayed_deduplication_id="one")
    delay(database, "other", -1, delayed_queue_name="queue")
    release_delayed(database)
    release_delayed(database)
    claimed = take(database)
    assert sorted(ids(claimed)) in (["other", "w1"], ["other", "w2"])
    end(database, *claimed)
    assert release_delayed(database) == 1
    assert ids(claim(database))[0] in ("w1", "w2")


def test_those_who_release_at_the_same_moment_release_once(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor
) -> None:
    commit(database, *(queued(f"w{n}", INTERNAL_QUEUE, deduplication_id=f"d{n}") for n in range(50)))
    change(
        database,
        "UPDATE {schema}workflow_status SET delay_until_epoch_ms = 1, delayed_queue_name = 'queue', "
        "delayed_deduplication_id = workflow_uuid",
    )
    together = threading.Barrier(4)
    databases = [open_again() for _ in range(4)]

    def release(number: int) -> int:
        together.wait(10)
        return release_delayed(databases[number])

    assert sum(threads.map(release, range(4))) == 50
    assert len(take(database)) == 50
