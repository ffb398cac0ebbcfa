"""Makes random operations that fit to what stands in the tables: mostly what executors would do, sometimes not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from dbos.model.queues import INTERNAL_QUEUE
from dbos.model.serving import Serving
from dbos.model.values import (
    Batch,
    Checkpoint,
    ChildStart,
    Effect,
    Event,
    Lease,
    Message,
    Outcome,
    Place,
    ProcessIdentity,
    Receipt,
    RunWrites,
    StepEffect,
    StreamEntry,
    WorkflowStart,
)
from dbos.storage.debouncing import Caller, Round
from dbos.storage.queues import Claimant
from dbos.storage.reads import WorkflowFilter
from dbos.storage.waiting import EventQuery, MessageQuery, OutcomeQuery, Query, StreamQuery
from tests.differential.draws import FORMATS, IDS, KEYS, LEASES, NAMES, OWNERS, QUEUES, VERSIONS, WHO
from tests.differential.operations import Operation
from tests.differential.scheduling import ScheduleDraws
from tests.differential.upkeep import UpkeepDraws
from tests.verify.oracle import Oracle


class Generator(ScheduleDraws, UpkeepDraws):
    """Draws operations; the same seed and the same oracle give the same ones."""

    def __init__(self, random: Random, oracle: Oracle) -> None:
        super().__init__(random, oracle)
        self._weights: dict[Callable[[], Operation], int] = {
            self._tick: 8,
            self._commit: 30,
            self._insert_start: 12,
            self._send_message: 4,
            self._forget_expired_keys: 2,
            self._register_lease: 6,
            self._note_serving: 2,
            self._renew_lease: 2,
            self._bury_lease: 4,
            self._release_lease: 2,
            self._claim_orphans: 14,
            self._release: 2,
            self._release_all: 2,
            self._of_lease: 14,
            self._of_ids: 6,
            self._cancel: 4,
            self._cancel_overdue: 2,
            self._resume: 5,
            self._fork: 5,
            self._delete: 3,
            self._claim_enqueued: 20,
            self._look_at_queues: 8,
            self._note_starts: 5,
            self._forget_starts: 11,
            self._put_back: 3,
            self._release_delayed: 3,
            self._debounce: 10,
            self._read_workflows: 6,
            self._read_one: 4,
            self._find: 6,
            self._change_schedules: 6,
            self._read_schedules: 3,
            self._note_decorated: 2,
            self._fire: 5,
            self._delete_ended: 2,
            self._look_for_old: 2,
            self._vacuum: 1,
            self._record_transaction: 8,
            self._transactions: 4,
            self._find_other_versions: 2,
            self._diagnose: 9,
        }

    def next(self) -> Operation:
        """The next operation."""
        (make,) = self.random.choices(list(self._weights), list(self._weights.values()))
        return make()

    # -- time

    def _tick(self) -> Operation:
        return Operation("tick", {"ms": self._one(1, 1, 20, 50, 50, 100, 300, 1000, 1000, 1000, 3_700_000, 90_000_000)})

    # -- the journal

    def _commit(self) -> Operation:
        batch = Batch()
        for _ in range(self._one(0, 0, 0, 1, 1, 2)):
            batch.starts.append(self._start())
        for _ in range(self._one(0, 0, 0, 0, 1, 2)):
            batch.messages.append(self._message(self._id(), from_outside=True))
        runs: dict[tuple[str, str], RunWrites] = {}
        for _ in range(self._one(1, 1, 1, 2, 3)):
            run = self._run()
            runs.setdefault((run.workflow_id, run.token), run)
        # A child that has the id of a run in its batch would tell the status of before or of after the batch.
        ids = {run.workflow_id for run in runs.values()}
        for run in runs.values():
            run.children = [child for child in run.children if child.start.workflow_id not in ids]
        self._send_to_no_foreign_child(list(runs.values()))
        # In an order in which both databases write what has no order: messages of several runs to one workflow.
        batch.runs.extend(runs[key] for key in sorted(runs))
        return Operation("commit", {"batch": batch})

    def _send_to_no_foreign_child(self, runs: list[RunWrites]) -> None:
        """Whether a message arrives at the child that another run of the batch starts, the databases may leave open."""
        for run in runs:
            born = {child.start.workflow_id for other in runs if other is not run for child in other.children}
            run.checkpoints = [
                checkpoint
                for checkpoint in run.checkpoints
                if not isinstance(checkpoint.effect, Message) or checkpoint.effect.destination_id not in born
            ]

    def _insert_start(self) -> Operation:
        return Operation("insert_start", {"start": self._start()})

    def _send_message(self) -> Operation:
        return Operation("send_message", {"message": self._message(self._id(), from_outside=True)})

    def _forget_expired_keys(self) -> Operation:
        return Operation("forget_expired_keys", {})

    def _message(self, destination: str, *, from_outside: bool) -> Message:
        key = self._one(None, None, "key", "lock") if from_outside else None
        return Message(
            self._new("message"),
            destination,
            self._one(*KEYS),
            self._new("text"),
            self._one(*FORMATS),
            key,
            lasts=key is not None,
        )

    def _run(self) -> RunWrites:
        workflow_id = self._id()
        run = RunWrites(workflow_id, self._token_of(workflow_id))
        last = max((number for its, number in self.oracle.steps if its == workflow_id), default=0)
        # Mostly what comes next; sometimes what stands, as after a lost answer or by another run; sometimes with holes.
        first = self._one(last + 1, last + 1, last + 1, last + 2, max(last, 1), 1)
        for number in range(first, first + self._one(0, 1, 1, 2, 3)):
            if self._is(35):
                child = self._start(self._one(f"{workflow_id}-{number}", *IDS) if self._is(90) else None, workflow_id)
                if child.place is not None and self._is(50):
                    # The same for many: refused as often as not.
                    child = replace(child, place=replace(child.place, queue="plain", deduplication_id="only"))
                run.children.append(ChildStart(number, child))
                run.checkpoints.append(self._checkpoint(number, None, child.workflow_id))
            else:
                run.checkpoints.append(self._checkpoint(number, self._effect(workflow_id, number)))
        if self._is(15):
            effect: Event | StreamEntry = self._one(self._event(), self._entry())
            run.step_effects.append(StepEffect(first, effect))
        if self._is(12):
            is_well = self._is(70)
            texts = (self._new("output"), None) if is_well else (None, self._new("error"))
            run.outcome = Outcome("SUCCESS" if is_well else "ERROR", *texts, self._one(*FORMATS))
        elif self._is(4):
            run.outcome = Outcome("MAX_RECOVERY_ATTEMPTS_EXCEEDED", None, None, None)
        return run

    def _checkpoint(self, number: int, effect: Effect | None, child: str | None = None) -> Checkpoint:
        times = (self.oracle.now - 5, self.oracle.now)
        output, error = self._one((self._new("output"), None), (self._new("output"), None), (None, self._new("error")))
        name = self._one("pay", "pack")
        return Checkpoint(number, name, output, error, self._one(*FORMATS), child, *times, effect)

    def _effect(self, workflow_id: str, number: int) -> Effect | None:
        match self.random.randrange(8):
            case 0:
                return self._message(self._one(self._id(), "nobody"), from_outside=False)
            case 1:
                messages = [m for m in self.oracle.messages if m["destination_uuid"] == workflow_id]
                taken = self._one(*messages)["message_uuid"] if messages and self._is(85) else f"message-{number}"
                return Receipt(taken)
            case 2:
                return self._event()
            case 3:
                return self._entry()
            case _:
                return None

    def _event(self) -> Event:
        return Event(self._one(*KEYS), self._new("text"), self._one(*FORMATS))

    def _entry(self) -> StreamEntry:
        return StreamEntry(self._one(*KEYS), self._new("text"), self._one(*FORMATS))

    # -- leases and claims

    def _register_lease(self) -> Operation:
        lease_id = self._one(*LEASES) if self._is(60) else self._new("lease")
        process = ProcessIdentity(
            "host", self.random.randrange(1000), self._one(None, "boot"), None, self._one(None, "7")
        )
        return Operation(
            "register_lease", {"lease": Lease(lease_id, self._one("local", "vm"), self._one(*VERSIONS), process)}
        )

    def _note_serving(self) -> Operation:
        serving = Serving(self._one((), QUEUES[:1], QUEUES), ("work", self._new("function")))
        return Operation("note_serving", {"lease_id": self._lease(), "serving": serving})

    def _renew_lease(self) -> Operation:
        return Operation("renew_lease", {"lease_id": self._lease()})

    def _bury_lease(self) -> Operation:
        lease_id = self._lease()
        renewals = self.oracle.leases[lease_id]["renewals"] if lease_id in self.oracle.leases else 0
        process = ProcessIdentity("host", 1, None, None, None)
        lease = Lease(lease_id, "local", "1", process, renewals + self._one(0, 0, 0, 1))
        return Operation("bury_lease", {"lease": lease})

    def _release_lease(self) -> Operation:
        return Operation("release_lease", {"lease_id": self._lease()})

    def _claim_orphans(self) -> Operation:
        wanted = {
            "application_version": self._one(*VERSIONS),
            "names": list(self._one(NAMES, NAMES, NAMES[:1], ())),
            "owners": self._owners(),
        }
        if self._is(50):
            return Operation(self._one("has_orphans", "has_orphans", "find_stranded"), wanted)
        nonces = [str(row["owner_xid"]).partition(":")[0] for row in self.oracle.workflows.values()]
        nonce = self._one(*nonces) if nonces and self._is(15) else self._new("nonce")
        own = {"nonce": nonce, "lease_id": self._lease(), "executor_id": self._one("local", "vm")}
        return Operation("claim_orphans", {**own, **wanted, "limit": self._one(1, 2, 100)})

    def _release(self) -> Operation:
        workflow_id, token = self._claims()[0]
        return Operation("release", {"workflow_id": workflow_id, "token": token})

    def _release_all(self) -> Operation:
        # Each claim is its workflow's own: the token of one is never given with the id of another.
        return Operation("release_all", {"claims": self._claims()})

    def _of_lease(self) -> Operation:
        name = self._one("read_duties", "read_stopping", "count_claims", "read_claims")
        if self._is(15):
            return Operation("read_live_leases", {"own": self._lease()})
        rows = self.oracle.workflows.values()
        stopping = [row["lease_id"] for row in rows if row["status"] == "CANCELLED" and row["lease_id"] is not None]
        return Operation(name, {"lease_id": self._one(self._lease(), *stopping)})

    def _of_ids(self) -> Operation:
        name = self._one("read_owners", "read_checkpoints")
        return Operation(name, {"workflow_ids": self._ids()})

    # -- management

    def _cancel(self) -> Operation:
        children = [row["workflow_uuid"] for row in self._children_of_live()]
        ids = [self._one(*children)] if children and self._is(35) else self._ids()
        return Operation("cancel", {"workflow_ids": ids})

    def _cancel_overdue(self) -> Operation:
        return Operation("cancel_overdue", {})

    def _resume(self) -> Operation:
        return Operation("resume", {"workflow_id": self._id()})

    def _fork(self) -> Operation:
        forks = [id for id, row in self.oracle.workflows.items() if row["forked_from"] is not None]
        source, new_id = self._id(), self._one(self._new("fork"), self._new("fork"), self._id())
        if forks and self._is(15):
            new_id = self._one(*forks)
            source = self.oracle.workflows[new_id]["forked_from"]
        arguments = {"workflow_id": source, "new_id": new_id, "start_step": self.random.randrange(1, 6)}
        arguments |= {"application_version": self._one(None, *VERSIONS), "timeout_ms": self._one(None, 300)}
        return Operation("fork", arguments)

    def _delete(self) -> Operation:
        return Operation("delete", {"workflow_ids": self._ids(), "with_descendants": self._is(50)})

    # -- queues

    def _claimant(self) -> Claimant:
        names = self._one(NAMES, NAMES, NAMES[:1])
        return Claimant(self._lease(), self._one("local", "vm"), self._one(*VERSIONS), list(names), self._owners())

    def _owners(self) -> list[str]:
        """Classes and instances that are there."""
        return list(self._one(OWNERS, OWNERS, OWNERS[:1], ()))

    def _claim_enqueued(self) -> Operation:
        rules = self._one(*QUEUES)
        rooms: dict[str | None, int] = {None: self._one(0, 1, 2, 100)}
        if rules.is_partitioned:
            keys: list[str | None] = [key for key in (None, *KEYS) if self._is(60)] or [KEYS[0]]
            rooms = {key: self._one(1, 2, 100) for key in keys}
        nonce = self._new("nonce")
        return Operation(
            "claim_enqueued", {"rules": rules, "claimant": self._claimant(), "nonce": nonce, "rooms": rooms}
        )

    def _look_at_queues(self) -> Operation:
        queues = [rules.name for rules in QUEUES if self._is(50)]
        match self.random.randrange(4):
            case 0:
                return Operation("find_partitions", {"rules": self._one(*QUEUES)})
            case 1:
                names = list(self._one(NAMES, NAMES[:1], ()))
                wanted = {"queues": queues, "application_version": self._one(*VERSIONS), "names": names}
                return Operation("find_waiting", {**wanted, "owners": self._owners()})
            case 2:
                return Operation("find_queues", {})
            case _:
                return Operation("find_unknown_functions", {"queues": queues, "claimant": self._claimant()})

    def _note_starts(self) -> Operation:
        tokens = [*self.oracle.starts, self._new("token")]
        return Operation("note_starts", {"tokens": [self._one(*tokens) for _ in range(self._one(1, 2))]})

    def _forget_starts(self) -> Operation:
        return Operation("forget_starts", {})

    def _put_back(self) -> Operation:
        return Operation("put_back", {"application_version": self._one(*VERSIONS)})

    def _release_delayed(self) -> Operation:
        return Operation("release_delayed", {})

    def _debounce(self) -> Operation:
        start = WorkflowStart(
            workflow_id=self._one(self._new("round"), self._new("round"), *IDS),
            name=self._one(*NAMES),
            status="ENQUEUED",
            inputs=self._new("inputs"),
            serialization=self._one(*FORMATS),
            token=None,
            lease_id=None,
            executor_id=None,
            application_version=self._one(None, *VERSIONS),
            timeout_ms=self._one(None, 300),
            authentication=self._one(*WHO),
            place=Place(INTERNAL_QUEUE, self._one("round a", "round b")),
        )
        queue = self._one(None, "plain", "few")
        call = Round(
            start,
            period_ms=self._one(100, 1000),
            timeout_ms=self._one(None, 50, 2000),
            queue=queue,
            deduplication_id=None if queue is None else self._one(None, "only"),
        )
        caller = None
        if self._is(40):
            workflow_id = self._id()
            last = max((number for its, number in self.oracle.steps if its == workflow_id), default=0)
            checkpoint = Checkpoint(last + self._one(1, 1, 1, 0), "debounce", None, None, None, None, 1, 2)
            caller = Caller(workflow_id, self._token_of(workflow_id), checkpoint)
        return Operation("debounce", {"call": call, "caller": caller})

    # -- reads

    def _read_workflows(self) -> Operation:
        filters: dict[str, Any] = {
            "workflow_ids": self._ids(),
            "statuses": [self._one("PENDING", "ENQUEUED", "SUCCESS", "ERROR", "CANCELLED") for _ in range(2)],
            "names": [self._one(*NAMES)],
            "application_versions": [self._one(*VERSIONS)],
            "executor_ids": [self._one("local", "vm")],
            "queue_names": [self._one(*QUEUES).name],
            "users": ["alice"],
            "forked_from": self._ids(),
            "parents": self._ids(),
            "created_from_ms": self.oracle.now - 1000,
            "created_to_ms": self.oracle.now - 1000,
            "id_prefixes": self._one(["w"], ["w1", "fork"], []),
            "limit": self._one(1, 3),
            "offset": self._one(1, 3),
            "sort_desc": True,
            "load_input": False,
            "load_output": False,
            "queues_only": True,
        }
        chosen = {name: value for name, value in filters.items() if self._is(12)}
        return Operation("read_workflows", {"wanted": WorkflowFilter(**chosen)})

    def _read_one(self) -> Operation:
        if self._is(10):
            return Operation("read_now_ms", {})
        workflow_ids = [self._id(), *(workflow_id for workflow_id, _ in self.oracle.events)]
        return Operation(self._one("read_steps", "read_events"), {"workflow_id": self._one(*workflow_ids)})

    def _find(self) -> Operation:
        queries: list[Query] = []
        for _ in range(self._one(1, 1, 3)):
            workflow_id, key = self._id(), self._one(*KEYS)
            offset, count = self._one(0, 0, 1), self._one(1, 100)
            queries.append(
                self._one(
                    OutcomeQuery(workflow_id, must_exist=self._is(50)),
                    MessageQuery(workflow_id, key),
                    EventQuery(workflow_id, key),
                    StreamQuery(workflow_id, key, offset, count),
                )
            )
        return Operation("find", {"queries": queries})
