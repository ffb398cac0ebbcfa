"""Recovery: takes up the workflows that nobody runs, and runs them on from their last checkpoint."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dbos.error import DBOSException, DBOSSerializationError, MaxRecoveryAttemptsExceededError
from dbos.model.status import MAX_RECOVERY_ATTEMPTS_EXCEEDED
from dbos.model.values import ClaimedWorkflow, Outcome, RecordedStep
from dbos.runtime.drivers import Core, Ending, Raised, Returned, drive
from dbos.runtime.endings import ending_of
from dbos.runtime.registry import WorkflowFunction
from dbos.runtime.run import Run
from dbos.runtime.running import record_outcome
from dbos.storage.claims import claim_orphans, has_orphans, read_checkpoints
from dbos.storage.errors import JournalClosed

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor

_logger = logging.getLogger("dbos")

BATCH = 500
"""How many workflows one claim takes."""

MAX_RUNS = 5000
"""How many runs may be in memory for recovery to add more; the next pass goes on when some have ended."""


class Recovery:
    """Claims what is up for recovery and starts it; one pass at a time."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._lock = threading.Lock()
        self._state = threading.Lock()
        self._is_wanted = False
        self._is_running = False

    def kick(self) -> None:
        """Make a pass in the background; if one is under way, another one after it."""
        with self._state:
            self._is_wanted = True
            if self._is_running:
                return
            self._is_running = True
        try:
            self._executor.threads.submit(self._pass_while_wanted)
        except RuntimeError as error:
            self._is_running = False
            _logger.error("Recovery is put off until the next renewal of the lease: %r", error)

    def make_pass(self) -> list[str]:
        """Recover all that is up for it; returns the ids of the workflows that run here now."""
        executor = self._executor
        recovered: list[str] = []
        with self._lock:
            while not executor.is_closing and executor.run_count < MAX_RUNS:
                version, names = executor.application_version, executor.registry.names()
                if not has_orphans(executor.database, application_version=version, names=names):
                    break
                claimed = claim_orphans(
                    executor.database,
                    nonce=executor.new_token(),
                    lease_id=executor.lease_id,
                    executor_id=executor.executor_id,
                    application_version=version,
                    names=names,
                    limit=BATCH,
                )
                if not claimed:
                    break
                self._take_up(claimed)
                recovered.extend(workflow.workflow_id for workflow in claimed)
        if recovered:
            _logger.info("Recovering %d workflows: %s", len(recovered), _some(recovered))
        return recovered

    def _pass_while_wanted(self) -> None:
        while True:
            with self._state:
                if not self._is_wanted:
                    self._is_running = False
                    return
                self._is_wanted = False
            self._try_pass()

    def _try_pass(self) -> None:
        try:
            self._executor.release_lost_runs()
            self.make_pass()
        except JournalClosed:
            return
        except Exception as error:
            if not self._executor.is_closing:
                _logger.warning("Recovery failed, it is tried again with the next renewal of the lease: %r", error)

    def _take_up(self, claimed: list[ClaimedWorkflow]) -> None:
        recorded = read_checkpoints(self._executor.database, [workflow.workflow_id for workflow in claimed])
        for workflow in claimed:
            function = self._executor.registry.get(workflow.name)
            if function is not None:
                self._run(workflow, function, recorded.get(workflow.workflow_id, {}))

    def _run(self, workflow: ClaimedWorkflow, function: WorkflowFunction, recorded: Mapping[int, RecordedStep]) -> None:
        executor = self._executor
        run = executor.adopt(function, workflow.workflow_id, workflow.token, recorded)
        limit = function.max_recovery_attempts
        if limit is not None and workflow.recovery_attempts > limit + 1:
            _logger.error("%s", MaxRecoveryAttemptsExceededError(workflow.workflow_id, limit))
            executor.threads.submit(lambda: self._end(run, _bury(run)))
            return
        try:
            run.args, run.kwargs = _decode_inputs(executor, workflow)
        except DBOSException as error:
            _logger.error("Workflow %s cannot be recovered: %s", workflow.workflow_id, error)
            refusal = Raised(error)
            executor.threads.submit(lambda: self._end(run, record_outcome(run, refusal)))
            return
        executor.spawn(run)

    def _end(self, run: Run, core: Core[Ending[Any]]) -> None:
        """Record the end of a workflow whose function is not run."""
        try:
            run.ended.resolve(drive(_returned(core)))
        finally:
            self._executor.forget(run)


def _bury(run: Run) -> Core[Ending[Any]]:
    outcome = Outcome(MAX_RECOVERY_ATTEMPTS_EXCEEDED, None, None, None)
    answer = yield run.executor.journal.submit(run.log, outcome=outcome)
    run.accept(answer)
    recorded = run.executor.read_outcomes([run.workflow_id])[run.workflow_id]
    ending = ending_of(run.executor.codec, recorded)
    assert ending is not None
    return ending


def _returned(core: Core[Ending[Any]]) -> Core[Ending[Ending[Any]]]:
    ending = yield from core
    return Returned(ending)


def _decode_inputs(executor: Executor, workflow: ClaimedWorkflow) -> tuple[tuple[Any, ...], dict[str, Any]]:
    inputs = executor.codec.decode(workflow.inputs, workflow.serialization)
    try:
        return tuple(inputs["args"]), dict(inputs["kwargs"])
    except (TypeError, KeyError) as error:
        raise DBOSSerializationError(
            f"The stored arguments of workflow {workflow.workflow_id!r} are not of the form "
            '{"args": [...], "kwargs": {...}}.'
        ) from error


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
