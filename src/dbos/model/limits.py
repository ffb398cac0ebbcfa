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

MAX_TIMEOUT_S = 100 * 365 * 86400.0
"""The longest timeout, and the longest sleep: a hundred years."""

MAX_KEY_BYTES = 1024
"""The longest topic of a message, and key of an event or a stream, in bytes of UTF-8."""

MAX_QUEUE_BYTES = 512
"""The longest name of a queue, and application version, in bytes of UTF-8: both are in one entry of an index, together
with a partition's key."""

NO_TOPIC = "__null__topic__"
"""What is stored as the topic of a message without one."""

STREAM_CLOSED = "__DBOS_STREAM_CLOSED__"
"""The value that ends a closed stream."""


def check_timeout(seconds: object, what: str) -> float:
    """Return the number of seconds if it is a time to wait.

    Raises:
        TypeError: It is no number.
        ValueError: It is negative, not finite, or longer than a hundred years.
    """
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(f"{what} must be a number of seconds, not {type(seconds).__name__}.")
    if not 0 <= seconds <= MAX_TIMEOUT_S:
        raise ValueError(f"{what} is {seconds}, and must be from 0 to {MAX_TIMEOUT_S:.0f} seconds (100 years).")
    return float(seconds)


def check_interval(seconds: object, what: str) -> float:
    """Return the number of seconds if it is a time between two looks.

    Raises:
        TypeError: It is no number.
        ValueError: It is not positive, or longer than a hundred years.
    """
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(f"{what} must be a number of seconds, not {type(seconds).__name__}.")
    if not 0 < seconds <= MAX_TIMEOUT_S:
        raise ValueError(f"{what} is {seconds}, and must be a positive number of seconds.")
    return float(seconds)


def check_key(key: object, what: str, max_bytes: int = MAX_KEY_BYTES) -> str:
    """Return the name of a topic, an event or a stream if it can be stored.

    Raises:
        TypeError: It is not a string.
        ValueError: It is too long, or holds characters that a database cannot store.
    """
    if not isinstance(key, str):
        raise TypeError(f"{what} must be a str, not {type(key).__name__}.")
    check_storable(key, what)
    if len(key.encode()) > max_bytes:
        raise ValueError(f"{what} may be at most {max_bytes} bytes long; this one begins {key[:40]!r}.")
    return str.__str__(key)


def check_known_id(workflow_id: object) -> str:
    """Return the id if a workflow may have it: one that a program has set, or one derived for a child.

    Raises:
        TypeError, ValueError: As ``check_workflow_id``.
    """
    return check_workflow_id(workflow_id, MAX_DERIVED_ID_BYTES)


def check_workflow_id(workflow_id: object, max_bytes: int = MAX_ID_BYTES) -> str:
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
    if size > max_bytes:
        raise ValueError(
            f"A workflow id may be at most {max_bytes} bytes long; this one, beginning {workflow_id[:40]!r}, has "
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
