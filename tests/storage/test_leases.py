"""Leases: registered, renewed, buried, released."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from dbos.model.queues import QueueRules, RateLimit
from dbos.model.serving import Serving
from dbos.model.values import Lease, LeaseLost, ProcessIdentity
from dbos.storage.claims import claim_orphans
from dbos.storage.database import Database
from dbos.storage.diagnosis import read_executors
from dbos.storage.leases import (
    bury_lease,
    note_serving,
    read_live_leases,
    read_serving,
    register_lease,
    release_lease,
    renew_lease,
)
from tests.storage.conftest import Opener
from tests.support.storage import SUCCEEDED, VERSION, change, commit, commit_run, lease, owner, run, sql, start, status


def live(database: Database) -> dict[str, Lease]:
    """All live leases by id."""
    return {one.lease_id: one for one in read_live_leases(database, own="")}


def test_a_lease_is_read_as_it_was_registered(database: Database) -> None:
    process = ProcessIdentity('host\'s "name"', 2**22, "boot", "pid:[4026531836]", "12345")
    one = Lease("lease-2", "executor", "version", process)
    register_lease(database, one)
    assert live(database) == {"lease-1": lease(), "lease-2": one}
    assert read_live_leases(database, own="lease-1") == [one], "one's own is left out"


def serving(database: Database, lease_id: str) -> Serving | None:
    (row,) = (row for row in read_executors(database) if row.lease_id == lease_id)
    return row.serving


def test_what_an_executor_serves_is_read_as_it_was_noted(database: Database) -> None:
    register_lease(database, lease("lease-2"))
    assert serving(database, "lease-2") is None, "it does not tell yet"
    rules = QueueRules('größe "x"', 3, 1, RateLimit(5, 1500), has_priorities=True, is_partitioned=True)
    for noted in (Serving((rules, QueueRules("plain")), ("f", "Class.method", "<temp>.step")), Serving((), ())):
        note_serving(database, "lease-2", noted)
        assert (serving(database, "lease-2"), serving(database, "lease-1")) == (noted, None)
    note_serving(database, "never-registered", Serving((), ()))


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "{}", '"x"', "null", '{"queues": [1], "functions": []}', '{"queues": 1}']
)
def test_what_is_not_understood_tells_nothing(text: str) -> None:
    """A later version of the library may tell something else."""
    assert read_serving(text) is None


def test_each_renewal_counts(database: Database) -> None:
    register_lease(database, lease("lease-2"))
    for renewals in (1, 2, 3):
        assert renew_lease(database, "lease-1")
        assert (live(database)["lease-1"].renewals, live(database)["lease-2"].renewals) == (renewals, 0)


def test_a_lease_is_buried_only_if_it_stood_still(database: Database) -> None:
    seen = live(database)["lease-1"]
    renew_lease(database, "lease-1")
    assert not bury_lease(database, seen), "it was renewed after it was read"
    assert renew_lease(database, "lease-1")
    assert bury_lease(database, live(database)["lease-1"])
    assert live(database) == {}


def test_a_buried_lease_is_not_renewed_nor_buried_again(database: Database) -> None:
    assert bury_lease(database, lease())
    assert not renew_lease(database, "lease-1")
    assert not bury_lease(database, lease())
    assert not bury_lease(database, lease("never-registered"))
    assert not renew_lease(database, "never-registered")


def test_of_two_reapers_one_buries(open_again: Opener, database: Database, threads: ThreadPoolExecutor) -> None:
    others = [open_again() for _ in range(4)]
    for n in range(10):
        register_lease(database, lease(f"victim-{n}"))
        futures = [threads.submit(bury_lease, other, lease(f"victim-{n}")) for other in others]
        assert sorted(future.result(30) for future in futures) == [False, False, False, True]


def test_a_renewal_and_a_burial_at_the_same_moment_exclude_each_other(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor
) -> None:
    """Either the renewal counts and nothing is buried, or it finds the lease dead."""
    owner_, reaper = open_again(), open_again()
    for n in range(20):
        register_lease(database, lease(f"lease {n}"))
        renewing = threads.submit(renew_lease, owner_, f"lease {n}")
        burying = threads.submit(bury_lease, reaper, lease(f"lease {n}"))
        assert renewing.result(30) != burying.result(30)


def test_a_release_hands_back_what_is_claimed_and_keeps_what_has_ended(database: Database) -> None:
    register_lease(database, lease("lease-2"))
    commit(database, start("w"), start("ended"), start("theirs", "token-2", lease_id="lease-2"))
    commit_run(database, run("ended", outcome=SUCCEEDED))
    release_lease(database, "lease-1")
    assert [owner(database, i)[0] for i in ("w", "ended", "theirs")] == [None, "token-1", "token-2"]
    assert [status(database, i) for i in ("w", "ended", "theirs")] == ["PENDING", "SUCCESS", "PENDING"]
    assert list(live(database)) == ["lease-2"]
    assert len(sql(database, "SELECT 1 FROM {schema}executors")) == 1, "nothing of the lease is left"
    release_lease(database, "lease-1")


def test_what_is_handed_back_did_not_use_up_an_attempt(database: Database) -> None:
    """A graceful end is no crash: recovered a hundred times so, a workflow is still not given up."""
    commit(database, start("w"))
    for number in range(3):
        register_lease(database, lease(f"graceful-{number}"))
        release_lease(database, f"graceful-{number - 1}" if number else "lease-1")
        (claimed,) = claim_orphans(
            database,
            nonce=f"nonce-{number}",
            lease_id=f"graceful-{number}",
            executor_id="local",
            application_version=VERSION,
            names=["work"],
            limit=10,
        )
        assert claimed.recovery_attempts == 1


def test_dead_leases_are_forgotten_after_a_day(database: Database) -> None:
    for lease_id in ("old", "recent"):
        register_lease(database, lease(lease_id))
        bury_lease(database, lease(lease_id))
    commit(database, start("w"))
    day_ms = 24 * 3600 * 1000
    statement = "UPDATE {schema}executors SET renewed_at = renewed_at - :age WHERE lease_id <> 'recent'"
    change(database, statement, age=day_ms + 60_000)
    register_lease(database, lease("new"))
    kept = {row[0] for row in sql(database, "SELECT lease_id FROM {schema}executors")}
    assert kept == {"recent", "new", "lease-1"}, "a live lease is kept however old it is"
    assert commit(database, start("late", lease_id="old")).starts == [LeaseLost()]
