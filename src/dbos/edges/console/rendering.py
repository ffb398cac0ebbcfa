"""The templates, and how they write what they show."""

from __future__ import annotations

import urllib.parse
from datetime import datetime, timezone
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request

from dbos.model.durations import in_words
from dbos.serialization.display import display_text

MAX_SHOWN_CHARS = 20_000
"""How much of a stored value a page shows."""


@cache
def templates() -> Environment:
    """The templates of all pages. What they show is escaped, and what they do not have is an error."""
    environment = Environment(
        loader=PackageLoader("dbos.edges.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    filters: dict[str, Any] = environment.filters
    filters.update(moment=moment, words=words, stored=stored)
    return environment


def root(request: Request) -> str:
    """Where the console is mounted, as part of a link."""
    return urllib.parse.quote(request.scope.get("root_path", ""))


def url(request: Request, name: str, /, **query: Any) -> str:
    """The path of a page, wherever the console is mounted, with a query of what is not ``None``.

    Args:
        request: A request to the console.
        name: The name of the page's route.
        **query: A value, or a list of them, for each name.
    """
    path = root(request) + request.app.url_path_for(name)
    given = {key: value for key, value in query.items() if value is not None}
    return f"{path}?{urllib.parse.urlencode(given, doseq=True, errors='replace')}" if given else path


def moment(epoch_ms: int | None, precise: bool = False) -> str | Markup:
    """A moment in UTC, to the second, or to the millisecond; a dash if there is none."""
    if epoch_ms is None:
        return "–"
    try:
        its = datetime.fromtimestamp(epoch_ms / 1000, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return str(epoch_ms)
    text = its.strftime("%Y-%m-%d %H:%M:%S")
    return Markup('<time datetime="{}">{}</time>').format(
        its.isoformat(timespec="milliseconds"), f"{text}.{epoch_ms % 1000:03}" if precise else text
    )


def words(milliseconds: float | None) -> str:
    """A length of time in words; a dash if there is none."""
    if milliseconds is None:
        return "–"
    return f"{max(milliseconds, 0):.0f} ms" if milliseconds < 1000 else in_words(milliseconds)


def stored(text: str | None, format: str | None) -> str:
    """A stored value as text or JSON, cut if it is very long. Nothing is unpickled."""
    shown = display_text(text, format)
    if shown is None:
        return ""
    left = len(shown) - MAX_SHOWN_CHARS
    return shown if left <= 0 else f"{shown[:MAX_SHOWN_CHARS]}… ({left} more characters)"
