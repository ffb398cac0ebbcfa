"""The end of an application: it comes in bounded time, and after it no code of the user begins."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from dbos import DBOS
from tests.regress.conftest import Launcher
from tests.support.apps import eventually
from tests.support.executors import in_time, leave_behind
from tests.support.gates import PausingGate

PATIENCE_S = 30.0


def _destroy() -> None:
    in_time(DBOS.destroy)


def test_a_coroutine_that_blocks_the_librarys_loop_does_not_hold_up_the_end(launch_sqlite: Launcher) -> None:
    launch_sqlite()
    begun, go = threading.Event(), threading.Event()

    @DBOS.workflow()
    async def blocking() -> None:
        begun.set()
        go.wait(PATIENCE_S)

    DBOS.start_workflow(blocking)  # type: ignore[arg-type]
    assert begun.wait(PATIENCE_S)
    try:
        _destroy()
    finally:
        go.set()


def test_a_coroutine_that_refuses_to_be_cancelled_does_not_hold_up_the_end(launch_sqlite: Launcher) -> None:
    launch_sqlite()
    begun, go = threading.Event(), threading.Event()

    @DBOS.workflow()
    async def stubborn() -> None:
        begun.set()
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    DBOS.start_workflow(stubborn)  # type: ignore[arg-type]
    assert begun.wait(PATIENCE_S)
    try:
        _destroy()
    finally:
        go.set()


def test_a_recovery_that_ends_after_the_end_begins_no_workflow(launch: Launcher) -> None:
    """It had claimed the workflow and was about to take it up."""
    gate = PausingGate("claim_orphans", "after_commit")
    executor = launch(gate=gate)
    destroyed, begun_late = threading.Event(), threading.Event()

    @DBOS.workflow(name="left")
    def left() -> None:
        if destroyed.is_set():
            begun_late.set()

    eventually(lambda: not executor.recovery.is_under_way, "the pass of the launch is over")
    leave_behind(executor, "w", "left")
    executor.recovery.kick()
    gate.wait_until_reached()

    def destroy() -> None:
        DBOS.destroy()
        destroyed.set()

    destroying = threading.Thread(target=destroy, daemon=True)
    destroying.start()
    # It may wait for the pass, but not for ever.
    destroyed.wait(1.0)
    gate.go()
    assert destroyed.wait(PATIENCE_S)
    eventually(lambda: not executor.recovery.is_under_way, "the pass is over")
    eventually(lambda: _all_idle(executor), "no thread of the library works any more")
    assert not begun_late.is_set()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_start_that_is_acknowledged_during_the_end_begins_no_workflow(
    launch: Launcher, is_async: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is durable, and the next launch takes it up."""
    executor = launch()
    destroyed, begun_late = threading.Event(), threading.Event()
    about_to_begin = threading.Event()

    def note() -> None:
        if destroyed.is_set():
            begun_late.set()

    @DBOS.workflow()
    def work() -> None:
        note()

    @DBOS.workflow()
    async def work_async() -> None:
        note()

    spawn = executor.spawn

    def spawn_late(*arguments: Any) -> None:
        about_to_begin.set()
        assert destroyed.wait(PATIENCE_S)
        spawn(*arguments)

    monkeypatch.setattr(executor, "spawn", spawn_late)
    function: Callable[[], Any] = work_async if is_async else work
    starting = threading.Thread(target=_ignore_errors, args=(lambda: DBOS.start_workflow(function),), daemon=True)
    starting.start()
    assert about_to_begin.wait(PATIENCE_S)
    _destroy()
    destroyed.set()
    starting.join(PATIENCE_S)
    assert not starting.is_alive()
    eventually(lambda: _all_idle(executor), "no thread of the library works any more")
    assert not begun_late.is_set()


def _ignore_errors(function: Callable[[], Any]) -> None:
    with contextlib.suppress(Exception):
        function()


_EARLIER: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
"""Threads of tests before, which may stand where nobody ends them."""


@pytest.fixture(autouse=True)
def note_earlier_threads() -> None:
    _EARLIER.update(threading.enumerate())


def _all_idle(executor: Any) -> bool:
    """Whether no thread works that was started since the test began."""
    workers = {thread for thread in threading.enumerate() if thread.name.startswith("dbos-worker")}
    idle = {worker._thread for worker in list(executor.threads._idle)}
    return workers <= idle | set(_EARLIER)
