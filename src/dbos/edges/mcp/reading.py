"""The tools that read. Each docstring is what agents are told of its tool."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Literal

from pydantic import Field

from dbos.api.reads import workflow_filter
from dbos.edges.mcp import answers
from dbos.edges.mcp.answers import MAX_LISTED, MAX_READ_CHARS, fitting, instant, instant_or_none, stored, stored_value
from dbos.error import DBOSException, DBOSNonExistentWorkflowError
from dbos.model.limits import NO_TOPIC, STREAM_CLOSED, check_key, check_known_id
from dbos.model.schedules import ACTIVE, ScheduleRow
from dbos.runtime.cron import Cron
from dbos.runtime.diagnosis import declared_rules, diagnose
from dbos.serialization.display import display
from dbos.storage.database import Database
from dbos.storage.diagnosis import QueueRow, read_executors, read_queues, read_versions
from dbos.storage.migrations import read_version
from dbos.storage.published import read_entries, read_event_page, read_messages, read_streams
from dbos.storage.reads import WorkflowFilter, WorkflowRow, read_now_ms, read_workflows
from dbos.storage.schedules import ScheduleFilter, read_schedules
from dbos.storage.stored_values import StoredValue
from dbos.storage.timeline import read_details, read_step_span, read_timeline

Status = Literal["ENQUEUED", "PENDING", "SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]

WorkflowId = Annotated[str, Field(description="The workflow's id.")]
Limit = Annotated[int, Field(ge=1, le=100, description="How many at most.")]
Offset = Annotated[int, Field(ge=0, lt=2**31, description="Leave out so many first; next_offset of the page before.")]
MaxValueChars = Annotated[int, Field(ge=20, le=20_000, description="Values whose text is longer are cut.")]
Text = Annotated[str, Field(description="Empty: any.")]
Time = Annotated[str, Field(description="Created then or later, or before: an RFC 3339 time. Empty: no bound.")]

_SERVED = 100
"""How many queues and functions of an executor are named at most."""

_CLOSING_CHARS = 1000
"""Whatever the serializer, the entry that ends a stream is not longer."""


class Reading:
    """What can be read of one system database."""

    def __init__(self, database: Database, *, allows_writes: bool) -> None:
        self._database = database
        self._allows_writes = allows_writes

    def overview(self) -> answers.Overview:
        """The database as a whole: where it is, whether executors are alive, how much work there is, and how many
        workflows stand still. Start here."""
        database = self._database
        diagnosis = diagnose(database, quiet_ms=10_000, examples=3, limit=MAX_LISTED)
        alive = sum(executor.is_alive for executor in diagnosis.executors)
        return answers.Overview(
            database=database.location,
            schema_version=read_version(database),
            library_version=version("dbos"),
            allows_writes=self._allows_writes,
            now=instant(read_now_ms(database)),
            executors_alive=alive,
            executors_dead=len(diagnosis.executors) - alive,
            enqueued=sum(its.enqueued for its in diagnosis.versions),
            pending=sum(its.pending for its in diagnosis.versions),
            wrong=sum(finding.is_wrong for finding in diagnosis.findings),
        )

    def explain_workflows(
        self,
        workflow_ids: Annotated[
            tuple[str, ...],
            Field(max_length=50, description="Explain these. Empty: all that stand still, some of each kind."),
        ] = (),
        quiet_for_seconds: Annotated[
            float, Field(ge=0, le=1e9, description="Without ids: look at those that have done nothing for so long.")
        ] = 10.0,
        limit: Limit = 50,
    ) -> answers.Findings:
        """Why workflows do not move: no executor of their version, nobody listens to their queue, a limit, a dead
        executor, or that they sleep or wait for a message, an event or a child; and what to do about it."""
        for workflow_id in workflow_ids:
            self.row(workflow_id)
        diagnosis = diagnose(
            self._database,
            quiet_ms=round(quiet_for_seconds * 1000),
            examples=3,
            limit=len(workflow_ids) or limit,
            ids=workflow_ids or None,
        )
        findings = [
            answers.Finding(
                workflow_id=its.workflow_id,
                status=its.status,
                name=its.name,
                cause=its.cause.value,
                explanation=its.explanation,
                is_wrong=its.is_wrong,
                alike=its.alike,
            )
            for its in diagnosis.findings
        ]
        listed = fitting(findings, len(findings))
        is_cut = len(listed) < len(findings) or (not workflow_ids and len(findings) == limit)
        return answers.Findings(findings=listed, is_cut=is_cut)

    # -- workflows

    def list_workflows(
        self,
        status: Annotated[tuple[Status, ...], Field(description="With one of these. Empty: any.")] = (),
        name: Annotated[str, Field(description="Of this function. Empty: any.")] = "",
        workflow_id_prefix: Text = "",
        queue_name: Text = "",
        application_version: Text = "",
        executor_id: Text = "",
        authenticated_user: Text = "",
        parent_workflow_id: Text = "",
        forked_from: Text = "",
        start_time: Time = "",
        end_time: Time = "",
        newest_first: bool = True,
        limit: Limit = 20,
        offset: Offset = 0,
    ) -> answers.Workflows:
        """List workflows that meet all the conditions, without their values; see get_workflow for those."""
        wanted = workflow_filter(
            workflow_ids=None,
            status=list(status) or None,
            start_time=start_time or None,
            end_time=end_time or None,
            name=name or None,
            app_version=application_version or None,
            executor_id=executor_id or None,
            queue_name=queue_name or None,
            user=authenticated_user or None,
            forked_from=forked_from or None,
            parent_workflow_id=parent_workflow_id or None,
            workflow_id_prefix=workflow_id_prefix or None,
            limit=limit + 1,
            offset=offset,
            sort_desc=newest_first,
            load_input=False,
            load_output=False,
        )
        found = [workflow_of(row) for row in read_workflows(self._database, wanted)]
        workflows = fitting(found, limit)
        return answers.Workflows(workflows=workflows, next_offset=_next(offset, workflows, found))

    def get_workflow(self, workflow_id: WorkflowId, max_value_chars: MaxValueChars = 4000) -> answers.WorkflowDetails:
        """One workflow, with its arguments and its result or error."""
        row = self.row(workflow_id)
        details = read_details(self._database, workflow_id, max_chars=MAX_READ_CHARS)
        if details is None:  # deleted in between
            raise DBOSNonExistentWorkflowError(workflow_id)
        return answers.WorkflowDetails(
            workflow=workflow_of(row),
            timeout_seconds=None if row.timeout_ms is None else row.timeout_ms / 1000,
            deadline=instant_or_none(row.deadline_ms),
            deduplication_id=row.deduplication_id,
            priority=row.priority,
            queue_partition_key=row.queue_partition_key,
            authenticated_user=row.authenticated_user,
            assumed_role=row.assumed_role,
            input=stored(details.input, max_value_chars),
            output=stored(details.output, max_value_chars),
            error=stored(details.error, max_value_chars),
        )

    def list_steps(
        self,
        workflow_id: WorkflowId,
        from_step: Annotated[
            int, Field(ge=0, lt=2**31, description="The first step; next_step of the page before.")
        ] = 0,
        limit: Limit = 50,
        max_value_chars: MaxValueChars = 500,
    ) -> answers.Steps:
        """The recorded steps of a workflow, with their results or errors."""
        self.row(workflow_id)
        oldest, newest = read_step_span(self._database, workflow_id) or (0, -1)
        first = max(from_step, oldest)
        if first > newest:
            return answers.Steps(steps=[], next_step=None)
        last = min(first + limit - 1, newest)
        found = [
            answers.Step(
                step=each.function_id,
                name=each.name,
                output=stored(each.output, max_value_chars),
                error=stored(each.error, max_value_chars),
                child_workflow_id=each.child_workflow_id,
                started_at=instant_or_none(each.started_at),
                completed_at=instant_or_none(each.completed_at),
            )
            for each in read_timeline(self._database, workflow_id, first, last, max_chars=MAX_READ_CHARS)
        ]
        steps = fitting(found, limit)
        if len(steps) < len(found):
            return answers.Steps(steps=steps, next_step=found[len(steps)].step)
        return answers.Steps(steps=steps, next_step=last + 1 if last < newest else None)

    # -- communication

    def list_events(
        self,
        workflow_id: WorkflowId,
        after: Annotated[str, Field(description="Keys after this one; next_after of the page before.")] = "",
        limit: Limit = 50,
        max_value_chars: MaxValueChars = 1000,
    ) -> answers.Events:
        """The events that a workflow has published (DBOS.set_event), with their newest values."""
        self.row(workflow_id)
        rows = read_event_page(
            self._database,
            workflow_id,
            after=check_key(after, "after") or None,
            limit=limit + 1,
            past_limit=0,
            max_chars=MAX_READ_CHARS,
        )
        found = [answers.Event(key=row.key, value=stored_value(row.value, max_value_chars)) for row in rows]
        events = fitting(found, limit)
        return answers.Events(events=events, next_after=events[-1].key if len(events) < len(found) else None)

    def list_messages(
        self, workflow_id: WorkflowId, limit: Limit = 50, max_value_chars: MaxValueChars = 1000
    ) -> answers.Messages:
        """The messages that were sent to a workflow (DBOS.send) and that it has not received yet."""
        self.row(workflow_id)
        found = [
            answers.Message(
                topic=None if row.topic == NO_TOPIC else row.topic,
                message=stored_value(row.value, max_value_chars),
                sent_at=instant(row.sent_at),
            )
            for row in read_messages(self._database, workflow_id, limit=limit + 1, max_chars=MAX_READ_CHARS)
        ]
        messages = fitting(found, limit)
        return answers.Messages(messages=messages, is_cut=len(messages) < len(found))

    def list_streams(self, workflow_id: WorkflowId, limit: Limit = 50) -> answers.Streams:
        """The streams that a workflow has written (DBOS.write_stream)."""
        self.row(workflow_id)
        rows = read_streams(self._database, workflow_id, limit + 1)
        found: list[answers.Stream] = []
        for row in rows[:limit]:
            is_closed = self._is_closed(workflow_id, row.key, row.last_offset)
            found.append(answers.Stream(key=row.key, entries=row.last_offset + 1 - is_closed, is_closed=is_closed))
        streams = fitting(found, limit)
        return answers.Streams(streams=streams, is_cut=len(streams) < len(rows))

    def read_stream(
        self,
        workflow_id: WorkflowId,
        key: Annotated[str, Field(description="The stream's key, as list_streams has it.")],
        limit: Limit = 50,
        offset: Offset = 0,
        max_value_chars: MaxValueChars = 1000,
    ) -> answers.Entries:
        """The values of a stream, from an offset on. It does not wait for more."""
        self.row(workflow_id)
        check_key(key, "The stream's key")
        rows = read_entries(self._database, workflow_id, key, offset, offset + limit, max_chars=MAX_READ_CHARS)
        if not rows and offset == 0:
            raise DBOSException(f"Workflow {workflow_id!r} has written no stream {key!r}. list_streams tells which.")
        is_over = bool(rows) and _closes(rows[-1].value)
        found = [
            answers.Entry(offset=row.offset, value=stored_value(row.value, max_value_chars))
            for row in (rows[:-1] if is_over else rows)
        ]
        entries = fitting(found, limit)
        next_offset = found[len(entries)].offset if len(entries) < len(found) else None
        return answers.Entries(entries=entries, is_closed=is_over and next_offset is None, next_offset=next_offset)

    def _is_closed(self, workflow_id: str, key: str, last_offset: int) -> bool:
        last = read_entries(self._database, workflow_id, key, last_offset, last_offset, max_chars=_CLOSING_CHARS)
        return any(_closes(row.value) for row in last)

    # -- the application

    def list_executors(self) -> answers.Executors:
        """The processes that run workflows, or did: whether they are alive, their version, how much they have."""
        executors = [
            answers.Executor(
                executor_id=its.executor_id,
                application_version=its.application_version,
                is_alive=its.is_alive,
                last_seen_seconds_ago=its.silent_ms / 1000,
                started_at=instant(its.started_at),
                hostname=its.process.hostname,
                pid=its.process.pid,
                workflows=its.claims,
                queues=None if its.serving is None else [rules.name for rules in its.serving.queues][:_SERVED],
                functions=None if its.serving is None else list(its.serving.functions[:_SERVED]),
            )
            for its in read_executors(self._database)
        ]
        executors.sort(key=lambda executor: not executor.is_alive)
        listed = fitting(executors, MAX_LISTED)
        return answers.Executors(executors=listed, is_cut=len(listed) < len(executors))

    def list_queues(self) -> answers.Queues:
        """The queues that hold workflows, or that executors listen to: their limits, and how many workflows wait, are
        delayed, and run, for each application version."""
        declared = declared_rules(read_executors(self._database))
        rows = read_queues(self._database)
        empty = sorted(declared.keys() - {row.name for row in rows})
        queues = [
            answers.QueueLoad(
                queue_name=row.name,
                application_version=row.application_version,
                waiting=row.waiting,
                delayed=row.delayed,
                running=row.running,
                oldest_waits_seconds=None if row.oldest_ms is None else row.oldest_ms / 1000,
                limits=[rules.limits or "none" for rules in declared[row.name]] if row.name in declared else None,
            )
            for row in (*rows, *(QueueRow(name, None, 0, 0, 0, None) for name in empty))
        ]
        listed = fitting(queues, MAX_LISTED)
        return answers.Queues(queues=listed, is_cut=len(listed) < len(queues))

    def list_versions(self) -> answers.Versions:
        """The application versions that have work that has not ended, or executors that are alive."""
        work = {its.application_version: its for its in read_versions(self._database)}
        alive = [its.application_version for its in read_executors(self._database) if its.is_alive]
        names: list[str | None] = [*work, *sorted(set(alive) - work.keys())]
        versions = [
            answers.Version(
                application_version=name,
                enqueued=work[name].enqueued if name in work else 0,
                pending=work[name].pending if name in work else 0,
                executors_alive=len(alive) if name is None else alive.count(name),
            )
            for name in names
        ]
        listed = fitting(versions, MAX_LISTED)
        return answers.Versions(versions=listed, is_cut=len(listed) < len(versions))

    def list_schedules(
        self,
        status: Literal["ACTIVE", "PAUSED", ""] = "",
        name_prefix: Text = "",
        workflow_name: Text = "",
        limit: Limit = 50,
        offset: Offset = 0,
        max_value_chars: MaxValueChars = 500,
    ) -> answers.Schedules:
        """The schedules in the database, with their cron expressions and the next times, in UTC."""
        wanted = ScheduleFilter(
            statuses=[status] if status else None,
            name_prefixes=[check_key(name_prefix, "name_prefix")] if name_prefix else None,
            workflow_names=[check_key(workflow_name, "workflow_name")] if workflow_name else None,
        )
        rows = read_schedules(self._database, wanted)[offset : offset + limit + 1]
        now_ms = read_now_ms(self._database)
        found = [schedule_of(row, now_ms, max_value_chars) for row in rows]
        schedules = fitting(found, limit)
        return answers.Schedules(schedules=schedules, next_offset=_next(offset, schedules, found))

    # -- single ones

    def row(self, workflow_id: str) -> WorkflowRow:
        """The workflow as it is recorded, without its values.

        Raises:
            DBOSNonExistentWorkflowError: There is no such workflow.
        """
        try:
            check_known_id(workflow_id)
        except ValueError:
            raise DBOSNonExistentWorkflowError(workflow_id[:200]) from None
        wanted = WorkflowFilter(workflow_ids=[workflow_id], load_input=False, load_output=False)
        rows = read_workflows(self._database, wanted)
        if not rows:
            raise DBOSNonExistentWorkflowError(workflow_id[:200])
        return rows[0]

    def schedule(self, name: str) -> answers.Schedule:
        """The schedule of this name.

        Raises:
            DBOSException: There is none.
        """
        rows = read_schedules(self._database, ScheduleFilter(names=[check_key(name, "A schedule's name")]))
        if not rows:
            raise DBOSException(f"There is no schedule named {name!r}. list_schedules tells which there are.")
        return schedule_of(rows[0], read_now_ms(self._database), max_value_chars=500)


def workflow_of(row: WorkflowRow) -> answers.Workflow:
    """The workflow without its values."""
    return answers.Workflow(
        workflow_id=row.workflow_id,
        status=row.status,
        name=row.name,
        class_name=row.class_name,
        config_name=row.config_name,
        queue_name=row.queue_name,
        application_version=row.application_version,
        application_id=row.application_id,
        executor_id=row.executor_id,
        created_at=instant(row.created_at),
        updated_at=instant(row.updated_at),
        started_at=instant_or_none(row.started_at),
        recovery_attempts=row.recovery_attempts,
        parent_workflow_id=row.parent_workflow_id,
        forked_from=row.forked_from,
    )


def schedule_of(row: ScheduleRow, now_ms: int, max_value_chars: int) -> answers.Schedule:
    """The schedule, with its next time."""
    next_ms = None
    if row.status == ACTIVE:
        try:
            next_ms = Cron(row.cron).next_after_ms(now_ms)
        except DBOSException:
            next_ms = None  # another program stored an expression that is none
    return answers.Schedule(
        name=row.name,
        workflow_name=row.workflow_name,
        workflow_class_name=row.class_name,
        cron=row.cron,
        status=row.status,
        context=stored_value(StoredValue(row.context, len(row.context), row.serialization), max_value_chars),
        next_fire=instant_or_none(next_ms),
    )


def _next(offset: int, shown: Sequence[object], found: Sequence[object]) -> int | None:
    """The offset of the first record that was found and is not shown."""
    return offset + len(shown) if len(shown) < len(found) else None


def _closes(value: StoredValue) -> bool:
    """Whether it is the entry that ends a stream."""
    return value.text is not None and display(value.text, value.format) == STREAM_CLOSED
