"""What a batch of the journal promises, on both databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dbos.model.values import ChildStart, Deduplicated, LeaseLost, Outcome, Place, RunWrites, Started
from dbos.storage.database import Database
from dbos.storage.leases import bury_lease, register_lease
from tests.storage.conftest import Opener
from tests.support.gates import FailingGate
from tests.support.storage import (
    FAILED,
    SUCCEEDED,
    checkpoint,
    child,
    commit,
    commit_patiently,
    commit_run,
    commit_start,
    existing,
    lease,
    owner,
    run,
    set_owner,
    set_status,
    sql,
    start,
    status,
    step_ids,
    steps,
    workflow,
)

EXISTING = existing()

# -- starts


def test_a_start_records_everything_it_says(database: Database) -> None:
    one = start(
        "w",
        class_name="Class",
        config_name="instance",
        application_id="app",
        parent_workflow_id="parent",
        timeout_ms=5,
        deadline_ms=2**40,
    )
    assert commit_start(database, one) == Started()
    row = workflow(database, "w")
    assert row is not None
    assert (row.status, row.name, row.class_name, row.config_name) == ("PENDING", "work", "Class", "instance")
    assert (row.inputs, row.serialization, row.output, row.error) == ("the inputs", "pickle", None, None)
    assert (row.executor_id, row.application_version, row.application_id) == ("local", "version-1", "app")
    assert (row.parent_workflow_id, row.timeout_ms, row.deadline_ms) == ("parent", 5, 2**40)
    assert (row.recovery_attempts, row.queue_name, row.priority) == (1, None, 0)
    assert row.created_at == row.updated_at > 1_700_000_000_000
    assert owner(database, "w") == ("token-1", "lease-1")


def test_a_workflow_starts_once_and_the_first_start_holds(database: Database) -> None:
    commit_start(database, start("w", inputs="first"))
    again = commit_start(database, start("w", "token-2", name="other", inputs="second"))
    assert again == EXISTING
    row = workflow(database, "w")
    assert row is not None
    assert (row.name, row.inputs) == ("work", "first")


def test_a_start_tells_what_stands_in_its_place(database: Database) -> None:
    commit_start(database, start("w", name="other", class_name="Class", config_name="instance"))
    commit_run(database, run("w", outcome=SUCCEEDED))
    answer = commit_start(database, start("w", "token-2"))
    assert answer == existing(status="SUCCESS", name="other", class_name="Class", config_name="instance")


def test_a_start_tried_again_is_acknowledged(database: Database) -> None:
    """The answer to the first try was lost: the token tells that the row is its own, also when others ride along."""
    commit_start(database, start("w"))
    assert commit_start(database, start("w")) == Started()
    answers = commit(database, start("w"), start("new", "token-2")).starts
    assert answers == [Started(), Started()]


def test_of_two_starts_of_one_id_in_a_batch_one_wins(database: Database) -> None:
    answers = commit(database, start("w", "token-1"), start("other"), start("w", "token-2")).starts
    assert answers[1] == Started()
    assert sorted(type(answer).__name__ for answer in (answers[0], answers[2])) == ["AlreadyExists", "Started"]
    winner = "token-1" if answers[0] == Started() else "token-2"
    assert owner(database, "w") == (winner, "lease-1")


def test_of_starts_at_the_same_moment_one_wins(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor
) -> None:
    """From eight connections at once, for several ids: everybody is told the same winner."""
    together = threading.Barrier(8)
    databases = [open_again() for _ in range(8)]

    def begin(number: int) -> list[object]:
        together.wait(10)
        return [commit_patiently(databases[number], start(f"w{n}", f"token-{number}")).starts[0] for n in range(10)]

    all_answers = list(threads.map(begin, range(8)))
    for n in range(10):
        answers = [answers[n] for answers in all_answers]
        winner = answers.index(Started())
        assert owner(database, f"w{n}")[0] == f"token-{winner}"
        answers.pop(winner)
        assert answers == [existing(f"token-{winner}")] * 7


def test_nothing_starts_under_a_buried_lease(database: Database) -> None:
    register_lease(database, lease("lease-2"))
    assert bury_lease(database, lease("lease-1"))
    answers = commit(
        database,
        start("dead"),
        start("alive", lease_id="lease-2"),
        start("never-registered", lease_id="lease-3"),
        start("unowned", None, lease_id=None, status="ENQUEUED"),
    ).starts
    assert answers[:3] == [LeaseLost(), Started(), LeaseLost()]
    found = [status(database, workflow_id) for workflow_id in ("dead", "alive", "never-registered", "unowned")]
    assert found == [None, "PENDING", None, "ENQUEUED"]


def test_a_start_that_nobody_runs_is_acknowledged_whatever_rides_along(database: Database) -> None:
    """It has no token, and is still told from one that existed before."""
    commit_start(database, start("w"))
    unowned = start("new", None, lease_id=None, status="ENQUEUED")
    assert commit(database, unowned, start("w", "token-2")).starts == [Started(), EXISTING]


def test_a_start_under_a_dead_lease_still_finds_what_exists(database: Database) -> None:
    commit_start(database, start("w"))
    bury_lease(database, lease("lease-1"))
    assert commit(database, start("w", "token-2"), start("w", "token-1")).starts == [EXISTING, Started()]


def test_workflows_are_numbered_in_the_order_of_their_starts(database: Database) -> None:
    ids = [f"w{n}" for n in (3, 1, 2, 9, 5)]
    commit(database, *(start(workflow_id) for workflow_id in ids[:3]))
    commit(database, *(start(workflow_id) for workflow_id in ids[3:]))
    rows = sql(database, "SELECT workflow_uuid FROM {schema}workflow_status ORDER BY seq")
    assert [row[0] for row in rows] == ids


# -- checkpoints and the guard


def test_a_checkpoint_records_everything_it_says(database: Database) -> None:
    commit_start(database, start("w"))
    one = checkpoint(1, child_workflow_id="child", started_at_ms=2**40, completed_at_ms=2**40 + 1)
    other = checkpoint(2, None, error="the error", serialization="json")
    answer = commit_run(database, run("w", one, other))
    assert (answer.token, answer.status, answer.foreign) == ("token-1", "PENDING", frozenset())
    first, second = steps(database, "w")
    assert (first.function_id, first.name, first.output, first.error) == (1, "step-1", "the output", None)
    assert (first.child_workflow_id, first.started_at_ms, first.completed_at_ms) == ("child", 2**40, 2**40 + 1)
    assert (second.output, second.error, second.serialization) == (None, "the error", "json")


def test_a_fenced_run_writes_nothing(database: Database) -> None:
    """Neither checkpoints nor children nor the outcome; and others in the batch are not hindered."""
    commit(database, start("w"), start("other"))
    set_owner(database, "w", "token-2", "lease-1")
    zombie = run("w", checkpoint(1), children=(child(1, "w-1"),), outcome=SUCCEEDED)
    answers = commit(database, zombie, run("other", checkpoint(1), outcome=SUCCEEDED)).runs
    assert (answers[0].token, answers[0].status, answers[0].children) == ("token-2", "PENDING", {})
    assert (answers[1].token, answers[1].status) == ("token-1", "PENDING")
    assert (step_ids(database, "w"), status(database, "w"), workflow(database, "w-1")) == ([], "PENDING", None)
    assert (step_ids(database, "other"), status(database, "other")) == ([1], "SUCCESS")


@pytest.mark.parametrize("token", [None, "token-2"])
def test_a_released_or_taken_run_is_told_its_owner(database: Database, token: str | None) -> None:
    commit_start(database, start("w"))
    set_owner(database, "w", token, None)
    for writes in (run("w"), run("w", checkpoint(1)), run("w", outcome=FAILED)):
        answer = commit_run(database, writes)
        assert (answer.token, answer.status) == (token, "PENDING")
    assert (step_ids(database, "w"), status(database, "w")) == ([], "PENDING")


def test_a_run_without_a_row_is_told_so(database: Database) -> None:
    """Its workflow was deleted."""
    for writes in (run("gone"), run("gone", checkpoint(1), children=(child(1, "gone-1"),), outcome=SUCCEEDED)):
        answer = commit_run(database, writes)
        assert (answer.token, answer.status) == (None, None)
    assert (step_ids(database, "gone"), workflow(database, "gone"), workflow(database, "gone-1")) == ([], None, None)


def test_an_old_and_a_new_run_of_one_workflow_share_a_batch(database: Database) -> None:
    commit_start(database, start("w", "token-2"))
    old = run("w", checkpoint(1, "old"), checkpoint(2, "old"), token="token-1", outcome=FAILED)
    new = run("w", checkpoint(1, "new"), token="token-2", outcome=SUCCEEDED)
    answers = commit(database, old, new).runs
    assert [answer.token for answer in answers] == ["token-2", "token-2"]
    assert [answer.foreign for answer in answers] == [frozenset(), frozenset()]
    assert [step.output for step in steps(database, "w")] == ["new"]
    assert status(database, "w") == "SUCCESS"


def test_a_checkpoint_tried_again_is_acknowledged(database: Database) -> None:
    """The answer to the first try was lost. The first record stands, and what is new is added."""
    commit_start(database, start("w"))
    commit_run(database, run("w", checkpoint(1, "first"), checkpoint(2)))
    answer = commit_run(database, run("w", checkpoint(1, "first"), checkpoint(2), checkpoint(3)))
    assert (answer.token, answer.foreign) == ("token-1", frozenset())
    assert [step.output for step in steps(database, "w")] == ["first", "the output", "the output"]


def test_a_checkpoint_of_another_run_is_reported_and_stands(database: Database) -> None:
    commit_start(database, start("w"))
    commit_run(database, run("w", checkpoint(1, "theirs"), checkpoint(3, "theirs")))
    set_owner(database, "w", "token-2", "lease-1")
    ours = [checkpoint(number, "ours") for number in (1, 2, 3)]
    answer = commit_run(database, run("w", *ours, token="token-2"))
    assert (answer.token, answer.foreign) == ("token-2", frozenset({1, 3}))
    assert [step.output for step in steps(database, "w")] == ["theirs", "ours", "theirs"]


def test_a_checkpoint_that_the_older_library_wrote_is_foreign(database: Database) -> None:
    """It has no token."""
    commit_start(database, start("w"))
    commit_run(database, run("w", checkpoint(1, "theirs")))
    with database.transaction("test") as transaction:
        transaction.write("UPDATE {schema}operation_outputs SET owner_xid = NULL")
    assert commit_run(database, run("w", checkpoint(1, "ours"))).foreign == frozenset({1})


# -- children


def test_a_run_that_ends_frees_its_deduplication_id_for_what_comes_after_it(database: Database) -> None:
    """Not for its own children, and not for those of runs before it in the batch."""

    def enqueued(child_id: str, place_id: str) -> ChildStart:
        return child(1, child_id, None, status="ENQUEUED", lease_id=None, place=Place("q", place_id))

    def runs(*names: str, child_id: str) -> list[RunWrites]:
        return [
            run(name, checkpoint(1), children=(enqueued(f"{name}-1", child_id),), outcome=SUCCEEDED) for name in names
        ]

    commit(database, *(start(name, place=Place("q", f"of {name}")) for name in ("a", "b", "c")))
    first, second = commit(database, *runs("b", "a", child_id="of a")).runs
    assert (first.children, second.children) == ({1: Deduplicated()}, {1: Deduplicated()})
    assert (status(database, "a"), step_ids(database, "a"), workflow(database, "a-1")) == ("SUCCESS", [], None)
    assert commit(database, run("c", checkpoint(1), children=(enqueued("c-1", "of a"),))).runs[0].children == {
        1: Started()
    }


def test_a_child_starts_with_its_checkpoint(database: Database) -> None:
    commit(database, start("w"), start("taken", "other-token", name="other"))
    children = (child(1, "w-1"), child(2, "taken"), child(3, "w-3", lease_id="lease-9"))
    marks = [checkpoint(number, None, child_workflow_id="any") for number in (1, 2, 3)]
    answer = commit_run(database, run("w", *marks, children=children))
    taken = existing("other-token", name="other")
    assert answer.children == {1: Started(), 2: taken, 3: LeaseLost()}
    assert (owner(database, "w-1"), workflow(database, "w-3")) == (("child-token", "lease-1"), None)


def test_a_child_tried_again_is_acknowledged_and_started_once(database: Database) -> None:
    """The answer was lost, and meanwhile the child has ended: it is not touched."""
    commit_start(database, start("w"))
    writes = run("w", checkpoint(1), children=(child(1, "w-1"),))
    commit_run(database, writes)
    commit_run(database, run("w-1", token="child-token", outcome=SUCCEEDED))
    more = run("w", checkpoint(1), checkpoint(2), children=(child(1, "w-1"), child(2, "w-2")))
    assert commit_run(database, more).children == {1: Started(), 2: Started()}
    assert (status(database, "w-1"), status(database, "w-2")) == ("SUCCESS", "PENDING")


def test_a_child_does_not_start_if_its_checkpoint_stood_already(database: Database) -> None:
    """Another run recorded that step, and with it other children or none."""
    commit_start(database, start("w"))
    commit_run(database, run("w", checkpoint(1)))
    set_owner(database, "w", "token-2", "lease-1")
    mine = run("w", checkpoint(1), checkpoint(2), token="token-2", children=(child(1, "w-1"), child(2, "w-2")))
    assert commit_run(database, mine).foreign == frozenset({1})
    assert (workflow(database, "w-1"), status(database, "w-2")) == (None, "PENDING")


def test_a_child_that_a_dead_lease_does_not_let_start_is_not_recorded(database: Database) -> None:
    """Or replay would take the record for a started child. Its siblings and the steps before it stand."""
    commit_start(database, start("w"))
    register_lease(database, lease("dead"))
    bury_lease(database, lease("dead"))
    marks = [checkpoint(number, None, child_workflow_id=f"w-{number}") for number in (1, 2, 3)]
    children = (child(2, "w-2", lease_id="dead"), child(3, "w-3"))
    assert commit_run(database, run("w", *marks, children=children)).children == {2: LeaseLost(), 3: Started()}
    assert (step_ids(database, "w"), workflow(database, "w-2")) == ([1, 3], None)
    again = run("w", marks[1], children=(child(2, "w-2"),))
    assert commit_run(database, again).children == {2: Started()}
    assert (step_ids(database, "w"), status(database, "w-2")) == ([1, 2, 3], "PENDING")


def test_a_child_whose_id_belongs_to_another_function_is_not_recorded(database: Database) -> None:
    """Replay must meet the conflict again; also when the answer was lost and the batch is tried again."""
    commit(database, start("w"), start("taken", "other-token", name="other"))
    writes = run("w", checkpoint(1), checkpoint(2, None, child_workflow_id="taken"), children=(child(2, "taken"),))
    for _ in range(2):
        assert commit_run(database, writes).children == {2: existing("other-token", name="other")}
        assert step_ids(database, "w") == [1]


def test_a_child_that_exists_is_told_so_again_when_tried_again(database: Database) -> None:
    """The answer was lost: the record of the child stands, but not this run started it."""
    commit(database, start("w"), start("shared", "other-token"))
    commit_run(database, run("shared", token="other-token", outcome=SUCCEEDED))
    mark = checkpoint(1, None, child_workflow_id="shared")
    writes = run("w", mark, children=(child(1, "shared"),))
    ended = existing("other-token", status="SUCCESS")
    assert commit_run(database, writes).children == {1: ended}
    assert commit_run(database, writes).children == {1: ended}
    more = run("w", mark, checkpoint(2), children=(child(1, "shared"), child(2, "w-2")))
    assert commit_run(database, more).children == {1: ended, 2: Started()}


def test_of_two_starts_of_one_child_one_wins_and_the_other_is_told_whose_it_is(database: Database) -> None:
    """Both are recorded; tried again, the answers are the same."""
    commit_start(database, start("w"))
    marks = [checkpoint(number, None, child_workflow_id="child") for number in (1, 2)]
    writes = run("w", *marks, children=(child(1, "child", "token-a"), child(2, "child", "token-b")))
    for _ in range(2):
        assert commit_run(database, writes).children == {1: Started(), 2: existing("token-a")}
        assert (step_ids(database, "w"), owner(database, "child")) == ([1, 2], ("token-a", "lease-1"))


# -- outcomes


@pytest.mark.parametrize("outcome", [SUCCEEDED, FAILED])
def test_the_owner_records_the_outcome_with_its_last_checkpoint(database: Database, outcome: Outcome) -> None:
    commit_start(database, start("w"))
    answer = commit_run(database, run("w", checkpoint(1), outcome=outcome))
    assert (answer.token, answer.status) == ("token-1", "PENDING"), "the status is that before the batch"
    row = workflow(database, "w")
    assert row is not None
    assert (row.status, row.output, row.error) == (outcome.status, outcome.output, outcome.error)
    assert (row.outcome_serialization, row.serialization, row.inputs) == ("pickle", "pickle", "the inputs")
    assert (step_ids(database, "w"), row.updated_at >= row.created_at) == ([1], True)


def test_an_outcome_is_recorded_once(database: Database) -> None:
    commit_start(database, start("w"))
    commit_run(database, run("w", outcome=SUCCEEDED))
    answer = commit_run(database, run("w", outcome=FAILED))
    assert (answer.token, answer.status) == ("token-1", "SUCCESS")
    row = workflow(database, "w")
    assert row is not None
    assert (row.status, row.output, row.error) == ("SUCCESS", "the result", None)


@pytest.mark.parametrize("state", ["CANCELLED", "ENQUEUED", "ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"])
def test_an_outcome_never_overwrites_another_state(database: Database, state: str) -> None:
    """But the checkpoint in flight is still recorded, so that a paid step is not paid again when it is resumed."""
    commit_start(database, start("w"))
    set_status(database, "w", state)
    answer = commit_run(database, run("w", checkpoint(1), outcome=SUCCEEDED))
    assert (answer.token, answer.status) == ("token-1", state)
    row = workflow(database, "w")
    assert row is not None
    assert (row.status, row.output, step_ids(database, "w")) == (state, None, [1])


def test_the_outcome_releases_the_deduplication_id(database: Database) -> None:
    commit_start(database, start("w"))
    with database.transaction("test") as transaction:
        transaction.write("UPDATE {schema}workflow_status SET queue_name = 'q', deduplication_id = 'd'")
    commit_run(database, run("w", outcome=SUCCEEDED))
    row = workflow(database, "w")
    assert row is not None
    assert (row.queue_name, row.deduplication_id) == ("q", None)


# -- checks


def test_a_check_tells_token_and_status_and_writes_nothing(database: Database) -> None:
    commit(database, start("w"), start("cancelled", "token-2"))
    set_status(database, "cancelled", "CANCELLED")
    before = sql(database, "SELECT * FROM {schema}workflow_status ORDER BY seq")
    answers = commit(database, run("w"), run("cancelled", token="token-2"), run("w", token="zombie")).runs
    assert [(answer.token, answer.status) for answer in answers] == [
        ("token-1", "PENDING"),
        ("token-2", "CANCELLED"),
        ("token-1", "PENDING"),
    ]
    assert sql(database, "SELECT * FROM {schema}workflow_status ORDER BY seq") == before


def test_checks_ride_with_writes(database: Database) -> None:
    commit(database, start("checks"), start("writes", "token-2"))
    answers = commit(database, run("checks"), run("writes", checkpoint(1), token="token-2")).runs
    assert [(answer.token, answer.status) for answer in answers] == [("token-1", "PENDING"), ("token-2", "PENDING")]
    assert step_ids(database, "writes") == [1]


# -- one transaction


def test_a_batch_that_fails_leaves_nothing(database: Database) -> None:
    """A number that no column holds is refused in the middle of the batch."""
    commit(database, start("good"), start("bad"), start("more"))
    good = run("good", checkpoint(1), children=(child(1, "good-1"),), outcome=SUCCEEDED)
    bad = run("bad", checkpoint(1), checkpoint(2**70))
    with pytest.raises(Exception, match=r"out of range|too large"):
        commit(database, start("new"), good, bad, run("more", outcome=SUCCEEDED))
    assert [workflow(database, workflow_id) for workflow_id in ("new", "good-1")] == [None, None]
    assert [status(database, workflow_id) for workflow_id in ("good", "bad", "more")] == ["PENDING"] * 3
    assert (step_ids(database, "good"), step_ids(database, "bad")) == ([], [])
    commit(database, start("new"), good)
    assert (status(database, "good"), status(database, "good-1")) == ("SUCCESS", "PENDING")


def test_a_child_that_fails_takes_its_checkpoint_with_it(database: Database) -> None:
    commit_start(database, start("w"))
    with pytest.raises(Exception, match=r"out of range|too large"):
        commit_run(database, run("w", checkpoint(1), children=(child(1, "w-1", deadline_ms=2**70),), outcome=SUCCEEDED))
    assert (status(database, "w"), step_ids(database, "w"), workflow(database, "w-1")) == ("PENDING", [], None)


def test_a_commit_that_does_not_happen_leaves_nothing(open_again: Opener, database: Database) -> None:
    """As when the process dies, or the connection breaks, right before the commit."""
    commit_start(database, start("w"))
    failing = open_again(gate=FailingGate("journal", "before_commit", ConnectionError("cut")))
    batch = (start("new"), run("w", checkpoint(1), children=(child(1, "w-1"),), outcome=SUCCEEDED))
    with pytest.raises(ConnectionError):
        commit(failing, *batch)
    assert [workflow(database, workflow_id) for workflow_id in ("new", "w-1")] == [None, None]
    assert (status(database, "w"), step_ids(database, "w")) == ("PENDING", [])


def test_a_batch_whose_answer_was_lost_can_be_committed_again(open_again: Opener, database: Database) -> None:
    """Everything it holds is recognised as its own: starts, checkpoints, children, outcome."""
    commit_start(database, start("w"))
    failing = open_again(gate=FailingGate("journal", "after_commit", ConnectionError("cut")))
    batch = (start("new"), run("w", checkpoint(1), children=(child(1, "w-1"),), outcome=SUCCEEDED))
    with pytest.raises(ConnectionError):
        commit(failing, *batch)
    answer = commit(failing, *batch)
    assert answer.starts == [Started()]
    assert (answer.runs[0].token, answer.runs[0].status) == ("token-1", "SUCCESS")
    assert (answer.runs[0].foreign, answer.runs[0].children) == (frozenset(), {1: Started()})
    assert len(sql(database, "SELECT 1 FROM {schema}workflow_status")) == 3


# -- sizes and characters


def test_a_thousand_runs_share_a_batch(database: Database) -> None:
    """Each is answered for itself: every tenth is fenced."""
    numbers = range(1000)
    assert commit(database, *(start(f"w{n}", f"token-{n}") for n in numbers)).starts == [Started()] * 1000
    runs = [
        run(
            f"w{n}",
            checkpoint(1, f"output-{n}"),
            token="zombie" if n % 10 == 0 else f"token-{n}",
            children=(child(1, f"w{n}-1"),) if n % 3 == 0 else (),
            outcome=SUCCEEDED,
        )
        for n in numbers
    ]
    answers = commit(database, *runs).runs
    assert [answer.token for answer in answers] == [f"token-{n}" for n in numbers]
    ended = sql(database, "SELECT workflow_uuid FROM {schema}workflow_status WHERE status = 'SUCCESS'")
    assert {row[0] for row in ended} == {f"w{n}" for n in numbers if n % 10}
    outputs = dict(sql(database, "SELECT workflow_uuid, output FROM {schema}operation_outputs"))
    assert outputs == {f"w{n}": f"output-{n}" for n in numbers if n % 10}
    children = sql(database, "SELECT workflow_uuid FROM {schema}workflow_status WHERE status = 'PENDING'")
    fenced = {f"w{n}" for n in numbers if n % 10 == 0}
    assert {row[0] for row in children} - fenced == {f"w{n}-1" for n in numbers if n % 3 == 0 and n % 10}


NASTY = [
    'it\'s "quoted" `so` \'\' ""',
    "back\\slash \\n \\u0041 \\x00 \\",
    "100% %s %(id)s %%",
    ":id ::text :starts {schema} {now} $1 ? ANY_OF(:ids)",
    "línea\nzwei\r\n\tтри 四 🎉 \u202e \ufeff \x01\x7f \u2028",
    "'; DROP TABLE workflow_status; --",
    '{"json": [1, null]}',
    " ",
    "",
]


def test_texts_are_stored_as_they_are(database: Database) -> None:
    ids = [f"{number}:{text}" for number, text in enumerate(NASTY)]
    texts = dict(zip(ids, NASTY, strict=True))
    starts = [
        start(i, f"token {t}", name=t, inputs=t, class_name=t, config_name=t, serialization=t) for i, t in texts.items()
    ]
    assert commit(database, *starts).starts == [Started()] * len(NASTY)
    runs = [
        run(
            i,
            checkpoint(1, t, name=t, serialization=t, child_workflow_id=f"child {i}"),
            checkpoint(2, None, error=t, name=t),
            token=f"token {t}",
            children=(child(1, f"child {i}", inputs=t),),
            outcome=Outcome("SUCCESS", t, t, t),
        )
        for i, t in texts.items()
    ]
    assert [answer.token for answer in commit(database, *runs).runs] == [f"token {t}" for t in NASTY]
    for workflow_id, text in texts.items():
        row = workflow(database, workflow_id)
        assert row is not None
        assert [row.name, row.inputs, row.class_name, row.config_name, row.serialization] == [text] * 5
        assert [row.output, row.error, row.outcome_serialization] == [text] * 3
        first, second = steps(database, workflow_id)
        assert [first.output, first.name, first.serialization, second.error] == [text] * 4
        assert first.child_workflow_id == f"child {workflow_id}"
        assert status(database, f"child {workflow_id}") == "PENDING"


def test_a_value_of_five_megabytes_is_stored(database: Database) -> None:
    long = "0123456789 äöü € 🎉 \\ \" '" * 200_000
    assert len(long.encode()) > 5_000_000
    commit_start(database, start("w", inputs=long))
    commit_run(database, run("w", checkpoint(1, long), outcome=Outcome("ERROR", None, long, "pickle")))
    row = workflow(database, "w")
    assert row is not None
    assert (row.inputs == long, row.error == long, steps(database, "w")[0].output == long) == (True, True, True)
