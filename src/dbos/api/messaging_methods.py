"""The part of ``DBOS`` by which workflows wait and talk: sleep, messages, events, streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import Any

from dbos.api.instance import get_executor, refuse_on_loop
from dbos.api.messaging import (
    all_events_core,
    close_stream_core,
    get_event_core,
    reading_run,
    recv_core,
    send_core,
    set_event_core,
    sleep_core,
    stream_query,
    write_stream_core,
)
from dbos.runtime.drivers import drive, drive_async
from dbos.runtime.streams import read_stream, read_stream_async


class MessagingMethods:
    """Sleep, messages, events, streams."""

    # -- sleep

    @classmethod
    def sleep(cls, seconds: float) -> None:
        """Sleep durably, in a workflow: interrupted and recovered, it wakes when it would have woken anyway.

        In a step it is a plain sleep.

        Args:
            seconds: From 0 to a hundred years.

        Raises:
            DBOSException: Called outside of workflows.
            ValueError: A negative, infinite or absurd time.
        """
        refuse_on_loop("DBOS.sleep")
        drive(sleep_core(seconds, "DBOS.sleep"))

    @classmethod
    def sleep_async(cls, seconds: float) -> Coroutine[Any, Any, None]:
        """As ``sleep``; it holds no thread."""
        return drive_async(sleep_core(seconds, "DBOS.sleep_async"))

    # -- messages

    @classmethod
    def send(cls, destination_id: str, message: Any, topic: str | None = None) -> None:
        """Send a message to a workflow, which gets it by ``recv``, now or later.

        When this returns, the message is durable. From a workflow it is sent exactly once. From anywhere else too, if
        ``SetWorkflowID`` gives an idempotency key: with the same key and destination it is delivered once.

        Args:
            destination_id: The workflow's id.
            message: Any value that can be stored.
            topic: What it is about; the receiver asks for a topic, or for messages without one.

        Raises:
            DBOSNonExistentWorkflowError: There is no such workflow.
            DBOSSerializationError: The message cannot be stored.
        """
        refuse_on_loop("DBOS.send")
        drive(send_core(destination_id, message, topic, "DBOS.send"))

    @classmethod
    def send_async(cls, destination_id: str, message: Any, topic: str | None = None) -> Coroutine[Any, Any, None]:
        """As ``send``."""
        return drive_async(send_core(destination_id, message, topic, "DBOS.send_async"))

    @classmethod
    def recv(cls, topic: str | None = None, timeout_seconds: float = 60) -> Any:
        """Take the oldest message that was sent to this workflow on the topic, or wait for one.

        What it returned is recorded; a wait that is interrupted goes on after recovery for the time that is left.

        Args:
            topic: Only messages on this topic; ``None``: only those without one.
            timeout_seconds: How long to wait at most. With 0 it takes what is there.

        Returns:
            The message; ``None`` if none came in time.

        Raises:
            DBOSException: Called outside of workflows, or in a step.
            ValueError: A negative, infinite or absurd time.
        """
        refuse_on_loop("DBOS.recv")
        return drive(recv_core(topic, timeout_seconds, "DBOS.recv"))

    @classmethod
    def recv_async(cls, topic: str | None = None, timeout_seconds: float = 60) -> Coroutine[Any, Any, Any]:
        """As ``recv``; waiting holds no thread."""
        return drive_async(recv_core(topic, timeout_seconds, "DBOS.recv_async"))

    # -- events

    @classmethod
    def set_event(cls, key: str, value: Any) -> None:
        """Publish a value of this workflow under the key, or replace the one that is published.

        Args:
            key: At most 1024 bytes of UTF-8.
            value: Any value that can be stored.

        Raises:
            DBOSException: Called outside of workflows and steps.
            DBOSSerializationError: The value cannot be stored.
        """
        refuse_on_loop("DBOS.set_event")
        drive(set_event_core(key, value, "DBOS.set_event"))

    @classmethod
    def set_event_async(cls, key: str, value: Any) -> Coroutine[Any, Any, None]:
        """As ``set_event``."""
        return drive_async(set_event_core(key, value, "DBOS.set_event_async"))

    @classmethod
    def get_event(cls, workflow_id: str, key: str, timeout_seconds: float = 60) -> Any:
        """The value that a workflow has published under the key; waits for it if there is none yet.

        In a workflow, what it returned is recorded.

        Args:
            workflow_id: The workflow, which need not exist yet.
            key: The event's key.
            timeout_seconds: How long to wait at most. With 0 it returns what is there.

        Returns:
            The newest value; ``None`` if there was none in time.

        Raises:
            ValueError: A negative, infinite or absurd time.
        """
        refuse_on_loop("DBOS.get_event")
        return drive(get_event_core(workflow_id, key, timeout_seconds, "DBOS.get_event"))

    @classmethod
    def get_event_async(cls, workflow_id: str, key: str, timeout_seconds: float = 60) -> Coroutine[Any, Any, Any]:
        """As ``get_event``; waiting holds no thread."""
        return drive_async(get_event_core(workflow_id, key, timeout_seconds, "DBOS.get_event_async"))

    @classmethod
    def get_all_events(cls, workflow_id: str) -> dict[str, Any]:
        """The newest values of all events of a workflow, by key; empty if there is none, or no such workflow."""
        refuse_on_loop("DBOS.get_all_events")
        return drive(all_events_core(workflow_id, "DBOS.get_all_events"))

    @classmethod
    def get_all_events_async(cls, workflow_id: str) -> Coroutine[Any, Any, dict[str, Any]]:
        """As ``get_all_events``."""
        return drive_async(all_events_core(workflow_id, "DBOS.get_all_events_async"))

    # -- streams

    @classmethod
    def write_stream(cls, key: str, value: Any) -> None:
        """Append a value to one of this workflow's streams.

        From a workflow it is written exactly once, from a step each time that the step gets here.

        Args:
            key: The stream's key, at most 1024 bytes of UTF-8.
            value: Any value that can be stored.

        Raises:
            DBOSException: Called outside of workflows and steps.
            DBOSSerializationError: The value cannot be stored.
        """
        refuse_on_loop("DBOS.write_stream")
        drive(write_stream_core(key, value, "DBOS.write_stream"))

    @classmethod
    def write_stream_async(cls, key: str, value: Any) -> Coroutine[Any, Any, None]:
        """As ``write_stream``."""
        return drive_async(write_stream_core(key, value, "DBOS.write_stream_async"))

    @classmethod
    def close_stream(cls, key: str) -> None:
        """End one of this workflow's streams: its readers stop here. The end of the workflow ends all its streams.

        Raises:
            DBOSException: Called outside of workflows, or in a step.
        """
        refuse_on_loop("DBOS.close_stream")
        drive(close_stream_core(key, "DBOS.close_stream"))

    @classmethod
    def close_stream_async(cls, key: str) -> Coroutine[Any, Any, None]:
        """As ``close_stream``."""
        return drive_async(close_stream_core(key, "DBOS.close_stream_async"))

    @classmethod
    def read_stream(cls, workflow_id: str, key: str) -> Generator[Any, None, None]:
        """The values of a workflow's stream from the first on, as they come, until it is closed or the workflow ends.

        Any number may read, at any time. In a workflow, what was read is not recorded.

        Raises:
            DBOSNonExistentWorkflowError: There is no such workflow.
        """
        refuse_on_loop("DBOS.read_stream")
        return read_stream(get_executor("DBOS.read_stream"), stream_query(workflow_id, key), reading_run())

    @classmethod
    def read_stream_async(cls, workflow_id: str, key: str) -> AsyncGenerator[Any, None]:
        """As ``read_stream``, for ``async for``; waiting holds no thread."""
        return read_stream_async(get_executor("DBOS.read_stream_async"), stream_query(workflow_id, key), reading_run())
