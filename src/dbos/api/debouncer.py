"""``Debouncer`` and ``DebouncerClient``: a workflow is started when for some time nobody has asked for it again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from dbos.api.client import DBOSClient
from dbos.api.client_queues import EnqueueOptions, client_start
from dbos.api.functions import new_call, workflow_function
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos.api.instance import get_executor, refuse_in_step, refuse_on_loop
from dbos.api.queues import Queue, place_on
from dbos.error import DBOSException
from dbos.model.limits import check_key, check_timeout
from dbos.model.queues import INTERNAL_QUEUE
from dbos.model.values import Place, WorkflowStart
from dbos.runtime.context import CONTEXT, SetEnqueuing
from dbos.runtime.debouncing import debounce_in_workflow, debounce_outside
from dbos.runtime.drivers import Core, Ending, Returned, drive, drive_async
from dbos.runtime.enqueueing import QueuedCall, enqueued_row
from dbos.runtime.older_rounds import replay_older_call
from dbos.storage.debouncing import Round

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor

P = ParamSpec("P")
R = TypeVar("R")

# The makers are static, and have no class yet whose variables they could use.
MadeP = ParamSpec("MadeP")
MadeR = TypeVar("MadeR")


class Debouncer(Generic[P, R]):
    """Starts a workflow when for some time nobody has asked for it again, with the arguments of the last call.

    Make one with ``Debouncer.create``. Calls that share a key make up a *round*, which is one workflow: the first call
    begins it, each further one puts it off. Rounds are durable: they outlive the processes that called, and any
    executor of their version starts them.
    """

    def __init__(
        self,
        workflow: Callable[..., Any],
        *,
        debounce_timeout_sec: float | None = None,
        queue: Queue | None = None,
    ) -> None:
        if inspect.ismethod(workflow):
            raise _no_method(workflow.__qualname__)
        if queue is not None and not isinstance(cast(object, queue), Queue):
            raise TypeError(f"The queue of a debouncer must be a Queue, not {type(queue).__name__}.")
        self._function, _ = workflow_function(workflow, ())
        self._timeout_ms = _timeout_ms(debounce_timeout_sec)
        self._queue = queue

    @staticmethod
    def create(
        workflow: Callable[MadeP, MadeR], *, debounce_timeout_sec: float | None = None, queue: Queue | None = None
    ) -> Debouncer[MadeP, MadeR]:
        """A debouncer of the workflow.

        Args:
            workflow: The workflow that is started.
            debounce_timeout_sec: After so many seconds from the first call of a round, the workflow starts, however
                often it was put off. Default: never before the calls have stopped.
            queue: It is enqueued on this queue then. Default: it starts at once.

        Raises:
            TypeError: The workflow is a method.
            DBOSException: It is no workflow.
        """
        return Debouncer(workflow, debounce_timeout_sec=debounce_timeout_sec, queue=queue)

    @staticmethod
    def create_async(
        workflow: Callable[MadeP, Coroutine[Any, Any, MadeR]],
        *,
        debounce_timeout_sec: float | None = None,
        queue: Queue | None = None,
    ) -> Debouncer[MadeP, MadeR]:
        """As ``create``, for a coroutine workflow."""
        return Debouncer(workflow, debounce_timeout_sec=debounce_timeout_sec, queue=queue)

    def debounce(
        self, debounce_key: str, debounce_period_sec: float, *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]:
        """Start the workflow in so many seconds, unless it is called again by then: that puts it off.

        The first call of a round takes what ``SetWorkflowID``, ``SetWorkflowTimeout`` and ``SetEnqueueOptions`` have
        set; of the others only the arguments count.

        Args:
            debounce_key: Calls with the same key put each other off.
            debounce_period_sec: For how long nobody must call until it starts, in seconds.
            *args: The workflow's arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The handle of the round's workflow.

        Raises:
            DBOSConflictingWorkflowError: The id that was set belongs to a workflow of another function.
            DBOSSerializationError: The arguments cannot be stored; nothing has changed.
        """
        refuse_on_loop("Debouncer.debounce")
        executor, core = self._debounce("Debouncer.debounce", debounce_key, debounce_period_sec, args, kwargs)
        workflow_id = drive(core)
        return WorkflowHandle(workflow_id, executor.expect(workflow_id))

    def debounce_async(
        self, debounce_key: str, debounce_period_sec: float, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[R]]:
        """As ``debounce``, to be awaited."""
        executor, core = self._debounce("Debouncer.debounce_async", debounce_key, debounce_period_sec, args, kwargs)
        return _async_handle(executor, drive_async(core))

    def _debounce(
        self, caller: str, key: str, period_s: float, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Executor, Core[Ending[str]]]:
        """The core is made at the call, not when it is first driven: it takes what is set now."""
        executor = get_executor(caller)
        context = CONTEXT.get()
        refuse_in_step(context, caller)
        check_round(key, period_s)
        place = self._place(context.enqueuing)
        run = context.run
        if run is not None and (known := replay_older_call(run)) is not None:
            return executor, _known(known)
        call, function_id = new_call(context, self._function, args, kwargs)
        if call.target.class_name is not None:
            raise _no_method(self._function.name)
        version = context.enqueuing.app_version or executor.application_version
        start = enqueued_row(executor, QueuedCall(call, place, version), run)
        queue = None if self._queue is None else self._queue.name
        its_round = new_round(start, key, period_s, self._timeout_ms, queue)
        if run is None:
            return executor, debounce_outside(executor, its_round)
        return executor, debounce_in_workflow(run, function_id, its_round)

    def _place(self, options: SetEnqueuing) -> Place:
        if self._queue is not None:
            return place_on(self._queue.rules, options)
        if options.deduplication_id is not None or options.priority is not None or options.partition_key is not None:
            raise DBOSException(
                "SetEnqueueOptions says how a debounced workflow waits on its queue, and this debouncer has none. Give "
                "Debouncer.create a queue."
            )
        return Place(INTERNAL_QUEUE)


class DebouncerClient:
    """Debounces a workflow of an application from another program. See ``Debouncer``.

    Args:
        client: The way to the application.
        workflow_options: What is started, and how it is enqueued then. See ``EnqueueOptions``.
        debounce_timeout_sec: After so many seconds from the first call of a round, the workflow starts, however often
            it was put off.
        queue: The queue that it is enqueued on then, or its name, instead of the options' ``queue_name``.
    """

    def __init__(
        self,
        client: DBOSClient,
        workflow_options: EnqueueOptions,
        *,
        debounce_timeout_sec: float | None = None,
        queue: Queue | str | None = None,
    ) -> None:
        self._client = client
        self._options: EnqueueOptions = {**workflow_options}
        if self._options.get("class_name") is not None:
            raise _no_method(str(self._options.get("workflow_name")))
        if queue is not None and not isinstance(cast(object, queue), Queue | str):
            raise TypeError(f"The queue of a debouncer must be a Queue or its name, not {type(queue).__name__}.")
        if queue is not None:
            self._options["queue_name"] = queue.name if isinstance(queue, Queue) else queue
        self._timeout_ms = _timeout_ms(debounce_timeout_sec)

    def debounce(self, debounce_key: str, debounce_period_sec: float, *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
        """Start the workflow in so many seconds, unless it is called again by then. See ``Debouncer.debounce``."""
        refuse_on_loop("DebouncerClient.debounce")
        core = self._debounce(debounce_key, debounce_period_sec, args, kwargs)
        return WorkflowHandle(drive(core), client=self._client.gateway)

    def debounce_async(
        self, debounce_key: str, debounce_period_sec: float, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As ``debounce``, to be awaited."""
        core = self._debounce(debounce_key, debounce_period_sec, args, kwargs)
        return self._handle_after(drive_async(core))

    def _debounce(self, key: str, period_s: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Core[Ending[str]]:
        check_round(key, period_s)
        gateway = self._client.gateway
        start = client_start(gateway, self._options, args, kwargs)
        place = cast(Place, start.place)
        return debounce_outside(gateway, new_round(start, key, period_s, self._timeout_ms, place.queue))

    async def _handle_after(self, workflow_id: Coroutine[Any, Any, str]) -> WorkflowHandleAsync[Any]:
        return WorkflowHandleAsync(await workflow_id, client=self._client.gateway)


def _no_method(name: str) -> TypeError:
    return TypeError(f"{name} is a method, and methods cannot be debounced. Use a function or a static method.")


def _known(workflow_id: str) -> Core[Ending[str]]:
    yield from ()
    return Returned(workflow_id)


def check_round(key: str, period_s: float) -> None:
    """Raise ``TypeError`` or ``ValueError`` if a call of a debouncer cannot have this key, or this period."""
    check_key(key, "A debounce key")
    check_timeout(period_s, "debounce_period_sec")


def new_round(start: WorkflowStart, key: str, period_s: float, timeout_ms: int | None, queue: str | None) -> Round:
    """The call of a debouncer, which begins with this row if it begins a round.

    Until its delay is over, the row waits on the internal queue, where its round is its deduplication id.
    """
    place = cast(Place, start.place)
    return Round(
        start=replace(start, place=replace(place, queue=INTERNAL_QUEUE, deduplication_id=f"{start.name}-{key}")),
        period_ms=round(period_s * 1000),
        timeout_ms=timeout_ms,
        queue=queue,
        deduplication_id=place.deduplication_id,
    )


def _timeout_ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(check_timeout(seconds, "debounce_timeout_sec") * 1000)


async def _async_handle(executor: Executor, workflow_id: Coroutine[Any, Any, str]) -> WorkflowHandleAsync[Any]:
    its_id = await workflow_id
    return WorkflowHandleAsync(its_id, executor.expect(its_id))
