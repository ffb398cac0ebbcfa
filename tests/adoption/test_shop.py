"""An application of the older library is killed in the middle of everything, and goes on with this one.

One process of ours takes the database over, and the tests look at what became of it. Each ``hold`` is a step that was
under way when the process was killed: it runs again, and all before it do not.
"""

from __future__ import annotations

import base64
import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.adoption.shop import RunningShop, Shop
from tests.support.processes import Spawner

_WORKFLOWS = (
    "workflow_uuid, status, name, class_name, config_name, inputs, output, error, executor_id, created_at, updated_at, "
    "application_version, recovery_attempts, queue_name, workflow_timeout_ms, workflow_deadline_epoch_ms, "
    "started_at_epoch_ms, deduplication_id, priority, queue_partition_key, forked_from, parent_workflow_id, "
    "authenticated_user, assumed_role, authenticated_roles, application_id, request"
)
_STEPS = (
    "workflow_uuid, function_id, function_name, output, error, child_workflow_id, started_at_epoch_ms, "
    "completed_at_epoch_ms"
)
_EVENTS = "workflow_uuid, key, function_id, value"
_STREAMS = 'workflow_uuid, key, "offset", value, function_id'


class Adopted:
    """What the older library left, and the application that goes on with it."""

    def __init__(self, shop: Shop, spawner: Spawner) -> None:
        self.shop = shop
        self.workflows = shop.by_key("workflow_status", _WORKFLOWS)
        self.steps = shop.by_key("operation_outputs", _STEPS, 2)
        self.events = shop.by_key("workflow_events_history", _EVENTS, 3)
        self.streams = shop.by_key("streams", _STREAMS, 3)
        self.running = RunningShop(shop, spawner)
        self.ask = self.running.ask
        self.result = self.running.result

    @property
    def log(self) -> str:
        return self.running.child.stderr

    def status(self, workflow_id: str) -> dict[str, Any]:
        """Some columns of the workflow's row."""
        columns = "status, application_version, queue_name, deduplication_id, workflow_deadline_epoch_ms, owner_xid"
        (row,) = self.shop.rows(
            f"SELECT {columns} FROM {{schema}}workflow_status WHERE workflow_uuid = '{workflow_id}'"
        )
        return dict(zip(columns.split(", "), row, strict=True))


@pytest.fixture(scope="module")
def adopted(killed_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adopted]:
    directory = tmp_path_factory.mktemp("adopted")
    spawner = Spawner(directory)
    with killed_shop.copy(directory) as copy:
        try:
            yield Adopted(copy, spawner)
        finally:
            spawner.close()


def test_everything_was_begun(adopted: Adopted) -> None:
    """Or the other tests show nothing."""
    statuses = Counter(row[1] for row in adopted.workflows.values())
    assert statuses["PENDING"] >= 20
    assert statuses["ENQUEUED"] >= 7
    assert statuses["ERROR"] == 3
    assert statuses["CANCELLED"] == 1
    assert len(adopted.shop.entries("hold", "older")) == 15


def test_nothing_that_was_recorded_is_lost_or_changed(adopted: Adopted) -> None:
    workflows = adopted.shop.by_key("workflow_status", _WORKFLOWS)
    ended = {key: row for key, row in adopted.workflows.items() if row[1] in ("SUCCESS", "ERROR")}
    assert ended
    assert {key: workflows[key] for key in ended} == ended
    assert set(adopted.workflows) <= set(workflows)
    steps = adopted.shop.by_key("operation_outputs", _STEPS, 2)
    assert {key: steps[key] for key in adopted.steps} == adopted.steps
    events = adopted.shop.by_key("workflow_events_history", _EVENTS, 3)
    assert {key: events[key] for key in adopted.events} == adopted.events
    streams = adopted.shop.by_key("streams", _STREAMS, 3)
    assert {key: streams[key] for key in adopted.streams} == adopted.streams


def test_history_is_listed_with_inputs_and_outcomes(adopted: Adopted) -> None:
    expression = "[[w.name, w.status, w.input['args'], w.input['kwargs'], w.output, repr(w.error)] for w in "
    listed = adopted.ask(f"{expression} DBOS.list_workflows(workflow_ids=['finished', 'failed'])]")
    assert listed == [
        ["finished", "SUCCESS", [1], {"text": "told"}, {"first": 10, "second": 20, "text": "told"}, "None"],
        ["failed", "ERROR", [], {}, None, "ValueError('no luck', 7)"],
    ]
    names = adopted.ask("[(s['function_name'], s['output']) for s in DBOS.list_workflow_steps('finished')]")
    assert names == [["work", 10], ["work", 20]]


def test_workflows_are_listed_in_the_order_of_their_creation(adopted: Adopted) -> None:
    listed = adopted.ask("[w.workflow_id for w in DBOS.list_workflows()]")
    started = ["finished", "failed", "unlucky", "astray", "between", "long sleeper", "parent"]
    assert [one for one in listed if one in started] == started


def test_errors_of_the_older_library_are_ours(adopted: Adopted) -> None:
    assert adopted.result("failed") == "ValueError('no luck', 7)"
    assert "DBOSMaxStepRetriesExceeded" in adopted.result("unlucky")
    assert "DBOSNonExistentWorkflowError" in adopted.result("astray")
    errors = "[repr(e) for e in DBOS.list_workflows(workflow_ids=['unlucky'])[0].error.errors]"
    assert adopted.ask(errors) == ["KeyError('k')", "KeyError('k')"]


def test_a_workflow_goes_on_after_its_recorded_steps(adopted: Adopted) -> None:
    assert adopted.result("between") == [10, "ours", 20]
    assert adopted.result("between, async") == [4, 40, "ours"]
    ran = Counter((entry["workflow"], entry["n"]) for entry in adopted.shop.entries("work") if entry["workflow"])
    assert {count for (workflow, _), count in ran.items() if workflow in ("between", "finished", "parent-3")} == {1}


def test_a_parent_gets_the_results_of_its_children(adopted: Adopted) -> None:
    child = {"first": 30, "second": 40, "text": ""}
    assert adopted.result("parent") == [child, [30, "ours", 40]]
    assert adopted.result("parent-3") == [30, "ours", 40]


def test_a_sleep_ends_when_it_would_have(adopted: Adopted) -> None:
    adopted.result("sleeper")
    ((stored,),) = adopted.shop.rows(
        "SELECT output FROM {schema}operation_outputs WHERE workflow_uuid = 'sleeper' AND function_id = 2"
    )
    wakes_at = pickle.loads(base64.b64decode(stored))
    (woke,) = adopted.shop.entries("woke")
    assert woke["library"] == "ours"
    assert 0 <= woke["at"] - wakes_at < 1.5
    assert adopted.status("long sleeper")["status"] == "PENDING"


def test_messages_that_waited_are_received_in_order(adopted: Adopted) -> None:
    assert adopted.result("receiver") == ["first", "ours", "second", "third", "plain", None]


def test_a_workflow_that_waited_for_a_message_gets_it(adopted: Adopted) -> None:
    assert adopted.ask("DBOS.send('waiting for news', 'at last', 'news')") is None
    assert adopted.result("waiting for news") == "at last"


def test_events_are_read_and_set_on(adopted: Adopted) -> None:
    assert adopted.result("herald") == "told"
    assert adopted.ask("DBOS.get_all_events('herald')") == {"stage": 3, "other": {"a": [1]}}


def test_streams_are_read_and_written_on(adopted: Adopted) -> None:
    assert adopted.ask("list(DBOS.read_stream('herald', 'log'))") == ["one", "two", "three"]


def test_what_the_library_answered_is_replayed(adopted: Adopted) -> None:
    """A status, lists, a fork and its handle, errors: as the older library recorded them."""
    assert adopted.result("manager") == [
        "SUCCESS",
        {"args": [1], "kwargs": {"text": "told"}},
        ["failed", "finished"],
        ["work", "work"],
        {"first": 10, "second": 20, "text": "told"},
        {},
        ["DBOSNonExistentWorkflowError", "DBOSNonExistentWorkflowError", "DBOSQueueDeduplicatedError"],
        50,
    ]


def test_a_queue_goes_on_in_order_and_within_its_limit(adopted: Adopted) -> None:
    for n in (1, 2, 3):
        assert adopted.result(f"job {n}") == n
    ran = [entry["n"] for entry in adopted.shop.entries("numbered", "ours") if entry["workflow"].startswith("job")]
    assert ran == [1, 2, 3]
    assert adopted.result("single") == 4
    assert adopted.status("single")["deduplication_id"] is None


def test_a_queue_goes_on_by_priority(adopted: Adopted) -> None:
    for n in (2, 3, 5):
        assert adopted.result(f"ranked {n}") == n
    ran = [entry["n"] for entry in adopted.shop.entries("numbered", "ours") if entry["workflow"].startswith("ranked")]
    assert ran == [1, 2, 3, 5]


def test_partitions_go_on(adopted: Adopted) -> None:
    assert [adopted.result(f"part {n}") for n in range(3)] == [0, 1, 2]


def test_methods_go_on_on_their_instance_and_class(adopted: Adopted) -> None:
    assert adopted.result("order") == ["corner", 7]
    assert adopted.result("count") == ["Shop", 8]
    assert len(adopted.shop.entries("price")) == 1


def test_a_transaction_that_was_recorded_does_not_run_again(adopted: Adopted) -> None:
    assert adopted.result("buyer") == [20, 21]
    assert [entry["n"] for entry in adopted.shop.entries("pay")] == [20, 21]
    assert adopted.shop.rows("SELECT n FROM payments ORDER BY n") == [(20,), (21,)]


def test_a_deadline_holds_on(adopted: Adopted) -> None:
    assert adopted.result("limited") == "in time"
    deadline = adopted.workflows["limited"][15]
    assert deadline is not None
    assert adopted.status("limited")["workflow_deadline_epoch_ms"] == deadline


def test_calls_of_a_debouncer_are_replayed(adopted: Adopted) -> None:
    assert adopted.result("bouncing") == [True, {"first": 510, "second": 520, "text": ""}]


def test_a_debounced_workflow_still_waits(adopted: Adopted) -> None:
    """And the next call begins a round of ours."""
    waiting = adopted.ask("[w.status for w in DBOS.list_workflows(name='_dbos_debouncer_workflow', status='PENDING')]")
    assert waiting == ["PENDING"]
    assert adopted.ask("Debouncer.create(finished).debounce('waits', 0.01, 70).get_result()")["first"] == 700


def test_a_cancelled_workflow_is_resumed(adopted: Adopted) -> None:
    assert adopted.status("cancelled")["owner_xid"] is None
    assert adopted.ask("DBOS.resume_workflow('cancelled').workflow_id") == "cancelled"
    assert adopted.ask("DBOS.send('cancelled', 'again', 'news')") is None
    assert adopted.result("cancelled") == "again"


def test_a_finished_workflow_is_forked(adopted: Adopted) -> None:
    before = len(adopted.shop.entries("work", "ours"))
    assert adopted.ask("DBOS.fork_workflow('finished', 2).get_result()")["second"] == 20
    assert len(adopted.shop.entries("work", "ours")) == before + 1


def test_a_workflow_that_goes_on_is_cancelled(adopted: Adopted) -> None:
    assert adopted.ask("DBOS.cancel_workflow('listener')") is None
    assert "DBOSAwaitedWorkflowCancelledError" in adopted.result("listener")


def test_a_schedule_fires_on(adopted: Adopted) -> None:
    assert [one["schedule_name"] for one in adopted.ask("DBOS.list_schedules()")] == ["often"]
    adopted.ask("wait_for_ticks()")
    tick = adopted.shop.entries("tick", "ours")[0]
    assert tick["context"] == {"by": "schedule"}
    fired = Counter(entry["workflow"] for entry in adopted.shop.entries("tick"))
    assert set(fired.values()) == {1}


def test_it_is_said_what_was_adopted(adopted: Adopted) -> None:
    version = adopted.workflows["between"][11]
    assert "another library made" in adopted.log
    assert f"under the versions {version}" in adopted.log
    assert adopted.status("between")["application_version"] == adopted.ask("DBOS.application_version") != version
    assert "Traceback" not in adopted.log


def test_what_was_adopted_is_launched_again_as_any_other(shop_copy: Shop, tmp_path: Path, spawn: Spawner) -> None:
    """Killed soon after, it goes on where it was then."""
    first = RunningShop(shop_copy, spawn)
    first.child.kill()
    second = RunningShop(shop_copy, spawn)
    assert second.result("between") == [10, "ours", 20]
    assert "another library" not in second.child.stderr.replace("which another library recorded", "")
    ran = Counter(entry["n"] for entry in shop_copy.entries("work") if entry["workflow"] == "between")
    assert set(ran.values()) == {1}
