"""Patches: workflows under way go on the old way, new ones go the new way, whatever is deployed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID, error
from tests.support import scripts
from tests.support.apps import App, Roadblock, status_of, steps_of
from tests.support.scripts import Deployed, Deprecated, Patch, Script

FIRST: Script = ("foo", "stop", "bar")
PATCHED: Script = (Patch("use-baz", new=("baz",), old=("foo",)), "stop", "bar")
DEPRECATED: Script = (Deprecated("use-baz"), "baz", "stop", "bar")
REMOVED: Script = ("baz", "stop", "bar")


@pytest.fixture
def patching(app: App) -> App:
    """The application with patching, its version the one of all code that is patched."""
    app.relaunch(application_version=None, enable_patching=True)
    return app


@pytest.fixture(params=["sync", "async"])
def story(request: pytest.FixtureRequest, patching: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    deployed = Deployed()
    monkeypatch.setattr(scripts, "DEPLOYED", deployed)
    yield Story(patching, deployed, request.param == "async")
    deployed.passes.set()


class Story:
    """Workflows of one function, whose code is replaced while they are under way."""

    def __init__(self, app: App, deployed: Deployed, is_async: bool) -> None:
        self.app = app
        self.deployed = deployed
        self.function: Any = scripts.scripted_async if is_async else scripts.scripted

    def interrupt(self, workflow_id: str, script: Script) -> None:
        """Deploy the script, and interrupt a workflow of it in its step `stop`."""
        self.deployed.script = script
        self.deployed.passes.clear()
        self.deployed.stopped.clear()
        with SetWorkflowID(workflow_id):
            DBOS.start_workflow(self.function)
        assert self.deployed.stopped.wait(30)
        DBOS.destroy()
        self.deployed.passes.set()

    def deploy(self, script: Script) -> None:
        """Launch with the script: what was interrupted goes on under it."""
        self.deployed.script = script
        self.app.relaunch(application_version=None, enable_patching=True)

    def run(self, workflow_id: str) -> Any:
        """Run a new workflow to its end."""
        with SetWorkflowID(workflow_id):
            return DBOS.start_workflow(self.function).get_result()


def test_patch_is_true_for_new_workflows_and_recorded_as_a_step(story: Story) -> None:
    story.deployed.passes.set()
    story.deployed.script = PATCHED
    assert story.run("new") == ["baz", "stop", "bar"]
    assert steps_of("new") == [(1, "DBOS.patch-use-baz"), (2, "baz"), (3, "stop"), (4, "bar")]
    marker = DBOS.list_workflow_steps("new")[0]
    assert (marker["output"], marker["error"], marker["child_workflow_id"]) == (None, None, None)
    status = DBOS.get_workflow_status("new")
    assert status is not None
    assert status.app_version == "PATCHING_ENABLED"


def test_workflow_that_was_past_the_patch_goes_on_the_old_way(story: Story) -> None:
    """And the patch takes no number, so that what it has recorded still is in its place."""
    story.interrupt("old", FIRST)
    story.deploy(PATCHED)
    assert DBOS.get_result("old") == ["foo", "stop", "bar"]
    assert steps_of("old") == [(1, "foo"), (2, "stop"), (3, "bar")]
    assert story.deployed.ran.count("foo") == 1
    assert story.run("new") == ["baz", "stop", "bar"]


def test_workflow_that_began_before_the_patch_and_is_not_there_yet_goes_the_new_way(story: Story) -> None:
    story.interrupt("old", ("foo", "stop", "bar"))
    story.deploy(("foo", "stop", Patch("use-baz", new=("baz",), old=("bar",))))
    assert DBOS.get_result("old") == ["foo", "stop", "baz"]
    assert steps_of("old") == [(1, "foo"), (2, "stop"), (3, "DBOS.patch-use-baz"), (4, "baz")]


def test_patched_workflow_that_is_interrupted_goes_on_the_new_way(story: Story) -> None:
    story.interrupt("new", PATCHED)
    story.deploy(PATCHED)
    assert DBOS.get_result("new") == ["baz", "stop", "bar"]
    assert steps_of("new") == [(1, "DBOS.patch-use-baz"), (2, "baz"), (3, "stop"), (4, "bar")]
    assert story.deployed.ran.count("baz") == 1


def test_same_patch_used_again_is_a_new_point(story: Story) -> None:
    """A loop that was halfway when it was patched goes on with the new way where it had not been yet."""
    again = Patch("use-baz", new=("baz",), old=("foo",))
    story.interrupt("old", ("foo", "foo", "stop", "foo"))
    story.deploy((again, again, "stop", again, again))
    assert DBOS.get_result("old") == ["foo", "foo", "stop", "baz", "baz"]
    names = [name for _, name in steps_of("old")]
    assert names == ["foo", "foo", "stop", "DBOS.patch-use-baz", "baz", "DBOS.patch-use-baz", "baz"]


def test_patch_after_a_patch_has_a_place_of_its_own(story: Story) -> None:
    """Three generations of workflows run side by side under the code that knows all of them."""
    second = Patch("use-baz", new=(Patch("use-qux", new=("qux",), old=("baz",)),), old=("foo",))
    story.interrupt("first", FIRST)
    story.deploy(PATCHED)
    assert DBOS.get_result("first") == ["foo", "stop", "bar"]
    story.interrupt("second", PATCHED)
    story.deploy((second, "stop", "bar"))
    assert DBOS.get_result("second") == ["baz", "stop", "bar"]
    assert story.run("third") == ["qux", "stop", "bar"]
    assert [name for _, name in steps_of("third")][:2] == ["DBOS.patch-use-baz", "DBOS.patch-use-qux"]


def test_deprecated_patch_passes_its_marker_and_records_none(story: Story) -> None:
    story.interrupt("marked", PATCHED)
    story.deploy(DEPRECATED)
    assert DBOS.get_result("marked") == ["baz", "stop", "bar"]
    assert steps_of("marked")[0] == (1, "DBOS.patch-use-baz")
    assert story.run("new") == ["baz", "stop", "bar"]
    assert steps_of("new") == [(1, "baz"), (2, "stop"), (3, "bar")]
    story.interrupt("unmarked", DEPRECATED)
    story.deploy(REMOVED)
    assert DBOS.get_result("unmarked") == ["baz", "stop", "bar"]


@pytest.mark.parametrize(
    ("before", "after", "texts"),
    [
        (FIRST, REMOVED, ("'baz'", "step 1", "'foo'", "guard the change by a patch")),
        (FIRST, DEPRECATED, ("'baz'", "step 1", "'foo'", "may be deprecated only when")),
        (PATCHED, REMOVED, ("'baz'", "step 1", "'DBOS.patch-use-baz'", "removed or moved too early")),
        (PATCHED, (Deprecated("other"), "baz"), ("'baz'", "step 1", "'DBOS.patch-use-baz'")),
    ],
    ids=["not patched", "deprecated too early", "removed too early", "another name"],
)
def test_mistake_ends_the_workflow_with_an_error_that_names_the_step(
    story: Story, before: Script, after: Script, texts: tuple[str, ...]
) -> None:
    story.interrupt("old", before)
    story.deploy(after)
    with pytest.raises(error.DBOSUnexpectedStepError) as caught:
        DBOS.get_result("old")
    assert caught.value.step_id == 1
    for text in ("'old'", *texts):
        assert text in str(caught.value)
    assert status_of("old") == "ERROR"


def test_fork_takes_the_markers_before_its_first_step_along(story: Story) -> None:
    story.deployed.passes.set()
    story.deployed.script = FIRST
    assert story.run("old") == ["foo", "stop", "bar"]
    story.deployed.script = PATCHED
    assert story.run("new") == ["baz", "stop", "bar"]
    assert DBOS.fork_workflow("old", 2).get_result() == ["foo", "stop", "bar"]
    assert DBOS.fork_workflow("old", 1).get_result() == ["baz", "stop", "bar"]
    assert DBOS.fork_workflow("new", 3).get_result() == ["baz", "stop", "bar"]


async def test_gathered_steps_with_holes_tell_that_the_patch_was_passed(patching: App) -> None:
    """The step at the patch's place was under way when the process died, those behind it were recorded."""
    roadblock, is_patched = Roadblock(), False

    @DBOS.step(name="slow")
    async def slow() -> str:
        await roadblock.stop_async()
        return "slow"

    @DBOS.step(name="fast")
    async def fast() -> str:
        return "fast"

    @DBOS.workflow()
    async def gathering() -> list[str]:
        if is_patched and await DBOS.patch_async("one by one"):
            return [await slow(), await fast()]
        return list(await asyncio.gather(slow(), fast()))

    with SetWorkflowID("w"):
        await DBOS.start_workflow_async(gathering)
    await asyncio.to_thread(roadblock.wait_until_reached)
    while [step["function_name"] for step in await DBOS.list_workflow_steps_async("w")] != ["fast"]:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(DBOS.destroy)
    is_patched = True
    roadblock.open()
    patching.launch(application_version=None, enable_patching=True)
    assert await DBOS.get_result_async("w") == ["slow", "fast"]
    recorded = await DBOS.list_workflow_steps_async("w")
    assert [(step["function_id"], step["function_name"]) for step in recorded] == [(1, "slow"), (2, "fast")]


def test_plain_methods_work_in_coroutines_and_async_ones_take_their_place_at_the_call(patching: App) -> None:
    @DBOS.step(name="step")
    async def step() -> None: ...

    @DBOS.workflow()
    async def workflow() -> tuple[bool, bool, bool]:
        asked = DBOS.patch_async("second")
        first = DBOS.patch("first")
        await step()
        return first, await asked, DBOS.deprecate_patch("third")

    with SetWorkflowID("w"):
        assert DBOS.start_workflow(workflow).get_result() == (True, True, True)
    assert steps_of("w") == [(1, "DBOS.patch-second"), (2, "DBOS.patch-first"), (3, "step")]


def test_patches_may_be_called_without_a_launch_by_nobody(unlaunched: Any) -> None:
    for function in (DBOS.patch, DBOS.deprecate_patch, DBOS.patch_async, DBOS.deprecate_patch_async):
        with pytest.raises(error.DBOSException, match="outside of a workflow"):
            function("p")


CALLS = ["patch", "deprecate_patch"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("ending", ["", "_async"])
def test_misuse_is_refused_with_what_to_do(app: App, call: str, ending: str) -> None:
    def ask(name: Any) -> Any:
        answer = getattr(DBOS, call + ending)(name)
        return asyncio.run(answer) if ending else answer

    @DBOS.step()
    def step() -> Any:
        return ask("p")

    @DBOS.workflow()
    def calls_it() -> Any:
        return ask("p")

    @DBOS.workflow()
    def calls_it_in_a_step() -> Any:
        return step()

    @DBOS.transaction()
    def transaction() -> Any:
        return ask("p")

    @DBOS.workflow()
    def calls_it_in_a_transaction() -> Any:
        return transaction()

    @DBOS.workflow()
    def calls_it_badly(name: Any) -> Any:
        return ask(name)

    with pytest.raises(error.DBOSException, match=rf'DBOS.{call}{ending} was called.*"enable_patching": True'):
        calls_it()
    app.relaunch(enable_patching=True)
    assert DBOS.application_version == "test", "a version that is given is kept"
    with pytest.raises(error.DBOSException, match=rf"DBOS.{call}{ending} was called outside of a workflow"):
        ask("p")
    for function in (calls_it_in_a_step, calls_it_in_a_transaction):
        with pytest.raises(error.DBOSException, match=rf"DBOS.{call}{ending} was called from a step"):
            function()
    assert calls_it() is True
    for name, kind, text in ((7, TypeError, "must be a str"), ("", ValueError, "empty"), ("a\x00", ValueError, "NUL")):
        with pytest.raises(kind, match=text):
            calls_it_badly(name)


def test_patch_is_recorded_whatever_the_serializer_stores(app: App) -> None:
    """A marker has no value."""
    from tests.unit.test_codec import RawSerializer

    @DBOS.workflow()
    def workflow() -> str:
        return "new" if DBOS.patch("p") else "old"

    class Raw(RawSerializer):
        def serialize(self, data: Any) -> str:
            return data if isinstance(data, str) else "{}"

    app.relaunch(enable_patching=True, serializer=Raw())
    with SetWorkflowID("w"):
        assert workflow() == "new"
    assert steps_of("w") == [(1, "DBOS.patch-p")]
