"""Batches of the journal, and their parts written alone."""

from __future__ import annotations

from dbos.model.values import (
    AlreadyExists,
    Batch,
    BatchAnswer,
    ChildStart,
    Deduplicated,
    Event,
    LeaseLost,
    Message,
    Receipt,
    RunAnswer,
    RunWrites,
    StartAnswer,
    Started,
    StreamEntry,
    WorkflowStart,
)
from tests.verify.oracle.tables import STEP_COLUMNS, Tables

KEY_LIFE_MS = 3600 * 1000


class Journal(Tables):
    """What runs record, and what comes from outside of runs."""

    def commit(self, batch: Batch) -> BatchAnswer:
        """First the starts, then the messages from outside, then what runs recorded: who owns what is asked at once."""
        starts = self._start_all(batch.starts)
        messages = [self.send_message(message) for message in batch.messages]
        owners = [self.owner(run.workflow_id) for run in batch.runs]
        runs = [self._write(run, *owner) for run, owner in zip(batch.runs, owners, strict=True)]
        return BatchAnswer(starts, runs, messages)

    def insert_start(self, start: WorkflowStart) -> StartAnswer:
        return self._start_all([start])[0]

    def send_message(self, message: Message) -> bool:
        """Delivered once for each key, remembered for ever or for an hour; to nobody if its destination is unknown."""
        if message.destination_id not in self.workflows:
            return False
        key = (message.destination_id, message.key or message.message_id)
        if key not in self.message_keys:
            self.message_keys[key] = None if message.lasts else self.now + KEY_LIFE_MS
            self._deliver(message)
        return True

    def forget_expired_keys(self) -> int:
        expired = [key for key, expires in self.message_keys.items() if expires is not None and expires < self.now]
        for key in expired:
            del self.message_keys[key]
        return len(expired)

    def _start_all(self, starts: list[WorkflowStart]) -> list[StartAnswer]:
        """A workflow starts if nobody has its id, nor its deduplication id, and if its lease is alive.

        Of two starts with one id and without tokens nobody can say which came first: both are told that they did.
        """
        new = {start.workflow_id for start in starts if self._start(start)}
        return [self._start_answer(start, start.workflow_id in new) for start in starts]

    def _start(self, start: WorkflowStart) -> bool:
        place = start.place
        is_free = place is None or self.holder(place.queue, place.deduplication_id) is None
        is_under_lease = start.lease_id is None or self.is_alive(start.lease_id)
        if start.workflow_id in self.workflows or not is_free or not is_under_lease:
            return False
        row = self.new_workflow(
            workflow_uuid=start.workflow_id,
            status=start.status,
            name=start.name,
            class_name=start.class_name,
            config_name=start.config_name,
            authenticated_user=start.authentication.user,
            assumed_role=start.authentication.assumed_role,
            authenticated_roles=start.authentication.roles_text,
            inputs=start.inputs,
            serialization=start.serialization,
            executor_id=start.executor_id,
            application_version=start.application_version,
            application_id=start.application_id,
            owner_xid=start.token,
            lease_id=start.lease_id,
            parent_workflow_id=start.parent_workflow_id,
            workflow_timeout_ms=start.timeout_ms,
            workflow_deadline_epoch_ms=start.deadline_ms,
            recovery_attempts=0 if start.token is None else 1,
        )
        if place is not None:
            row.update(
                queue_name=place.queue,
                deduplication_id=place.deduplication_id,
                priority=place.priority,
                queue_partition_key=place.partition_key,
            )
        return True

    def _start_answer(self, start: WorkflowStart, is_new: bool) -> StartAnswer:
        row = self.workflows.get(start.workflow_id)
        if row is None:
            has_deduplication_id = start.place is not None and start.place.deduplication_id is not None
            return Deduplicated() if has_deduplication_id else LeaseLost()
        if row["owner_xid"] == start.token and (is_new or start.token is not None):
            return Started()
        columns = ("status", "name", "class_name", "config_name", "owner_xid", "application_version")
        return AlreadyExists(*(row[column] for column in columns))

    def owner(self, workflow_id: str) -> tuple[str | None, str | None]:
        """Token and status of the workflow."""
        row = self.workflows.get(workflow_id)
        return (None, None) if row is None else (row["owner_xid"], row["status"])

    def _write(self, run: RunWrites, token: str | None, status: str | None) -> RunAnswer:
        """Nothing unless the run owns its workflow; nothing if it takes a message that is not there, or twice.

        A checkpoint that stands stays, and its effect and its child are not repeated. One that another run wrote is
        *foreign*. The outcome is written while the workflow is pending.
        """
        if token != run.token:
            return RunAnswer(token, status)
        if self._takes_what_is_not_there(run):
            return RunAnswer(token, status, frozenset(checkpoint.function_id for checkpoint in run.checkpoints))
        standing, foreign, undeliverable = set[int](), set[int](), set[int]()
        born = {child.start.workflow_id for child in run.children}
        for checkpoint in run.checkpoints:
            number, effect = checkpoint.function_id, checkpoint.effect
            former = self.steps.get((run.workflow_id, number))
            if former is not None:
                standing.add(number)
                if former["owner_xid"] != run.token:
                    foreign.add(number)
            elif isinstance(effect, Message) and effect.destination_id not in self.workflows.keys() | born:
                undeliverable.add(number)
            else:
                columns = (run.workflow_id, number, checkpoint.name, checkpoint.output, checkpoint.error)
                times = (checkpoint.started_at_ms, checkpoint.completed_at_ms)
                last = (checkpoint.serialization, run.token)
                self.steps[run.workflow_id, number] = dict(
                    zip(STEP_COLUMNS, (*columns, checkpoint.child_workflow_id, *times, *last), strict=True)
                )
                self._happen(run.workflow_id, number, effect)
        for own in run.step_effects:
            self._happen(run.workflow_id, own.function_id, own.effect)
        children = self._start_children(run, standing, foreign)
        if run.outcome is not None and status == "PENDING":
            self.workflows[run.workflow_id].update(
                status=run.outcome.status,
                output=run.outcome.output,
                error=run.outcome.error,
                outcome_serialization=run.outcome.serialization,
                deduplication_id=None,
                updated_at=self.now,
                completed_at=self.now,
            )
        return RunAnswer(token, status, frozenset(foreign), children, frozenset(undeliverable))

    def _takes_what_is_not_there(self, run: RunWrites) -> bool:
        taken = [
            checkpoint.effect.message_id
            for checkpoint in run.checkpoints
            if isinstance(checkpoint.effect, Receipt) and (run.workflow_id, checkpoint.function_id) not in self.steps
        ]
        there = {message["message_uuid"] for message in self.messages}
        return len(taken) > len(set(taken)) or not there.issuperset(taken)

    def _happen(self, workflow_id: str, number: int, effect: Message | Receipt | Event | StreamEntry | None) -> None:
        match effect:
            case Message():
                self._deliver(effect)
            case Receipt():
                self.messages = [m for m in self.messages if m["message_uuid"] != effect.message_id]
            case Event():
                self.events[workflow_id, effect.key] = (effect.text, effect.serialization)
                self.history[workflow_id, effect.key, number] = (effect.text, effect.serialization)
            case StreamEntry():
                stream = self.streams.setdefault((workflow_id, effect.key), [])
                stream.append((effect.text, effect.serialization, number))
            case None:
                pass

    def _deliver(self, message: Message) -> None:
        self.messages.append(
            {
                "message_uuid": message.message_id,
                "destination_uuid": message.destination_id,
                "topic": message.topic,
                "message": message.text,
                "serialization": message.serialization,
                "created_at_epoch_ms": self.now,
            }
        )

    def _start_children(self, run: RunWrites, standing: set[int], foreign: set[int]) -> dict[int, StartAnswer]:
        """A child starts with its checkpoint. One that does not start takes its checkpoint with it."""
        new = [child for child in run.children if child.function_id not in standing]
        ours = [child for child in run.children if child.function_id in standing - foreign]
        answers: dict[int, StartAnswer] = {}
        for child, answer in zip(new, self._start_all([child.start for child in new]), strict=True):
            answers[child.function_id] = answer
            if self._is_refused(child, answer):
                self.steps.pop((run.workflow_id, child.function_id), None)
        answers.update((child.function_id, self._start_answer(child.start, is_new=False)) for child in ours)
        return answers

    def _is_refused(self, child: ChildStart, answer: StartAnswer) -> bool:
        is_conflict = isinstance(answer, AlreadyExists) and not is_same(answer, child.start)
        return is_conflict or isinstance(answer, LeaseLost | Deduplicated)


def is_same(answer: AlreadyExists, start: WorkflowStart) -> bool:
    """Whether the id belongs to a workflow of the same function, on the same class and instance."""
    return (answer.name, answer.class_name, answer.config_name) == (start.name, start.class_name, start.config_name)
