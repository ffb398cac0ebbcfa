"""Replay-always: every run is dropped at each barrier at which it has recorded something, and replayed.

A run that is dropped is in the state of one whose process was killed when its last checkpoint was durable, and was
recovered at once: it loads its checkpoints, and calls the workflow's function again. So what the ordinary tests say of
workflows must hold of replayed ones. Only tests that look at how often or how fast something happens, or whose
workflows are not deterministic on purpose, cannot run so; they are named in `CANNOT`, each with the reason.

With REPLAY=always in the environment the whole suite runs so; `make replay` does it with the tests of the public API.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from typing import Any

import pytest

from dbos.model.values import Started
from dbos.runtime import running
from dbos.runtime.run import Run, RunOutdated
from dbos.storage.tickets import RunLog

IS_ON = os.environ.get("REPLAY") == "always"


class Dropper:
    """Drops runs. `install` it before anything is launched."""

    def __init__(self) -> None:
        self.drops = 0
        self._lock = threading.Lock()
        self._durable: dict[str, set[int]] = {}
        """The function ids of what is recorded, by the token of the run."""

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on every run is dropped, again and again, until there is nothing more to record."""
        note, barrier, record_outcome = RunLog.note, Run.barrier, running.record_outcome

        def note_durable(log: RunLog, ticket: Any, answer: Any) -> None:
            note(log, ticket, answer)
            if answer.token == log.token:
                with self._lock:
                    # The checkpoint of a child that was not started is not there, nor is one of a message to nobody.
                    gone = {number for number, its in answer.children.items() if not isinstance(its, Started)}
                    recorded = {checkpoint.function_id for checkpoint in ticket.checkpoints}
                    self._durable.setdefault(log.token, set()).update(recorded - gone - answer.undeliverable)

        def barrier_and_drop(run: Run, *, must_ask: bool = False) -> Generator[Any, Any, None]:
            yield from barrier(run, must_ask=must_ask)
            self._drop(run)

        def drop_and_record_outcome(run: Run, ending: Any) -> Generator[Any, Any, Any]:
            if not run.unsettled_children and run.deferred is None and run.log.failure is None:
                yield from run.barrier()
            return (yield from record_outcome(run, ending))

        monkeypatch.setattr(RunLog, "note", note_durable)
        monkeypatch.setattr(Run, "barrier", barrier_and_drop)
        monkeypatch.setattr(running, "record_outcome", drop_and_record_outcome)

    def _drop(self, run: Run) -> None:
        """Raises if there is something recorded that the run did not begin with."""
        with self._lock:
            new = self._durable.get(run.log.token, set()) - run.recorded.keys()
            if not new:
                return
            self.drops += 1
        raise RunOutdated(f"Workflow {run.workflow_id!r} is replayed, as it recorded {sorted(new)}")


_COUNTS = "it counts how often the function of a workflow is called, or what that does beside its steps"
_IN_FLIGHT = "steps that are under way when their run is dropped run again, as after a crash, and it counts them"
_LIVE = "it tells what a workflow gets live from what its replay gets"
_STOPPED = "its workflow catches what stops its run, and expects only a cancellation"
_TIMED = "it takes the time between two lines of a workflow"
_CONTEXT = "what the dropped run has set in a context variable, the replay in the same process finds"

CANNOT = {
    "api/test_async.py::test_gathered_steps_with_holes_replay_correctly": _IN_FLIGHT,
    "api/test_fork.py::test_fork_in_a_workflow_is_made_once_and_has_a_derived_id": _COUNTS,
    "api/test_json_serializer.py::test_exception_of_the_applications_own_keeps_name_text_and_arguments": _LIVE,
    "api/test_management.py::test_children_of_a_cancelled_workflow_go_on": _STOPPED,
    "api/test_management.py::test_management_in_a_workflow_is_recorded_and_not_done_again_by_its_replay": _COUNTS,
    "api/test_management.py::test_management_of_an_unknown_workflow_in_a_workflow_fails_live_and_replayed": _COUNTS,
    "api/test_management.py::test_parent_of_a_cancelled_child_gets_the_waiters_error_live_and_replayed": _COUNTS,
    "api/test_serialization.py::test_exception_that_cannot_be_stored_keeps_its_name_and_text": _LIVE,
    "api/test_sleep.py::test_five_hundred_sleeping_coroutines_hold_no_threads": _COUNTS,
    "api/test_sleep.py::test_gathered_sleeps_pass_together": _TIMED,
    "api/test_sleep.py::test_interrupted_sleep_continues_with_the_time_that_is_left": _COUNTS,
    "api/test_sleep.py::test_sleepers_wake_in_the_order_of_their_times": _COUNTS,
    "api/test_sleep.py::test_sleeps_at_least_that_long": _TIMED,
    "api/test_steps.py::test_step_knows_where_it_is": _COUNTS,
    "api/test_streams.py::test_steps_in_parallel_write_to_one_stream_without_losing_a_value": _IN_FLIGHT,
    "api/test_streams.py::test_writes_of_a_workflow_happen_exactly_once_under_replay": _COUNTS,
    "api/test_timeouts.py::test_children_have_the_deadline_of_their_parent_unless_they_set_their_own": _STOPPED,
    "api/test_timeouts.py::test_deadline_outlives_restarts": _STOPPED,
    "api/test_timeouts.py::test_timeout_ends_every_wait_at_once": _STOPPED,
    "api/test_workflows.py::test_context_variables_of_the_caller_are_visible_in_workflows": _CONTEXT,
    "api/test_workflows.py::test_exceptions_with_a_meaning_for_generators_travel_as_themselves": _LIVE,
    "regress/test_field.py::test_exception_that_pickles_but_does_not_unpickle_is_still_an_error": _LIVE,
}
"""The tests that cannot run so, and why."""


def skip_what_cannot(items: list[pytest.Item]) -> None:
    """Mark the tests that cannot run so."""
    for item in items:
        reason = CANNOT.get(item.nodeid.partition("[")[0].removeprefix("tests/"))
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=f"not with REPLAY=always: {reason}"))
