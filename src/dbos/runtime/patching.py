"""Patches: how one code runs workflows that began before a change of it and those that began after.

A patch is a place in the workflow. Whoever passes it for the first time records a marker there, as a step, and goes the
new way ever after. A workflow that has recorded something else at this place, or behind it, was past it before there
was a patch: it goes the old way, and the patch takes no function id, so that what follows replays as it was recorded.
"""

from __future__ import annotations

from dbos.runtime.run import Run

MARKER_PREFIX = "DBOS.patch-"
"""Begins the name of the step that a marker is."""


def patch(run: Run, name: str) -> bool:
    """Whether the workflow goes the new way; if it is the first to come here, that is recorded.

    The marker is held back: until it is durable, a crash looks like one before the patch.
    """
    run.check()
    marker = MARKER_PREFIX + name
    function_id = run.upcoming_function_id
    recorded = run.recorded.get(function_id)
    if recorded is None and run.last_recorded_id < function_id:
        checkpoint = run.note(run.next_function_id(), marker, run.executor.clock.now_ms())
        run.executor.journal.hold(run.log, checkpoint, is_leisurely=True)
        return True
    if recorded is not None and recorded.name == marker:
        run.next_function_id()
        return True
    return False


def deprecate_patch(run: Run, name: str) -> None:
    """Pass the marker of a patch, if the workflow has one here; none is recorded."""
    run.check()
    recorded = run.recorded.get(run.upcoming_function_id)
    if recorded is not None and recorded.name == MARKER_PREFIX + name:
        run.next_function_id()
