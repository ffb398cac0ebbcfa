"""Stored values as pages show them: as text or JSON, cut where they are long. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from dbos.serialization.display import JsonValue, display
from dbos.storage.stored_values import StoredValue

MAX_STORED_CHARS = 16 * 1024
"""How long a stored value may be to be shown among others."""

MAX_SHOWN_CHARS = 4_000
_MAX_PREVIEW_CHARS = 80


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as a page shows it.

    Attributes:
        text: The value, or its beginning; ``None`` if it is too long to be read for a page with others.
        preview: The same in one line.
        chars: How long it is: as it is stored if it is not read, else as it is shown.
        attempts: If it is the error of a step that was tried again and again: the error of each attempt.
    """

    text: str | None
    preview: str
    chars: int
    attempts: Sequence[str] = ()

    @property
    def is_cut(self) -> bool:
        """Whether there is more of it."""
        return self.text is None or len(self.text) < self.chars


def shown(value: StoredValue | None) -> Shown | None:
    """The value as a page shows it; ``None`` if there is none."""
    if value is None:
        return None
    if value.text is None:
        return Shown(None, f"{value.chars:,} characters", value.chars)
    plain = display(value.text, value.format)
    text = readable(plain)
    line = _line(plain)
    preview = line if len(line) <= _MAX_PREVIEW_CHARS else f"{line[:_MAX_PREVIEW_CHARS]}…"
    return Shown(text[:MAX_SHOWN_CHARS], preview, len(text), _attempts(plain))


def readable(plain: JsonValue) -> str:
    """Plain data as people read it: a text as it is, anything else as JSON."""
    return plain if isinstance(plain, str) else json.dumps(plain, indent=2, ensure_ascii=False)


def _line(plain: JsonValue) -> str:
    if isinstance(plain, dict):
        made = cast("dict[str, Any]", plain)
        args = _list(made.get("args"))
        if "type" in made and "state" in made and args is not None:
            # An object with attributes, most often an exception.
            return f"{made['type']}({', '.join(map(json.dumps, args))})"
    return " ".join(plain.split()) if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _attempts(plain: JsonValue) -> Sequence[str]:
    """The errors that an exception gathered from one attempt after the other."""
    if not isinstance(plain, Mapping):
        return ()
    its = cast("Mapping[str, Any]", plain)
    if its.get("type") != "dbos.error.DBOSMaxStepRetriesExceeded" or not isinstance(its.get("state"), Mapping):
        return ()
    return [_line(error) for error in _list(its["state"].get("errors")) or ()]


def _list(value: object) -> list[object] | None:
    return cast("list[object]", value) if isinstance(value, list) else None
