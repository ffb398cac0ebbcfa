"""What is done to several workflows at once, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dbos.error import DBOSNonExistentWorkflowError
from dbos.model.limits import check_known_id
from dbos.model.queues import INTERNAL_QUEUE
from dbos.model.status import ENQUEUED, LIVE, WorkflowStatusString
from dbos.runtime.gateway import Gateway
from dbos.runtime.management import cancel_workflows, delete_workflows, resume_workflow
from dbos.storage.reads import WorkflowFilter, WorkflowRow, read_workflows

MAX_SELECTED = 500

_MAX_NAMED = 5
"""How many workflows are named of those that are told of together."""

_STOPPED = (WorkflowStatusString.CANCELLED.value, WorkflowStatusString.MAX_RECOVERY_ATTEMPTS_EXCEEDED.value)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the selected workflows.

    Attributes:
        done: The ids of those to which it was done.
        left: Those that were left as they are, with their status.
        missing: Those that are not there.
        others: How many more were affected.
    """

    done: Sequence[str]
    left: Mapping[str, str] = field(default_factory=dict[str, str])
    missing: Sequence[str] = ()
    others: int = 0

    def told(self, action: Action) -> str:
        """The same in words."""
        lines = [f"{action.past}: {_count(len(self.done))}."]
        if self.others:
            lines[0] = f"{action.past}: {_count(len(self.done))}, and {self.others} that they had started."
        if self.left:
            left = [f"{_short(workflow_id)} ({status})" for workflow_id, status in self.left.items()]
            lines.append(f"Left as {'it is' if len(left) == 1 else 'they are'}: {_listed(left)}.")
        if self.missing:
            lines.append(f"Not there (any more): {_listed([*map(_short, self.missing)])}.")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Action:
    """Something that can be done to workflows.

    Attributes:
        name: Its name in forms.
        verb: What its button says.
        past: What is said when it is done.
        meaning: What it does.
        suits: Whether it does anything to such a workflow.
        apply: Does it to the workflows with these ids; the flag says whether also to their children, where it can.
        is_final: Whether it cannot be undone.
    """

    name: str
    verb: str
    past: str
    meaning: str
    suits: Callable[[WorkflowRow], bool]
    apply: Callable[[Gateway, Sequence[str], bool], Outcome]
    is_final: bool = False


def examine(gateway: Gateway, ids: Sequence[str]) -> dict[str, WorkflowRow]:
    """Those of the workflows that there are, by id, without their values."""
    possible = [workflow_id for workflow_id in ids if _is_possible(workflow_id)]
    wanted = WorkflowFilter(workflow_ids=possible, load_input=False, load_output=False)
    found = {row.workflow_id: row for row in read_workflows(gateway.database, wanted)}
    return {workflow_id: found[workflow_id] for workflow_id in ids if workflow_id in found}


def _is_possible(workflow_id: str) -> bool:
    try:
        check_known_id(workflow_id)
    except ValueError:
        return False
    return True


def _cancel(gateway: Gateway, ids: Sequence[str], with_children: bool) -> Outcome:
    done = set(cancel_workflows(gateway, [*examine(gateway, ids)]))
    return _outcome(gateway, ids, done)


def _resume(gateway: Gateway, ids: Sequence[str], with_children: bool) -> Outcome:
    done: set[str] = set()
    for workflow_id, row in examine(gateway, ids).items():
        try:
            if _can_resume(row):
                resume_workflow(gateway, workflow_id)
                done.add(workflow_id)
        except DBOSNonExistentWorkflowError:
            continue
    return _outcome(gateway, ids, done)


def _delete(gateway: Gateway, ids: Sequence[str], with_children: bool) -> Outcome:
    deleted = set(delete_workflows(gateway, [*examine(gateway, ids)], with_descendants=with_children))
    done = [workflow_id for workflow_id in ids if workflow_id in deleted]
    missing = [workflow_id for workflow_id in ids if workflow_id not in deleted]
    return Outcome(done, missing=missing, others=len(deleted) - len(done))


def _outcome(gateway: Gateway, ids: Sequence[str], done: set[str]) -> Outcome:
    there = examine(gateway, ids)
    return Outcome(
        done=[workflow_id for workflow_id in ids if workflow_id in done],
        left={workflow_id: row.status for workflow_id, row in there.items() if workflow_id not in done},
        missing=[workflow_id for workflow_id in ids if workflow_id not in there and workflow_id not in done],
    )


def _can_cancel(row: WorkflowRow) -> bool:
    return row.status in LIVE


def _can_resume(row: WorkflowRow) -> bool:
    return row.status in _STOPPED or (row.status == ENQUEUED and row.queue_name != INTERNAL_QUEUE)


def _can_delete(row: WorkflowRow) -> bool:
    return True


ACTIONS: Mapping[str, Action] = {
    action.name: action
    for action in (
        Action(
            "cancel",
            "Cancel",
            "Cancelled",
            "They stop before their next step, and those that wait at once. They can be resumed. "
            "What has ended is left as it is.",
            _can_cancel,
            _cancel,
        ),
        Action(
            "resume",
            "Resume",
            "Resumed",
            "Those that were cancelled or given up run on after their last recorded step, and those on queues start "
            "past their queue, when an executor of their version is there. What runs or has ended is left as it is.",
            _can_resume,
            _resume,
        ),
        Action(
            "delete",
            "Delete",
            "Deleted",
            "Their records are gone for ever, with steps, events, streams and messages. Those that run stop.",
            _can_delete,
            _delete,
            is_final=True,
        ),
    )
}
"""What can be done to several workflows at once, by name."""


def _count(number: int) -> str:
    return "1 workflow" if number == 1 else f"{number} workflows"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _short(workflow_id: str) -> str:
    return workflow_id if len(workflow_id) <= 60 else f"{workflow_id[:60]}…"
