"""Everything has a limit, and the limits are here."""

from __future__ import annotations

MAX_ID_BYTES = 1024
"""The longest workflow id a program may set, in bytes of UTF-8 (a Postgres index entry holds some 2700)."""

MAX_DERIVED_ID_BYTES = 2048
"""The longest id of a child: its parent's id and a number for each generation."""

MAX_VALUE_CHARS = 256 * 1024 * 1024
"""The longest serialized value: safely below what one field holds on both databases."""

MAX_BATCH_WRITES = 4096
"""How many writes one commit of the journal takes."""

MAX_BATCH_CHARS = 32 * 1024 * 1024
"""How many characters of values one commit of the journal takes, unless its first write alone is longer."""

MAX_RETRY_INTERVAL_S = 3600.0
"""The longest pause between two attempts of a step."""


def check_workflow_id(workflow_id: object) -> str:
    """Return the id if a program may use it.

    Raises:
        TypeError: It is not a string.
        ValueError: It is empty, too long, or holds characters that a database cannot store.
    """
    if not isinstance(workflow_id, str):
        raise TypeError(f"A workflow id must be a str, not {type(workflow_id).__name__}.")
    if not workflow_id:
        raise ValueError("A workflow id must not be empty. Leave it out to get a random one.")
    check_storable(workflow_id, "A workflow id")
    size = len(workflow_id.encode())
    if size > MAX_ID_BYTES:
        raise ValueError(
            f"A workflow id may be at most {MAX_ID_BYTES} bytes long; this one, beginning {workflow_id[:40]!r}, has "
            f"{size}. Use a hash of it."
        )
    return workflow_id


def check_storable(text: str, what: str) -> None:
    """Raise ``ValueError`` if a database cannot store the text: NUL characters and lone surrogates."""
    if "\x00" in text:
        raise ValueError(f"{what} must not contain NUL characters: {text[:40]!r}.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} must be valid Unicode, without lone surrogates: {text[:40]!r}.") from error
