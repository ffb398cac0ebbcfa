"""Recovery at launch: a process is killed in the middle of many workflows, and another one is launched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.runtime.conftest import PROGRAMS
from tests.support import ledger
from tests.verify.crash import Nurseries
from tests.verify.invariants import check_kept, check_records
from tests.verify.life import Life
from tests.verify.rows import Rows, decode, query, read_rows

CHILDREN = [("parent-1", "started"), ("parent-2", "called")]

pytestmark = pytest.mark.timeout(120)


@dataclass(frozen=True)
class Story:
    """What the kill left behind, what the next launch made of it, and what was told to those who waited."""

    before: Rows
    after: Rows
    entries: list[dict[str, Any]]
    endings: dict[str, dict[str, Any]]

    def recorded(self, workflow_id: str, step: int, when: Rows | None = None) -> Any:
        return decode((when or self.after).steps[workflow_id, step]["output"])

    def executions(self, workflow_id: str, step: int) -> int:
        return sum(e["kind"] == "step" and (e["workflow"], e["step"]) == (workflow_id, step) for e in self.entries)


@pytest.fixture(scope="module")
def story(module_url: str, nurseries: Nurseries, tmp_path_factory: pytest.TempPathFactory) -> Story:
    directory = tmp_path_factory.mktemp("story")
    output = directory / "output.txt"
    life = Life(str(PROGRAMS / "interrupted.py"), module_url, str(directory / "ledger.jsonl"))
    assert nurseries.run(life, output) == -9, output.read_text()
    query(module_url, "UPDATE {schema}workflow_status SET application_version = 'other' WHERE workflow_uuid = 'other'")
    query(
        module_url,
        "UPDATE {schema}workflow_status SET status = 'PENDING', output = NULL, owner_xid = NULL, completed_at = NULL "
        "WHERE workflow_uuid = 'finished'",
    )
    before = read_rows(module_url)
    assert nurseries.run(replace(life, number=2), output) == 0, output.read_text()
    entries = ledger.read(life.ledger)
    return Story(before, read_rows(module_url), entries, entries[-1]["value"])


def test_recovered_workflow_keeps_what_was_recorded(story: Story) -> None:
    """Values, errors, children: nothing that was recorded before the kill changes or runs again."""
    assert len(story.before.steps) >= 9, "the kill came too early"
    check_kept(story.before, story.after, story.entries, life=2)
    check_records(story.entries, story.after)


def test_sync_workflow_goes_on_after_its_last_step(story: Story) -> None:
    recorded = [story.recorded("sync", number) for number in (1, 2, 3)]
    assert story.endings["sync"] == {"value": ["abab", *recorded]}
    assert [story.executions("sync", number) for number in (1, 2, 3)] == [1, 2, 1]
    assert story.after.workflows["sync"]["recovery_attempts"] == 2


def test_async_workflow_goes_on_after_its_last_step(story: Story) -> None:
    recorded = [story.recorded("async", number) for number in (1, 2, 3)]
    assert story.endings["async"] == {"value": ["word", *recorded]}
    assert [story.executions("async", number) for number in (1, 2, 3)] == [1, 2, 1]


def test_hole_in_the_records_is_filled(story: Story) -> None:
    """Of two gathered steps the second is recorded, the first is not: only the first runs again."""
    assert ("gathering", 1) not in story.before.steps
    assert ("gathering", 2) in story.before.steps
    recorded = [story.recorded("gathering", number) for number in (1, 2)]
    assert story.endings["gathering"] == {"value": ["word", *recorded]}
    assert [story.executions("gathering", number) for number in (1, 2)] == [2, 1]


def test_recorded_error_is_raised_again_with_type_arguments_and_attributes(story: Story) -> None:
    raised = next(e["value"] for e in story.entries if e["kind"] == "step" and e["workflow"] == "catching")
    assert story.endings["catching"] == {"value": [raised, 7, 7, "Refusal", story.recorded("catching", 2)]}
    assert story.executions("catching", 1) == 1


def test_parent_and_children_are_recovered_once_each(story: Story) -> None:
    family = {id for id in story.after.workflows if id.startswith("parent")}
    assert family == {"parent", "parent-1", "parent-2"}
    recorded = [[word, *(story.recorded(id, n) for n in (1, 2))] for id, word in CHILDREN]
    assert story.endings["parent"] == {"value": recorded}
    assert {story.after.workflows[id]["status"] for id in family} == {"SUCCESS"}


def test_changed_code_of_the_same_version_is_reported_with_both_steps(story: Story) -> None:
    ending = story.endings["changing"]
    assert ending["error"] == "DBOSUnexpectedStepError"
    for word in ("changing", "renamed_step", "'step'"):
        assert word in ending["text"]
    assert story.after.workflows["changing"]["status"] == "ERROR"


def test_inputs_that_cannot_be_loaded_end_their_workflow_alone(story: Story) -> None:
    assert story.after.workflows["undecodable"]["status"] == "ERROR"
    assert "this is not to be loaded" in story.endings["undecodable"]["text"]
    assert story.executions("undecodable", 1) == 1, "its function does not run without its inputs"


def test_other_version_is_left_alone(story: Story) -> None:
    assert story.after.workflows["other"] == story.before.workflows["other"]
    assert story.after.workflows["other"]["status"] == "PENDING"


def test_unknown_function_is_left_alone(story: Story) -> None:
    assert story.after.workflows["vanished"] == story.before.workflows["vanished"]
    assert story.after.workflows["vanished"]["status"] == "PENDING"


def test_workflow_that_was_set_to_pending_by_sql_is_taken_up(story: Story) -> None:
    """Its steps are all recorded, so that none runs again."""
    assert story.before.workflows["finished"]["owner_xid"] is None
    assert story.endings["finished"] == {"value": [story.recorded("finished", number) for number in (1, 2)]}
    assert [story.executions("finished", number) for number in (1, 2)] == [1, 1]
