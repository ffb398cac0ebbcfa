"""The guard locks what it checks: a take-over and a write in flight never pass each other unseen."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import make_url

from dbos.model.values import ClaimedWorkflow, LeaseLost, Started
from dbos.storage.claims import claim_orphans, read_checkpoints
from dbos.storage.database import Database
from dbos.storage.leases import bury_lease, register_lease
from tests.storage.conftest import Opener
from tests.support.gates import CountingGate, PausingGate
from tests.support.postgres import PostgresAdmin
from tests.support.storage import (
    SUCCEEDED,
    VERSION,
    checkpoint,
    child,
    commit,
    commit_patiently,
    commit_start,
    existing,
    lease,
    owner,
    run,
    start,
    status,
    step_ids,
    workflow,
)
from tests.support.waiting import wait_until

WaitFor = Callable[[CountingGate, str], None]


@pytest.fixture
def wait_for_obstacle(request: pytest.FixtureRequest, database_url: str) -> WaitFor:
    """Waits until a transaction of this operation is held up by another one.

    On PostgreSQL a connection then waits for a lock, which the server tells; on SQLite the file is locked, so that the
    transaction is begun again.
    """

    def wait(gate: CountingGate, operation: str) -> None:
        if database_url.startswith("sqlite"):
            gate.wait_for(operation, "begin", 2)
            return
        admin: PostgresAdmin = request.getfixturevalue("postgres_admin")
        name = make_url(database_url).database
        statement = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
        wait_until(lambda: admin.execute(statement, (name,)), f"{operation} waits for a lock")

    return wait


def take_over(database: Database, lease_id: str = "lease-2", nonce: str = "nonce") -> list[ClaimedWorkflow]:
    """Claim everything that is up for recovery."""
    return claim_orphans(
        database,
        nonce=nonce,
        lease_id=lease_id,
        executor_id="local",
        application_version=VERSION,
        names=["work"],
        limit=10,
    )


def test_a_take_over_never_overtakes_a_write_in_flight(open_again: Opener, threads: ThreadPoolExecutor) -> None:
    """A zombie stands between its guarded write and its commit: until that has happened nobody claims the workflow,
    and whoever claims it then finds the checkpoint.
    """
    gate = PausingGate("journal", "before_commit")
    successor = open_again()
    for lease_id in ("lease-1", "lease-2"):
        register_lease(successor, lease(lease_id))
    commit(successor, start("w"), start("idle", "token-2"))
    assert bury_lease(successor, lease("lease-1"))
    zombie = open_again(gate=gate)

    children = (child(1, "w-1", lease_id="lease-2"),)
    writing = threads.submit(commit, zombie, run("w", checkpoint(1), children=children))
    gate.wait_until_reached()
    if successor.locks_rows:
        assert [claim.workflow_id for claim in take_over(successor)] == ["idle"], "the locked row is left for later"
        assert owner(successor, "w") == ("token-1", "lease-1")
    claiming_gate = CountingGate()
    claiming = threads.submit(take_over, open_again(gate=claiming_gate), nonce="nonce-2")
    if successor.locks_rows:
        assert claiming.result(30) == []
    else:
        claiming_gate.wait_for("claim_orphans", "begin", 2)  # refused by the locked file, and begun again
        assert not claiming.done()
    gate.go()

    assert writing.result(30).runs[0].token == "token-1", "the write came before the take-over"
    claimed = claiming.result(30) or take_over(successor, nonce="nonce-3")
    assert "w" in {claim.workflow_id for claim in claimed}
    assert list(read_checkpoints(successor, ["w"])["w"]) == [1]
    answer = commit(zombie, run("w", checkpoint(2), outcome=SUCCEEDED)).runs[0]
    assert answer.token == owner(successor, "w")[0] != "token-1"
    assert (step_ids(successor, "w"), status(successor, "w")) == ([1], "PENDING")


def test_a_write_waits_for_a_take_over_in_flight_and_is_fenced(
    open_again: Opener, threads: ThreadPoolExecutor, wait_for_obstacle: WaitFor
) -> None:
    claiming_gate, writing_gate = PausingGate("claim_orphans", "before_commit"), CountingGate()
    successor, zombie = open_again(gate=claiming_gate), open_again(gate=writing_gate)
    for lease_id in ("lease-1", "lease-2"):
        register_lease(successor, lease(lease_id))
    commit_start(open_again(), start("w"))
    assert bury_lease(successor, lease("lease-1"))

    claiming = threads.submit(take_over, successor)
    claiming_gate.wait_until_reached()
    late = run("w", checkpoint(1), children=(child(1, "w-1", lease_id="lease-2"),), outcome=SUCCEEDED)
    writing = threads.submit(commit_patiently, zombie, late)
    wait_for_obstacle(writing_gate, "journal")
    assert not writing.done()
    claiming_gate.go()

    (claim,) = claiming.result(30)
    answer = writing.result(30).runs[0]
    assert (answer.token, answer.status) == (claim.token, "PENDING")
    assert (step_ids(successor, "w"), status(successor, "w"), workflow(successor, "w-1")) == ([], "PENDING", None)
    assert owner(successor, "w") == (claim.token, "lease-2")


def test_a_lease_is_not_buried_while_a_start_under_it_is_in_flight(
    open_again: Opener, threads: ThreadPoolExecutor
) -> None:
    """So no start is overlooked: whoever buries the lease then finds its workflow. On PostgreSQL nobody waits for that
    meanwhile, as the one who starts it may be a process that was stopped.
    """
    starting_gate, burying_gate = PausingGate("journal", "before_commit"), CountingGate()
    dying, reaper = open_again(gate=starting_gate), open_again(gate=burying_gate)
    for lease_id in ("lease-1", "lease-2"):
        register_lease(reaper, lease(lease_id))

    starting = threads.submit(commit, dying, start("w"))
    starting_gate.wait_until_reached()
    burying = threads.submit(bury_lease, reaper, lease("lease-1"))
    if reaper.locks_rows:
        assert not burying.result(30)
    else:
        burying_gate.wait_for("bury_lease", "begin", 2)  # refused by the locked file, and begun again
        assert not burying.done()
    starting_gate.go()

    assert starting.result(30).starts == [Started()]
    assert burying.result(30) or bury_lease(reaper, lease("lease-1"))
    assert [claim.workflow_id for claim in take_over(reaper)] == ["w"]


def test_a_start_waits_for_a_burial_in_flight_and_is_refused(
    open_again: Opener, threads: ThreadPoolExecutor, wait_for_obstacle: WaitFor
) -> None:
    burying_gate, starting_gate = PausingGate("bury_lease", "before_commit"), CountingGate()
    reaper, dying = open_again(gate=burying_gate), open_again(gate=starting_gate)
    for lease_id in ("lease-1", "lease-2"):
        register_lease(reaper, lease(lease_id))

    burying = threads.submit(bury_lease, reaper, lease("lease-1"))
    burying_gate.wait_until_reached()
    starting = threads.submit(commit_patiently, dying, start("w"))
    wait_for_obstacle(starting_gate, "journal")
    assert not starting.done()
    burying_gate.go()

    assert burying.result(30)
    assert starting.result(30).starts == [LeaseLost()]
    assert workflow(reaper, "w") is None


def test_a_claim_waits_for_the_burial_of_its_own_lease_and_claims_nothing(
    open_again: Opener, threads: ThreadPoolExecutor, wait_for_obstacle: WaitFor
) -> None:
    burying_gate, claiming_gate = PausingGate("bury_lease", "before_commit"), CountingGate()
    reaper, dying = open_again(gate=burying_gate), open_again(gate=claiming_gate)
    register_lease(reaper, lease("lease-1"))
    commit_start(reaper, start("w", None, lease_id=None))

    burying = threads.submit(bury_lease, reaper, lease("lease-1"))
    burying_gate.wait_until_reached()
    claiming = threads.submit(take_over, dying, "lease-1")
    wait_for_obstacle(claiming_gate, "claim_orphans")
    assert not claiming.done()
    burying_gate.go()

    assert burying.result(30)
    assert claiming.result(30) == []
    assert owner(reaper, "w") == (None, None)


def test_of_two_starts_in_flight_the_second_waits_and_sees_the_first(
    open_again: Opener, threads: ThreadPoolExecutor, wait_for_obstacle: WaitFor
) -> None:
    first_gate, second_gate = PausingGate("journal", "before_commit"), CountingGate()
    first, second = open_again(gate=first_gate), open_again(gate=second_gate)
    register_lease(first, lease())
    winning = threads.submit(commit, first, start("w"))
    first_gate.wait_until_reached()
    losing = threads.submit(commit_patiently, second, start("w", "token-2"))
    wait_for_obstacle(second_gate, "journal")
    first_gate.go()
    assert winning.result(30).starts == [Started()]
    assert losing.result(30).starts == [existing()]


def test_two_batches_of_the_same_runs_in_opposite_order_do_not_deadlock(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor
) -> None:
    """Rows are locked in the order of their ids, whatever the order of the batch."""
    ids = [f"w{n}" for n in range(50)]
    commit(database, *(start(workflow_id) for workflow_id in ids))
    one, two = open_again(), open_again()
    for round_ in range(10):
        writes = [run(workflow_id, checkpoint(2 * round_)) for workflow_id in ids]
        others = [run(workflow_id, checkpoint(2 * round_ + 1)) for workflow_id in reversed(ids)]
        # On PostgreSQL a deadlock would raise here; a locked SQLite file is tried again.
        commit_ = commit if database.locks_rows else commit_patiently
        for future in (threads.submit(commit_, one, *writes), threads.submit(commit_, two, *others)):
            future.result(30)
    assert step_ids(database, "w0") == step_ids(database, "w49") == list(range(20))
