"""Queues: declaring them, and enqueueing workflows on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextvars import Token
from dataclasses import replace
from types import TracebackType
from typing import Any, ParamSpec, TypedDict, TypeVar, cast, overload

from dbos.api.functions import new_call, workflow_function
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos.api.instance import get_executor, refuse_in_step
from dbos.error import DBOSException
from dbos.model.limits import MAX_KEY_BYTES, MAX_QUEUE_BYTES, check_interval, check_key
from dbos.model.queues import INTERNAL_QUEUE, MAX_PRIORITY, SEPARATOR, QueueRules, RateLimit
from dbos.model.values import Place
from dbos.runtime.context import CONTEXT, Context, SetEnqueuing
from dbos.runtime.drivers import Core, Ending, drive, drive_async
from dbos.runtime.enqueueing import Enqueued, QueuedCall, enqueue, enqueue_child
from dbos.runtime.registry import QUEUES

P = ParamSpec("P")
R = TypeVar("R")


class QueueRateLimit(TypedDict):
    """How many workflows of a queue may start in any period of time.

    Attributes:
        limit: How many; at least 1.
        period: The period's length in seconds.
    """

    limit: int
    period: float


class Queue:
    """Runs workflows when its limits let it: first in, first out; those with a priority by that.

    Declare a queue once, in every process that enqueues or runs its workflows. Every process that declares a queue
    starts workflows of it, unless ``DBOS.listen_queues`` says otherwise.

    Args:
        name: Unique in the application.
        concurrency: How many of its workflows may run at once, in all processes together. Default: any number.
        limiter: How many of its workflows may start in a period of time, in all processes together.
        worker_concurrency: How many of its workflows may run at once in one process.
        priority_enabled: Whether its workflows may have priorities.
        partition_queue: Whether it is partitioned: every workflow is enqueued with a partition key, and the limits
            hold for each partition.
        polling_interval_sec: How long to wait at most before looking for work without having been told of it.

    Raises:
        DBOSException: The name is declared already.
        TypeError, ValueError: An argument is wrong, or the limits contradict each other.
    """

    def __init__(
        self,
        name: str,
        concurrency: int | None = None,
        limiter: QueueRateLimit | None = None,
        *,
        worker_concurrency: int | None = None,
        priority_enabled: bool = False,
        partition_queue: bool = False,
        polling_interval_sec: float = 1.0,
    ) -> None:
        if not check_key(name, "A queue's name", MAX_QUEUE_BYTES):
            raise ValueError("A queue's name must not be empty.")
        check_queue_name(name)
        _check_count(concurrency, f"concurrency of queue {name!r}")
        _check_count(worker_concurrency, f"worker_concurrency of queue {name!r}")
        if concurrency is not None and worker_concurrency is not None and worker_concurrency > concurrency:
            raise ValueError(
                f"worker_concurrency of queue {name!r} is {worker_concurrency}, and must not be greater than its "
                f"concurrency, {concurrency}: one process cannot run more than all together."
            )
        if limiter is not None and not isinstance(cast(object, limiter), Mapping):
            raise TypeError(f"The limiter of queue {name!r} must be a dict, not {type(limiter).__name__}.")
        for what, flag in (("priority_enabled", priority_enabled), ("partition_queue", partition_queue)):
            if not isinstance(cast(object, flag), bool):
                raise TypeError(f"{what} of queue {name!r} must be True or False, not {flag!r}.")
        polling_interval_s = check_interval(polling_interval_sec, f"The polling_interval_sec of queue {name!r}")
        self.name = name
        self.concurrency = concurrency
        self.limiter = limiter
        self.worker_concurrency = worker_concurrency
        self.priority_enabled = priority_enabled
        self.partition_queue = partition_queue
        self.polling_interval_sec = polling_interval_sec
        self.rules = QueueRules(
            name=name,
            concurrency=concurrency,
            worker_concurrency=worker_concurrency,
            rate=None if limiter is None else _rate(limiter, name),
            has_priorities=priority_enabled,
            is_partitioned=partition_queue,
            polling_interval_s=polling_interval_s,
        )
        QUEUES.add(self.rules)

    @overload
    def enqueue(
        self, func: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...

    @overload
    def enqueue(self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]: ...

    def enqueue(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
        """Enqueue a workflow, or a step on its own.

        When this returns, it is durable, except inside a workflow, where the next step waits for it. A coroutine runs
        on an event loop of the library's own.

        Args:
            func: A workflow or a step.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Raises:
            DBOSQueueDeduplicatedError: The queue holds a workflow with the deduplication id that was set.
            DBOSConflictingWorkflowError: The id that was set belongs to a workflow of another function.
            DBOSSerializationError: The arguments cannot be stored; nothing was enqueued.
            DBOSException: What ``SetEnqueueOptions`` has set is not for this queue, or a partition key is missing.
        """
        enqueued = drive(self._enqueue("Queue.enqueue", func, args, kwargs))
        return WorkflowHandle(enqueued.workflow_id, enqueued.ended)

    @overload
    def enqueue_async(
        self, func: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[R]]: ...

    @overload
    def enqueue_async(
        self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[R]]: ...

    def enqueue_async(
        self, func: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As ``enqueue``, to be awaited."""
        return _async_handle(drive_async(self._enqueue("Queue.enqueue_async", func, args, kwargs)))

    def _enqueue(
        self, caller: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Core[Ending[Enqueued]]:
        """The core is made at the call, not when it is first driven: it takes what is set now."""
        executor = get_executor(caller)
        function, args = workflow_function(func, args)
        context = CONTEXT.get()
        refuse_in_step(context, caller)
        place = place_on(self.rules, context.enqueuing)
        version = context.enqueuing.app_version or executor.application_version
        call, function_id = new_call(context, function, args, kwargs)
        queued = QueuedCall(call, place, version)
        return enqueue(executor, queued) if context.run is None else enqueue_child(context.run, function_id, queued)

    def __repr__(self) -> str:
        return f"Queue({self.name!r})"


class SetEnqueueOptions:
    """Say how the workflows that are enqueued inside the block wait on their queue.

    Args:
        deduplication_id: While the queue holds a workflow with this id, enqueued or running, enqueueing another one
            raises ``DBOSQueueDeduplicatedError``.
        priority: From 1, the most urgent, to 2147483647. Without one a workflow goes before all that have one.
        app_version: The application version that is to run them. Default: that of this process.
        queue_partition_key: The partition of a partitioned queue.

    Raises:
        TypeError, ValueError: An argument is wrong.
    """

    def __init__(
        self,
        *,
        deduplication_id: str | None = None,
        priority: int | None = None,
        app_version: str | None = None,
        queue_partition_key: str | None = None,
    ) -> None:
        self._options = check_options(deduplication_id, priority, app_version, queue_partition_key)
        self._tokens: list[Token[Context]] = []

    def __enter__(self) -> SetEnqueueOptions:
        self._tokens.append(CONTEXT.set(replace(CONTEXT.get(), enqueuing=self._options)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        CONTEXT.reset(self._tokens.pop())


def check_queue_name(name: str) -> None:
    """Raise ``ValueError`` if a queue that programs use cannot have the name."""
    if SEPARATOR in name:
        raise ValueError(f"The queue name {name!r} must not hold the character U+001F, a separator.")
    if name == INTERNAL_QUEUE:
        raise ValueError(f"The queue name {name!r} is the library's own. Use another.")


def check_options(
    deduplication_id: str | None, priority: int | None, app_version: str | None, partition_key: str | None
) -> SetEnqueuing:
    """The options, if each is right by itself.

    Raises:
        TypeError, ValueError: One is not.
    """
    for what, text, max_bytes in (
        ("A deduplication id", deduplication_id, MAX_KEY_BYTES),
        ("app_version", app_version, MAX_QUEUE_BYTES),
        ("A queue partition key", partition_key, MAX_KEY_BYTES),
    ):
        if text is not None:
            check_key(text, what, max_bytes)
            if not text:
                raise ValueError(f"{what} must not be empty. Leave it out to have none.")
    if priority is not None:
        _check_priority(priority)
    return SetEnqueuing(deduplication_id, priority, app_version, partition_key)


def place_on(rules: QueueRules, options: SetEnqueuing) -> Place:
    """Where a workflow with these options waits on the queue.

    Raises:
        DBOSException: The options are not for this queue.
    """
    if options.priority is not None and not rules.has_priorities:
        raise DBOSException(
            f"Queue {rules.name!r} has no priorities, and priority {options.priority} was set. Declare it with "
            "priority_enabled=True."
        )
    if rules.is_partitioned and options.partition_key is None:
        raise DBOSException(
            f"Queue {rules.name!r} is partitioned, and no partition key was set. Enqueue inside of "
            "SetEnqueueOptions(queue_partition_key=...)."
        )
    if not rules.is_partitioned and options.partition_key is not None:
        raise DBOSException(
            f"Queue {rules.name!r} has no partitions, and the partition key {options.partition_key!r} was set. Declare "
            "it with partition_queue=True."
        )
    refuse_deduplication_in_partition(options)
    return Place(rules.name, options.deduplication_id, options.priority or 0, options.partition_key)


def refuse_deduplication_in_partition(options: SetEnqueuing) -> None:
    """Raise ``DBOSException`` if there is both a deduplication id and a partition key."""
    if options.deduplication_id is not None and options.partition_key is not None:
        raise DBOSException(
            "A deduplication id and a queue partition key were set, and a partitioned queue has no deduplication."
        )


def listen(queues: Iterable[Queue]) -> None:
    """Listen to these queues only."""
    if not isinstance(cast(object, queues), Iterable):
        raise TypeError(f"DBOS.listen_queues takes a list of Queue objects, and {queues!r} is none.")
    listened = list(queues)
    for queue in listened:
        if not isinstance(queue, Queue):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"DBOS.listen_queues takes a list of Queue objects, and {queue!r} is no Queue.")
    QUEUES.listen(queue.name for queue in listened)


async def _async_handle(enqueued: Coroutine[Any, Any, Enqueued]) -> WorkflowHandleAsync[Any]:
    workflow = await enqueued
    return WorkflowHandleAsync(workflow.workflow_id, workflow.ended)


def _check_priority(priority: object) -> None:
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise TypeError(f"A priority must be an int, not {type(priority).__name__}.")
    if not 1 <= priority <= MAX_PRIORITY:
        raise ValueError(f"The priority is {priority}, and must be from 1 (first) to {MAX_PRIORITY} (last).")


def _rate(limiter: Mapping[str, Any], name: str) -> RateLimit:
    if set(limiter) != {"limit", "period"}:
        raise ValueError(f"limiter of queue {name!r} must be {{'limit': int, 'period': seconds}}, and is {limiter!r}.")
    if limiter["limit"] is None:
        raise TypeError(f"The limiter's limit of queue {name!r} must be an int, not None.")
    _check_count(limiter["limit"], f"limiter's limit of queue {name!r}")
    period_s = check_interval(limiter["period"], f"The limiter's period of queue {name!r}")
    return RateLimit(limiter["limit"], math.ceil(period_s * 1000))


def _check_count(count: object, what: str) -> None:
    if count is None:
        return
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"The {what} must be an int, not {type(count).__name__}.")
    if not 1 <= count < 2**31:
        raise ValueError(f"The {what} is {count}, and must be at least 1.")
