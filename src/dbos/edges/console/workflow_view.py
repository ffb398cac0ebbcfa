"""What the page of a workflow shows, read from the database: a bounded part of everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dbos.edges.console.shown import MAX_STORED_CHARS
from dbos.edges.console.timeline import Axis, Recorded, Row, axis_of
from dbos.error import DBOSNonExistentWorkflowError
from dbos.model.queues import INTERNAL_QUEUE
from dbos.model.status import ENQUEUED, ERROR, LIVE, PENDING
from dbos.runtime.diagnosis import Cause, Finding, explain
from dbos.storage.database import Database
from dbos.storage.diagnosis import ExecutorRow
from dbos.storage.family import Relative, read_relatives
from dbos.storage.published import (
    EventRow,
    MessageRow,
    ReceivedRow,
    StreamRow,
    count_messages,
    read_event_page,
    read_messages,
    read_received,
    read_set_events,
    read_streams,
)
from dbos.storage.reads import WorkflowFilter, WorkflowRow, read_workflows
from dbos.storage.timeline import (
    TimelineStep,
    WorkflowDetails,
    read_details,
    read_failed,
    read_first_steps,
    read_last_numbers,
    read_step_span,
    read_timeline,
)

STEPS_PER_PAGE = 100
EVENTS_PER_PAGE = 50
PAST_VALUES = 10
MESSAGES = 20
MESSAGES_COUNTED = 1_000
STREAMS = 50
NESTED_WORKFLOWS, NESTED_STEPS, GENERATIONS = 30, 10, 2
"""Of how many children the steps are shown within those of their parents, how many of each, how deep."""
CHILDREN_UNFOLDED = 5
SEARCHED_STEPS = 10_000
"""Among how many of the last steps those are looked for that failed, or received messages."""
FAILED_STEPS = 20


@dataclass(frozen=True, slots=True)
class Timeline:
    """A page of a workflow's steps.

    Attributes:
        page: Which one, from 1.
        pages: How many there are.
        rows: What is on it.
        axis: Their axis.
        last_number: The number of the last recorded step; 0 if there is none.
        failed: The numbers of steps that failed, the last one first.
    """

    page: int
    pages: int
    rows: Sequence[Row]
    axis: Axis
    last_number: int
    failed: Sequence[int]

    @property
    def has_many_children(self) -> bool:
        """Whether there are so many that nobody wants to see the steps of all at once."""
        return sum(bool(row.rows) for row in self.rows) > CHILDREN_UNFOLDED


@dataclass(frozen=True, slots=True)
class Belongings:
    """What belongs to a workflow beside its steps."""

    events: Sequence[EventRow]
    messages: Sequence[MessageRow]
    messages_count: int
    received: Sequence[ReceivedRow]
    streams: Sequence[StreamRow]


@dataclass(frozen=True, slots=True)
class View:
    """What the page shows.

    Attributes:
        row: The workflow, without its values.
        details: Its values, and who owns it.
        itself: The workflow as others see it.
        parent: Its parent, if it is still there.
        origin: What it was forked from, if that is still there.
        finding: What it does, or why it does nothing, unless it has ended.
        executor: The one that runs it, if one does.
        timeline: Its steps.
        belongings: The rest.
    """

    row: WorkflowRow
    details: WorkflowDetails
    itself: Relative
    parent: Relative | None
    origin: Relative | None
    finding: Finding | None
    executor: ExecutorRow | None
    timeline: Timeline
    belongings: Belongings

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.row.status in LIVE

    @property
    def step_to_fork_from(self) -> int:
        """The step from which somebody may want to run it again: the one that failed at its end, else the first."""
        last = self.timeline.last_number
        return last if self.row.status == ERROR and last in self.timeline.failed else 1


def find(database: Database, workflow_id: str) -> WorkflowRow:
    """The workflow, without its values.

    Raises:
        DBOSNonExistentWorkflowError: There is none.
    """
    rows = read_workflows(database, WorkflowFilter(workflow_ids=[workflow_id], load_input=False, load_output=False))
    if not rows:
        raise DBOSNonExistentWorkflowError(workflow_id)
    return rows[0]


def read_view(database: Database, workflow_id: str, page: int) -> View:
    """What the page shows.

    Raises:
        DBOSNonExistentWorkflowError: There is no such workflow.
    """
    row = find(database, workflow_id)
    details = read_details(database, workflow_id, max_chars=MAX_STORED_CHARS)
    ids = [one for one in (workflow_id, row.parent_workflow_id, row.forked_from) if one is not None]
    relatives = read_relatives(database, ids)
    itself = relatives.get(workflow_id)
    if details is None or itself is None:
        # It was deleted meanwhile.
        raise DBOSNonExistentWorkflowError(workflow_id)
    finding, executor = _now(database, details, workflow_id) if row.status in LIVE else (None, None)
    events = read_events(database, workflow_id, None)
    timeline = _timeline(database, row, details, itself, finding, events, page)
    return View(
        row,
        details,
        itself,
        relatives.get(row.parent_workflow_id or ""),
        relatives.get(row.forked_from or ""),
        finding,
        executor,
        timeline,
        Belongings(
            events,
            read_messages(database, workflow_id, limit=MESSAGES, max_chars=MAX_STORED_CHARS),
            count_messages(database, workflow_id, MESSAGES_COUNTED),
            read_received(
                database,
                workflow_id,
                after=timeline.last_number - SEARCHED_STEPS,
                limit=MESSAGES,
                max_chars=MAX_STORED_CHARS,
            ),
            read_streams(database, workflow_id, STREAMS),
        ),
    )


def read_events(database: Database, workflow_id: str, after: str | None) -> list[EventRow]:
    """A page of events; if one more is there, there is another page."""
    return read_event_page(
        database,
        workflow_id,
        after=after,
        limit=EVENTS_PER_PAGE + 1,
        past_limit=PAST_VALUES,
        max_chars=MAX_STORED_CHARS,
    )


def page_of(number: int) -> int:
    """The page on which a step is."""
    return max(1, -(-number // STEPS_PER_PAGE))


def _now(database: Database, details: WorkflowDetails, workflow_id: str) -> tuple[Finding | None, ExecutorRow | None]:
    finding, executors = explain(database, workflow_id)
    owners = [one for one in executors if details.is_owned and one.lease_id == details.lease_id]
    return finding, next(iter(owners), None)


def _timeline(
    database: Database,
    row: WorkflowRow,
    details: WorkflowDetails,
    itself: Relative,
    finding: Finding | None,
    events: Sequence[EventRow],
    page: int,
) -> Timeline:
    first_number, last_number = read_step_span(database, row.workflow_id) or (1, 0)
    pages = page_of(last_number)
    page = min(page, pages)
    first = (page - 1) * STEPS_PER_PAGE + 1 if page > 1 else min(1, first_number)
    last = page * STEPS_PER_PAGE
    # With those beside, which tell what a wait belongs to.
    steps = read_timeline(database, row.workflow_id, first - 1, last + 1, max_chars=MAX_STORED_CHARS)
    keys = [event.key for event in events]
    set_events = read_set_events(database, row.workflow_id, keys, first, last, limit=STEPS_PER_PAGE * 2)
    set_by = {(row.workflow_id, number): its_keys for number, its_keys in set_events.items()}
    recorded = _recorded(database, steps, set_by, details.now)
    rows = recorded.rows(steps, ended_at=itself.ended_at, first=first, last=last, depth=GENERATIONS)
    if page == 1:
        rows = [*_queued(row, last_number > 0, rows), *rows]
    if page == pages:
        rows = [*rows, *_running(row, finding, rows)]
    failed = read_failed(database, row.workflow_id, after=last_number - SEARCHED_STEPS, limit=FAILED_STEPS)
    return Timeline(page, pages, rows, axis_of(rows, details.now), last_number, failed)


def _recorded(
    database: Database, steps: Sequence[TimelineStep], events: Mapping[tuple[str, int], Sequence[str]], now: int
) -> Recorded:
    """What rows are made of: the children of these steps, and theirs."""
    relatives: dict[str, Relative] = {}
    nested: dict[str, list[TimelineStep]] = {}
    generation = list(steps)
    for _ in range(GENERATIONS):
        started = list(dict.fromkeys(one.child_workflow_id for one in generation if one.child_workflow_id))
        relatives |= read_relatives(database, [one for one in started if one not in relatives])
        shown_ids = [one for one in started if one in relatives and one not in nested][:NESTED_WORKFLOWS]
        its_steps = read_first_steps(
            database, shown_ids, NESTED_STEPS, limit=NESTED_WORKFLOWS * NESTED_STEPS, max_chars=64
        )
        nested |= its_steps
        generation = [step for its in its_steps.values() for step in its]
    relatives |= read_relatives(
        database,
        list({one.child_workflow_id for one in generation if one.child_workflow_id} - relatives.keys()),
    )
    return Recorded(relatives, nested, read_last_numbers(database, list(nested)), events, now)


def _queued(row: WorkflowRow, has_steps: bool, rows: Sequence[Row]) -> list[Row]:
    """The row of the time on a queue, if it is known: a workflow that was put there again has begun before."""
    if row.queue_name is None:
        return []
    title = _waiting_on(row.queue_name)
    if row.status == ENQUEUED:
        return [] if has_steps else [Row("queue", title, start=row.created_at, is_open=True)]
    begins = [one.start for one in rows if one.start is not None]
    if row.started_at is None or (begins and min(begins) < row.started_at):
        return []
    return [Row("queue", title, start=row.created_at, end=row.started_at)]


def _running(row: WorkflowRow, finding: Finding | None, rows: Sequence[Row]) -> list[Row]:
    """The row of what goes on and is not recorded yet."""
    if finding is None or any(one.is_open and one.kind != "child" for one in rows):
        return []
    ends = [one.end for one in rows if one.end is not None and one.kind != "queue"]
    since = max([row.started_at or row.created_at, *ends])
    if row.status == PENDING:
        title = "running" if finding.cause is Cause.RUNNING else finding.cause.value
        return [Row("now", title, start=since, is_open=True)]
    return [Row("queue", _waiting_on(row.queue_name), start=max(since, row.updated_at), is_open=True)]


def _waiting_on(queue_name: str | None) -> str:
    return "wait for an executor" if queue_name in (None, INTERNAL_QUEUE) else f"wait on queue {queue_name}"
