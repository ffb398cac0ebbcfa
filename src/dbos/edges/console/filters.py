"""What a list of workflows is asked for: the query of its address, checked, and as its form shows it again."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from starlette.datastructures import QueryParams

from dbos.api.reads import check_texts, workflow_filter
from dbos.model.status import WorkflowStatusString
from dbos.storage.overview import Place
from dbos.storage.reads import WorkflowFilter

STATUSES = tuple(status.value for status in WorkflowStatusString)

TEXT_FILTERS: Mapping[str, str] = {
    "name": "Function",
    "queue_name": "Queue",
    "app_version": "Version",
    "executor_id": "Executor",
    "user": "User",
    "parent_workflow_id": "Child of",
    "forked_from": "Fork of",
    "workflow_id_prefix": "Id begins with",
    "workflow_ids": "Id is",
}
"""The filters that are texts, by their names in ``DBOS.list_workflows``, with what the form calls them."""

TIME_FILTERS: Mapping[str, str] = {"start_time": "Created from", "end_time": "Created until"}

SIZES = (20, 50, 100, 200)
DEFAULT_SIZE = 50

_PLACE = re.compile(r"(-?[0-9]{1,18})\.([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list is asked for.

    Attributes:
        workflows: Which workflows.
        text: Only those whose ids or names begin with it.
        start: Where the page begins; ``None``: with the newest one.
        size: How many are on a page.
    """

    workflows: WorkflowFilter
    text: str | None
    start: Place | None
    size: int


def read_query(query: QueryParams) -> Wanted:
    """What the query of an address asks for. What it does not know, it passes over.

    Raises:
        TypeError, ValueError: A value that makes no sense; the message says which.
    """
    text = given(query, "q")
    if text is not None:
        check_texts("The search", text)
    arguments: dict[str, Any] = {name: given(query, name) for name in TEXT_FILTERS}
    for name in TIME_FILTERS:
        its = given(query, name)
        arguments[name] = None if its is None else _in_utc(its[0])
    size = (given(query, "size") or [str(DEFAULT_SIZE)])[0]
    if not (size.isascii() and size.isdigit() and int(size) in SIZES):
        raise ValueError(f"size is {size[:20]!r}, and must be one of {', '.join(map(str, SIZES))}.")
    workflows = workflow_filter(
        **arguments,
        status=given(query, "status"),
        queues_only=query.get("queues_only") == "1",
        limit=None,
        offset=None,
        sort_desc=True,
        load_input=False,
        load_output=False,
    )
    return Wanted(workflows, None if text is None else text[0], read_place(query.get("at")), int(size))


def given(query: QueryParams, name: str) -> list[str] | None:
    """The values of a parameter without space around them; ``None`` if there are none but empty ones."""
    return [value.strip() for value in query.getlist(name) if value.strip()] or None


def used(query: QueryParams) -> list[str]:
    """The names of the filters that are used, of those that a form need not show."""
    return [name for name in (*TEXT_FILTERS, *TIME_FILTERS, "queues_only") if given(query, name)]


def is_filtered(query: QueryParams) -> bool:
    """Whether not all workflows are asked for."""
    return bool(used(query) or given(query, "q") or given(query, "status"))


def read_place(text: str | None) -> Place | None:
    """A place as ``shown_place`` writes it; ``None`` if it is none."""
    match = _PLACE.fullmatch(text or "")
    return None if match is None else Place(int(match[1]), int(match[2]))


def shown_place(place: Place) -> str:
    return f"{place.created_at}.{place.seq}"


def shown_time(query: QueryParams, name: str) -> str:
    """A time as a form's field for it has it, in UTC; empty if there is none."""
    its = given(query, name)
    try:
        moment = datetime.fromisoformat(_in_utc(its[0]).replace("Z", "+00:00")) if its else None
        return "" if moment is None else moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError):
        return ""


def with_place(query: QueryParams, place: Place | None) -> str:
    """The query for another page of the same list."""
    items = [(name, value) for name, value in query.multi_items() if name != "at" and value.strip()]
    return urllib.parse.urlencode(items + ([] if place is None else [("at", shown_place(place))]), errors="replace")


def _in_utc(text: str) -> str:
    """What a field for a time sends has no offset; here it means UTC, as all times of the console do."""
    return f"{text}+00:00" if re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?", text) else text
