"""The description of the admin server's interface, as OpenAPI 3.1 has it; served at ``/openapi.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbos.edges.admin.bodies import LIMIT, MAX_EPOCH_MS
from dbos.edges.records import http_step, http_workflow
from dbos.model.status import WorkflowStatusString
from dbos.storage.reads import StepRow, WorkflowRow

Schema = dict[str, Any]

_MOMENT: Schema = {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_EPOCH_MS}
_TEXT: Schema = {"type": ["string", "null"], "pattern": r"^[^\x00]*$"}
_TEXTS: Schema = {"anyOf": [_TEXT, {"type": "array", "items": {"type": "string", "pattern": r"^[^\x00]*$"}}]}
_FLAG: Schema = {"type": ["boolean", "null"]}
_COUNT: Schema = {"type": ["integer", "null"], "minimum": 0, "maximum": 2**31 - 1}
_STATUS: Schema = {"type": "string", "enum": [status.value for status in WorkflowStatusString]}
_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}

_FILTERS: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "workflow_uuids": {"type": ["array", "null"], "items": {"type": "string", "pattern": r"^[^\x00]*$"}},
        "status": {"anyOf": [_STATUS, {"type": "null"}, {"type": "array", "items": _STATUS}]},
        "start_time": {**_TIME, "description": "created at this time or later"},
        "end_time": {**_TIME, "description": "created at this time or earlier"},
        "workflow_name": _TEXTS,
        "application_version": _TEXTS,
        "forked_from": _TEXTS,
        "parent_workflow_id": _TEXTS,
        "authenticated_user": _TEXTS,
        "queue_name": _TEXTS,
        "limit": {**_COUNT, "default": LIMIT},
        "offset": _COUNT,
        "sort_desc": {**_FLAG, "description": "newest first"},
        "workflow_id_prefix": _TEXTS,
        "load_input": {**_FLAG, "description": "whether to give Input; default false"},
        "load_output": {**_FLAG, "description": "whether to give Output and Error; default false"},
        "executor_id": _TEXTS,
        "queues_only": {**_FLAG, "description": "only workflows of queues, by default those that have not ended"},
    },
}

_FORK: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "start_step": {"type": ["integer", "null"], "minimum": -(2**31), "maximum": 2**31 - 1, "default": 1},
        "new_workflow_id": {"type": ["string", "null"], "minLength": 1, "maxLength": 256, "pattern": r"^[^\x00]*$"},
        "application_version": {"type": ["string", "null"], "maxLength": 256, "pattern": r"^[^\x00]*$"},
    },
}

_QUEUE: Schema = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "concurrency": {"type": "integer"},
        "workerConcurrency": {"type": "integer"},
        "rateLimit": {
            "type": "object",
            "required": ["limit", "period"],
            "properties": {"limit": {"type": "integer"}, "period": {"type": "number", "description": "seconds"}},
        },
    },
}

_ERROR: Schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}


def _record(keys: dict[str, Any], **special: Schema) -> Schema:
    properties = {key: special.get(key, {"type": ["string", "null"]}) for key in keys}
    return {"type": "object", "required": list(keys), "additionalProperties": False, "properties": properties}


def _workflow() -> Schema:
    keys = http_workflow(WorkflowRow("", "", *([None] * 26)))  # type: ignore[arg-type]
    return _record(keys, WorkflowUUID={"type": "string"}, Status={"type": "string"})


def _step() -> Schema:
    number: Schema = {"type": ["integer", "null"]}
    return _record(
        http_step(StepRow(1, "", None, None, None, None, None, None)),
        function_id={"type": "integer"},
        function_name={"type": "string"},
        started_at_epoch_ms=number,
        completed_at_epoch_ms=number,
    )


def _content(schema: Schema, kind: str = "application/json") -> Schema:
    return {"content": {kind: {"schema": schema}}}


def _operation(
    name: str,
    summary: str,
    answer: Schema | None,
    *,
    body: Schema | None = None,
    needs_body: bool = False,
    also: Mapping[str, str] = {},
) -> Schema:
    """An operation: what it answers (nothing: 204), what it takes, and the answers it has beside, by their status."""
    responses: Schema = {"204": {"description": "done"}} if answer is None else {"200": {"description": "", **answer}}
    described = {"400": "the request makes no sense", "500": "see the server's log", "503": "the database is away"}
    if body is not None:
        described |= {"413": "the body is too large", "415": "the body is not said to be JSON"}
    for status, text in {**described, **also}.items():
        responses[status] = {"description": text, **_content({} if status == "202" else _ERROR)}
    operation: Schema = {"operationId": name, "summary": summary, "responses": responses}
    if body is not None:
        operation["requestBody"] = {"required": needs_body, **_content(body)}
    return operation


def description() -> Schema:
    """The whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dbos admin server",
            "version": "2",
            "description": "Tells of the workflows of one process, and steers them. Values are strings: stored text or "
            "JSON. If the server has a token, it is sent as 'Authorization: Bearer'.",
        },
        "paths": _paths_of_process() | _paths_of_workflows(),
    }


def _paths_of_process() -> Schema:
    text = _content({"type": "string"}, "text/plain")
    metrics = _content({"type": "string"}, "application/openmetrics-text")
    needs_package = {"501": "it needs pip install 'dbos[metrics]'"}
    ids: Schema = {"type": "array", "items": {"type": "string"}}
    labels: Schema = {"type": "array", "items": {"type": "string", "maxLength": 256, "pattern": r"^[^\x00]*$"}}
    collected: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"cutoff_epoch_timestamp_ms": _MOMENT, "rows_threshold": _COUNT},
    }
    timed_out: Schema = {
        "type": "object",
        "required": ["cutoff_epoch_timestamp_ms"],
        "additionalProperties": False,
        "properties": {"cutoff_epoch_timestamp_ms": {**_MOMENT, "type": "integer"}},
    }
    goes_on = {"202": "it takes longer, and goes on"}
    deactivated = "Dequeue and fire nothing more in this process"
    recovers = "Recover what executors of these labels left; never what is owned by one that is alive"
    times_out = "Cancel what was started before a moment"
    return {
        "/dbos-healthz": {"get": _operation("health", "Whether this process is there", text)},
        "/metrics": {"get": _operation("metrics", "Metrics to scrape", metrics, also=needs_package)},
        "/deactivate": {
            "get": _operation("deactivate", deactivated, text, also={"405": "from other machines only by POST"}),
            "post": _operation("deactivateByPost", deactivated, text),
        },
        "/dbos-workflow-queues-metadata": {
            "get": _operation("queues", "The queues of this process", _content({"type": "array", "items": _QUEUE}))
        },
        "/dbos-workflow-recovery": {
            "post": _operation("recover", recovers, _content(ids), body=labels, needs_body=True)
        },
        "/dbos-garbage-collect": {
            "post": _operation("collectGarbage", "Delete workflows that have ended", None, body=collected, also=goes_on)
        },
        "/dbos-global-timeout": {
            "post": _operation("timeOut", times_out, None, body=timed_out, needs_body=True, also=goes_on)
        },
    }


def _paths_of_workflows() -> Schema:
    workflows = _content({"type": "array", "items": _workflow()})
    new_id = _content(
        {"type": "object", "required": ["workflow_id"], "properties": {"workflow_id": {"type": "string"}}}
    )
    nothing: Schema = {"type": "object", "maxProperties": 0}
    missing = {"404": "there is no such workflow"}
    of_one: Schema = {
        "": {"get": _operation("workflow", "A workflow", _content(_workflow()), also=missing)},
        "/steps": {
            "get": _operation("steps", "Its steps", _content({"type": "array", "items": _step()}), also=missing)
        },
        "/cancel": {"post": _operation("cancel", "Cancel it", None, body=nothing, also=missing)},
        "/resume": {"post": _operation("resume", "Have it run on", None, body=nothing, also=missing)},
        "/restart": {"post": _operation("restart", "Start a copy of it", new_id, body=nothing, also=missing)},
        "/fork": {
            "post": _operation(
                "fork",
                "Start a copy of it from a step on",
                new_id,
                body=_FORK,
                also={"409": "the id is taken", **missing},
            )
        },
    }
    workflow_id = {"name": "workflow_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return {
        "/workflows": {"post": _operation("listWorkflows", "Workflows, the oldest first", workflows, body=_FILTERS)},
        "/queues": {"post": _operation("listQueued", "Workflows of queues", workflows, body=_FILTERS)},
        **{f"/workflows/{{workflow_id}}{end}": {**its, "parameters": [workflow_id]} for end, its in of_one.items()},
    }
