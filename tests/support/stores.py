"""A store for the journal that a test directs: it remembers batches, fails on request and stops when told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from dbos.model.values import Batch, BatchAnswer, Checkpoint, RunAnswer, Started
from dbos.storage.errors import TransientStorageError

WAIT_S = 30.0


class ScriptedStore:
    """Keeps what is committed in memory.

    Attributes:
        batches: What was committed, in order.
        threads: The thread of each try.
        failures: What the next tries raise, one each; `None` lets a try succeed.
        refuses: Whether a batch is refused for good, with a `ValueError`.
        foreign: The steps that every run is told another one had recorded.
        status: The status that every run is told.
        unknown: The destinations that do not exist.
        locked: The workflows whose rows somebody keeps locked: their batches are held up.
        on_try: Called at each try.
        parallel_commits: How many starts and messages may be committed beside a batch.
    """

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.threads: list[threading.Thread] = []
        self.failures: list[BaseException | None] = []
        self.refuses: Callable[[Batch], bool] = lambda batch: False
        self.foreign: frozenset[int] = frozenset()
        self.status = "PENDING"
        self.unknown: frozenset[str] = frozenset()
        self.parallel_commits = 0
        self.locked: set[str] = set()
        self.on_try: Callable[[], object] = lambda: None
        self._changed = threading.Condition()
        self._must_stop = False
        self._has_stopped = threading.Event()
        self._go = threading.Event()

    def commit(self, batch: Batch) -> BatchAnswer:
        """See `BatchStore`."""
        self.threads.append(threading.current_thread())
        self.on_try()
        if self._must_stop:
            self._must_stop = False
            self._has_stopped.set()
            assert self._go.wait(WAIT_S), "nobody let the store go on"
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        if any(run.workflow_id in self.locked for run in batch.runs):
            raise TransientStorageError("held up", 0.001, is_held_up=True)
        if self.refuses(batch):
            raise ValueError("refused for good")
        with self._changed:
            self.batches.append(batch)
            self._changed.notify_all()
        runs = [
            RunAnswer(run.token, self.status, self.foreign, {c.function_id: Started() for c in run.children})
            for run in batch.runs
        ]
        messages = [message.destination_id not in self.unknown for message in batch.messages]
        return BatchAnswer([Started()] * len(batch.starts), runs, messages)

    def held_up(self, workflow_ids: Sequence[str]) -> set[str]:
        """See `BatchStore`."""
        return self.locked & set(workflow_ids)

    def stop_at_next_commit(self) -> None:
        """The next commit stands still until `go`."""
        self._must_stop = True

    def wait_until_stopped(self) -> None:
        """Wait until a commit stands still."""
        assert self._has_stopped.wait(WAIT_S), "no commit came"

    def go(self) -> None:
        """Let the commit that stands still go on."""
        self._go.set()

    def wait_for_batches(self, count: int) -> None:
        """Wait until so many batches were committed."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.batches) >= count, WAIT_S), f"no {count} batches came"

    def checkpoints(self, workflow_id: str) -> list[int]:
        """The numbers of a workflow's checkpoints, in the order in which they were committed."""
        return [c.function_id for batch in self.batches for c in checkpoints_of(batch, workflow_id)]

    def outcomes(self, workflow_id: str) -> list[str]:
        """The statuses that were recorded as outcomes of a workflow."""
        runs = [run for batch in self.batches for run in batch.runs if run.workflow_id == workflow_id]
        return [run.outcome.status for run in runs if run.outcome is not None]

    def started(self) -> list[str]:
        """The ids of the workflows that were started, in the order in which they were committed."""
        return [start.workflow_id for batch in self.batches for start in batch.starts]

    def sent(self) -> list[str]:
        """The texts of the messages from outside, in the order in which they were committed."""
        return [message.text for batch in self.batches for message in batch.messages]


def checkpoints_of(batch: Batch, workflow_id: str) -> list[Checkpoint]:
    """The checkpoints that a batch holds of one workflow."""
    return [c for run in batch.runs if run.workflow_id == workflow_id for c in run.checkpoints]
