"""What requests ask for: the parts of their queries, checked."""

from __future__ import annotations

from starlette.requests import Request

from dbos.edges.guards import Refused
from dbos.model.limits import check_key, check_known_id

MAX_NUMBER = 2**31 - 1


def workflow_id_of(request: Request) -> str:
    """The id in the query.

    Raises:
        Refused: There is none, or no workflow can have it.
    """
    return checked_id(request.query_params.get("id"))


def checked_id(workflow_id: str | None) -> str:
    """The id, if a workflow can have it.

    Raises:
        Refused: There is none, or no workflow can have it.
    """
    if workflow_id is None:
        raise Refused(400, "Which workflow? The address of this page ends with ?id= and the workflow's id.")
    try:
        return check_known_id(workflow_id)
    except ValueError as error:
        raise Refused(404, f"There is no such workflow. {error}") from None


def key_of(request: Request, name: str) -> str | None:
    """The key of an event or a stream in the query; ``None`` if there is none.

    Raises:
        Refused: Nothing can have it.
    """
    key = request.query_params.get(name)
    try:
        return None if key is None else check_key(key, name)
    except ValueError as error:
        raise Refused(404, f"There is no such thing. {error}") from None


def number_of(request: Request, name: str, default: int, least: int = 0) -> int:
    """A whole number in the query.

    Raises:
        Refused: It is none, or out of range.
    """
    return checked_number(request.query_params.get(name) or str(default), name, least)


def checked_number(text: str, name: str, least: int = 0) -> int:
    """The whole number that the text says.

    Raises:
        Refused: It says none, or one that is out of range.
    """
    is_number = text.isascii() and text.removeprefix("-").isdecimal() and len(text) < 12
    if not is_number or not least <= int(text) <= MAX_NUMBER:
        raise Refused(400, f"{name} must be a whole number from {least} to {MAX_NUMBER}, and is {text[:40]!r}.")
    return int(text)
