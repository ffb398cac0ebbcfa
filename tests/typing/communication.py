"""What type checkers see of sleep, messages, events and streams. Never run; see `public_api`."""

# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedCoroutine=false

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any

from typing_extensions import assert_type

from dbos import DBOS


def blocking_methods() -> None:
    DBOS.sleep(1.5)
    DBOS.send("id", {"any": "value"}, topic="t")
    assert_type(DBOS.recv("topic", timeout_seconds=0.5), Any)
    DBOS.set_event("key", object())
    assert_type(DBOS.get_event("id", "key", timeout_seconds=60), Any)
    assert_type(DBOS.get_all_events("id"), dict[str, Any])
    DBOS.write_stream("key", 1)
    DBOS.close_stream("key")
    assert_type(DBOS.read_stream("id", "key"), Generator[Any, None, None])
    DBOS.sleep("1")  # type: ignore[arg-type]
    DBOS.send("id")  # type: ignore[call-arg]
    DBOS.recv(1)  # type: ignore[arg-type]
    DBOS.get_event("id")  # type: ignore[call-arg]


async def async_methods() -> None:
    await DBOS.sleep_async(1)
    await DBOS.send_async("id", 1)
    assert_type(await DBOS.recv_async(timeout_seconds=1), Any)
    await DBOS.set_event_async("key", 1)
    assert_type(await DBOS.get_event_async("id", "key"), Any)
    assert_type(await DBOS.get_all_events_async("id"), dict[str, Any])
    await DBOS.write_stream_async("key", 1)
    await DBOS.close_stream_async("key")
    assert_type(DBOS.read_stream_async("id", "key"), AsyncGenerator[Any, None])
    async for value in DBOS.read_stream_async("id", "key"):
        assert_type(value, Any)
    await DBOS.sleep_async(None)  # type: ignore[arg-type]
