"""Recovery: takes up the workflows that nobody runs, and runs them on from their last checkpoint."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dbos.error import DBOSException, DBOSSerializationError, MaxRecoveryAttemptsExceededError
from dbos.model.status import MAX_RECOVERY_ATTEMPTS_EXCEEDED
from dbos.model.values import ClaimedWorkflow, Outcome, RecordedStep
from dbos.runtime.classes import describe
from dbos.runtime.drivers import Core, Ending, Raised, Returned, drive
from dbos.runtime.endings import wait_for_end
from dbos.runtime.run import Run
from dbos.runtime.running import record_outcome
from dbos.runtime.threads import Errand
from dbos.runtime.tracing import Origin
from dbos.storage.adopted import take_over_adopted
from dbos.storage.claims import claim_orphans, find_stranded, has_orphans
from dbos.storage.queues import put_back

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
        """Held from the claim of a workflow until its run is in memory: in between, it looks like a lost one."""
        self._reported: set[tuple[str, str | None, str | None]] = set()
        """Of what was said that its workflows are not recovered here."""
        self._errand = Errand(executor.threads, self._pass, "Recovery")
        self._may_hold_adopted = True
        """Whether the database may hold unfinished workflows of versions that another library made."""

    def kick(self) -> None:
        """Make a pass in the background; if one is under way, another one after it."""
        self._errand.run_soon()

    @property
    def is_under_way(self) -> bool:
        """Whether a pass is being made."""
        return self._errand.is_running

    def stop(self) -> None:
        """Make no more passes."""
        self._errand.stop()

    def make_pass(self, executor_ids: Sequence[str] | None = None) -> list[str]:
        """Recover all that is up for it: workflows that nobody runs, of this version.

        Args:
            executor_ids: Only what was last run by executors of these labels; ``None`` for any.

        Returns:
            The ids of the workflows that run here now, and of those that were put back on their queues.
        """
        executor = self._executor
        recovered: list[str] = []
        self.take_over_adopted()
        returned = put_back(executor.database, executor.application_version, executor_ids)
        if returned:
            executor.enqueued(set(returned.values()))
        while not executor.is_closing and executor.run_count < MAX_RUNS:
            wanted: dict[str, Any] = {
                "application_version": executor.application_version,
                "names": executor.registry.names(),
                "owners": executor.registry.classes.owners(),
                "executor_ids": executor_ids,
            }
            if not has_orphans(executor.database, **wanted):
                break
            claim = partial(
                claim_orphans,
                executor.database,
                nonce=executor.new_token(),
                lease_id=executor.lease_id,
                executor_id=executor.executor_id,
                limit=BATCH,
                **wanted,
            )
            claimed = self.take_up(claim)
            if not claimed:
                break
            recovered.extend(claimed)
        if recovered:
            _logger.info("Recovering %d workflows: %s", len(recovered), _some(recovered))
        return [*recovered, *returned]

    def report_stranded(self) -> None:
        """Say once of each function, class and instance that workflows wait for it which are not recovered here."""
        executor = self._executor
        stranded = find_stranded(
            executor.database,
            application_version=executor.application_version,
            names=executor.registry.names(),
            owners=executor.registry.classes.owners(),
        )
        for function in stranded:
            if function not in self._reported:
                self._reported.add(function)
                _logger.warning(
                    "Interrupted workflows run the function %s, which is not registered in this process. Here they are "
                    "recovered as soon as it is; until then, by a process of this version that registers it.",
                    describe(*function),
                )

    def take_up(self, claim: Callable[[], list[ClaimedWorkflow]]) -> list[str]:
        """Claim workflows, and run each from its last checkpoint on; returns their ids."""
        with self._lock:
            # If another one is taken meanwhile, what was claimed under either is trusted less than it might be.
            lease_id = self._executor.lease_id
            observers, clock = self._executor.observers, self._executor.clock
            began = clock.monotonic()
            claimed = claim()
            for observer in observers:
                observer.claimed(claimed, clock.monotonic() - began)
            if not claimed:
                return []
            known = [workflow.workflow_id for workflow in claimed if not workflow.is_fresh]
            recorded = self._executor.read_checkpoints(known) if known else {}
            for workflow in claimed:
                self._run(workflow, recorded.get(workflow.workflow_id, {}), lease_id)
        return [workflow.workflow_id for workflow in claimed]

    def take_over_adopted(self) -> None:
        """Make unfinished workflows that another library left behind ones of this version; see ``storage.adopted``."""
        executor = self._executor
        if not self._may_hold_adopted:
            return
        taken = take_over_adopted(executor.database, executor.application_version, executor.registry.names())
        self._may_hold_adopted = not taken.is_all
        if taken.count:
            _logger.info(
                "Took over %d unfinished workflows, which another library recorded under the versions %s: they are of "
                "version %s now",
                taken.count,
                ", ".join(taken.versions),
                executor.application_version,
            )
            executor.enqueued(taken.queues)

    def _pass(self) -> None:
        with self._lock:
            self._executor.compare_runs()
        self.make_pass()

    def _run(self, workflow: ClaimedWorkflow, recorded: Mapping[int, RecordedStep], lease_id: str) -> None:
        executor = self._executor
        function = executor.registry.get(workflow.name)
        if function is None:
            return
        run = executor.adopt(function, workflow.workflow_id, workflow.token, recorded, workflow.deadline_ms, lease_id)
        if executor.tracing is not None:
            run.origin = Origin(queue=workflow.queue, recovery_attempts=workflow.recovery_attempts)
        lane = executor.dispatcher.lane(workflow.queue)
        if lane is not None:
            lane.take(run, workflow)
        limit = function.max_recovery_attempts
        if limit is not None and workflow.recovery_attempts > limit + 1:
            _logger.error("%s", MaxRecoveryAttemptsExceededError(workflow.workflow_id, limit))
            executor.threads.submit(lambda: self._end(run, _bury(run)))
            return
        try:
            target = executor.registry.classes.find(function, workflow.class_name, workflow.config_name)
            run.authentication = workflow.authentication.entering(function.name, function.required_roles)
            args, run.kwargs = _decode_inputs(executor, workflow)
            run.args = target.passed + args
        except DBOSException as error:
            _logger.error("Workflow %s cannot be run: %s", workflow.workflow_id, error)
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
    for observer in run.executor.observers:
        observer.workflow_ended(run, outcome.status, None)
    return (yield from wait_for_end(run.executor, run.workflow_id))


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
