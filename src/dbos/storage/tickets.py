"""What waits in the journal: the writes that are to be committed together, by whom, and the promises of their answers.

A ticket is what one run submitted at once, or a write that no run rides with. The run's log outlives its tickets: it
knows what is held back, and what became of the run's earlier writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from dbos.model.status import CANCELLED
from dbos.model.values import (
    NO_STEPS,
    AlreadyExists,
    Batch,
    BatchAnswer,
    Checkpoint,
    ChildStart,
    Effect,
    LeaseLost,
    Message,
    Outcome,
    Receipt,
    RunAnswer,
    RunWrites,
    StartAnswer,
    StepEffect,
    WorkflowStart,
)
from dbos.storage.promise import Promise

if TYPE_CHECKING:
    from dbos.storage.journal import Journal

A = TypeVar("A")


class RunLog:
    """The journal's end of one run: who writes, what is held back, and what became of it."""

    __slots__ = (
        "conflict",
        "failure",
        "foreign",
        "held",
        "held_starts",
        "last",
        "refusal",
        "starts_asked",
        "starts_settled",
        "token",
        "workflow_id",
    )

    def __init__(self, workflow_id: str, token: str) -> None:
        self.workflow_id = workflow_id
        self.token = token
        self.held: list[Checkpoint] | None = None
        self.held_starts: list[ChildStart] | None = None
        """The workflows that held checkpoints enqueue."""
        self.starts_asked = self.starts_settled = 0
        """How many workflows it has enqueued, and of how many is known whether they were."""
        self.conflict: tuple[WorkflowStart, AlreadyExists] | None = None
        """What it wanted to enqueue under an id that belongs to a workflow of another function."""
        self.last: Ticket | None = None
        """The newest ticket, until it is done; the run's earlier ones are done when it is."""
        self.failure: BaseException | None = None
        """Why a write of the run was refused for good."""
        self.foreign: frozenset[int] = NO_STEPS
        """Steps of this run that another run had recorded before."""
        self.refusal: RunAnswer | None = None
        """The newest answer, if it says that the run may not go on."""

    def hold(self, checkpoint: Checkpoint, start: ChildStart | None = None) -> None:
        if self.held is None:
            self.held = []
        self.held.append(checkpoint)
        if start is not None:
            if self.held_starts is None:
                self.held_starts = []
            self.held_starts.append(start)
            self.starts_asked += 1

    def note(self, ticket: Ticket, answer: RunAnswer) -> None:
        """A ticket of the run is about to be settled with this answer."""
        self._note_starts(ticket, answer)
        if answer.foreign:
            self.foreign |= answer.foreign
        if answer.token != self.token or answer.status == CANCELLED:
            self.refusal = answer

    @property
    def has_unsettled_starts(self) -> bool:
        """Whether it is not known yet of all workflows that it enqueues whether they were."""
        return self.starts_asked != self.starts_settled

    def _note_starts(self, ticket: Ticket, answer: RunAnswer) -> None:
        """What became of the workflows that it enqueues; nobody waits for them one by one."""
        for child in ticket.children:
            if child.start.place is None:
                continue
            self.starts_settled += 1
            its_answer = answer.children.get(child.function_id)
            if isinstance(its_answer, AlreadyExists) and not its_answer.runs_as(child.start):
                self.conflict = (child.start, its_answer)
            elif isinstance(its_answer, LeaseLost):
                # One with its id was there, and was deleted meanwhile: do it again.
                self.foreign |= {child.function_id}

    def settled(self, ticket: Ticket) -> None:
        """The ticket is settled, and need not be kept."""
        if self.last is ticket:
            self.last = None


class Ticket(Promise[RunAnswer]):
    """What one run submitted together, and the promise of its answer."""

    __slots__ = ("checkpoints", "children", "journal", "log", "outcome", "step_effects")

    def __init__(
        self,
        journal: Journal,
        log: RunLog,
        checkpoints: Sequence[Checkpoint],
        children: Sequence[ChildStart],
        outcome: Outcome | None,
        step_effects: Sequence[StepEffect] = (),
    ) -> None:
        super().__init__()
        self.journal = journal
        self.log = log
        self.checkpoints = checkpoints
        self.children = children
        self.outcome = outcome
        self.step_effects = step_effects

    def block(self) -> RunAnswer:
        self.journal.wait(self)
        return self.result()

    async def wait(self) -> RunAnswer:
        if not self.is_done:
            self.journal.kick()
        return await super().wait()

    @property
    def size(self) -> tuple[int, int]:
        """How many writes it holds, and about how many characters."""
        chars = sum(len(c.output or "") + len(c.error or "") for c in self.checkpoints)
        chars += sum(_effect_chars(c.effect) for c in self.checkpoints if c.effect is not None)
        chars += sum(_effect_chars(own.effect) for own in self.step_effects)
        chars += sum(len(child.start.inputs) for child in self.children)
        if self.outcome is not None:
            chars += len(self.outcome.output or "") + len(self.outcome.error or "")
        return len(self.checkpoints) + len(self.step_effects) + len(self.children) + 1, chars


class LoneTicket(Promise[A]):
    """A write that no run rides with, and the promise of its answer."""

    __slots__ = ("journal", "write")

    def __init__(self, journal: Journal, write: WorkflowStart | Message) -> None:
        super().__init__()
        self.journal = journal
        self.write = write

    def block(self) -> A:
        if not self.journal.commit_beside_leader(self):
            self.journal.wait(self)
        return self.result()

    async def wait(self) -> A:
        if not self.is_done:
            self.journal.kick()
        return await super().wait()

    @property
    def size(self) -> tuple[int, int]:
        return 1, len(self.write.inputs if isinstance(self.write, WorkflowStart) else self.write.text)


StartTicket = LoneTicket[StartAnswer]
MessageTicket = LoneTicket[bool]
AnyTicket = Ticket | LoneTicket[Any]


def assemble(tickets: Sequence[AnyTicket]) -> Batch:
    """The batch of what the tickets hold, in their order."""
    batch = Batch()
    runs: dict[RunLog, RunWrites] = {}
    for ticket in tickets:
        if isinstance(ticket, LoneTicket):
            if isinstance(ticket.write, Message):
                batch.messages.append(ticket.write)
            else:
                batch.starts.append(ticket.write)
            continue
        run = runs.get(ticket.log)
        if run is None:
            run = runs[ticket.log] = RunWrites(ticket.log.workflow_id, ticket.log.token)
            batch.runs.append(run)
        run.checkpoints.extend(ticket.checkpoints)
        run.children.extend(ticket.children)
        run.step_effects.extend(ticket.step_effects)
        if ticket.outcome is not None:
            run.outcome = ticket.outcome
    return batch


def by_run(tickets: Sequence[AnyTicket]) -> list[list[AnyTicket]]:
    """The tickets grouped by run, each lone write on its own."""
    groups: dict[object, list[AnyTicket]] = {}
    for ticket in tickets:
        groups.setdefault(ticket.log if isinstance(ticket, Ticket) else ticket, []).append(ticket)
    return list(groups.values())


def settle(tickets: Sequence[AnyTicket], batch: Batch, answer: BatchAnswer) -> None:
    """Give each ticket its part of the answer; the logs know of it before anybody who waits."""
    starts, messages = iter(answer.starts), iter(answer.messages)
    runs = {run.token: its_answer for run, its_answer in zip(batch.runs, answer.runs, strict=True)}

    def its_answer(ticket: AnyTicket) -> StartAnswer | bool | RunAnswer:
        if isinstance(ticket, LoneTicket):
            return next(messages) if isinstance(ticket.write, Message) else next(starts)
        return runs[ticket.log.token]

    own = [ticket for ticket in tickets if isinstance(ticket, Ticket)]
    for ticket in own:
        ticket.log.note(ticket, runs[ticket.log.token])
    Promise.settle_all([(ticket, its_answer(ticket), None) for ticket in tickets])
    for ticket in own:
        ticket.log.settled(ticket)


def _effect_chars(effect: Effect) -> int:
    return 0 if isinstance(effect, Receipt) else len(effect.text)
