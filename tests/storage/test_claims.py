"""Claims: who may take up which workflows, and what a claim leaves behind."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import pytest

from dbos.model.values import ClaimedWorkflow, Place, RecordedStep, WorkflowStart, owner_key
from dbos.storage.claims import (
    Duties,
    claim_orphans,
    count_claims,
    find_stranded,
    has_orphans,
    read_checkpoints,
    read_claims,
    read_duties,
    read_stopping,
    release,
    release_all,
)
from dbos.storage.database import Database
from dbos.storage.leases import bury_lease, register_lease
from dbos.storage.management import cancel, resume
from dbos.storage.opening import open_database
from tests.storage.conftest import Opener
from tests.support.gates import FailingGate
from tests.support.storage import (
    SUCCEEDED,
    VERSION,
    change,
    checkpoint,
    commit,
    commit_run,
    commit_start,
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
from tests.support.waiting import wait_until


@pytest.fixture
def database_url(emptied_url: str) -> str:
    """The tests share a database."""
    return emptied_url


def claim(database: Database, nonce: str = "nonce", **others: Any) -> list[ClaimedWorkflow]:
    """Claim under the lease `lease-1`."""
    wanted: dict[str, Any] = {
        "lease_id": "lease-1",
        "executor_id": "claimer",
        "application_version": VERSION,
        "names": ["work"],
        "limit": 100,
    }
    return claim_orphans(database, nonce=nonce, **wanted | others)


def ids(claimed: list[ClaimedWorkflow]) -> list[str]:
    """The ids of what was claimed, in its order."""
    return [one.workflow_id for one in claimed]


def orphan(workflow_id: str, **others: Any) -> Any:
    """A workflow that is up for recovery."""
    return start(workflow_id, **{"token": None, "lease_id": None} | others)


def test_a_claim_tells_all_that_is_needed_to_run(database: Database) -> None:
    commit_start(
        database, orphan("w", class_name="Class", config_name="instance", deadline_ms=2**42, executor_id="dead")
    )
    (one,) = claim(database, owners=[owner_key("Class", "instance")])
    assert (one.workflow_id, one.name, one.class_name, one.config_name) == ("w", "work", "Class", "instance")
    assert (one.inputs, one.serialization, one.recovery_attempts) == ("the inputs", "pickle", 1)
    assert one.deadline_ms == 2**42
    assert owner(database, "w") == (one.token, "lease-1")
    row = workflow(database, "w")
    assert row is not None
    assert (row.status, row.executor_id, row.recovery_attempts) == ("PENDING", "claimer", 1)


def test_methods_are_claimed_for_the_classes_and_instances_that_are_there(database: Database) -> None:
    commit(
        database,
        orphan("function"),
        orphan("class", class_name="C"),
        orphan("instance", class_name="C", config_name="a"),
        orphan("other instance", class_name="C", config_name="b"),
        orphan("unknown", name="unknown"),
    )
    here: dict[str, Any] = {"application_version": VERSION, "names": ["work"]}
    there = here | {"owners": [owner_key("C", None), owner_key("C", "a")]}
    stranded = find_stranded(database, **there)
    assert sorted(stranded, key=str) == [("unknown", None, None), ("work", "C", "b")]
    assert ids(claim(database, owners=there["owners"])) == ["function", "class", "instance"]
    assert not has_orphans(database, **there)
    there["owners"].append(owner_key("C", "b"))
    assert has_orphans(database, **there)
    assert find_stranded(database, **there) == [("unknown", None, None)]
    assert ids(claim(database, "again", owners=there["owners"])) == ["other instance"]
    assert find_stranded(database, **here | {"names": ["work", "unknown"]}, owners=[]) == []


def test_every_claim_counts_as_an_attempt_and_has_a_token_of_its_own(database: Database) -> None:
    commit(database, orphan("w1"), orphan("w2"), start("crashed", lease_id=None))
    tokens: set[str] = set()
    for attempt in (1, 2, 3):
        claimed = claim(database, f"nonce-{attempt}")
        assert {one.workflow_id: one.recovery_attempts for one in claimed} == {
            "w1": attempt,
            "w2": attempt,
            "crashed": attempt + 1,  # its first run was one
        }
        tokens |= {one.token for one in claimed}
        for one in claimed:
            release(database, workflow_id=one.workflow_id, token=one.token)
    assert len(tokens) == 9


def test_only_what_nobody_runs_is_claimed(database: Database) -> None:
    """No token, no lease, or a lease that is not alive; not what a live lease holds, its own included."""
    for lease_id in ("alive", "dead"):
        register_lease(database, lease(lease_id))
    commit(
        database,
        start("mine"),
        start("theirs", lease_id="alive"),
        start("dead", lease_id="dead"),
        orphan("released-by-a-living", lease_id="alive"),
        start("of-unknown-lease"),
        start("of-no-lease", lease_id=None),
        orphan("set-by-sql"),
    )
    set_owner(database, "of-unknown-lease", "token-1", "never-registered")
    bury_lease(database, lease("dead"))
    claimed = ids(claim(database))
    assert claimed == ["dead", "released-by-a-living", "of-unknown-lease", "of-no-lease", "set-by-sql"]
    assert (owner(database, "mine"), owner(database, "theirs")) == (("token-1", "lease-1"), ("token-1", "alive"))


@pytest.mark.parametrize("state", ["ENQUEUED", "SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"])
def test_only_pending_workflows_are_claimed(database: Database, state: str) -> None:
    commit_start(database, orphan("w"))
    set_status(database, "w", state)
    assert claim(database) == []
    set_status(database, "w", "PENDING")
    assert ids(claim(database)) == ["w"], "an operator may set a workflow to PENDING by SQL"


def test_claims_are_for_one_version_and_the_functions_known_here(database: Database) -> None:
    commit(
        database,
        orphan("w"),
        orphan("of-another-version", application_version="version-2"),
        orphan("of-no-version", application_version=None),
        orphan("unknown-function", name="other"),
    )
    assert claim(database, names=[]) == []
    assert claim(database, names=["WORK", "it's", "%"]) == []
    assert ids(claim(database)) == ["w"]
    assert ids(claim(database, "nonce-2", names=["other", "work"])) == ["unknown-function"]
    assert ids(claim(database, "nonce-3", application_version="version-2")) == ["of-another-version"]


def test_the_oldest_are_claimed_first_up_to_the_limit(database: Database) -> None:
    order = [f"w{n}" for n in (5, 3, 9, 1, 7)]
    commit(database, *(orphan(workflow_id) for workflow_id in order))
    assert ids(claim(database, "nonce-1", limit=2)) == order[:2]
    assert ids(claim(database, "nonce-2", limit=2)) == order[2:4]
    assert ids(claim(database, "nonce-3", limit=2)) == order[4:]
    assert claim(database, "nonce-4", limit=2) == []


@pytest.mark.parametrize("limit", [2, 100])
def test_a_claim_tried_again_returns_what_it_has_claimed(database: Database, limit: int) -> None:
    """The answer to the first try was lost. No more is claimed, and no attempt counted."""
    commit(database, *(orphan(f"w{n}") for n in range(5)))
    first = claim(database, "nonce-1", limit=limit)
    claim(database, "nonce-2", limit=1)
    assert claim(database, "nonce-1", limit=limit) == first
    assert {one.recovery_attempts for one in first} == {1}


def test_a_claim_whose_answer_is_lost_is_tried_again_by_itself(open_again: Opener, database: Database) -> None:
    commit(database, *(orphan(f"w{n}") for n in range(3)))
    error = _transient_error(database)
    claimed = claim(open_again(gate=FailingGate("claim_orphans", "before_commit", error)), limit=2)
    assert ids(claimed) == ["w0", "w1"]
    assert [one.recovery_attempts for one in claimed] == [1, 1]


def test_nothing_is_claimed_under_a_dead_lease(database: Database) -> None:
    commit_start(database, orphan("w"))
    assert claim(database, lease_id="never-registered") == []
    bury_lease(database, lease())
    assert claim(database) == []
    assert owner(database, "w") == (None, None)


def test_claimers_at_the_same_moment_share_the_workflows(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor
) -> None:
    """Each workflow is claimed once, and none is left."""
    commit(database, *(orphan(f"w{n}") for n in range(100)))
    together = threading.Barrier(4)
    databases = [open_again() for _ in range(4)]

    def claim_all(number: int) -> list[str]:
        together.wait(10)
        claimed: list[str] = []
        for round_ in range(20):
            claimed += ids(claim(databases[number], f"nonce-{number}-{round_}", limit=7))
        return claimed

    shares = list(threads.map(claim_all, range(4)))
    assert sorted(chain.from_iterable(shares)) == sorted(f"w{n}" for n in range(100))


def test_a_claimer_that_looked_too_early_does_not_take_what_another_claimed(
    postgres_url: str, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres: its search began before the other's lease was there, and comes to the row when that has claimed it."""
    early, other, gate = (open_database(url=postgres_url) for _ in range(3))
    register_lease(early, lease())
    commit_start(early, start("w", lease_id=None))
    compiled = early.compile

    def compile_slowly(statement: str) -> str:
        if "SKIP LOCKED" in statement:
            statement = statement.replace("WHERE", "CROSS JOIN (SELECT pg_advisory_xact_lock(1)) AS gate WHERE", 1)
        return compiled(statement)

    monkeypatch.setattr(early, "compile", compile_slowly)
    with gate.transaction("test") as transaction:
        transaction.rows("SELECT pg_advisory_xact_lock(1)")
        claiming = threads.submit(claim, early, "nonce-early")
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_until(lambda: sql(other, waiting), "the search is under way", 10.0)
        register_lease(other, lease("lease-2"))
        assert ids(claim(other, "nonce-other", lease_id="lease-2")) == ["w"]
    assert claiming.result(30) == []
    assert owner(other, "w") == ("nonce-other:w", "lease-2")
    for database in (early, other, gate):
        database.close()


def test_a_release_gives_up_the_claim_and_nothing_else(database: Database) -> None:
    """Also that of a cancelled workflow, whose run has stopped; but the owner of an outcome stays recorded."""
    commit(database, start("w"), start("other", "token-2"), start("cancelled", "token-3"), start("ended", "token-4"))
    set_status(database, "cancelled", "CANCELLED")
    set_status(database, "ended", "SUCCESS")
    release(database, workflow_id="other", token="token-1")
    release(database, workflow_id="missing", token="token-1")
    release(database, workflow_id="w", token="token-1")
    release(database, workflow_id="cancelled", token="token-3")
    release(database, workflow_id="ended", token="token-4")
    assert [owner(database, i)[0] for i in ("w", "other", "cancelled", "ended")] == [None, "token-2", None, "token-4"]
    assert status(database, "cancelled") == "CANCELLED"
    assert ids(claim(database)) == ["w"]
    release(database, workflow_id="w", token="token-1")
    assert owner(database, "w")[0] == "nonce:w", "a release that comes late does not touch the next claim"


def test_the_claims_of_a_lease_are_counted_and_read(database: Database) -> None:
    register_lease(database, lease("lease-2"))
    commit(
        database,
        start("w1", "token-1"),
        start("w2", "token-2"),
        start("ended", "token-3"),
        start("released", None),
        start("theirs", "token-4", lease_id="lease-2"),
    )
    commit_run(database, run("ended", token="token-3", outcome=SUCCEEDED))
    assert count_claims(database, "lease-1") == 2
    assert sorted(read_claims(database, "lease-1")) == [("w1", "token-1"), ("w2", "token-2")]
    assert (count_claims(database, "lease-2"), read_claims(database, "lease-3")) == (1, [])


def test_checkpoints_are_read_for_many_workflows_at_once(database: Database) -> None:
    commit(database, *(start(f"w{n}") for n in range(3)))
    commit(
        database,
        run("w0", checkpoint(1), checkpoint(3, None, error="the error", child_workflow_id="child")),
        run("w1", checkpoint(2)),
    )
    recorded = read_checkpoints(database, ["w0", "w1", "w2", "missing"])
    assert recorded == {
        "w0": {
            1: RecordedStep(1, "step-1", "the output", None, "pickle", None),
            3: RecordedStep(3, "step-3", None, "the error", "pickle", "child"),
        },
        "w1": {2: RecordedStep(2, "step-2", "the output", None, "pickle", None)},
    }
    assert read_checkpoints(database, []) == {}


def test_many_claims_are_given_up_at_once(database: Database) -> None:
    """Those that still hold: each is given by its workflow and its token."""
    commit(database, *(start(f"w{n}", f"token-{n}") for n in range(1000)))
    cancel(database, [f"w{n}" for n in range(0, 1000, 2)])
    set_owner(database, "w3", "another", "lease-1")
    set_status(database, "w5", "SUCCESS")
    release_all(database, [(f"w{n}", f"token-{n}") for n in range(900)] + [("nobody", "no token")])
    rows = sql(database, "SELECT workflow_uuid, owner_xid FROM {schema}workflow_status WHERE owner_xid IS NOT NULL")
    expected = {"w3": "another", "w5": "token-5"} | {f"w{n}": f"token-{n}" for n in range(900, 1000)}
    assert {row[0]: row[1] for row in rows} == expected
    release_all(database, [])


# -- duties


def duties(database: Database, lease_id: str = "lease-1") -> Duties:
    """What waits for the executor with this lease."""
    return read_duties(database, lease_id)


def test_there_are_no_duties_where_nothing_waits(database: Database) -> None:
    assert duties(database) == Duties(None, None, False)
    commit(database, start("w"), start("ended", "token-e", deadline_ms=1))
    set_status(database, "ended", "SUCCESS")
    assert duties(database) == Duties(None, None, False)


def test_the_next_deadline_of_any_workflow_is_everybodys_duty(database: Database) -> None:
    """In milliseconds from now by the database's clock; negative when it has passed."""
    (now_ms,) = sql(database, "SELECT {now}")[0]
    commit(
        database,
        start("later", "token-1", deadline_ms=now_ms + 7_200_000),
        orphan("next", status="ENQUEUED", deadline_ms=now_ms + 3_600_000, application_version="version-2"),
        start("cancelled", "token-2", deadline_ms=1, lease_id=None),
    )
    set_status(database, "cancelled", "CANCELLED")
    left_ms = duties(database).deadline_in_ms
    assert left_ms is not None
    assert 3_500_000 < left_ms <= 3_600_000
    commit(database, start("passed", "token-3", deadline_ms=now_ms - 1000, lease_id=None))
    left_ms = duties(database).deadline_in_ms
    assert left_ms is not None
    assert left_ms <= -1000


def test_runs_of_cancelled_workflows_have_to_be_stopped_by_who_runs_them(database: Database) -> None:
    register_lease(database, lease("lease-2"))
    tokens = [f"token-{n}" for n in range(5)]
    commit(database, *(start(f"w{n}", token) for n, token in enumerate(tokens)))
    set_owner(database, "w4", "token-4", "lease-2")
    assert (read_stopping(database, "lease-1"), duties(database).has_stopping) == ([], False)
    cancel(database, ["w1", "w2", "w3", "w4"])
    assert sorted(read_stopping(database, "lease-1")) == ["token-1", "token-2", "token-3"]
    assert (read_stopping(database, "lease-2"), read_stopping(database, "lease-3")) == (["token-4"], [])
    assert (duties(database).has_stopping, duties(database, lease_id="lease-3").has_stopping) == (True, False)
    release(database, workflow_id="w1", token="token-1")
    resume(database, "w2")
    assert read_stopping(database, "lease-1") == ["token-3"]
    release(database, workflow_id="w3", token="token-3")
    assert (read_stopping(database, "lease-1"), duties(database).has_stopping) == ([], False)


def test_the_next_delayed_start_is_everybodys_duty(database: Database) -> None:
    """In milliseconds from now by the database's clock; negative when it is overdue."""
    (now_ms,) = sql(database, "SELECT {now}")[0]
    commit(database, *(delayed(f"w{n}") for n in range(2)), delayed("cancelled"))
    delay(database, "w0", now_ms + 7_200_000)
    delay(database, "w1", now_ms + 3_600_000)
    delay(database, "cancelled", 1)
    set_status(database, "cancelled", "CANCELLED")
    left_ms = duties(database, "lease-3").delayed_in_ms
    assert left_ms is not None
    assert 3_500_000 < left_ms <= 3_600_000
    delay(database, "w0", now_ms - 1000)
    left_ms = duties(database).delayed_in_ms
    assert left_ms is not None
    assert left_ms <= -1000
    assert duties(database).deadline_in_ms is None


def delayed(workflow_id: str) -> WorkflowStart:
    """A workflow that is to be started."""
    place = Place("queue")
    return start(workflow_id, token=None, lease_id=None, status="ENQUEUED", executor_id=None, place=place)


def delay(database: Database, workflow_id: str, until_ms: int) -> None:
    """Put off the start of a workflow."""
    statement = "UPDATE {schema}workflow_status SET delay_until_epoch_ms = :until WHERE workflow_uuid = :id"
    assert change(database, statement, id=workflow_id, until=until_ms) == 1


def _transient_error(database: Database) -> Exception:
    if database.locks_rows:
        import psycopg

        return psycopg.OperationalError("the connection is lost")
    import sqlite3

    return sqlite3.OperationalError("database is locked")
