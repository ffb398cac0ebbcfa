"""Enqueueing from another program: what is enqueued, and where, is said by names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict, cast

from dbos.api.instance import new_workflow_id
from dbos.api.queues import check_options, check_queue_name, refuse_deduplication_in_partition
from dbos.api.roles import check_roles
from dbos.error import DBOSQueueDeduplicatedError
from dbos.model.authentication import NOBODY, Authentication
from dbos.model.limits import MAX_QUEUE_BYTES, check_key, check_timeout, check_workflow_id
from dbos.model.status import ENQUEUED
from dbos.model.values import AlreadyExists, Deduplicated, LeaseLost, Place, WorkflowStart
from dbos.runtime.classes import conflict_of
from dbos.runtime.drivers import Core, Ending, Offload, Raised, Returned
from dbos.runtime.gateway import Gateway
from dbos.storage.batches import insert_start

if TYPE_CHECKING:
    from typing_extensions import Required


class EnqueueOptions(TypedDict, total=False):
    """What a ``DBOSClient`` enqueues, and how. Only the two names are required.

    Attributes:
        workflow_name: The function's name as it is recorded: its ``__qualname__``, or what ``name=`` says.
        queue_name: The queue's name.
        workflow_id: The workflow's id. Default: a random one.
        app_version: The application version that is to run it. Default: the first that has room.
        workflow_timeout: How long it may take from its start, in seconds.
        deduplication_id: While the queue holds a workflow with this id, enqueueing another one raises.
        priority: From 1, the most urgent, to 2147483647.
        queue_partition_key: The partition of a partitioned queue.
        class_name: The class of a method.
        instance_name: The configured instance of a method.
        authenticated_user: Who it is started for.
        authenticated_roles: What that one may do.
        max_recovery_attempts: Accepted for programs that give it; what the workflow's decorator says holds.
    """

    workflow_name: Required[str]
    queue_name: Required[str]
    workflow_id: str
    app_version: str
    workflow_timeout: float
    deduplication_id: str
    priority: int
    queue_partition_key: str
    class_name: str
    instance_name: str
    authenticated_user: str
    authenticated_roles: list[str]
    max_recovery_attempts: int


_KEYS = frozenset(EnqueueOptions.__annotations__)


def client_enqueue_core(
    gateway: Gateway, options: EnqueueOptions, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Core[Ending[str]]:
    """Enqueue, and return the workflow's id. The options are checked at the call."""
    return _enqueue(gateway, client_start(gateway, options, args, kwargs))


def client_start(
    gateway: Gateway, options: EnqueueOptions, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> WorkflowStart:
    """The row of the workflow that the options ask for.

    Raises:
        TypeError, ValueError, DBOSException: They are wrong.
        DBOSSerializationError: The arguments cannot be stored.
    """
    given = _given(options)
    name = check_key(given.get("workflow_name"), "EnqueueOptions: workflow_name")
    queue = check_key(given.get("queue_name"), "EnqueueOptions: queue_name", MAX_QUEUE_BYTES)
    if not name or not queue:
        raise ValueError("EnqueueOptions: workflow_name and queue_name must not be empty.")
    check_queue_name(queue)
    waiting = check_options(
        given.get("deduplication_id"),
        given.get("priority"),
        given.get("app_version"),
        given.get("queue_partition_key"),
    )
    refuse_deduplication_in_partition(waiting)
    attempts = given.get("max_recovery_attempts")
    if attempts is not None and (not isinstance(attempts, int) or isinstance(attempts, bool)):
        raise TypeError(f"EnqueueOptions: max_recovery_attempts must be an int, not {type(attempts).__name__}.")
    workflow_id = check_workflow_id(given["workflow_id"]) if "workflow_id" in given else new_workflow_id()
    encoded = gateway.codec.encode(
        {"args": args, "kwargs": dict(kwargs)}, lambda: f"The arguments of workflow {name} ({workflow_id!r})"
    )
    return WorkflowStart(
        workflow_id=workflow_id,
        name=name,
        status=ENQUEUED,
        inputs=encoded.text,
        serialization=encoded.format,
        token=None,
        lease_id=None,
        executor_id=None,
        class_name=_text(given, "class_name"),
        config_name=_text(given, "instance_name"),
        authentication=_authentication(given),
        application_version=waiting.app_version,
        timeout_ms=_timeout_ms(given),
        place=Place(
            queue=queue,
            deduplication_id=waiting.deduplication_id,
            priority=waiting.priority or 0,
            partition_key=waiting.partition_key,
        ),
    )


def _enqueue(gateway: Gateway, start: WorkflowStart) -> Core[Ending[str]]:
    assert start.place is not None
    while True:
        answer = yield Offload(gateway.threads.submit, lambda: insert_start(gateway.database, start))
        # One with its id was there, and was deleted meanwhile, if the answer is this.
        if not isinstance(answer, LeaseLost):
            break
    place = start.place
    if isinstance(answer, Deduplicated):
        return Raised(DBOSQueueDeduplicatedError(start.workflow_id, place.queue, place.deduplication_id or ""))
    if isinstance(answer, AlreadyExists) and (conflict := conflict_of(answer, start)) is not None:
        return Raised(conflict)
    gateway.enqueued([place.queue])
    return Returned(start.workflow_id)


def _given(options: EnqueueOptions) -> dict[str, Any]:
    if not isinstance(options, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"The options must be EnqueueOptions (a dict), not {type(options).__name__}.")
    given = {key: value for key, value in cast("Mapping[str, Any]", options).items() if value is not None}
    unknown = given.keys() - _KEYS
    if unknown:
        raise ValueError(
            f"EnqueueOptions: there is no {', '.join(sorted(map(repr, unknown)))}. There are "
            f"{', '.join(sorted(_KEYS))}."
        )
    missing = {"workflow_name", "queue_name"} - given.keys()
    if missing:
        raise ValueError(f"EnqueueOptions: {' and '.join(sorted(missing))} must be given.")
    return given


def _text(given: Mapping[str, Any], key: str) -> str | None:
    return check_key(given[key], f"EnqueueOptions: {key}") if key in given else None


def _timeout_ms(given: Mapping[str, Any]) -> int | None:
    if "workflow_timeout" not in given:
        return None
    timeout_s = check_timeout(given["workflow_timeout"], "EnqueueOptions: workflow_timeout")
    if timeout_s <= 0:
        raise ValueError("EnqueueOptions: workflow_timeout is 0, and must be positive.")
    return round(timeout_s * 1000)


def _authentication(given: Mapping[str, Any]) -> Authentication:
    user, roles = _text(given, "authenticated_user"), given.get("authenticated_roles")
    if user is None and roles is None:
        return NOBODY
    return Authentication(user, None if roles is None else check_roles(roles, "EnqueueOptions: authenticated_roles"))
