"""What a workflow recorded of a debouncer's call when the older library ran it, where the call is several steps.

It makes up two ids, and enqueues the round's own workflow. Where the round is begun already it finds that workflow,
sends it the arguments, and waits for the answer: if that came, it reads the workflow's status, if not, it tries again.
"""

from __future__ import annotations

from typing import Any

from dbos.model.names import OLDER_DEBOUNCER
from dbos.model.values import RecordedStep
from dbos.runtime.drivers import Returned
from dbos.runtime.run import Run


def replay_older_call(run: Run) -> str | None:
    """Take the steps of a call, if the older library recorded one here; returns the workflow that its round starts.

    ``None`` if it recorded none, or not to its end: then it is to be made.
    """
    ids = _value(run, _take(run, "DBOS.assign_debounce_ids"))
    while ids is not None and (begun := _take(run, OLDER_DEBOUNCER)) is not None:
        if begun.child_workflow_id is not None:
            return str(ids[1])
        if _take(run, "DBOS.get_deduplicated_workflow") is None or _take(run, "DBOS.send") is None:
            return None
        answer = _take(run, "DBOS.getEvent")
        if answer is None:
            return None
        if _take(run, "DBOS.sleep") is None:
            # The number is kept for it also if there was nothing to wait for.
            run.next_function_id()
        if _value(run, answer) is None:
            continue
        _take(run, "DBOS.getStatus")
        status = _value(run, _take(run, "DBOS.getStatus"))
        return None if status is None else str(status.input["args"][1]["workflow_id"])
    return None


def _take(run: Run, name: str) -> RecordedStep | None:
    """Take the next step if it is recorded under this name."""
    step = run.recorded.get(run.upcoming_function_id)
    if step is None or step.name != name:
        return None
    run.next_function_id()
    return step


def _value(run: Run, step: RecordedStep | None) -> Any:
    ending = None if step is None else run.replay(step)
    return ending.value if isinstance(ending, Returned) else None
