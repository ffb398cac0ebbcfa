"""Replay of a recorded workflow: its function is called again, and all that it calls is answered from the record.

No step is run, and nothing is written anywhere but into a database in memory, which is thrown away. So it shows, before
a change of the code is deployed, whether workflows that the former code began will go on under the new one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dbos.api.dbos import DBOS
from dbos.error import DBOSException
from dbos.model.authentication import Authentication
from dbos.model.clock import SystemClock
from dbos.model.status import ERROR, SUCCESS
from dbos.model.values import RecordedStep
from dbos.runtime.context import Context
from dbos.runtime.database_time import DatabaseTime
from dbos.runtime.drivers import Core, Ending, Raised, Returned, WorkflowCode, drive, drive_async
from dbos.runtime.executor import Executor
from dbos.runtime.overseeing import Overseer
from dbos.runtime.registry import REGISTRY, WorkflowFunction
from dbos.runtime.run import Run, RunStopped
from dbos.runtime.settings import ExecutorSettings
from dbos.serialization.codec import Codec
from dbos.serialization.serializer import Serializer
from dbos.storage.hints import NoHints
from dbos.storage.opening import open_database
from dbos.storage.transfer import EXPORT_HEADER, Document, check_document
from dbos.testing.likeness import is_alike, shown

Exported = str | os.PathLike[str] | Mapping[str, Any]
"""A file that ``dbos workflow export`` wrote, or one of its lines, parsed."""

_LONGEST_S = 60.0
"""How long the function of one workflow may take; all that it calls is there already."""

_HINT = (
    "Workflows that are under way will fail so. Give the change a patch (DBOS.patch), or let processes of the former "
    "version complete them."
)


@dataclass(frozen=True, slots=True)
class Replay:
    """How one workflow replayed.

    Attributes:
        workflow_id: Its id.
        name: The name of its function.
        steps: How many of its calls were answered from the record.
        difference: What the code does otherwise than is recorded, the first such thing; ``None``: nothing.
        function_id: The number of the call that differs, if it is one.
    """

    workflow_id: str
    name: str
    steps: int
    difference: str | None = None
    function_id: int | None = None

    def __str__(self) -> str:
        outcome = f"replayed, {self.steps} calls" if self.difference is None else self.difference
        return f"Workflow {self.workflow_id!r} ({self.name}): {outcome}"


def replay(exported: Exported, *, serializer: Serializer | None = None) -> list[Replay]:
    """Call the functions of recorded workflows again, all that they call answered from the record.

    A workflow that has ended must make all the calls that are recorded, no others, and end as it did. One that has not
    is replayed as far as it is recorded. What a step was called *with* is not recorded, so it is not compared.

    Args:
        exported: A file that ``dbos workflow export`` wrote, or one of its lines, parsed. Use only what you trust, as
            its values are unpickled.
        serializer: What wrote the values; by default as the configuration says, if there is one, else pickle.

    Raises:
        ValueError: It is no such file or line.
        FileNotFoundError: There is no such file.
        TimeoutError: A function waits for something that no record answers.
    """
    codec = Codec(_configured_serializer() if serializer is None else serializer)
    with Replayer(codec) as replayer:
        return [replayer.replay(document) for document in _documents(exported)]


def assert_replays(exported: Exported, *, serializer: Serializer | None = None) -> None:
    """Fail if a recorded workflow does not replay with the code of today. (Arguments as for ``replay``.)

    Raises:
        AssertionError: One does not; the message says which, at which of its calls, and how.
    """
    __tracebackhide__ = True
    replays = replay(exported, serializer=serializer)
    if not replays:
        raise AssertionError("There is no workflow to replay: the export is empty.")
    wrong = [each for each in replays if each.difference is not None]
    if wrong:
        lines = "\n".join(f"  {each}" for each in wrong)
        raise AssertionError(f"{len(wrong)} of {len(replays)} workflows do not replay:\n{lines}\n{_HINT}")


class Replayer:
    """Replays workflows, one after the other, on an executor that keeps nothing.

    Args:
        codec: Decodes the values.
        overseer: Is told of each call.
    """

    def __init__(self, codec: Codec, overseer: Overseer | None = None) -> None:
        self._database = open_database(url="sqlite://")
        settings = ExecutorSettings(executor_id="replay", application_version="replay", is_patching_enabled=True)
        clock = SystemClock()
        time = _PastTime(self._database, clock)
        self._executor = Executor(self._database, codec, clock, REGISTRY, settings, NoHints(), time=time)
        self._executor.overseer = overseer

    def __enter__(self) -> Replayer:
        return self

    def __exit__(self, *error: object) -> None:
        executor = self._executor
        executor.is_closing = True
        executor.journal.close()
        executor.close()
        executor.loop.stop()
        self._database.close()

    def replay(self, document: Document) -> Replay:
        """Replay one workflow. (Errors as for ``replay``.)"""
        record = _Record.of(document)
        try:
            run = self._run(record)
        except DBOSException as error:
            return Replay(record.workflow_id, record.name, 0, str(error))
        try:
            ending = self._call(run)
            difference = _missing(run, record) or self._other_ending(record, ending)
        except RunStopped:
            difference = run.difference
        steps = len(run.answered)
        return Replay(record.workflow_id, record.name, steps, difference, run.differs_at if difference else None)

    def _run(self, record: _Record) -> _ReplayedRun:
        function = REGISTRY.get(record.name)
        if function is None:
            raise DBOSException("there is no workflow function of this name. Import the module that has it")
        target = REGISTRY.classes.find(function, record.row.get("class_name"), record.row.get("config_name"))
        inputs = self._executor.codec.decode(record.row.get("inputs"), record.row.get("serialization"))
        args, kwargs = target.passed + tuple(inputs["args"]), dict(inputs["kwargs"])
        return _ReplayedRun(self._executor, function, record, args, kwargs)

    def _call(self, run: _ReplayedRun) -> Ending[Any]:
        run.begin()
        core = _function_of(run)
        if not run.function.is_async:
            return drive(core)
        loop = self._executor.loop.get()
        # Branches of a coroutine that are stopped with it are nothing to report.
        loop.set_exception_handler(lambda loop, context: None)
        future = asyncio.run_coroutine_threadsafe(drive_async(core), loop)
        try:
            return future.result(_LONGEST_S)
        except concurrent.futures.TimeoutError:
            raise TimeoutError(
                f"The function of workflow {run.workflow_id!r} ({run.function.name}) did not come to an end within "
                f"{_LONGEST_S:g} s: it waits for something that is not recorded."
            ) from None

    def _other_ending(self, record: _Record, ending: Ending[Any]) -> str | None:
        """How it ends otherwise than it did."""
        codec, row = self._executor.codec, record.row
        if record.status not in (SUCCESS, ERROR):
            return None
        recorded: Ending[Any]
        if record.status == ERROR:
            recorded = Raised(codec.decode_error(row.get("error") or "", row.get("outcome_serialization")))
        else:
            recorded = Returned(codec.decode(row.get("output"), row.get("outcome_serialization")))
        if is_same_ending(codec, recorded, ending):
            return None
        return f"it {_shown(ending, 'now')}, and when it was recorded it {_shown(recorded, '')}"


class _PastTime(DatabaseTime):
    """A time to which all that is recorded is long past."""

    def seconds_until(self, time_ms: float) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class _Record:
    """What is recorded of one workflow."""

    workflow_id: str
    name: str
    status: str
    row: Mapping[str, Any]
    steps: Mapping[int, RecordedStep]

    @classmethod
    def of(cls, document: Document) -> _Record:
        check_document(document)
        row = document["workflow_status"]
        steps: dict[int, RecordedStep] = {}
        for table in ("transaction_outputs", "operation_outputs"):
            for step in cast("list[dict[str, Any]]", document.get(table, [])):
                steps[step["function_id"]] = RecordedStep(
                    step["function_id"],
                    step.get("function_name") or "",
                    step.get("output"),
                    step.get("error"),
                    step.get("serialization"),
                    step.get("child_workflow_id"),
                )
        return cls(row["workflow_uuid"], row.get("name") or "", row.get("status") or "", row, steps)

    @property
    def has_ended(self) -> bool:
        """Whether all is recorded that it will ever call."""
        return self.status in (SUCCESS, ERROR)


class _ReplayedRun(Run):
    """A run that is answered from the record alone, and stops where that ends or says something else.

    Attributes:
        answered: The numbers of the calls that were answered.
        difference: What the code does otherwise; ``None``, as long as nothing is known.
        differs_at: The number of the call that differs.
    """

    __slots__ = ("_has_ended", "answered", "difference", "differs_at")

    def __init__(
        self,
        executor: Executor,
        function: WorkflowFunction,
        record: _Record,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        super().__init__(
            executor, function, record.workflow_id, "replay", executor.lease_id, args, kwargs, record.steps
        )
        self._has_ended = record.has_ended
        self.answered: set[int] = set()
        self.difference: str | None = None
        self.differs_at: int | None = None
        roles = record.row.get("authenticated_roles")
        self.authentication = Authentication(
            record.row.get("authenticated_user"),
            None if roles is None else tuple(json.loads(roles)),
            record.row.get("assumed_role"),
        )

    def find_recorded(self, function_id: int, name: str) -> RecordedStep:
        self.check()
        recorded = self.recorded.get(function_id)
        if recorded is None:
            if self._has_ended:
                self._note(function_id, f"it calls {name!r} as step {function_id}, which it never did before it ended")
            raise self._stopped()
        if recorded.name != name:
            self._note(
                function_id,
                f"it calls {name!r} as step {function_id}, where {recorded.name!r} is recorded",
            )
            raise self._stopped()
        self.answered.add(function_id)
        return recorded

    def _note(self, function_id: int, difference: str) -> None:
        self.differs_at, self.difference = function_id, difference

    def _stopped(self) -> RunStopped:
        self.stop = RunStopped(f"Workflow {self.workflow_id!r} is recorded no further")
        return self.stop


def _function_of(run: _ReplayedRun) -> Core[Ending[Ending[Any]]]:
    ending: Ending[Any]
    try:
        ending = Returned((yield WorkflowCode(Context(run), run.function.function, run.args, run.kwargs)))
    except Exception as error:
        ending = Raised(error)
    if run.stop is not None:
        # Its function has caught what was to stop it.
        raise run.stop.with_traceback(None)
    return Returned(ending)


def _missing(run: _ReplayedRun, record: _Record) -> str | None:
    """The first call that is recorded and was not made."""
    missing = min((number for number in record.steps if number >= run.upcoming_function_id), default=None)
    if missing is None:
        return None
    run.differs_at = missing
    return f"it ends without calling step {missing}, {record.steps[missing].name!r}, which is recorded"


def is_same_ending(codec: Codec, one: Ending[Any], other: Ending[Any]) -> bool:
    """Whether two workflows ended alike: with results that are alike, or with exceptions of one type and one text."""
    if isinstance(one, Raised) or isinstance(other, Raised):
        errors = [ending.error for ending in (one, other) if isinstance(ending, Raised)]
        return len(errors) == 2 and _error_text(codec, errors[0]) == _error_text(codec, errors[1])
    return is_alike(one.value, other.value)


def _error_text(codec: Codec, error: BaseException) -> str:
    # As it is recorded: an exception that cannot be stored has a stand-in.
    encoded = codec.encode_error(error)
    recorded = codec.decode_error(encoded.text, encoded.format)
    return f"{type(recorded).__name__}: {recorded}"


def _shown(ending: Ending[Any], when: str) -> str:
    tense = "s" if when else "ed"
    if isinstance(ending, Raised):
        return f"{when} raise{'s' if when else 'd'} {ending.error!r}".strip()
    return f"{when} return{tense} {shown(ending.value)}".strip()


def _documents(exported: Exported) -> Sequence[Document]:
    if isinstance(exported, Mapping):
        return [dict(exported)]
    documents: list[Document] = []
    with Path(exported).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                value: object = json.loads(line)
                if number == 1:
                    if value != EXPORT_HEADER:
                        raise ValueError("it was not written by `dbos workflow export`, or by one of another version")
                    continue
                check_document(value)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{os.fspath(exported)}, line {number}: {error}") from None
            documents.append(cast(Document, value))
    return documents


def _configured_serializer() -> Serializer | None:
    application = DBOS._application  # pyright: ignore[reportPrivateUsage]
    return None if application is None else application.settings.serializer
