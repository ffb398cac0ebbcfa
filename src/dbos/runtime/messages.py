"""Messages: sent to a workflow by its id, received by it one after the other, each exactly once.

A message from a workflow travels with the checkpoint that records it, so it is sent once. One from outside carries a
key, under which it is sent once. Receiving a message deletes it in the transaction that records it.
"""

from __future__ import annotations

import uuid
from typing import Any

from dbos.error import DBOSNonExistentWorkflowError, DBOSSerializationError
from dbos.model.limits import NO_TOPIC
from dbos.model.values import Message, Receipt
from dbos.runtime.drivers import Core, Ending, Offload, Raised, Returned
from dbos.runtime.gateway import Gateway
from dbos.runtime.looking import decoded, look
from dbos.runtime.run import Run
from dbos.runtime.sleeping import record_wait, recorded_wait
from dbos.serialization.codec import Codec
from dbos.storage.batches import send_message
from dbos.storage.journal import Journal
from dbos.storage.waiting import MessageQuery, Value, hint

SEND = "DBOS.send"
RECV = "DBOS.recv"


def send(run: Run, function_id: int, destination_id: str, value: Any, topic: str | None) -> Core[Ending[None]]:
    """Send a message from a workflow. An unknown destination is recorded as the call's error."""
    recorded = run.find_recorded(function_id, SEND)
    if recorded is not None:
        return run.replay(recorded)
    if run.unsettled_children:
        # The message may be for one of them.
        yield from run.barrier()
    run.check()
    started_at_ms = run.executor.clock.now_ms()
    try:
        message = new_message(
            run.executor.codec, f"{run.log.token}-{function_id}", destination_id, value, topic, key=None
        )
    except DBOSSerializationError as refusal:
        return run.checkpoint(function_id, SEND, Raised(refusal), started_at_ms)
    checkpoint = run.note(function_id, SEND, started_at_ms, effect=message)
    answer = yield from run.settle(run.executor.journal.submit(run.log, checkpoint=checkpoint))
    if function_id in answer.undeliverable:
        return run.checkpoint(function_id, SEND, Raised(DBOSNonExistentWorkflowError(destination_id)), started_at_ms)
    return Returned(None)


def send_from_outside(journal: Journal, message: Message) -> Core[Ending[None]]:
    """Send a message from outside of workflows, or from a step."""
    is_known: bool = yield journal.send(message)
    return Returned(None) if is_known else Raised(DBOSNonExistentWorkflowError(message.destination_id))


def send_by_client(client: Gateway, message: Message) -> Core[Ending[None]]:
    """Send a message from a process that has no journal."""

    def work() -> bool:
        is_known = send_message(client.database, message)
        client.publish([hint("message", message.destination_id)])
        return is_known

    is_known: bool = yield Offload(client.threads.submit, work)
    return Returned(None) if is_known else Raised(DBOSNonExistentWorkflowError(message.destination_id))


def new_message(
    codec: Codec, message_id: str | None, destination_id: str, value: Any, topic: str | None, key: str | None
) -> Message:
    """The message with this value.

    Args:
        codec: Encodes the value.
        message_id: Its id; ``None`` for a random one.
        destination_id: The workflow that it is for.
        value: What it says.
        topic: What it is about, if anything.
        key: The sender's own, under which it is delivered once.

    Raises:
        DBOSSerializationError: The value cannot be stored.
    """
    encoded = codec.encode(value, lambda: f"The message to workflow {destination_id!r}")
    return Message(
        message_id or str(uuid.uuid4()),
        destination_id,
        NO_TOPIC if topic is None else topic,
        encoded.text,
        encoded.format,
        key,
        lasts=key is not None,
    )


def receive(run: Run, function_id: int, wait_id: int, topic: str | None, timeout_s: float) -> Core[Ending[Any]]:
    """Take the oldest message on the topic; wait for one if there is none; ``None`` when the time is over."""
    recorded = run.find_recorded(function_id, RECV)
    if recorded is not None:
        return run.replay(recorded)
    run.receiving += 1
    try:
        return (yield from _receive(run, function_id, wait_id, topic, timeout_s))
    finally:
        run.receiving -= 1


def _receive(run: Run, function_id: int, wait_id: int, topic: str | None, timeout_s: float) -> Core[Ending[Any]]:
    executor = run.executor
    started_at_ms, began = executor.clock.now_ms(), executor.time.moment_in(0.0)
    left_s = recorded_wait(run, wait_id)
    is_recorded = left_s is not None
    until = began + (timeout_s if left_s is None else left_s)
    query = MessageQuery(run.workflow_id, NO_TOPIC if topic is None else topic)
    run.check()
    if run.received is None:
        run.received = set()
    message: Value | None = None
    while message is None or message.message_id in run.received:
        yield from _settle_receipts(run)
        left_s = executor.time.seconds_left(until)
        if left_s <= 0:
            message = yield from look(executor, query)
            if message is None:
                executor.journal.hold(run.log, run.note(function_id, RECV, started_at_ms))
                return Returned(None)
            continue
        # Watched before it is looked for, so that nothing falls in between.
        with executor.waits.watching(query, looks_now=False) as arrival:
            message = yield from look(executor, query)
            if message is None:
                if not is_recorded:
                    record_wait(run, wait_id, left_s)
                    is_recorded = True
                yield from run.wait(arrival, seconds=left_s)
                message = arrival.result() if arrival.is_done else None
    run.received.add(message.message_id)
    checkpoint = run.note(
        function_id,
        RECV,
        started_at_ms,
        output=message.text,
        serialization=message.serialization,
        effect=Receipt(message.message_id),
    )
    executor.journal.hold(run.log, checkpoint)
    return decoded(executor, message)


def _settle_receipts(run: Run) -> Core[None]:
    """Wait until the messages that were received are gone from the database, where a look would find them again."""
    received = set(run.received or ())
    if received:
        ticket = run.executor.journal.barrier(run.log)
        if ticket is not None:
            yield from run.settle(ticket)
        if run.receiving == 1 and run.received is not None:
            # No look is under way that began when they were still there.
            run.received -= received
