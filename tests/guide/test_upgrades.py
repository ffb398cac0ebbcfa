"""The guide on upgrading workflow code: patching and versioning. Each block is a version of the code, deployed anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID, error
from tests.guide.inventory import runs
from tests.support.apps import Roadblock, eventually, status_of, steps_of
from tests.support.guide import Program

CONFIGURE, ORIGINAL, PATCHED, DEPRECATED, REMOVED = 1, 2, 3, 4, 5
"""The numbers of the versions of the code among the blocks of the test."""


@pytest.fixture
def environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The database's URL is where the guide looks for it; nothing is configured."""
    DBOS.destroy()
    monkeypatch.setenv("DBOS_SYSTEM_DATABASE_URL", database_url)
    yield
    DBOS.destroy(destroy_registry=True)


class Deployments:
    """One application after the other on the same database. Its steps write down that they ran."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.ran: list[tuple[str | None, str]] = []
        self.roadblocks: dict[str, Roadblock] = {}
        program.names |= {"os": os}

    def deploy(self, version: int, **changes: str) -> None:
        """Stop what runs, and start this version of the code. What waits in `bar` is interrupted."""
        DBOS.destroy(destroy_registry=True)
        for roadblock in self.roadblocks.values():
            roadblock.open()
        self.roadblocks = {}
        self.program.names |= {name: self._step(name) for name in ("foo", "bar", "baz")}
        self.program.run(version)
        self.program.run(CONFIGURE, **changes)
        DBOS.launch()

    def begin(self, id: str) -> None:
        """Start a workflow, which stays in `bar` until the next deployment."""
        self.roadblocks[id] = roadblock = Roadblock()
        with SetWorkflowID(id):
            DBOS.start_workflow(self.program["workflow"])
        roadblock.wait_until_reached()

    def run(self, id: str) -> None:
        with SetWorkflowID(id):
            self.program["workflow"]()

    def steps(self, id: str) -> list[str]:
        """The steps that ran for this workflow, of any deployment."""
        return [name for its_id, name in self.ran if its_id == id]

    def _step(self, name: str) -> Any:
        roadblocks = self.roadblocks

        @DBOS.step(name=name)
        def step() -> None:
            id = str(DBOS.workflow_id)
            self.ran.append((id, name))
            if name == "bar" and id in roadblocks:
                roadblocks[id].stop()

        return step


@runs(
    ("Patching", 1),
    ("Patching", 2),
    ("Patching", 3),
    ("Deprecating and Removing Patches", 1),
    ("Deprecating and Removing Patches", 2),
)
def test_patch_is_made_deprecated_and_removed_while_workflows_run(environment: None, program: Program) -> None:
    deployments = Deployments(program)
    deployments.deploy(ORIGINAL)
    deployments.begin("old")
    deployments.begin("forgotten")

    deployments.deploy(PATCHED)
    for id in ("old", "forgotten"):
        DBOS.get_result(id)
        assert deployments.steps(id) == ["foo", "bar", "bar"], "it goes on with the old code"
    deployments.run("new")
    assert deployments.steps("new") == ["baz", "bar"]
    assert steps_of("new") == [(1, "DBOS.patch-use-baz"), (2, "baz"), (3, "bar")]
    deployments.begin("patched")

    deployments.deploy(DEPRECATED)
    DBOS.get_result("patched")
    assert deployments.steps("patched") == ["baz", "bar", "bar"], "the mark of the patch is passed"
    deployments.begin("unmarked")
    deployments.deploy(REMOVED)
    DBOS.get_result("unmarked")
    assert steps_of("unmarked") == [(1, "baz"), (2, "bar")]
    assert {one.app_version for one in DBOS.list_workflows()} == {"PATCHING_ENABLED"}
    assert {one.status for one in DBOS.list_workflows()} == {"SUCCESS"}

    # Mistakes: removed too early; changed without a patch.
    deployments.deploy(PATCHED)
    deployments.begin("too early")
    deployments.deploy(REMOVED)
    with pytest.raises(error.DBOSUnexpectedStepError, match=r"DBOS\.patch-use-baz"):
        DBOS.get_result("too early")
    deployments.deploy(ORIGINAL)
    deployments.begin("not patched")
    deployments.deploy(REMOVED)
    with pytest.raises(error.DBOSUnexpectedStepError, match="foo"):
        DBOS.get_result("not patched")


@runs(("Versioning", 1))
def test_workflows_are_recovered_by_their_own_version_only(environment: None, program: Program) -> None:
    roadblock = Roadblock()
    program.names["os"] = os

    @DBOS.step()
    def hold() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def workflow() -> str:
        hold()
        return "done"

    program.run()
    DBOS.launch()
    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    roadblock.wait_until_reached()
    DBOS.destroy()
    roadblock.open()

    program.run(old="1.0.0", new="2.0.0")
    DBOS.launch()
    with SetWorkflowID("new"):
        workflow()
    versions = {one.workflow_id: (one.app_version, one.status) for one in DBOS.list_workflows()}
    assert versions == {"w": ("1.0.0", "PENDING"), "new": ("2.0.0", "SUCCESS")}
    assert [one.workflow_id for one in DBOS.list_workflows(app_version="1.0.0", status="PENDING")] == ["w"]
    DBOS.destroy()

    program.run()
    DBOS.launch()
    eventually(lambda: status_of("w") == "SUCCESS", "its own version recovers it")
