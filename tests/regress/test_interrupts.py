"""Ctrl-C anywhere: an interruption at whatever line of the journal's code strands nobody.

Python delivers it to the main thread between two instructions. A trace function stands in for it here: it raises at the
n-th line that the main thread runs in the journal, for n = 1, 2, ... until a wait comes to its end before that.
"""

from __future__ import annotations

import linecache
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import pytest

from dbos.model.values import Batch, BatchAnswer
from dbos.storage import journal as journal_module
from dbos.storage import promise as promise_module
from dbos.storage import tickets as tickets_module
from dbos.storage.journal import Journal
from dbos.storage.tickets import AnyTicket, RunLog
from tests.support.clock import ManualClock
from tests.support.storage import SUCCEEDED, start
from tests.support.stores import ScriptedStore
from tests.support.waiting import wait_until

WAIT_S = 2.0
_TRACED = {journal_module.__file__, promise_module.__file__, tickets_module.__file__}


class _Store(ScriptedStore):
    """Calls back before each commit of the main thread."""

    def __init__(self) -> None:
        super().__init__()
        self.on_commit: Callable[[], None] = lambda: None

    def commit(self, batch: Batch) -> BatchAnswer:
        if threading.current_thread() is threading.main_thread():
            self.on_commit()
        return super().commit(batch)


@dataclass
class Scene:
    """A journal, the ticket that the main thread waits for, and others who wait as well."""

    journal: Journal
    store: _Store
    mine: AnyTicket
    threads: ThreadPoolExecutor
    others: list[tuple[str, Callable[[], bool]]] = field(default_factory=list)

    def join(self, name: str, ticket: AnyTicket) -> None:
        """Another thread waits for the ticket."""
        waiting = self.threads.submit(ticket.block)
        self.others.append((name, lambda: waiting.exception(WAIT_S) is None))

    def start(self, name: str) -> None:
        """Another thread starts a workflow."""
        self.join(name, self.journal.start(start(name)))

    def follow(self, name: str, ticket: AnyTicket) -> None:
        """Something is to happen when the ticket is settled."""
        called = threading.Event()
        ticket.then(called.set)
        self.others.append((name, lambda: called.wait(WAIT_S)))

    def stranded(self) -> list[str]:
        """Who was not served in time."""
        return [name for name, is_served in self.others if not is_served()]


def _alone(scene: Scene) -> None:
    """The main thread leads, and others come while it commits."""

    def come() -> None:
        if not scene.others[1:]:
            scene.start("x")
            scene.start("y")
            scene.join("the same ticket", scene.mine)

    scene.follow("a callback of the ticket", scene.mine)
    scene.store.on_commit = come


def _in_company(scene: Scene) -> None:
    """Others are there already."""
    scene.follow("a callback of the ticket", scene.mine)
    scene.start("x")
    scene.join("the same ticket", scene.mine)
    scene.start("y")


def _flushed(scene: Scene) -> None:
    """Somebody else waits for all that is pending."""
    run = scene.journal.submit(RunLog("w", "token"), outcome=SUCCEEDED)
    scene.follow("a callback of a run", run)
    flushing = scene.threads.submit(scene.journal.flush)
    scene.others.append(("flush", lambda: flushing.exception(WAIT_S) is None))


def _beside_a_leader(scene: Scene) -> None:
    """Another thread is committing; the main thread commits its start beside it."""
    journal, store = scene.journal, scene.store
    journal._pending.remove(scene.mine)
    store.stop_at_next_commit()
    scene.start("leader")
    store.wait_until_stopped()
    journal._pending.append(scene.mine)
    scene.start("x")
    store.on_commit = store.go
    # Should the main thread wait for the leader instead, that goes on as well.
    scene.threads.submit(
        lambda: wait_until(lambda: scene.mine._sleepers or scene.mine.is_done, "it waits") or store.go()
    )


@contextmanager
def _interruption(number: int, where: list[str]) -> Iterator[None]:
    """Raise KeyboardInterrupt at the so-manyth line, or entry of a function, of the journal in this thread."""
    count = 0

    def count_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        # The end of a `with` block is traced as well, where the interpreter would not deliver a signal.
        if event not in ("call", "line") or line.startswith("with "):
            return count_line
        count += 1
        if count == number:
            where.append(f"{frame.f_code.co_name}: {line}")
            sys.settrace(None)
            raise KeyboardInterrupt
        return count_line

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        return count_line(frame, event, argument) if frame.f_code.co_filename in _TRACED else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def _can_close(journal: Journal) -> bool:
    """Whether the journal comes to its end."""
    closing = threading.Thread(target=journal.close, daemon=True)
    closing.start()
    closing.join(WAIT_S)
    return not closing.is_alive()


@pytest.mark.parametrize("set_scene", [_alone, _in_company, _flushed, _beside_a_leader])
def test_an_interruption_at_any_line_strands_nobody(set_scene: Callable[[Scene], None]) -> None:
    number, stranded = 0, dict[str, list[str]]()
    while len(stranded) < 3 and number < 1000:
        number += 1
        store, where = _Store(), list[str]()
        store.parallel_commits = 1 if set_scene is _beside_a_leader else 0
        journal = Journal(store, ManualClock())
        threads = ThreadPoolExecutor(4)
        scene = Scene(journal, store, journal.start(start("mine")), threads)
        set_scene(scene)
        try:
            with _interruption(number, where):
                scene.mine.block()
        except KeyboardInterrupt:
            pass
        store.go()
        scene.start("later")
        left = scene.stranded()
        threads.shutdown(wait=False)
        if not left and not _can_close(journal):
            left = ["close"]
        if left:
            stranded[where[-1] if where else "nowhere"] = left
            continue
        assert set(store.started()) >= {"mine", "later"}
        if not where:
            break
    assert stranded == {}
    assert number > 10, "the journal was not traced"
