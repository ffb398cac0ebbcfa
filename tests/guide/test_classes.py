"""The guide on Python classes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID
from tests.guide.inventory import runs
from tests.support.apps import App, Roadblock, interrupt_at, steps_of
from tests.support.guide import Program


@runs(("Python Classes", 1))
def test_workflow_of_an_instance_is_recovered_on_that_instance(
    app: App, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    roadblock, fetched = Roadblock(), []

    def get(url: str) -> Any:
        fetched.append(url)
        if url.endswith("slow"):
            roadblock.stop()
        return SimpleNamespace(text=f"page of {url}")

    program.names["requests"] = SimpleNamespace(get=get)
    program.run()
    assert capsys.readouterr().out == "page of https://example.com\n"
    (status,) = DBOS.list_workflows()
    assert (status.class_name, status.config_name) == ("URLFetcher", "https://example.com")
    assert status.name == "URLFetcher.fetch_workflow"
    assert steps_of(status.workflow_id) == [(1, "URLFetcher.fetch_url")]

    # As the guide demands it: all instances are there before the launch.
    DBOS.destroy()
    slow = program["URLFetcher"]("https://example.com/slow")
    app.launch()
    with SetWorkflowID("w"):
        DBOS.start_workflow(slow.fetch_workflow)
    interrupt_at(roadblock, app)
    assert DBOS.get_result("w") == "page of https://example.com/slow"
    assert fetched == ["https://example.com", *["https://example.com/slow"] * 2]


def test_workflows_of_methods_need_a_class_that_recovery_can_find(app: App) -> None:
    """The decorator with and without parentheses is accepted; an instance needs a name."""
    from dbos import DBOSConfiguredInstance

    @DBOS.dbos_class
    class Bare(DBOSConfiguredInstance):
        @DBOS.workflow()
        def workflow(self) -> str:
            return self.config_name

    assert Bare(instance_name="one").workflow() == "one"
    with pytest.raises(TypeError):
        Bare()  # type: ignore[call-arg]
