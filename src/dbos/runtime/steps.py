"""Steps: run once, recorded, and answered from the record ever after."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dbos.error import DBOSMaxStepRetriesExceeded
from dbos.model.authentication import Authentication
from dbos.model.limits import MAX_RETRY_INTERVAL_S, check_storable
from dbos.runtime.context import Context, Identity, StepStatus
from dbos.runtime.drivers import Command, Core, Ending, Offload, Raised, Returned, UserCode
from dbos.runtime.run import Run
from dbos.serialization.codec import Codec, PickleByParts
from dbos.storage.errors import JournalClosed

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_logger = logging.getLogger("dbos")

_OWN_VALUES = Codec(PickleByParts())


@dataclass(frozen=True, slots=True)
class StepRules:
    """How a step is called and retried.

    Attributes:
        name: What is recorded.
        retries_allowed: Whether an exception makes it try again.
        interval_s: The pause before the second attempt.
        max_attempts: All attempts, the first included.
        backoff_rate: By how much the pause grows from one attempt to the next; it ends at an hour.
    """

    name: str
    retries_allowed: bool = False
    interval_s: float = 1.0
    max_attempts: int = 3
    backoff_rate: float = 2.0

    def __post_init__(self) -> None:
        check_storable(self.name, "A step's name")
        if self.max_attempts < 1:
            raise ValueError(f"Step {self.name}: max_attempts is {self.max_attempts}, and must be at least 1.")
        if self.interval_s < 0:
            raise ValueError(f"Step {self.name}: interval_seconds is {self.interval_s}, and must not be negative.")
        if self.backoff_rate <= 0:
            raise ValueError(f"Step {self.name}: backoff_rate is {self.backoff_rate}, and must be positive.")


def run_step(
    run: Run,
    function_id: int,
    rules: StepRules,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    authentication: Authentication,
) -> Core[Ending[Any]]:
    """Answer from the record, or wait for the barrier, run the function and record how it ended.

    Args:
        run: The workflow's.
        function_id: The step's number.
        rules: How it is called.
        function: What is called.
        args: Its arguments.
        kwargs: Its keyword arguments.
        authentication: Whom it acts for.
    """
    if run.executor.overseer is not None:
        function = run.executor.overseer.called(run, function_id, rules.name, function, args, kwargs)
    recorded = run.find_recorded(function_id, rules.name)
    if recorded is not None:
        return run.replay(recorded)
    yield from run.barrier()
    clock, observers = run.executor.clock, run.executor.observers
    started_at_ms, began = clock.now_ms(), clock.monotonic() if observers else 0.0
    if run.executor.tracing is not None:
        function = run.executor.tracing.step(run, function_id, rules.name, function)
    if rules.retries_allowed:
        ending = yield from _attempt_all(run, function_id, rules, function, args, kwargs, authentication)
    else:
        context = step_context(run, StepStatus(function_id, None, None), authentication)
        ending = yield UserCode(context, function, args, kwargs)
    # From here to the checkpoint nothing is awaited: a step that ended is recorded, whatever happens to the caller.
    if isinstance(ending, Raised):
        refuse_shutdown_noise(ending.error)
    for observer in observers:
        observer.step_ended(rules.name, clock.monotonic() - began)
    return run.checkpoint(function_id, rules.name, ending, started_at_ms)


def record_call(run: Run, function_id: int, name: str, function: Callable[[], Any]) -> Core[Ending[Any]]:
    """Record what a library call returned, as a step of the workflow that makes it.

    The function blocks, and runs in another thread where that matters. Its result is the library's own kind of value,
    which the application's serializer need not know, so it is always pickled.
    """
    recorded = run.find_recorded(function_id, name)
    if recorded is not None:
        return run.replay(recorded)
    yield from run.barrier()
    started_at_ms = run.executor.clock.now_ms()
    ending: Ending[Any]
    try:
        ending = Returned((yield Offload(run.executor.threads.submit, function)))
    except Exception as error:
        ending = Raised(error)
    return run.checkpoint(function_id, name, ending, started_at_ms, codec=_OWN_VALUES)


def _attempt_all(
    run: Run,
    function_id: int,
    rules: StepRules,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    authentication: Authentication,
) -> Generator[Command, Any, Ending[Any]]:
    status = StepStatus(function_id, 0, rules.max_attempts)
    pause_s = rules.interval_s
    errors: list[Exception] = []
    for attempt in range(rules.max_attempts):
        status = replace(status, current_attempt=attempt)
        ending: Ending[Any] = yield UserCode(step_context(run, status, authentication), function, args, kwargs)
        if not isinstance(ending, Raised):
            return ending
        refuse_shutdown_noise(ending.error)
        assert isinstance(ending.error, Exception)
        errors.append(ending.error)
        if attempt + 1 < rules.max_attempts:
            _logger.warning(
                "Step %s of workflow %s failed at attempt %d of %d, trying again in %.1f s: %r",
                *(rules.name, run.workflow_id, attempt + 1, rules.max_attempts, pause_s, ending.error),
            )
            for observer in run.executor.observers:
                observer.step_retried(rules.name)
            yield from run.wait(seconds=pause_s)
            pause_s = min(pause_s * rules.backoff_rate, MAX_RETRY_INTERVAL_S)
    return Raised(DBOSMaxStepRetriesExceeded(rules.name, rules.max_attempts, errors))


def step_context(
    run: Run, status: StepStatus, authentication: Authentication, session: Session | None = None
) -> Context:
    """The context of a step's code. What it sets holds for the step only, as replay does not run it."""
    identity = None if authentication is run.authentication else Identity(authentication)
    return Context(run, status, identity=identity, session=session)


def refuse_shutdown_noise(error: BaseException) -> None:
    """A step that failed because the interpreter is going down has not ended; it runs again."""
    if isinstance(error, RuntimeError) and "cannot schedule new futures" in str(error):
        is_going_down = sys.is_finalizing() or "interpreter shutdown" in str(error)
        if is_going_down:
            raise JournalClosed(str(error)) from error
