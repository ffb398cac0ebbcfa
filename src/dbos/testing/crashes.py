"""Crashes at every moment that counts: after each commit that recorded something of a workflow.

A workflow is run in *lives*. In each the application runs until a commit has made something new durable: the start, a
checkpoint, the end, of the workflow or of one that it started. Before anybody learns of that commit, the application is
crashed; the next life recovers. All lives must call the same steps with the same arguments in the same order, and no
step may run again that was recorded. At last the workflow is run once more without interruption, answered from the
record (``dbos.testing.replaying``): it must make the same calls, and end as it did.

So the code of each step is run once, except of those that were under way, beside others, when a crash came.
"""

from __future__ import annotations

import asyncio
import copy
import secrets
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, cast

from dbos.api.client import DBOSClient
from dbos.api.dbos import DBOS
from dbos.api.functions import workflow_function
from dbos.api.scopes import SetWorkflowID
from dbos.error import DBOSException
from dbos.model.status import LIVE
from dbos.model.values import RecordedOutcome
from dbos.runtime.drivers import Ending
from dbos.runtime.endings import ending_of
from dbos.runtime.registry import REGISTRY
from dbos.runtime.run import Run
from dbos.serialization.codec import Codec
from dbos.storage.claims import read_checkpoints
from dbos.storage.errors import JournalClosed
from dbos.storage.management import cancel
from dbos.storage.reads import WorkflowFilter, WorkflowRow, read_progress, read_workflows
from dbos.storage.transactions import OPERATION as TRANSACTION
from dbos.storage.transfer import read_document
from dbos.testing.application import App, current_app
from dbos.testing.calls import CallWatch
from dbos.testing.clock import VirtualClock
from dbos.testing.databases import SessionDatabase
from dbos.testing.gate import Crashed
from dbos.testing.likeness import is_alike, shown
from dbos.testing.replaying import Replayer

Alongside = Callable[[DBOSClient, str], object]
"""What goes on outside while a workflow runs: it gets a client, which outlives the crashes, and the workflow's id."""

PATIENCE_S = 30.0
"""For how long a life may go on without anything being recorded, in seconds of the machine."""

_LONELY_S = 1.0
"""For how long a workflow may wait while nothing is due and nobody goes on outside."""

_MAX_CRASHES = 1000
_PAUSE_S = 0.002
_UNINTERRUPTED = "when it was run without interruption"


def assert_survives_crashes(workflow: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run a workflow with a crash after each of its checkpoints, and fail if that makes a difference.

    It runs in the application under test (``dbos_app``), which is launched again afterwards; if there is none, in one
    that is made for it. Sleeps, timeouts and pauses take no time. ``CrashTest`` does the same for workflows to which
    something has to be sent.

    Args:
        workflow: The workflow function, plain or a coroutine function.
        *args: Its arguments.
        **kwargs: Its keyword arguments.

    Returns:
        What the workflow returns; what it raises, this raises.

    Raises:
        AssertionError: After a crash the workflow called something else, or with other arguments, or ended otherwise
            than without one; or a step's result is read back as another; or it did not come to its end. The message
            names the first thing that differs.
        RuntimeError: It was called in a running event loop.
    """
    __tracebackhide__ = True
    return CrashTest().assert_survives(workflow, *args, **kwargs)


class CrashTest:
    """A test by crashes, with what it takes beside the workflow.

    Args:
        app: The application under test. Default: that which is launched, or one that is made for the test.
        alongside: Is called in a thread of its own once the workflow is started, with a ``DBOSClient`` and the
            workflow's id: it can send messages, wait for events, and so on. While it has not returned, time is not
            skipped.
        workflow_id: The workflow's id. Default: a new one.
        patience_s: For how many seconds nothing may be recorded, before the test fails.

    Attributes:
        crashes: How many crashes the last workflow went through.
        executions: How often the code of its steps was run, by workflow id and the step's number.
    """

    def __init__(
        self,
        app: App | None = None,
        *,
        alongside: Alongside | None = None,
        workflow_id: str | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._app = app
        self._alongside = alongside
        self._workflow_id = workflow_id
        self._patience_s = patience_s
        self.crashes = 0
        self.executions: Mapping[tuple[str, int], int] = {}

    def assert_survives(self, workflow: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As ``assert_survives_crashes``."""
        __tracebackhide__ = True
        _refuse_on_loop()
        workflow_function(workflow, args)
        workflow_id = self._workflow_id or f"crashed-{secrets.token_hex(8)}"
        with _application(self._app) as app, _without_recovery_limits(), _virtual(app) as clock:
            lives = _Lives(app, clock, workflow_id, self._alongside, self._patience_s)
            self.executions = lives.witness.executions
            try:
                with lives.witnessed():
                    lives.run(workflow, args, kwargs)
                    return lives.uninterrupted().unwrap()
            finally:
                self.crashes = lives.crashes


class _Witness(CallWatch):
    """Compares what workflows call with what they called in earlier lives."""

    separates_end = True

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self._codec = codec
        self._calls: dict[tuple[str, int], tuple[str, Any]] = {}
        """The name and the arguments of each call, by workflow id and number."""
        self.executions: dict[tuple[str, int], int] = {}
        self.recorded: set[tuple[str, int]] = set()
        """What was recorded when the last life ended."""
        self.life = ""
        """What the present life is, to be said after "it called ..."."""
        self.difference: str | None = None
        self.last: dict[str, str] = {}
        """What each workflow called last."""

    def called(
        self,
        run: Run,
        function_id: int,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Callable[..., Any]:
        key = run.workflow_id, function_id
        call = name, _snapshot(args, kwargs)
        former = self._calls.setdefault(key, call)
        self.last[run.workflow_id] = f"step {function_id}, {name!r}"
        if former[0] != name or not is_alike(former[1], call[1]):
            self._note(
                f"{_named(run)} is not deterministic: as its step {function_id} it had called {_shown(former)}, and "
                f"{self.life} it called {_shown(call)}. What may be another each time (the time, randomness, what "
                "others write) belongs into a step"
            )
        return super().called(run, function_id, name, function, args, kwargs)

    def begun(self, run: Run, function_id: int, name: str) -> None:
        key = run.workflow_id, function_id
        self.executions[key] = self.executions.get(key, 0) + 1
        if key in self.recorded:
            self._note(f"{_named(run)} ran its step {function_id}, {name!r}, again {self.life}, though it was recorded")

    def returned(self, run: Run, function_id: int, name: str, value: Any) -> None:
        try:
            encoded = self._codec.encode(value, lambda: "A result")
            read_back = self._codec.decode(encoded.text, encoded.format)
        except DBOSException:
            # The step fails for the same reason.
            return
        if not is_alike(value, read_back):
            self._note(
                f"{_named(run)} goes on with another value after a crash: its step {function_id}, {name!r}, returned "
                f"{shown(value)}, which is read back as {shown(read_back)}"
            )

    def _note(self, difference: str) -> None:
        if self.difference is None:
            self.difference = difference


class _Lives:
    """The lives of one workflow."""

    def __init__(
        self, app: App, clock: VirtualClock, workflow_id: str, alongside: Alongside | None, patience_s: float
    ) -> None:
        self._app = app
        self._clock = clock
        self._workflow_id = workflow_id
        self._patience_s = patience_s
        self._codec = Codec(app.serializer)
        self.witness = _Witness(self._codec)
        self.crashes = 0
        self._crashed = threading.Event()
        self._progress = 0
        self._outside = None if alongside is None else _Outside(app, workflow_id, alongside)

    @contextmanager
    def witnessed(self) -> Generator[None, None, None]:
        """For the length of a block the witness hears of all calls; at its end what is left undone is cancelled."""
        app, calls = self._app, self._app.calls
        app.calls = self.witness
        try:
            yield
        finally:
            app.calls = calls
            self._end()
            if self._outside is not None:
                self._outside.close()
            cancel(app.database.opened, [row.workflow_id for row in self._family() if row.status in LIVE])

    def run(self, workflow: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Run it, life after life, until it and all that it started have ended.

        Raises:
            AssertionError: The lives differ, or do not end.
        """
        __tracebackhide__ = True
        database = self._app.database.opened
        self._progress = read_progress(database)
        must_start = True
        while must_start or any(row.status in LIVE for row in self._family()):
            if self.crashes >= _MAX_CRASHES:
                raise AssertionError(f"{self._what()} has recorded {_MAX_CRASHES} times something, and did not end.")
            self._crashed.clear()
            # What is recovered may crash it before it is quite launched.
            with suppress(Crashed):
                self._app.launch(after_commit=self._is_progress)
                if must_start:
                    self._start(workflow, args, kwargs)
                    must_start = not self._family()
                if self._outside is not None:
                    self._outside.begin()
                self._live()
            self._end()
            self.crashes += self._crashed.is_set()
            self._fail_if_different()
            family = [row.workflow_id for row in self._family()]
            checkpoints = read_checkpoints(database, family)
            self.witness.recorded = {(its, number) for its, steps in checkpoints.items() for number in steps}
            latest = {its: max(steps, default=0) for its, steps in checkpoints.items()}.get(self._workflow_id, 0)
            self.witness.life = f"after the crash that followed step {latest}" if latest else "after the first crash"

    def uninterrupted(self) -> Ending[Any]:
        """Run it and all that it started once more, answered from the record; returns how it ended.

        Raises:
            AssertionError: It differs.
        """
        __tracebackhide__ = True
        self.witness.life = _UNINTERRUPTED
        rows = self._family()
        with Replayer(self._codec, self.witness) as replayer:
            for row in rows:
                document = read_document(self._app.database.opened, row.workflow_id)
                assert document is not None
                replayed = replayer.replay(document)
                self._fail_if_different()
                if replayed.difference is not None:
                    raise AssertionError(
                        f"Workflow {row.workflow_id!r} ({row.name}) does not survive crashes: {_UNINTERRUPTED}, "
                        f"{replayed.difference}."
                    )
        row = rows[0]
        outcome = RecordedOutcome(row.workflow_id, row.status, row.output, row.error, row.outcome_serialization)
        ending = ending_of(self._codec, outcome)
        assert ending is not None
        return ending

    def _start(self, workflow: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        try:
            with SetWorkflowID(self._workflow_id):
                DBOS.start_workflow(workflow, *args, **kwargs)
        except (Crashed, DBOSException, JournalClosed):
            # It may be crashed by its own start.
            if not self._crashed.is_set():
                raise

    def _is_progress(self, operation: str) -> bool:
        """Whether the transaction that was committed is one to crash after."""
        if operation not in ("journal", "start", TRANSACTION):
            return False
        progress = read_progress(self._app.database.opened)
        if operation != TRANSACTION and progress <= self._progress:
            return False
        self._progress = progress
        self._crashed.set()
        return True

    def _live(self) -> None:
        """Wait for the crash, or the end; skip time meanwhile.

        Raises:
            AssertionError: Neither comes.
        """
        __tracebackhide__ = True
        began = time.monotonic()
        lonely_since: float | None = None
        while not self._crashed.wait(_PAUSE_S) and self.witness.difference is None:
            if not any(row.status in LIVE for row in self._family()):
                return
            is_alone = self._outside is None or self._outside.is_over
            has_moved = is_alone and self._skip()
            now = time.monotonic()
            lonely_since = (lonely_since or now) if is_alone and has_moved is None else None
            if lonely_since is not None and now - lonely_since > _LONELY_S and not self._crashed.is_set():
                raise AssertionError(
                    f"{self._what()} waits, after {self.witness.last.get(self._workflow_id, 'its start')}, for "
                    "something that nobody sends. Give CrashTest an alongside=... that does."
                )
            if now - began > self._patience_s:
                raise AssertionError(
                    f"{self._what()} recorded nothing for {self._patience_s:g} s. The last that it called is "
                    f"{self.witness.last.get(self._workflow_id, 'nothing')}."
                )

    def _end(self) -> None:
        """End the life, and what steps still run in it."""
        if self._app.is_launched:
            self._app.crash(drain_s=self._patience_s)
        gives_up_at = time.monotonic() + self._patience_s
        while self.witness.is_any_running and time.monotonic() < gives_up_at:
            time.sleep(_PAUSE_S)

    def _skip(self) -> bool | None:
        """Move time to what is due next; returns ``False`` while something runs, ``None`` if nothing is due."""
        try:
            return True if self._clock.advance_to_next(patience_s=_PAUSE_S) else None
        except (TimeoutError, Crashed, DBOSException, JournalClosed):
            return False

    def _family(self) -> list[WorkflowRow]:
        """The workflow and all that it started, itself first."""
        database = self._app.database.opened
        family = read_workflows(database, WorkflowFilter(workflow_ids=[self._workflow_id]))
        youngest = family
        while youngest:
            youngest = read_workflows(database, WorkflowFilter(parents=[row.workflow_id for row in youngest]))
            family = [*family, *youngest]
        return family

    def _fail_if_different(self) -> None:
        __tracebackhide__ = True
        if self._outside is not None and self._outside.error is not None:
            raise self._outside.error
        if self.witness.difference is not None:
            raise AssertionError(f"{self.witness.difference}.")

    def _what(self) -> str:
        return f"Workflow {self._workflow_id!r}"


class _Outside:
    """What goes on outside, in a thread of its own."""

    def __init__(self, app: App, workflow_id: str, alongside: Alongside) -> None:
        self._app = app
        self._workflow_id = workflow_id
        self._alongside = alongside
        self._client: DBOSClient | None = None
        self._thread: threading.Thread | None = None
        self.error: BaseException | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has returned."""
        return self._thread is not None and not self._thread.is_alive()

    def begin(self) -> None:
        """Begin, if it has not begun."""
        if self._thread is None:
            database = self._app.database
            client = self._client = DBOSClient(
                system_database_url=database.url,
                dbos_system_schema=database.schema,
                serializer=self._app.serializer,
            )
            self._thread = threading.Thread(target=self._go_on, args=(client,), name="dbos-alongside", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Let it wait for nothing more."""
        if self._client is not None:
            self._client.destroy()

    def _go_on(self, client: DBOSClient) -> None:
        try:
            self._alongside(client, self._workflow_id)
        except BaseException as error:
            self.error = error


@contextmanager
def _application(app: App | None) -> Generator[App, None, None]:
    """The given application, or the one that is launched, or one for the block."""
    app = app or current_app()
    if app is not None:
        yield app
        return
    database = SessionDatabase()
    try:
        app = App(database)
        app.launch()
        try:
            yield app
        finally:
            app.destroy()
    finally:
        database.close()


@contextmanager
def _virtual(app: App) -> Generator[VirtualClock, None, None]:
    """Stop the application, which is launched again at the end, and give it a clock for the block, if it has none."""
    clock = app.clock
    app.destroy()
    app.clock = clock or VirtualClock()
    try:
        yield app.clock
    finally:
        app.destroy()
        app.clock = clock
        app.launch()


@contextmanager
def _without_recovery_limits() -> Generator[None, None, None]:
    """For the length of a block, no workflow is given up because it is recovered too often."""
    limits = {function: function.max_recovery_attempts for function in REGISTRY}
    for function in limits:
        function.max_recovery_attempts = None
    try:
        yield
    finally:
        for function, limit in limits.items():
            function.max_recovery_attempts = limit


def _snapshot(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The arguments as they are now; ``None`` if they cannot be kept, and are not compared."""
    try:
        return copy.deepcopy((args, dict(kwargs)))
    except Exception:
        return None


def _shown(call: tuple[str, Any]) -> str:
    name, arguments = call
    if arguments is None:
        return f"{name}(...)"
    args, kwargs = cast("tuple[tuple[Any, ...], dict[str, Any]]", arguments)
    parts = [*(shown(value) for value in args), *(f"{key}={shown(kwargs[key])}" for key in kwargs)]
    return f"{name}({', '.join(parts)})"


def _named(run: Run) -> str:
    return f"Workflow {run.workflow_id!r} ({run.function.name})"


def _refuse_on_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "assert_survives_crashes would block the running event loop. Call it from a plain test function, also for a "
        "workflow that is a coroutine function."
    )
