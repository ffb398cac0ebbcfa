"""What the examples of the agent skill show: what is called correct works, what is called incorrect fails as it says.

As a program it carries out the examples of one page: each in a module and on a database of its own.
"""

from __future__ import annotations

import asyncio
import io
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy.exc import InvalidRequestError

from dbos import DBOS, DBOSClient, Queue, SetWorkflowID
from dbos.error import (
    DBOSException,
    DBOSMaxStepRetriesExceeded,
    DBOSSerializationError,
    DBOSUnexpectedStepError,
)
from dbos.testing import assert_replays
from tests.docs.documents import fences_of
from tests.support.apps import PATIENCE_S, App, eventually, status_of, steps_of
from tests.support.commands import dbos
from tests.support.processes import ROOT

SKILL = ROOT / "skills" / "dbos"
PAGES = [SKILL / "SKILL.md", *sorted((SKILL / "references").glob("*.md"))]

_VERDICT = re.compile(r"^\*\*(Correct|Incorrect)\*\*", re.MULTILINE)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Key:
    """Which example it is: the page, the heading above it, and the how-manieth of its verdict there."""

    page: str
    heading: str
    verdict: str
    number: int = 1


@dataclass(frozen=True)
class Code:
    """An example's code, and its first line in its page."""

    text: str
    line: int


def examples_of(page: Path) -> dict[Key, Code]:
    """The examples of a page. What has no verdict is correct."""
    text = page.read_text(encoding="utf-8")
    found: dict[Key, Code] = {}
    end_of_last = 0
    for fence in fences_of(text):
        if fence.language == "python":
            heading = _last(_HEADING, text, 0, fence.start) or ""
            verdict = _last(_VERDICT, text, end_of_last, fence.start) or "Correct"
            number = 1 + sum((key.heading, key.verdict) == (heading, verdict) for key in found)
            found[Key(page.stem, heading, verdict, number)] = Code(fence.code, fence.line)
        end_of_last = fence.start + len(fence.code)
    return found


def _last(pattern: re.Pattern[str], text: str, start: int, end: int) -> str | None:
    matches = pattern.findall(text, start, end)
    return matches[-1] if matches else None


class Example:
    """An example that was executed; its names are attributes of ``its``."""

    def __init__(self, key: Key, code: Code, directory: Path) -> None:
        self.directory = directory
        self.its: Any = ModuleType(f"example_{abs(hash(key))}")
        self.text = code.text
        self._app = App(f"sqlite:///{directory / 'dbos.sqlite'}")
        sys.modules[self.its.__name__] = self.its
        exec(compile(code.text, f"{key.page}.md:{code.line}", "exec"), self.its.__dict__)

    @property
    def url(self) -> str:
        return self._app.url

    def launch(self, **changes: Any) -> None:
        self._app.launch(**changes)

    def relaunch(self, **changes: Any) -> None:
        self._app.relaunch(**changes)


Show = Callable[[Example], None]

SHOWN: dict[Key, Show] = {}


def shows(page: str, heading: str, verdict: str, number: int = 1) -> Callable[[Show], Show]:
    """The function shows of this example that it does what the page says."""

    def note(function: Show) -> Show:
        SHOWN[Key(page, heading, verdict, number)] = function
        return function

    return note


def replayed(workflow_id: str) -> Any:
    """The result of the workflow's code with all that is recorded of it."""
    return DBOS.fork_workflow(workflow_id, 1000).get_result()


def started(workflow_id: str, function: Any, *args: Any) -> Any:
    with SetWorkflowID(workflow_id):
        return DBOS.start_workflow(function, *args)


def called(workflow_id: str, function: Any, *args: Any) -> Any:
    with SetWorkflowID(workflow_id):
        return function(*args)


def on_loop(function: Any, *args: Any) -> Any:
    async def call() -> Any:
        return await function(*args)

    return asyncio.run(call())


@contextmanager
def tossing(*values: float) -> Iterator[None]:
    """Have the random numbers be these."""
    left = list(values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random, "random", lambda: left.pop(0))
        yield


def dies_after(its: Any, name: str) -> None:
    """Have the process die, as it were, at the end of the first call of a function of the example."""
    function, calls = getattr(its, name), []

    def dying(*args: Any) -> Any:
        result = function(*args)
        calls.append(args)
        if len(calls) == 1:
            raise SystemExit("the process dies here")
        return result

    setattr(its, name, dying)


# -- SKILL.md


@shows("SKILL", "A program", "Correct")
def program(example: Example) -> None:
    script = example.directory / "main.py"
    script.write_text(example.text, encoding="utf-8")
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(script)], cwd=example.directory, capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout == "paid 99 with key order-17-1\n"


# -- workflows.md


@shows("workflows", "Decide by what is recorded", "Incorrect")
def undecided(example: Example) -> None:
    example.launch()
    with tossing(0.1, 0.9):
        assert called("c", example.its.campaign) == "discount"
        with pytest.raises(DBOSUnexpectedStepError):
            replayed("c")


@shows("workflows", "Decide by what is recorded", "Correct")
def decided(example: Example) -> None:
    example.launch()
    with tossing(0.1, 0.9):
        assert called("c", example.its.campaign) == "discount"
        assert replayed("c") == "discount"


@shows("workflows", "Work side by side", "Incorrect")
def own_threads(example: Example) -> None:
    example.launch()
    assert called("c", example.its.crawl, [1, 2]) == ["page 1", "page 2"]
    assert steps_of("c") == []


@shows("workflows", "Work side by side", "Correct", 1)
def children(example: Example) -> None:
    example.launch()
    assert called("c", example.its.crawl, [1, 2]) == ["page 1", "page 2"]
    assert [name for _, name in steps_of("c")][:2] == ["crawl_one", "crawl_one"]
    assert replayed("c") == ["page 1", "page 2"]


@shows("workflows", "Work side by side", "Correct", 2)
def gathered(example: Example) -> None:
    example.launch()
    with SetWorkflowID("c"):
        assert on_loop(example.its.crawl, [1, 2]) == ["page 1", "page 2"]
    assert steps_of("c") == [(1, "fetch"), (2, "fetch")]


@shows("workflows", "Name what may be asked for twice", "Incorrect")
def ordered_twice(example: Example) -> None:
    example.launch()
    for _ in range(2):
        example.its.handle_request("r-1", "lamp")
    assert len(DBOS.list_workflows()) == 2


@shows("workflows", "Name what may be asked for twice", "Correct")
def ordered_once(example: Example) -> None:
    example.launch()
    assert [example.its.handle_request("r-1", "lamp") for _ in range(2)] == ["one lamp", "one lamp"]
    assert [workflow.workflow_id for workflow in DBOS.list_workflows()] == ["r-1"]


@shows("workflows", "Coroutines wait with `_async`", "Incorrect")
def blocks_loop(example: Example) -> None:
    example.launch()
    with pytest.raises(RuntimeError, match="sleep_async"):
        on_loop(example.its.remind)


@shows("workflows", "Coroutines wait with `_async`", "Correct")
def awaits(example: Example) -> None:
    example.launch()
    assert on_loop(example.its.remind) == "the milk"


@shows("workflows", "Pass plain data", "Incorrect")
def passes_lock(example: Example) -> None:
    example.launch()
    with pytest.raises(DBOSSerializationError):
        example.its.handle_request()
    assert DBOS.list_workflows() == []


@shows("workflows", "Pass plain data", "Correct")
def passes_name(example: Example) -> None:
    example.launch()
    assert example.its.export("t") == 6


@shows("workflows", "Methods", "Incorrect")
def nameless(example: Example) -> None:
    example.launch()
    with pytest.raises(DBOSException):
        example.its.mailer.deliver("hello")


@shows("workflows", "Methods", "Correct")
def named(example: Example) -> None:
    example.launch()
    assert example.its.mailer.deliver("hello") == "hello to home"


# -- steps.md


@shows("steps", "Side effects belong into steps", "Incorrect")
def charges_again(example: Example) -> None:
    example.launch()
    called("b", example.its.buy, "lamp", 9)
    replayed("b")
    assert example.its.charged == [9, 9]


@shows("steps", "Side effects belong into steps", "Correct")
def charges_once(example: Example) -> None:
    example.launch()
    called("b", example.its.buy, "lamp", 9)
    replayed("b")
    assert example.its.charged == [9]


def keys_of_two_calls(example: Example) -> list[str]:
    """The keys with which the service is called by a step that is interrupted and runs again."""
    keys: list[str] = []

    def service(key: str, amount: int) -> str:
        keys.append(key)
        return f"paid {amount}"

    example.its.call_service = service
    dies_after(example.its, "call_service")
    example.launch()
    with pytest.raises(SystemExit):
        called("b", example.its.buy, 9)
    example.relaunch()
    assert DBOS.get_result("b") == "paid 9"
    return keys


@shows("steps", "A step may run again: same key, same effect", "Incorrect")
def other_key(example: Example) -> None:
    assert len(set(keys_of_two_calls(example))) == 2


@shows("steps", "A step may run again: same key, same effect", "Correct")
def same_key(example: Example) -> None:
    assert keys_of_two_calls(example) == ["b-1", "b-1"]


def hiccups(its: Any, count: int) -> None:
    left = ["once more"] * count

    def ask_service() -> str:
        if left:
            raise ConnectionError(left.pop())
        return "42"

    its.ask_service = ask_service


@shows("steps", "Let steps be tried again", "Incorrect")
def tried_once(example: Example) -> None:
    hiccups(example.its, 1)
    example.launch()
    with pytest.raises(ConnectionError):
        called("q", example.its.question)
    assert status_of("q") == "ERROR"


@shows("steps", "Let steps be tried again", "Correct")
def tried_again(example: Example) -> None:
    hiccups(example.its, 4)
    example.launch()
    assert example.its.question() == "42"
    hiccups(example.its, 5)
    with pytest.raises(DBOSMaxStepRetriesExceeded) as raised:
        example.its.question()
    assert len(raised.value.errors) == 5


@shows("steps", "Undo what was done", "Correct")
def undone(example: Example) -> None:
    example.launch()
    assert called("b", example.its.buy, "lamp", 101) == "not bought: refused"
    assert [name for _, name in steps_of("b")] == ["reserve", "charge", "release"]
    assert replayed("b") == "not bought: refused"
    assert example.its.buy("lamp", 1) == "bought"


@shows("steps", "Steps do not wait and start nothing", "Incorrect")
def step_waits(example: Example) -> None:
    example.launch()
    with pytest.raises(DBOSException):
        example.its.publish()


@shows("steps", "Steps do not wait and start nothing", "Correct")
def workflow_waits(example: Example) -> None:
    example.launch()
    handle = started("p", example.its.publish)
    DBOS.send("p", "yes", "approval")
    assert handle.get_result() == "published"


@shows("steps", "Return what can be stored", "Incorrect")
def returns_generator(example: Example) -> None:
    example.launch()
    with pytest.raises(DBOSSerializationError):
        example.its.count("a\nb")


@shows("steps", "Return what can be stored", "Correct")
def returns_list(example: Example) -> None:
    example.launch()
    assert example.its.count("a\nb") == 2


# -- queues.md


def most_at_once(example: Example, patience_s: float) -> int:
    """How many of six calls of the model are under way together; each waits so long for there to be three."""
    lock, running, most = threading.Lock(), 0, 0
    three_are_there = threading.Event()

    def call_model(prompt: str) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if most == 3:
                three_are_there.set()
        three_are_there.wait(patience_s)
        with lock:
            running -= 1
        return prompt.upper()

    example.its.call_model = DBOS.step(name="called")(call_model)
    example.launch()
    assert example.its.answer_all(list("abcdef")) == list("ABCDEF")
    return most


@shows("queues", "Limit what runs at once", "Incorrect")
def unlimited(example: Example) -> None:
    assert most_at_once(example, PATIENCE_S) > 2


@shows("queues", "Limit what runs at once", "Correct")
def limited(example: Example) -> None:
    assert most_at_once(example, 0.1) <= 2


@shows("queues", "Who waits keeps its slot", "Incorrect")
def waits_for_itself(example: Example) -> None:
    example.launch()
    started_by = threading.Thread(target=lambda: _ignoring(example.its.handle_request), daemon=True)
    started_by.start()
    child = eventually(lambda: DBOS.list_workflows(name="child"), "the child is enqueued")[0].workflow_id
    assert "its queue is at a limit" in dbos("doctor", "-s", example.url, child).stdout
    assert status_of(child) == "ENQUEUED"
    for workflow in DBOS.list_workflows():
        DBOS.cancel_workflow(workflow.workflow_id)
    started_by.join(PATIENCE_S)


def _ignoring(function: Callable[[], Any]) -> None:
    try:
        function()
    except Exception:
        return


@shows("queues", "Who waits keeps its slot", "Correct")
def has_two_queues(example: Example) -> None:
    example.launch()
    assert example.its.handle_request() == "done"


@shows("queues", "Declare a queue once, where every process sees it", "Incorrect")
def declares_twice(example: Example) -> None:
    example.launch()
    assert example.its.handle_request("a") == "small a"
    with pytest.raises(DBOSException, match="declared"):
        example.its.handle_request("b")


@shows("queues", "Declare a queue once, where every process sees it", "Correct")
def declares_once(example: Example) -> None:
    example.launch()
    assert [example.its.handle_request(name) for name in "ab"] == ["small a", "small b"]


@shows("queues", "Priorities have to be enabled", "Incorrect")
def no_priorities(example: Example) -> None:
    example.launch()
    with pytest.raises(DBOSException, match="priorit"):
        example.its.handle_request()


@shows("queues", "Priorities have to be enabled", "Correct")
def priorities(example: Example) -> None:
    example.launch()
    assert example.its.handle_request() == "telegram"


@shows("queues", "One at a time for each", "Correct")
def one_for_each(example: Example) -> None:
    example.launch()
    first = example.its.handle_request("ann")
    assert example.its.handle_request("ann") == "it runs already"
    DBOS.send(first, "done", "go")
    assert DBOS.get_result(first) == "done"
    second = example.its.handle_request("ann")
    DBOS.send(second, "done", "go")
    assert DBOS.get_result(second) == "done"


@shows("queues", "Enqueue from another program", "Correct")
def other_program(example: Example) -> None:
    Queue("reports")
    DBOS.workflow(name="report")(lambda source: f"report on {source}")
    example.launch()
    assert example.its.submit(example.url, "sales") == "report-sales"
    assert DBOS.get_result("report-sales") == "report on sales"


# -- communication.md


class Watched(dict[str, str]):
    """Tells when somebody looks whether something is in it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def __contains__(self, key: object) -> bool:
        self.asked.set()
        return super().__contains__(key)


@shows("communication", "Wait for people and services with messages", "Incorrect")
def polls(example: Example) -> None:
    example.its.approvals = approvals = Watched()
    example.launch()
    handle = started("p", example.its.publish, "news")
    assert approvals.asked.wait(PATIENCE_S)
    assert DBOS.list_workflow_steps("p") == []
    DBOS.cancel_workflow("p")
    approvals.asked.clear()
    assert approvals.asked.wait(PATIENCE_S), "it goes on asking"
    approvals["news"] = "yes"
    assert handle.get_status().status == "CANCELLED"


@shows("communication", "Wait for people and services with messages", "Correct")
def receives(example: Example) -> None:
    example.launch()
    handle = started("p", example.its.publish, "news")
    with DBOSClient(system_database_url=example.url) as client:
        client.send("p", "yes", "approval")
    assert handle.get_result() == "yes"


@shows("communication", "A wait may time out", "Incorrect")
def fails_on_timeout(example: Example) -> None:
    example.launch()
    with pytest.raises(TypeError):
        example.its.order()


@shows("communication", "A wait may time out", "Correct")
def expects_timeout(example: Example) -> None:
    example.launch()
    assert example.its.order() is None


def payments_of_two_calls(example: Example) -> int:
    example.launch()
    handle = started("o", example.its.count_payments)
    for _ in range(2):
        example.its.webhook("o", "payment-1")
    DBOS.send("o", "no more", "payment")
    return int(handle.get_result())


@shows("communication", "Who may send twice gives a key", "Incorrect")
def sent_twice(example: Example) -> None:
    assert payments_of_two_calls(example) == 2


@shows("communication", "Who may send twice gives a key", "Correct")
def sent_once(example: Example) -> None:
    assert payments_of_two_calls(example) == 1


@shows("communication", "Show progress with events", "Correct")
def progress(example: Example) -> None:
    example.launch()
    assert example.its.progress_of("c") is None
    assert called("c", example.its.convert_all, 2) == ["page 0", "page 1"]
    assert example.its.progress_of("c") == 1.0


@shows("communication", "Show progress with events", "Incorrect")
def event_outside(example: Example) -> None:
    example.launch()
    with pytest.raises(DBOSException):
        example.its.handle_request()


@shows("communication", "Stream what grows", "Correct")
def streams(example: Example) -> None:
    async def read() -> list[str]:
        with SetWorkflowID("a"):
            await DBOS.start_workflow_async(example.its.answer, ["one", "two"])
        return [word async for word in example.its.words_of("a")]

    example.launch()
    assert asyncio.run(read()) == ["one", "two"]


# -- schedules.md


@shows("schedules", "The function takes the time and the context", "Incorrect")
def no_arguments(example: Example) -> None:
    example.launch()
    with pytest.raises(DBOSException, match="two arguments"):
        example.its.create()


@shows("schedules", "The function takes the time and the context", "Correct")
def two_arguments(example: Example) -> None:
    example.launch()
    example.its.create()
    assert DBOS.trigger_schedule("report").get_result() == "reported to ann"


@shows("schedules", "Schedules that come with the code", "Incorrect")
def created_twice(example: Example) -> None:
    example.launch()
    example.its.after_launch()
    example.relaunch()
    with pytest.raises(DBOSException, match="exists"):
        example.its.after_launch()


@shows("schedules", "Schedules that come with the code", "Correct")
def applied_twice(example: Example) -> None:
    example.launch()
    example.its.after_launch()
    before = DBOS.list_schedules()
    example.relaunch()
    example.its.after_launch()
    assert DBOS.list_schedules() == before
    assert len(before) == 1


@shows("schedules", "When it takes longer than the pause", "Correct")
def in_turn(example: Example) -> None:
    example.launch()
    at = datetime(2030, 1, 31, tzinfo=timezone.utc)
    example.its.hourly_import(at, None)
    (enqueued,) = DBOS.list_workflows(name="import_rows")
    assert DBOS.get_result(enqueued.workflow_id) == f"imported until {at.isoformat()}"


# -- transactions.md


def entries_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM entries").fetchone()[0])


def interrupted_and_run_again(example: Example, *args: Any) -> None:
    dies_after(example.its, "report_progress")
    example.launch()
    with pytest.raises(SystemExit):
        called("b", example.its.book, *args)
    example.relaunch()
    DBOS.get_result("b")


@shows("transactions", "Write to your database in a transaction", "Incorrect")
def inserts_twice(example: Example) -> None:
    path = example.directory / "own.sqlite"
    interrupted_and_run_again(example, str(path), 7)
    assert entries_of(path) == 2


@shows("transactions", "Write to your database in a transaction", "Correct")
def inserts_once(example: Example) -> None:
    interrupted_and_run_again(example, 7)
    DBOS.destroy()
    assert entries_of(example.directory / "dbos.sqlite") == 1


@shows("transactions", "Leave committing to the library", "Incorrect")
def commits(example: Example) -> None:
    example.launch()
    with pytest.raises(InvalidRequestError):
        example.its.work()


@shows("transactions", "Leave committing to the library", "Correct")
def leaves_committing(example: Example) -> None:
    example.launch()
    assert example.its.work() == 1


@shows("transactions", "Nothing but the database", "Incorrect")
def coroutine_transaction(example: Example) -> None:
    with pytest.raises(TypeError):
        example.its.decorate()


@shows("transactions", "Nothing but the database", "Correct")
def transaction_in_thread(example: Example) -> None:
    example.launch()
    with SetWorkflowID("b"):
        assert on_loop(example.its.buy, 7) == 7
    assert steps_of("b") == [(1, "pay")]


# -- testing.md


def tested(example: Example) -> str:
    """What pytest says of the example, as a test module of its own."""
    DBOS.destroy(destroy_registry=True)
    test = example.directory / f"test_{example.its.__name__}.py"
    test.write_text(example.text, encoding="utf-8")
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        patch.chdir(example.directory)
        pytest.main(["-q", "-p", "pytest_dbos", "-p", "no:cacheprovider", f"--rootdir={test.parent}", str(test)])
    return said.getvalue()


@shows("testing", "A test of a workflow", "Incorrect")
def not_launched(example: Example) -> None:
    with pytest.raises(DBOSException):
        example.its.test_greet()


@shows("testing", "A test of a workflow", "Correct")
def tests_pass(example: Example) -> None:
    assert "2 passed" in (said := tested(example)), said


@shows("testing", "Replay finds what is not deterministic", "Incorrect")
def not_replayed(example: Example) -> None:
    example.launch()
    example.its.test_alternate(None)
    (workflow,) = DBOS.list_workflows()
    with pytest.raises(DBOSUnexpectedStepError):
        replayed(workflow.workflow_id)


@shows("testing", "Replay finds what is not deterministic", "Correct")
@shows("testing", "Wait for what happens", "Correct")
@shows("testing", "Move time", "Correct")
@shows("testing", "Survive a crash", "Correct")
def test_passes(example: Example) -> None:
    assert "1 passed" in (said := tested(example)), said


# -- operations.md


def failed_bill(example: Example) -> None:
    example.launch()
    with pytest.raises(KeyError):
        called("b", example.its.bill, ["milk", "tea"])
    example.its.prices["tea"] = 3


@shows("operations", "Steering", "Incorrect")
def resumes_failed(example: Example) -> None:
    failed_bill(example)
    with pytest.raises(KeyError):
        example.its.mend("b")


@shows("operations", "Steering", "Correct")
def forks_failed(example: Example) -> None:
    failed_bill(example)
    example.its.prices["milk"] = 1000  # its step does not run again
    assert example.its.mend("b") == 4


@shows("operations", "Timeouts", "Incorrect")
def late_timeout(example: Example) -> None:
    example.launch()
    example.its.handle_request()
    assert [workflow.status for workflow in DBOS.list_workflows()] == ["SUCCESS"]


@shows("operations", "Timeouts", "Correct")
def timeout(example: Example) -> None:
    example.launch()
    assert example.its.handle_request() == "it took too long"


@shows("operations", "Configuration", "Correct")
def configuration(example: Example) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DBOS_SYSTEM_DATABASE_URL", example.url)
        example.its.configure()
        DBOS.launch()
    assert (example.directory / "dbos.sqlite").exists()


# -- upgrading.md


FORMER = """
from dbos import DBOS

@DBOS.step()
def charge(order):
    return f"charged {order}"

@DBOS.workflow(name="order")
def order(name):
    return [charge(name), DBOS.recv("go")]

@DBOS.workflow()
def place_order(item):
    return f"one {item}, {DBOS.recv('go')}"
"""


def under_way(example: Example, name: str, **config: Any) -> None:
    """Leave a workflow of the former code waiting, exported too; the example is then the code of the application."""
    DBOS.destroy(destroy_registry=True)
    former: dict[str, Any] = {"__name__": "former"}
    exec(compile(FORMER, "former", "exec"), former)
    example.launch(**config)
    started("o", former[name], "lamp")
    waits = 2 if name == "order" else 1
    eventually(lambda: len(DBOS.list_workflow_steps("o")) == waits, "its wait is recorded")
    DBOS.destroy(destroy_registry=True)
    exported = dbos("workflow", "export", "-s", example.url)
    (example.directory / "workflows.jsonl").write_text(exported.stdout, encoding="utf-8")
    exec(compile(example.text, "example", "exec"), example.its.__dict__)


def goes_on(example: Example, **config: Any) -> None:
    """Have the application run what was left."""
    example.launch(**config)
    DBOS.send("o", "ok", "go")


@shows("upgrading", "Versions: the default", "Incorrect")
def other_steps(example: Example) -> None:
    under_way(example, "order")
    with pytest.raises(AssertionError, match="check"):
        assert_replays(example.directory / "workflows.jsonl")
    goes_on(example)
    with pytest.raises(DBOSUnexpectedStepError, match="check"):
        DBOS.get_result("o")


@shows("upgrading", "Versions: the default", "Correct")
def patched(example: Example) -> None:
    under_way(example, "order", enable_patching=True)
    goes_on(example, enable_patching=True)
    assert DBOS.get_result("o") == ["charged lamp", "ok"]
    handle = started("n", example.its.order, "lamp")
    DBOS.send("n", "ok", "go")
    assert handle.get_result() == ["checked lamp", "charged lamp", "ok"]


@shows("upgrading", "Try it before you deploy", "Correct")
def replays_exported(example: Example) -> None:
    under_way(example, "order")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(example.directory)
        example.its.test_what_is_under_way_goes_on()


@shows("upgrading", "Renaming", "Incorrect")
def renamed(example: Example) -> None:
    under_way(example, "place_order")
    goes_on(example)
    handle = started("n", example.its.place_order_v2, "lamp")
    DBOS.send("n", "ok", "go")
    assert handle.get_result() == "one lamp, ok", "the executor works"
    assert status_of("o") == "PENDING"


@shows("upgrading", "Renaming", "Correct")
def keeps_name(example: Example) -> None:
    under_way(example, "place_order")
    goes_on(example)
    assert DBOS.get_result("o") == "one lamp, ok"


def main(page: str) -> None:
    """Carry out the examples of a page."""
    (path,) = (each for each in PAGES if each.stem == page)
    for key, code in examples_of(path).items():
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            try:
                SHOWN[key](Example(key, code, Path(directory)))
            except BaseException:
                print(f"FAILED {key}", flush=True)
                raise
            finally:
                DBOS.destroy(destroy_registry=True)
        print(f"{time.monotonic() - began:.1f} s {key}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
