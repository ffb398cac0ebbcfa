"""The forms on a workflow's page: cancel it, have it run on, fork it, delete it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dbos.api.instance import new_workflow_id
from dbos.edges.console.asked import checked_id, checked_number
from dbos.edges.console.forms import Form
from dbos.edges.console.rendering import url
from dbos.edges.guards import Refused
from dbos.error import DBOSNonExistentWorkflowError
from dbos.model.limits import MAX_QUEUE_BYTES, check_key, check_workflow_id
from dbos.model.status import CANCELLED, ENQUEUED, ERROR, LIVE, MAX_RECOVERY_ATTEMPTS_EXCEEDED, PENDING
from dbos.runtime.gateway import Gateway
from dbos.runtime.management import cancel_workflow, delete_workflows, fork_workflow, resume_workflow
from dbos.storage.family import read_relatives

if TYPE_CHECKING:
    from dbos.edges.console.app import Console

Done = tuple[str, bool]
"""What was done, in words, and whether it was what had been asked for."""


def routes(console: Console) -> list[BaseRoute]:
    """The routes of these forms."""

    async def cancel(request: Request) -> Response:
        workflow_id = _id(await console.form(request))
        text, is_done = await console.work(lambda gateway: _cancel(gateway, workflow_id))
        return console.redirect(request, url(request, "workflow", id=workflow_id), text, is_error=not is_done)

    async def resume(request: Request) -> Response:
        workflow_id = _id(await console.form(request))
        text, is_done = await console.work(lambda gateway: _resume(gateway, workflow_id))
        return console.redirect(request, url(request, "workflow", id=workflow_id), text, is_error=not is_done)

    async def fork(request: Request) -> Response:
        form = await console.form(request)
        workflow_id, new_id, version = _id(form), _new_id(form), _version(form)
        step = checked_number(form.text("step") or "1", "The step", least=1)
        await console.work(
            lambda gateway: fork_workflow(
                gateway,
                workflow_id,
                new_id=new_id,
                start_step=step,
                application_version=version,
                timeout_s=None,
            )
        )
        whose = "any version" if version is None else f"version {version}"
        text = (
            f"This is the fork of {workflow_id} from step {step} on. It starts as soon as an executor of {whose} can."
        )
        return console.redirect(request, url(request, "workflow", id=new_id), text)

    async def delete(request: Request) -> Response:
        form = await console.form(request)
        workflow_id, with_descendants = _id(form), form.text("descendants") is not None
        if form.text("sure") is None:
            raise Refused(400, "Nothing was deleted: say that you are sure, by the check mark beside the button.")

        def work(gateway: Gateway) -> None:
            _status(gateway, workflow_id)
            delete_workflows(gateway, [workflow_id], with_descendants=with_descendants)

        await console.work(work)
        text = f"{workflow_id} was deleted{', with all its descendants' if with_descendants else ''}."
        return console.redirect(request, url(request, "workflows"), text)

    return [
        Route(f"/workflow/{action.__name__}", action, methods=["POST"], name=action.__name__)
        for action in (cancel, resume, fork, delete)
    ]


def _cancel(gateway: Gateway, workflow_id: str) -> Done:
    before = _status(gateway, workflow_id)
    if before in LIVE:
        cancel_workflow(gateway, workflow_id)
    after = _status(gateway, workflow_id)
    if before in LIVE and after == CANCELLED:
        return "It was cancelled. A step that is running ends, and is recorded; no other one begins.", True
    return f"Nothing was done: it has ended already ({after}).", False


def _resume(gateway: Gateway, workflow_id: str) -> Done:
    before = _status(gateway, workflow_id)
    resume_workflow(gateway, workflow_id)
    if before in (CANCELLED, MAX_RECOVERY_ATTEMPTS_EXCEEDED):
        return "It runs on after its last recorded step, as soon as an executor of its version can.", True
    if before == ENQUEUED:
        return "It starts as soon as an executor of its version can, whatever its queue allows.", True
    if before == PENDING:
        return "Nothing was done: it is running.", False
    how = "Fork it from a step to run it again." if before == ERROR else "It can be forked."
    return f"Nothing was done: it has ended ({before}). {how}", False


def _status(gateway: Gateway, workflow_id: str) -> str:
    relatives = read_relatives(gateway.database, [workflow_id])
    if workflow_id not in relatives:
        raise DBOSNonExistentWorkflowError(workflow_id)
    return relatives[workflow_id].status


# -- fields; ids are taken as they are, as spaces may belong to them


def _id(form: Form) -> str:
    return checked_id(next(iter(form.all("id")), None))


def _new_id(form: Form) -> str:
    given = next(iter(form.all("new_id")), "")
    try:
        return check_workflow_id(given) if given else new_workflow_id()
    except ValueError as error:
        raise Refused(400, str(error)) from None


def _version(form: Form) -> str | None:
    given = form.text("version")
    try:
        return None if given is None else check_key(given, "An application version", MAX_QUEUE_BYTES)
    except ValueError as error:
        raise Refused(400, str(error)) from None
