"""``DBOSClient``: the way to an application's workflows from any other program that can reach its system database."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dbos.api import listing, management
from dbos.api.client_queues import EnqueueOptions, client_enqueue_core
from dbos.api.client_schedule_methods import ClientScheduleMethods
from dbos.api.config import check_config
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos.api.instance import refuse_if_locked_out, refuse_on_loop
from dbos.api.management import cancel_core, fork_core, resume_core
from dbos.api.messaging import all_events_core, client_send_core, event_query, stream_query
from dbos.api.reads import list_steps_core, status_core
from dbos.api.status import StepInfo, WorkflowStatus
from dbos.api.twins import client_awaited, client_blocking
from dbos.error import DBOSException, DBOSInitializationError, DBOSNonExistentWorkflowError
from dbos.model.clock import SystemClock
from dbos.runtime.drivers import Core, Ending, Returned, drive, drive_async
from dbos.runtime.events import await_event
from dbos.runtime.gateway import Gateway
from dbos.runtime.streams import read_stream, read_stream_async
from dbos.serialization.codec import Codec
from dbos.serialization.serializer import Serializer

if TYPE_CHECKING:
    import sqlalchemy


_DESTROYED = "The DBOSClient was destroyed. Make a new one."


class DBOSClient(ClientScheduleMethods):
    """Sends to workflows, reads what they publish, waits for them and steers them; runs none itself.

    It works while no application runs, and makes no tables. Blocking methods may be called by several threads; their
    ``_async`` twins hold no thread while they wait. ``destroy`` closes it, as does leaving its ``with`` block.

    Args:
        database_url: The same as ``application_database_url``.
        system_database_url: The application's system database, as in its configuration.
        application_database_url: Its application database, if the system database is not given: that is then, as in
            the application's configuration, its neighbour with the suffix ``_dbos_sys``; on SQLite the same file.
        system_database_engine: A SQLAlchemy engine to use instead of the URL. It stays yours.
        dbos_system_schema: The PostgreSQL schema of the library's tables.
        serializer: The application's serializer. Without it, values that it wrote are shown as their stored text.

    Raises:
        DBOSInitializationError: The database cannot be used, or no application has made its tables yet.
    """

    def __init__(
        self,
        database_url: str | None = None,
        *,
        system_database_url: str | None = None,
        system_database_engine: sqlalchemy.Engine | None = None,
        application_database_url: str | None = None,
        dbos_system_schema: str | None = "dbos",
        serializer: Serializer | None = None,
    ) -> None:
        from dbos.storage.opening import open_existing_database

        given: dict[str, Any] = {
            "system_database_url": system_database_url,
            "application_database_url": application_database_url or database_url,
            "system_database_engine": system_database_engine,
            "dbos_system_schema": dbos_system_schema,
            "serializer": serializer,
        }
        settings = check_config({"name": "client", **given})
        if not any(given[key] for key in ("system_database_url", "application_database_url", "system_database_engine")):
            raise DBOSInitializationError(
                "DBOSClient was given no database. Give it the application's system_database_url, or a "
                "system_database_engine."
            )
        database = open_existing_database(
            url=settings.system_database_url, engine=settings.system_database_engine, schema=settings.schema
        )
        gateway = Gateway(database, Codec(serializer), SystemClock(), stopped=_DESTROYED)
        gateway.connect()
        self._gateway: Gateway | None = gateway

    def destroy(self) -> None:
        """Close the client's connections; whoever waits through it is told."""
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            gateway.close()
            gateway.database.close()

    def __enter__(self) -> DBOSClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.destroy()

    # -- enqueueing

    def enqueue(self, options: EnqueueOptions, *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
        """Enqueue a workflow of the application. When this returns, it is durable.

        Nobody checks whether the application has such a queue and such a function: if not, the workflow waits, and the
        application says so in its log.

        Args:
            options: What to enqueue, where and how.
            *args: The workflow's arguments.
            **kwargs: Its keyword arguments.

        Raises:
            DBOSQueueDeduplicatedError: The queue holds a workflow with the deduplication id.
            DBOSConflictingWorkflowError: The id belongs to a workflow of another function.
            DBOSSerializationError: The arguments cannot be stored.
            TypeError, ValueError: The options are wrong.
        """
        refuse_on_loop("DBOSClient.enqueue")
        workflow_id = drive(client_enqueue_core(self.gateway, options, args, kwargs))
        return WorkflowHandle(workflow_id, client=self.gateway)

    def enqueue_async(
        self, options: EnqueueOptions, *args: Any, **kwargs: Any
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As ``enqueue``."""
        return self._handle_after(drive_async(client_enqueue_core(self.gateway, options, args, kwargs)))

    # -- finding

    def retrieve_workflow(self, workflow_id: str) -> WorkflowHandle[Any]:
        """The handle of a workflow by its id.

        Raises:
            DBOSNonExistentWorkflowError: There is no such workflow.
        """
        refuse_on_loop("DBOSClient.retrieve_workflow")
        drive(self._existing(workflow_id))
        return WorkflowHandle(workflow_id, client=self.gateway)

    async def retrieve_workflow_async(self, workflow_id: str) -> WorkflowHandleAsync[Any]:
        """As ``retrieve_workflow``."""
        await drive_async(self._existing(workflow_id))
        return WorkflowHandleAsync(workflow_id, client=self.gateway)

    def get_workflow_status(self, workflow_id: str) -> WorkflowStatus | None:
        """The workflow as it is recorded now; ``None`` if there is no such workflow."""
        refuse_on_loop("DBOSClient.get_workflow_status")
        return drive(status_core(workflow_id, "DBOSClient.get_workflow_status", self.gateway))

    def get_workflow_status_async(self, workflow_id: str) -> Coroutine[Any, Any, WorkflowStatus | None]:
        """As ``get_workflow_status``."""
        return drive_async(status_core(workflow_id, "DBOSClient.get_workflow_status_async", self.gateway))

    list_workflows = client_blocking(listing.list_workflows)
    list_workflows_async = client_awaited(listing.list_workflows)
    list_queued_workflows = client_blocking(listing.list_queued_workflows)
    list_queued_workflows_async = client_awaited(listing.list_queued_workflows)

    def list_workflow_steps(self, workflow_id: str) -> list[StepInfo]:
        """The recorded steps of a workflow, in the order in which it started them; none if there is no such one."""
        refuse_on_loop("DBOSClient.list_workflow_steps")
        return drive(list_steps_core(workflow_id, self.gateway))

    def list_workflow_steps_async(self, workflow_id: str) -> Coroutine[Any, Any, list[StepInfo]]:
        """As ``list_workflow_steps``."""
        return drive_async(list_steps_core(workflow_id, self.gateway))

    # -- talking

    def send(
        self, destination_id: str, message: Any, topic: str | None = None, idempotency_key: str | None = None
    ) -> None:
        """Send a message to a workflow. When this returns, the message is durable.

        Args:
            destination_id: The workflow's id.
            message: Any value that can be stored.
            topic: What it is about; the receiver asks for a topic, or for messages without one.
            idempotency_key: With the same key and destination a message is delivered once, however often it is sent.

        Raises:
            DBOSNonExistentWorkflowError: There is no such workflow.
            DBOSSerializationError: The message cannot be stored.
        """
        refuse_on_loop("DBOSClient.send")
        drive(client_send_core(self.gateway, destination_id, message, topic, idempotency_key))

    def send_async(
        self, destination_id: str, message: Any, topic: str | None = None, idempotency_key: str | None = None
    ) -> Coroutine[Any, Any, None]:
        """As ``send``."""
        return drive_async(client_send_core(self.gateway, destination_id, message, topic, idempotency_key))

    def get_event(self, workflow_id: str, key: str, timeout_seconds: float = 60) -> Any:
        """The value that a workflow has published under the key; waits for it if there is none yet.

        Args:
            workflow_id: The workflow, which need not exist yet.
            key: The event's key.
            timeout_seconds: How long to wait at most. With 0 it returns what is there.

        Returns:
            The newest value; ``None`` if there was none in time.
        """
        refuse_on_loop("DBOSClient.get_event")
        return drive(await_event(self.gateway, *event_query(workflow_id, key, timeout_seconds)))

    def get_event_async(self, workflow_id: str, key: str, timeout_seconds: float = 60) -> Coroutine[Any, Any, Any]:
        """As ``get_event``; waiting holds no thread."""
        return drive_async(await_event(self.gateway, *event_query(workflow_id, key, timeout_seconds)))

    def get_all_events(self, workflow_id: str) -> dict[str, Any]:
        """The newest values of all events of a workflow, by key; empty if there is none, or no such workflow."""
        refuse_on_loop("DBOSClient.get_all_events")
        return drive(all_events_core(workflow_id, "DBOSClient.get_all_events", self.gateway))

    def get_all_events_async(self, workflow_id: str) -> Coroutine[Any, Any, dict[str, Any]]:
        """As ``get_all_events``."""
        return drive_async(all_events_core(workflow_id, "DBOSClient.get_all_events_async", self.gateway))

    def read_stream(self, workflow_id: str, key: str) -> Generator[Any, None, None]:
        """The values of a workflow's stream from the first on, as they come, until it is closed or the workflow ends.

        Raises:
            DBOSNonExistentWorkflowError: There is no such workflow.
        """
        refuse_on_loop("DBOSClient.read_stream")
        return read_stream(self.gateway, stream_query(workflow_id, key))

    def read_stream_async(self, workflow_id: str, key: str) -> AsyncGenerator[Any, None]:
        """As ``read_stream``, for ``async for``; waiting holds no thread."""
        return read_stream_async(self.gateway, stream_query(workflow_id, key))

    # -- steering

    def cancel_workflow(self, workflow_id: str) -> None:
        """Cancel a workflow: it stops before its next step, and if it waits, at once. See ``DBOS.cancel_workflow``."""
        refuse_on_loop("DBOSClient.cancel_workflow")
        drive(cancel_core(workflow_id, self.gateway))

    def cancel_workflow_async(self, workflow_id: str) -> Coroutine[Any, Any, None]:
        """As ``cancel_workflow``."""
        return drive_async(cancel_core(workflow_id, self.gateway))

    def resume_workflow(self, workflow_id: str) -> WorkflowHandle[Any]:
        """Have a workflow that was cancelled or given up run on, by an executor. See ``DBOS.resume_workflow``.

        Raises:
            DBOSNonExistentWorkflowError: There is no such workflow.
        """
        refuse_on_loop("DBOSClient.resume_workflow")
        return WorkflowHandle(drive(resume_core(workflow_id, self.gateway)), client=self.gateway)

    def resume_workflow_async(self, workflow_id: str) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As ``resume_workflow``."""
        return self._handle_after(drive_async(resume_core(workflow_id, self.gateway)))

    def fork_workflow(
        self, workflow_id: str, start_step: int, *, application_version: str | None = None
    ) -> WorkflowHandle[Any]:
        """Start a copy of a workflow that begins with the given step. See ``DBOS.fork_workflow``.

        Raises:
            DBOSNonExistentWorkflowError: There is no such workflow.
            DBOSWorkflowConflictIDError: The id that was set belongs to another workflow.
        """
        refuse_on_loop("DBOSClient.fork_workflow")
        core = fork_core(workflow_id, start_step, application_version, self.gateway)
        return WorkflowHandle(drive(core), client=self.gateway)

    def fork_workflow_async(
        self, workflow_id: str, start_step: int, *, application_version: str | None = None
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As ``fork_workflow``."""
        core = fork_core(workflow_id, start_step, application_version, self.gateway)
        return self._handle_after(drive_async(core))

    delete_workflow = client_blocking(management.delete_workflow)
    delete_workflow_async = client_awaited(management.delete_workflow)
    delete_workflows = client_blocking(management.delete_workflows)
    delete_workflows_async = client_awaited(management.delete_workflows)

    # -- its own

    @property
    def gateway(self) -> Gateway:
        """The way to the database. Not for programs to use.

        Raises:
            DBOSException: The client was destroyed, or is called in a transaction that locks it out.
        """
        if self._gateway is None:
            raise DBOSException(_DESTROYED)
        refuse_if_locked_out(self._gateway)
        return self._gateway

    def _existing(self, workflow_id: str) -> Core[Ending[None]]:
        status = yield from status_core(workflow_id, "DBOSClient.retrieve_workflow", self.gateway)
        if status.unwrap() is None:
            raise DBOSNonExistentWorkflowError(workflow_id)
        return Returned(None)

    async def _handle_after(self, workflow_id: Coroutine[Any, Any, str]) -> WorkflowHandleAsync[Any]:
        return WorkflowHandleAsync(await workflow_id, client=self.gateway)
