"""The effects of checkpoints on SQLite: each kind has its statement, run inside the transaction of the checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from dbos.model.values import Effect, Event, Message, Receipt, RunWrites, StreamEntry
from dbos.storage.database import Transaction

_READ_EXISTING = "SELECT workflow_uuid FROM workflow_status WHERE workflow_uuid ANY_OF(:ids)"

_READ_STANDING = "SELECT function_id FROM operation_outputs WHERE workflow_uuid = :id AND function_id ANY_OF(:fids)"

_READ_MESSAGES = "SELECT message_uuid FROM notifications WHERE message_uuid ANY_OF(:ids)"

_INSERT_MESSAGE = """
INSERT INTO notifications (message_uuid, destination_uuid, topic, message, serialization, created_at_epoch_ms)
VALUES (?, ?, ?, ?, ?, {now})"""

_DELETE_MESSAGE = "DELETE FROM notifications WHERE message_uuid = ?"

_SET_EVENT = """
INSERT INTO workflow_events (workflow_uuid, key, value, serialization) VALUES (?, ?, ?, ?)
ON CONFLICT (workflow_uuid, key) DO UPDATE SET value = excluded.value, serialization = excluded.serialization"""

_KEEP_EVENT = """
INSERT INTO workflow_events_history (workflow_uuid, key, value, serialization, function_id) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (workflow_uuid, key, function_id)
DO UPDATE SET value = excluded.value, serialization = excluded.serialization"""

_APPEND = """
INSERT INTO streams (workflow_uuid, key, value, serialization, function_id, "offset")
SELECT ?1, ?2, ?3, ?4, ?5, COALESCE(MAX("offset"), -1) + 1 FROM streams WHERE workflow_uuid = ?1 AND key = ?2"""


def existing_destinations(transaction: Transaction, messages: Sequence[Message]) -> set[str]:
    """Which of the messages' destinations exist."""
    ids = sorted({message.destination_id for message in messages})
    return {row[0] for row in transaction.rows(_READ_EXISTING, {"ids": ids})}


def has_wrong_receipt(transaction: Transaction, run: RunWrites) -> bool:
    """Whether the run takes a message that is not there, or one twice. Nothing that it recorded since can be right."""
    receipts = {c.function_id: c.effect.message_id for c in run.checkpoints if isinstance(c.effect, Receipt)}
    if not receipts:
        return False
    rows = transaction.rows(_READ_STANDING, {"id": run.workflow_id, "fids": list(receipts)})
    new = [message_id for function_id, message_id in receipts.items() if (function_id,) not in rows]
    found = transaction.rows(_READ_MESSAGES, {"ids": new})
    return len(found) < len(new)


def deliver(transaction: Transaction, messages: Sequence[Message]) -> None:
    """Put the messages before their receivers."""
    transaction.write_each(
        _INSERT_MESSAGE, [(m.message_id, m.destination_id, m.topic, m.text, m.serialization) for m in messages]
    )


def apply_effects(transaction: Transaction, workflow_id: str, effects: Sequence[tuple[int, Effect]]) -> None:
    """Have the effects of one run happen, each with the function id of its step."""
    if not effects:
        return
    deliver(transaction, [effect for _, effect in effects if isinstance(effect, Message)])
    receipts = [(effect.message_id,) for _, effect in effects if isinstance(effect, Receipt)]
    transaction.write_each(_DELETE_MESSAGE, receipts)
    events = [
        (workflow_id, effect.key, effect.text, effect.serialization, function_id)
        for function_id, effect in effects
        if isinstance(effect, Event)
    ]
    transaction.write_each(_SET_EVENT, [event[:4] for event in events])
    transaction.write_each(_KEEP_EVENT, events)
    entries = [
        (workflow_id, effect.key, effect.text, effect.serialization, function_id)
        for function_id, effect in effects
        if isinstance(effect, StreamEntry)
    ]
    transaction.write_each(_APPEND, entries)
