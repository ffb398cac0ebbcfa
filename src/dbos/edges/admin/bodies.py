"""Reads the JSON bodies of requests: what is wrong with one is answered in words."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from typing import Any, cast

from dbos.api.reads import workflow_filter
from dbos.edges.guards import Refused
from dbos.model.limits import check_key, check_workflow_id
from dbos.storage.reads import WorkflowFilter

LIMIT = 10_000
"""How many workflows a listing gives if it does not say how many it wants."""

MAX_EPOCH_MS = 2**53
"""The latest moment that may be given: what every JSON reader can hold."""

FILTERS: Mapping[str, str] = {
    "workflow_uuids": "workflow_ids",
    "status": "status",
    "start_time": "start_time",
    "end_time": "end_time",
    "workflow_name": "name",
    "application_version": "app_version",
    "forked_from": "forked_from",
    "parent_workflow_id": "parent_workflow_id",
    "authenticated_user": "user",
    "queue_name": "queue_name",
    "limit": "limit",
    "offset": "offset",
    "sort_desc": "sort_desc",
    "workflow_id_prefix": "workflow_id_prefix",
    "load_input": "load_input",
    "load_output": "load_output",
    "executor_id": "executor_id",
    "queues_only": "queues_only",
}
"""The filters of a listing, by their names here, each with its name in ``DBOS.list_workflows``."""

_BOOLEANS = ("sort_desc", "load_input", "load_output", "queues_only")


def read_object(body: bytes, keys: Collection[str]) -> dict[str, Any]:
    """The members of a JSON object that are not null; none of an empty body.

    Args:
        body: The body.
        keys: The members that it may have.

    Raises:
        Refused: It is no such object.
    """
    value: object = _read_json(body) if body.strip() else {}
    if not isinstance(value, dict):
        raise Refused(400, "The body must be a JSON object.")
    members = cast("dict[str, object]", value)
    for key in members:
        if key not in keys:
            nearest = difflib.get_close_matches(key, keys, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else f" There are: {', '.join(keys)}."
            raise Refused(400, f"There is no member {key[:100]!r}.{hint}")
    return {key: value for key, value in members.items() if value is not None}


def read_labels(body: bytes) -> list[str]:
    """A JSON list of executor ids.

    Raises:
        Refused: It is none.
    """
    value: object = _read_json(body)
    if not isinstance(value, list):
        raise Refused(400, 'The body must be a JSON list of executor ids, such as ["local"].')
    return [_checked(check_key, label, "An executor id") for label in cast("list[object]", value)]


def read_filter(body: bytes, *, queues_only: bool) -> WorkflowFilter:
    """What a listing is to show.

    Raises:
        Refused: A filter that there is not, or a value that it cannot have.
    """
    members = read_object(body, FILTERS)
    for key in _BOOLEANS:
        if not isinstance(members.get(key, False), bool):
            raise Refused(400, f"{key} must be true or false.")
    wanted: dict[str, Any] = dict.fromkeys(FILTERS.values())
    wanted.update(sort_desc=False, load_input=False, load_output=False, queues_only=False, limit=LIMIT)
    members.update((key, read_count(members, key)) for key in ("limit", "offset") if key in members)
    wanted.update((FILTERS[key], value) for key, value in members.items())
    wanted["queues_only"] |= queues_only
    filters: WorkflowFilter = _checked(workflow_filter, **wanted)
    return filters


def read_moment(members: Mapping[str, Any], key: str) -> int | None:
    """A moment in epoch milliseconds.

    Raises:
        Refused: It is none.
    """
    return read_count(members, key, MAX_EPOCH_MS)


def read_count(members: Mapping[str, Any], key: str, most: int = 2**31 - 1, least: int = 0) -> int | None:
    """A whole number.

    Raises:
        Refused: It is none, or out of range.
    """
    value = members.get(key)
    if isinstance(value, float) and value.is_integer():
        # JSON has one kind of numbers only.
        value = int(value)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most):
        raise Refused(400, f"{key} must be a whole number from {least} to {most}.")
    return value


def read_new_id(members: Mapping[str, Any]) -> str | None:
    """The id that a fork is to have.

    Raises:
        Refused: No workflow can have it.
    """
    value = members.get("new_workflow_id")
    return None if value is None else str(_checked(check_workflow_id, value))


def read_version(members: Mapping[str, Any]) -> str | None:
    """An application version.

    Raises:
        Refused: It is none.
    """
    value = members.get("application_version")
    return None if value is None else str(_checked(check_key, value, "application_version"))


def _read_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The body is no JSON: {error}") from None


def _checked(check: Any, *arguments: Any, **options: Any) -> Any:
    try:
        return check(*arguments, **options)
    except (TypeError, ValueError, OverflowError) as error:
        raise Refused(400, str(error)) from None
