"""Transactions: steps that are one transaction of the application database, recorded in it.

Each try begins when all that the run recorded before is durable, and looks whether an earlier try, of this run or of
another, has committed after all. Then the application's code runs, and at the end the record is written and committed
with its statements. If another's record stands there already, all is rolled back and the other's value counts. What
the code raises is rolled back too, and recorded in a transaction of its own: the same rules decide whose record counts.

In the system database (``ApplicationDatabase.is_separate``) the first try need not look: the run has loaded all
records with its claim, and since then the guard lets nobody else record.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbos.error import DBOSException
from dbos.model.authentication import Authentication
from dbos.model.values import Checkpoint, RecordedStep
from dbos.runtime.context import StepStatus
from dbos.runtime.drivers import Command, Core, Ending, Offload, Raised, Returned, UserCode
from dbos.runtime.run import Run, RunFenced, RunOutdated, WriteRefused, encode_ending
from dbos.runtime.steps import refuse_shutdown_noise, step_context
from dbos.storage.database import CommitRefused
from dbos.storage.errors import TransientStorageError
from dbos.storage.transactions import AlreadyRecorded, NotOwned, RecordAnswer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_logger = logging.getLogger("dbos")

_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 2.0
_FAILURES_PER_REPORT = 10

ISOLATION_LEVELS = ("SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED", "READ UNCOMMITTED")


@dataclass(frozen=True, slots=True)
class TransactionRules:
    """How a transaction runs.

    Attributes:
        name: What is recorded.
        isolation_level: One of ``ISOLATION_LEVELS``. SQLite has only the first.
    """

    name: str
    isolation_level: str = "SERIALIZABLE"

    def __post_init__(self) -> None:
        if self.isolation_level not in ISOLATION_LEVELS:
            raise ValueError(
                f"Transaction {self.name}: there is no isolation level {self.isolation_level!r}. "
                f"The levels are {', '.join(ISOLATION_LEVELS)}."
            )


def run_transaction(
    run: Run,
    function_id: int,
    rules: TransactionRules,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    authentication: Authentication,
) -> Core[Ending[Any]]:
    """Answer from the record, or run the function in a transaction that records how it ended."""
    if run.executor.overseer is not None:
        function = run.executor.overseer.called(run, function_id, rules.name, function, args, kwargs)
    recorded = run.find_recorded(function_id, rules.name)
    if recorded is not None:
        return _replay(run, recorded)
    clock, observers = run.executor.clock, run.executor.observers
    began = clock.monotonic() if observers else 0.0
    if run.executor.tracing is not None:
        function = run.executor.tracing.step(run, function_id, rules.name, function)

    def code(session: Session) -> Any:
        context = step_context(run, StepStatus(function_id, None, None), authentication, session)
        return UserCode(context, function, args, kwargs).block().unwrap()

    tries = _Tries(run, function_id, rules, code)
    while True:
        yield from run.barrier()
        try:
            end: Ending[Any] | RecordedStep | None = yield Offload(run.executor.threads.submit, tries.make)
        except TransientStorageError as error:
            yield from tries.pause(error)
            continue
        except DBOSException:
            raise
        except Exception as error:
            raise WriteRefused(error) from error
        if isinstance(end, RecordedStep):
            return _replay(run, run.expect(end, rules.name))
        if end is not None:
            for observer in observers:
                observer.step_ended(rules.name, clock.monotonic() - began)
            return end


def _replay(run: Run, recorded: RecordedStep) -> Ending[Any]:
    if not recorded.is_checkpoint:
        # It was recorded in the application database, and its run did not come to record it here.
        checkpoint = run.note(
            recorded.function_id,
            recorded.name,
            run.executor.clock.now_ms(),
            output=recorded.output,
            error=recorded.error,
            serialization=recorded.serialization,
        )
        run.executor.journal.hold(run.log, checkpoint)
    return run.replay(recorded)


class _Tries:
    """The tries of one transaction, until one of them has ended it."""

    def __init__(self, run: Run, function_id: int, rules: TransactionRules, code: Callable[[Session], Any]) -> None:
        self._run = run
        self._function_id = function_id
        self._rules = rules
        self._code = code
        self._store = run.executor.application.store
        self._started_at_ms = run.executor.clock.now_ms()
        self._must_look = run.executor.application.is_separate
        self._has_met_another = False
        """Whether something stood under the transaction's number already."""
        self._raised: Raised | None = None
        """What the code has raised; it is rolled back, and to be recorded."""
        self._failures = 0
        self._pause_s = _FIRST_PAUSE_S

    def make(self) -> Ending[Any] | RecordedStep | None:
        """One try; returns how the transaction ended, what another recorded, or ``None`` if it is to be tried again.

        Raises:
            TransientStorageError: It failed for now.
            RunStopped, DBOSWorkflowCancelledError, JournalClosed, DBOSException: The run may not go on.
        """
        with self._run.executor.application.turn(self._run.check):
            if self._must_look and (recorded := self._look()) is not None:
                return recorded
            self._must_look = True
            ending = self._raised or self._call()
            if isinstance(ending, Raised):
                self._raised = ending
                return self._record_error(ending)
            return ending

    def pause(self, error: TransientStorageError) -> Generator[Command, Any, None]:
        """Wait before the next try, which may have been made necessary by others that try again, too."""
        self._failures += 1
        if self._failures % _FAILURES_PER_REPORT == 0:
            _logger.warning(
                "Transaction %s of workflow %s has failed %d times, trying again: %s",
                *(self._rules.name, self._run.workflow_id, self._failures, error),
            )
        yield from self._run.pause(min(self._pause_s, error.longest_pause_s) * random.uniform(0.5, 1.0))
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)

    def _look(self) -> RecordedStep | None:
        """What is recorded already, by whomever."""
        recorded = self._store.look(self._run.workflow_id, self._function_id)
        if recorded is None and self._has_met_another:
            raise RunOutdated(f"Step {self._function_id} of workflow {self._run.workflow_id!r} was recorded before")
        return recorded

    def _call(self) -> Ending[Any] | None:
        """Run the code; a ``Raised`` is not recorded yet."""
        ending: Ending[Any] | None = None
        failure: TransientStorageError | None = None
        checkpoint: Checkpoint | None = None
        answer: RecordAnswer | None = None
        try:
            with self._store.begin(self._rules.isolation_level) as transaction:
                try:
                    ending = Returned(transaction.run(self._code))
                except TransientStorageError as error:
                    failure = error
                except Exception as error:
                    ending = Raised(error)
                else:
                    if not transaction.is_intact:
                        ending = Raised(_broken(self._rules.name))
                    ending, checkpoint = self._checkpoint(ending)
                    if isinstance(ending, Returned) and not self._run.is_to_stop:
                        answer = transaction.record(self._run.workflow_id, self._run.log.token, checkpoint)
                if answer is None:
                    transaction.roll_back()
        except CommitRefused as refusal:
            return Raised(refusal.cause)
        if failure is not None:
            raise failure
        if isinstance(ending, Raised) or checkpoint is None:
            return ending
        if answer is None:
            self._run.check()
            raise RunFenced(f"Workflow {self._run.workflow_id!r} is not to go on")
        return ending if self._is_accepted(answer, checkpoint) else None

    def _record_error(self, ending: Raised) -> Ending[Any] | None:
        """Record what the code raised, in a transaction of its own."""
        refuse_shutdown_noise(ending.error)
        self._run.check()
        ended, checkpoint = self._checkpoint(ending)
        with self._store.begin("READ COMMITTED") as transaction:
            answer = transaction.record(self._run.workflow_id, self._run.log.token, checkpoint)
        return ended if self._is_accepted(answer, checkpoint) else None

    def _checkpoint(self, ending: Ending[Any]) -> tuple[Ending[Any], Checkpoint]:
        """What is to be recorded. A result that cannot be stored makes the transaction fail."""
        name = self._rules.name
        ending, output, error, serialization = encode_ending(
            self._run.executor.codec,
            ending,
            lambda: f"The result of transaction {name} of workflow {self._run.workflow_id!r}",
        )
        note = self._run.note
        checkpoint = note(
            self._function_id, name, self._started_at_ms, output=output, error=error, serialization=serialization
        )
        return ending, checkpoint

    def _is_accepted(self, answer: RecordAnswer, checkpoint: Checkpoint) -> bool:
        """Whether it was recorded; if not, another try is to be made.

        Raises:
            RunStopped, DBOSException: The run does not own its workflow, or has ended.
        """
        run = self._run
        if isinstance(answer, AlreadyRecorded):
            self._has_met_another = True
            return False
        if isinstance(answer, NotOwned):
            run.accept(answer.guard)
            run.check()
            raise RunFenced(f"Workflow {run.workflow_id!r} has ended")
        if answer.guard is None:
            run.executor.journal.hold(run.log, checkpoint)
        else:
            run.accept(answer.guard, is_cancellable=False)
        return True


def _broken(name: str) -> DBOSException:
    return DBOSException(
        f"Transaction {name} cannot be committed: a statement failed in it and the function went on, or the function "
        "ended the transaction itself. Let the database's exceptions pass, or make what may fail in "
        "`with DBOS.sql_session.begin_nested():`; leave commit and rollback to the library."
    )
