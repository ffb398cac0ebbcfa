"""The effects of checkpoints on PostgreSQL, as parts of the statement that writes the checkpoints.

Each part reads ``inserted``, the checkpoints that this very statement inserted, so that an effect whose checkpoint
stood already does not happen again. Effects of code inside a step have no checkpoint of their own; they happen for
whoever owns the run, which ``guard`` tells.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from dbos.model.values import Effect, Event, Message, Receipt, RunWrites, StreamEntry
from dbos.storage.rows_postgres import table

MESSAGE_COLUMNS = "mid text, dest text, topic text, text text, format text"

_OWN = "id text, token text, fid integer, recorded boolean"
_SENT_COLUMNS = f"{_OWN}, {MESSAGE_COLUMNS}"
_RECEIVED_COLUMNS = f"{_OWN}, mid text"
_EVENT_COLUMNS = f"{_OWN}, ord integer, key text, text text, format text"
_ENTRY_COLUMNS = _EVENT_COLUMNS

_KINDS: dict[type[Effect], tuple[str, str]] = {
    Message: ("sent", _SENT_COLUMNS),
    Receipt: ("received", _RECEIVED_COLUMNS),
    Event: ("event", _EVENT_COLUMNS),
    StreamEntry: ("entry", _ENTRY_COLUMNS),
}

_LOST = """receiver AS MATERIALIZED (
    SELECT workflow_uuid FROM {schema}workflow_status WHERE workflow_uuid ANY_OF(:receivers)
    ORDER BY workflow_uuid FOR KEY SHARE
), lost AS MATERIALIZED (
    SELECT id, token, fid FROM sent LEFT JOIN receiver ON workflow_uuid = dest
    WHERE workflow_uuid IS NULL AND NOT dest ANY_OF(:born)
)"""
"""The messages to workflows that do not exist, and that this batch does not start. Those that do are locked, so that
they are not deleted meanwhile."""

_FIRST = """first AS MATERIALIZED (
    SELECT id, fid FROM sent WHERE NOT EXISTS (
        SELECT 1 FROM {schema}notifications AS older
        WHERE older.destination_uuid = sent.dest AND older.topic = sent.topic)
)"""
"""The messages before which no other waits on their topic; those of one batch are not told from each other."""

FIRST_OF_ALL = "(SELECT json_agg(json_build_array(id, fid)) FROM first)"

IS_DELIVERABLE = "(step.id, step.token, step.fid) NOT IN (SELECT id, token, fid FROM lost)"
"""Whether a checkpoint is no message, or a message to a workflow that exists."""

_GONE = """gone AS MATERIALIZED (
    SELECT id, token FROM received
    WHERE (
        SELECT count(*) FROM {schema}operation_outputs AS stands
        WHERE stands.workflow_uuid = received.id AND function_id = fid) = 0
    GROUP BY id, token, mid
    HAVING count(*) > 1
    OR mid NOT IN (SELECT message_uuid FROM {schema}notifications WHERE message_uuid ANY_OF(:taken))
)"""
"""The runs that take a message that is not there, or one twice. Nothing that they recorded since can be right. They are
counted, as PostgreSQL would turn the question whether there is a row into a join with the whole table."""

IS_RIGHT = "(guard.workflow_uuid, guard.owner_xid) NOT IN (SELECT id, token FROM gone)"

_WRITES = {
    "sent": """delivered AS (
    INSERT INTO {schema}notifications (
        message_uuid, destination_uuid, topic, message, serialization, created_at_epoch_ms)
    SELECT mid, dest, topic, text, format, {now}
    FROM sent JOIN happening USING (id, token, fid, recorded) ORDER BY id, fid
)""",
    "received": """consumed AS (
    DELETE FROM {schema}notifications
    WHERE message_uuid ANY_OF(:taken)
    AND message_uuid IN (SELECT mid FROM received JOIN happening USING (id, token, fid, recorded))
)""",
    "event": """published AS (
    INSERT INTO {schema}workflow_events (workflow_uuid, key, value, serialization)
    SELECT DISTINCT ON (id, key) id, key, text, format FROM event JOIN happening USING (id, token, fid, recorded)
    ORDER BY id, key, ord DESC
    ON CONFLICT (workflow_uuid, key) DO UPDATE SET value = EXCLUDED.value, serialization = EXCLUDED.serialization
), kept AS (
    INSERT INTO {schema}workflow_events_history (workflow_uuid, key, function_id, value, serialization)
    SELECT DISTINCT ON (id, key, fid) id, key, fid, text, format
    FROM event JOIN happening USING (id, token, fid, recorded)
    ORDER BY id, key, fid, ord DESC
    ON CONFLICT (workflow_uuid, key, function_id)
    DO UPDATE SET value = EXCLUDED.value, serialization = EXCLUDED.serialization
)""",
    "entry": """tail AS MATERIALIZED (
    SELECT id, key, COALESCE((
        SELECT MAX("offset") FROM {schema}streams WHERE workflow_uuid = its.id AND streams.key = its.key), -1) AS last
    FROM (SELECT DISTINCT id, key FROM entry) AS its
), appended AS (
    INSERT INTO {schema}streams (workflow_uuid, key, "offset", value, serialization, function_id)
    SELECT id, key, last + row_number() OVER (PARTITION BY id, key ORDER BY ord), text, format, fid
    FROM entry JOIN happening USING (id, token, fid, recorded) JOIN tail USING (id, key)
)""",
}


@functools.cache
def effect_parts(kinds: frozenset[str], is_one: bool, has_steps: bool) -> tuple[list[str], list[str]]:
    """The table expressions of the given kinds of effects: those that come before the checkpoints, and those after."""
    if not kinds:
        return [], []
    columns = dict(_KINDS.values())
    ordered = sorted(kinds)
    tables = [table(kind, columns[kind], is_one) for kind in ordered]
    if "sent" in kinds:
        tables.extend((_LOST, _FIRST))
    if "received" in kinds:
        tables.append(_GONE)
    all_effects = " UNION ".join(f"SELECT id, token, fid, recorded FROM {kind}" for kind in ordered)
    recorded = (
        "(id, fid, token) IN (SELECT workflow_uuid, function_id, owner_xid FROM inserted)" if has_steps else "FALSE"
    )
    is_right = IS_RIGHT if "received" in kinds else "TRUE"
    happening = f"""happening AS MATERIALIZED (
    SELECT id, token, fid, recorded FROM ({all_effects}) AS effect
    JOIN guard ON guard.workflow_uuid = effect.id AND guard.owner_xid = effect.token
    WHERE (NOT recorded OR {recorded}) AND {is_right}
)"""
    return tables, [happening, *(_WRITES[kind] for kind in ordered)]


def effect_keys(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    """What the statement looks up, as lists: of those, unlike of documents, the server knows how long they are."""
    keys: dict[str, list[str]] = {}
    if "sent" in rows:
        keys["receivers"] = sorted({row["dest"] for row in rows["sent"]})
    if "received" in rows:
        keys["taken"] = [row["mid"] for row in rows["received"]]
    return keys


def effect_rows(runs: Sequence[RunWrites]) -> dict[str, list[dict[str, Any]]]:
    """The parameters of all effects, by kind."""
    rows: dict[str, list[dict[str, Any]]] = {}
    number = 0
    for run in runs:
        recorded = [(c.function_id, c.effect, True) for c in run.checkpoints if c.effect is not None]
        unrecorded = [(own.function_id, own.effect, False) for own in run.step_effects]
        for fid, effect, is_recorded in recorded + unrecorded:
            number += 1
            kind, row = _KINDS[type(effect)][0], _row(effect, number)
            rows.setdefault(kind, []).append(
                {"id": run.workflow_id, "token": run.token, "fid": fid, "recorded": is_recorded, **row}
            )
    return rows


def _row(effect: Effect, number: int) -> dict[str, Any]:
    match effect:
        case Message():
            return message_row(effect)
        case Receipt():
            return {"mid": effect.message_id}
        case Event() | StreamEntry():
            return {"ord": number, "key": effect.key, "text": effect.text, "format": effect.serialization}


def message_row(message: Message) -> dict[str, Any]:
    return {
        "mid": message.message_id,
        "dest": message.destination_id,
        "topic": message.topic,
        "text": message.text,
        "format": message.serialization,
    }
