"""The endpoints of the admin server, as an ASGI application.

What they do blocks on the database, so it is done in the executor's threads. Stored values are shown as text or JSON;
nothing is unpickled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from dbos.api.config import AdminSettings, is_loopback
from dbos.api.instance import new_workflow_id
from dbos.api.seams import load_edge
from dbos.api.telemetry_methods import METRICS_PACKAGE
from dbos.edges.admin.bodies import (
    read_count,
    read_filter,
    read_labels,
    read_moment,
    read_new_id,
    read_object,
    read_version,
)
from dbos.edges.admin.openapi import description
from dbos.edges.guards import ANSWER_TIMEOUT_S, FAILED, HEALTH_PATH, Entrance, Guards, Refused, json_response
from dbos.edges.records import Record, http_step, http_workflow
from dbos.error import DBOSInitializationError, DBOSNonExistentWorkflowError, DBOSWorkflowConflictIDError
from dbos.model.limits import check_known_id
from dbos.runtime.drivers import Offload
from dbos.runtime.management import cancel_workflow, fork_workflow, resume_workflow
from dbos.runtime.registry import QUEUES
from dbos.runtime.retention import cancel_all_before, collect_garbage
from dbos.storage.reads import WorkflowFilter, WorkflowRow, read_steps, read_workflows

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor

T = TypeVar("T")

CONSOLE_PATH = "/console"

_PATIENCE_S = ANSWER_TIMEOUT_S * 0.8
"""How long a request waits for work that goes on without it."""


def admin_app(executor: Executor, settings: AdminSettings) -> Guards:
    """The application for one launched executor, behind its guards."""
    console = _Console(executor, settings)
    entrance = Entrance(settings.token, is_local=is_loopback(settings.host), pages=CONSOLE_PATH)
    return Guards(_Endpoints(executor).app(console), entrance)


class _Console:
    """The console, imported when somebody first looks at it."""

    def __init__(self, executor: Executor, settings: AdminSettings) -> None:
        self._executor = executor
        self._settings = settings
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            from dbos.edges.console.app import Console

            self._app = Console(lambda: self._executor, allow_writes=self._settings.allows_console_writes).app()
        await self._app(scope, receive, send)


class _Endpoints:
    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def app(self, console: ASGIApp) -> Starlette:
        routes = [
            Mount(CONSOLE_PATH, console),
            Route(HEALTH_PATH, self.health, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/deactivate", self.deactivate, methods=["GET", "POST"]),
            Route("/dbos-workflow-queues-metadata", self.queues_metadata, methods=["GET"]),
            Route("/dbos-workflow-recovery", self.recover, methods=["POST"]),
            Route("/dbos-garbage-collect", self.garbage_collect, methods=["POST"]),
            Route("/dbos-global-timeout", self.global_timeout, methods=["POST"]),
            Route("/workflows", self.list_workflows, methods=["POST"]),
            Route("/queues", self.list_queued, methods=["POST"]),
            # An id may hold anything, also slashes.
            Route("/workflows/{workflow_id:path}/steps", self.steps, methods=["GET"]),
            Route("/workflows/{workflow_id:path}/cancel", self.cancel, methods=["POST"]),
            Route("/workflows/{workflow_id:path}/resume", self.resume, methods=["POST"]),
            Route("/workflows/{workflow_id:path}/restart", self.restart, methods=["POST"]),
            Route("/workflows/{workflow_id:path}/fork", self.fork, methods=["POST"]),
            Route("/workflows/{workflow_id:path}", self.workflow, methods=["GET"]),
        ]
        handlers = {HTTPException: _answer_error, Refused: _answer_refusal, Exception: _answer_failure}
        return Starlette(routes=routes, exception_handlers=handlers)

    # -- the process

    async def health(self, request: Request) -> Response:
        return PlainTextResponse("healthy")

    async def openapi(self, request: Request) -> Response:
        return json_response(description())

    async def metrics(self, request: Request) -> Response:
        try:
            edge = load_edge("metrics.collector", METRICS_PACKAGE, "GET /metrics")
        except DBOSInitializationError as error:
            raise Refused(501, str(error)) from None
        # What is held back is not waited for: also while the database is away there is much to tell.
        text = await Offload(self._executor.threads.submit, edge.exposition).wait()
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return Response(text, headers=headers, media_type=edge.CONTENT_TYPE)

    async def deactivate(self, request: Request) -> Response:
        if request.method != "POST" and not (request.client and is_loopback(request.client.host)):
            raise Refused(405, "From other machines, deactivate by POST.", {"Allow": "POST"})
        await self._work(self._executor.deactivate)
        return PlainTextResponse("deactivated")

    async def queues_metadata(self, request: Request) -> Response:
        queues: list[Record] = []
        for rules in QUEUES.declared():
            queue: Record = {
                "name": rules.name,
                "concurrency": rules.concurrency,
                "workerConcurrency": rules.worker_concurrency,
            }
            if rules.rate is not None:
                queue["rateLimit"] = {"limit": rules.rate.limit, "period": rules.rate.period_ms / 1000}
            queues.append({key: value for key, value in queue.items() if value is not None})
        return json_response(queues)

    async def recover(self, request: Request) -> Response:
        labels = read_labels(await request.body())
        return json_response(await self._work(lambda: self._executor.recover(labels)))

    # -- housekeeping

    async def garbage_collect(self, request: Request) -> Response:
        members = read_object(await request.body(), ("cutoff_epoch_timestamp_ms", "rows_threshold"))
        before_ms = read_moment(members, "cutoff_epoch_timestamp_ms")
        rows_kept = read_count(members, "rows_threshold")
        return await self._long_work(lambda: collect_garbage(self._executor, before_ms=before_ms, rows_kept=rows_kept))

    async def global_timeout(self, request: Request) -> Response:
        members = read_object(await request.body(), ("cutoff_epoch_timestamp_ms",))
        before_ms = read_moment(members, "cutoff_epoch_timestamp_ms")
        if before_ms is None:
            raise Refused(400, "The body must have a cutoff_epoch_timestamp_ms.")
        return await self._long_work(lambda: cancel_all_before(self._executor, before_ms))

    # -- workflows

    async def list_workflows(self, request: Request) -> Response:
        return await self._list(read_filter(await request.body(), queues_only=False))

    async def list_queued(self, request: Request) -> Response:
        return await self._list(read_filter(await request.body(), queues_only=True))

    async def workflow(self, request: Request) -> Response:
        return json_response(await self._work(lambda: http_workflow(self._find(_id(request)))))

    async def steps(self, request: Request) -> Response:
        def read() -> list[Record]:
            workflow_id = _id(request)
            self._find(workflow_id)
            return [http_step(row) for row in read_steps(self._executor.database, workflow_id)]

        return json_response(await self._work(read))

    async def cancel(self, request: Request) -> Response:
        read_object(await request.body(), ())

        def work() -> None:
            workflow_id = _id(request)
            self._find(workflow_id)
            cancel_workflow(self._executor, workflow_id)

        await self._work(work)
        return Response(status_code=204)

    async def resume(self, request: Request) -> Response:
        read_object(await request.body(), ())
        await self._work(lambda: resume_workflow(self._executor, _id(request)))
        return Response(status_code=204)

    async def restart(self, request: Request) -> Response:
        read_object(await request.body(), ())
        return await self._fork(_id(request), 1, None, None)

    async def fork(self, request: Request) -> Response:
        members = read_object(await request.body(), ("start_step", "new_workflow_id", "application_version"))
        start_step = read_count(members, "start_step", least=-(2**31))
        new_id, version = read_new_id(members), read_version(members)
        return await self._fork(_id(request), 1 if start_step is None else start_step, new_id, version)

    # -- how

    async def _fork(self, workflow_id: str, start_step: int, new_id: str | None, version: str | None) -> Response:
        def work() -> str:
            return fork_workflow(
                self._executor,
                workflow_id,
                new_id=new_id or new_workflow_id(),
                start_step=max(1, start_step),
                application_version=version,
                timeout_s=None,
            )

        return json_response({"workflow_id": await self._work(work)})

    async def _list(self, wanted: WorkflowFilter) -> Response:
        def read() -> list[Record]:
            return [http_workflow(row) for row in read_workflows(self._executor.database, wanted)]

        return json_response(await self._work(read))

    def _find(self, workflow_id: str) -> WorkflowRow:
        rows = read_workflows(self._executor.database, WorkflowFilter(workflow_ids=[workflow_id]))
        if not rows:
            raise DBOSNonExistentWorkflowError(workflow_id)
        return rows[0]

    async def _work(self, work: Callable[[], T]) -> T:
        """Call what blocks in another thread."""

        def do() -> T:
            # Nobody who reads shall miss what this process is still holding back.
            self._executor.flush()
            return work()

        offload: Awaitable[T] = Offload(self._executor.threads.submit, do).wait()
        try:
            return await offload
        except DBOSNonExistentWorkflowError as error:
            raise Refused(404, str(error)) from None
        except DBOSWorkflowConflictIDError as error:
            raise Refused(409, str(error)) from None

    async def _long_work(self, work: Callable[[], Any]) -> Response:
        """Call what may take long; 202 says that it goes on after the answer."""
        task = asyncio.ensure_future(self._work(work))
        done, _ = await asyncio.wait([task], timeout=_PATIENCE_S)
        if not done:
            return json_response({"detail": "It takes longer, and goes on."}, 202)
        task.result()
        return Response(status_code=204)


def _id(request: Request) -> str:
    workflow_id: str = request.path_params["workflow_id"]
    try:
        return check_known_id(workflow_id)
    except ValueError:
        raise Refused(404, f"There is no workflow {workflow_id[:100]!r}; no workflow can have this id.") from None


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return json_response({"error": error.detail}, error.status_code, error.headers)


async def _answer_failure(request: Request, error: Exception) -> Response:
    # It is raised on, into the log.
    return json_response({"error": FAILED}, 500)


async def _answer_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return json_response({"error": error.reason}, error.status, error.headers)
