"""Promises and bells."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dbos.storage.promise import Bell, Promise, new_sleeper
from tests.support.apps import eventually

WAIT_S = 30.0


def test_a_settled_promise_gives_its_value_at_once() -> None:
    promise: Promise[int] = Promise()
    assert not promise.is_done
    promise.resolve(7)
    assert promise.is_done
    assert (promise.block(), promise.result(), asyncio.run(promise.wait())) == (7, 7, 7)


def test_a_rejected_promise_raises_to_everyone() -> None:
    promise: Promise[int] = Promise()
    error = KeyboardInterrupt("wrong")
    promise.reject(error)
    for ask in (promise.block, promise.result, lambda: asyncio.run(promise.wait())):
        with pytest.raises(KeyboardInterrupt) as caught:
            ask()
        assert caught.value is error


def test_the_first_settlement_holds() -> None:
    promise: Promise[int] = Promise()
    promise.resolve(1)
    promise.reject(ValueError("late"))
    promise.resolve(2)
    assert promise.block() == 1


def test_none_is_a_value() -> None:
    promise: Promise[None] = Promise()
    promise.resolve(None)
    assert promise.block() is None


def test_threads_loops_and_callbacks_all_learn_of_it() -> None:
    promise: Promise[int] = Promise()
    called: list[threading.Thread] = []
    promise.then(lambda: called.append(threading.current_thread()))
    ready = threading.Semaphore(0)

    def block() -> int:
        ready.release()
        return promise.block()

    async def wait() -> list[int]:
        waiting = asyncio.gather(*(promise.wait() for _ in range(3)))
        await asyncio.sleep(0)
        ready.release()
        return list(await waiting)

    with ThreadPoolExecutor(5) as threads:
        blocking = [threads.submit(block) for _ in range(3)]
        looping = [threads.submit(lambda: asyncio.run(wait())) for _ in range(2)]
        for _ in range(5):
            assert ready.acquire(timeout=WAIT_S)
        promise.resolve(7)
        assert [future.result(WAIT_S) for future in blocking] == [7, 7, 7]
        assert [future.result(WAIT_S) for future in looping] == [[7, 7, 7]] * 2
    assert called == [threading.current_thread()]


def test_a_callback_after_the_fact_is_called_at_once() -> None:
    promise: Promise[int] = Promise()
    promise.resolve(7)
    called: list[int] = []
    promise.then(lambda: called.append(promise.result()))
    assert called == [7]


def test_callbacks_are_called_once_in_order() -> None:
    promise: Promise[int] = Promise()
    called: list[int] = []
    for number in range(3):
        promise.then(lambda number=number: called.append(number))  # type: ignore[misc]
    promise.resolve(7)
    promise.resolve(8)
    assert called == [0, 1, 2]


async def test_many_promises_wake_a_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    wakings: list[Any] = []
    call_soon = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *args: (wakings.append(args), call_soon(*args)))
    promises: list[Promise[int]] = [Promise() for _ in range(100)]
    waiting = asyncio.gather(*(promise.wait() for promise in promises), return_exceptions=True)
    await asyncio.sleep(0)
    error = ValueError("odd")
    Promise.settle_all([(p, number, error if number % 2 else None) for number, p in enumerate(promises)])
    assert await waiting == [error if number % 2 else number for number in range(100)]
    assert len(wakings) == 1


def test_a_waiting_thread_can_be_woken_before_it_is_settled() -> None:
    """To lead the journal, for instance."""
    promise: Promise[int] = Promise()
    assert not promise.wake_sleeper(), "nobody waits"
    with ThreadPoolExecutor(1) as threads:
        sleeper = new_sleeper()
        sleeping = threads.submit(promise.sleep_on, sleeper)
        eventually(promise.wake_sleeper, "the thread sleeps")
        sleeping.result(10)
    assert not promise.wake_sleeper(), "it was woken already"
    promise.resolve(7)
    promise.sleep_on(sleeper)  # returns at once, as it is settled


async def test_a_cancelled_waiter_does_not_hinder_the_others() -> None:
    promise: Promise[int] = Promise()
    cancelled, waiting = asyncio.ensure_future(promise.wait()), asyncio.ensure_future(promise.wait())
    await asyncio.sleep(0)
    cancelled.cancel()
    promise.resolve(7)
    assert await waiting == 7
    with pytest.raises(asyncio.CancelledError):
        await cancelled


def test_a_ring_wakes_who_listens() -> None:
    bell = Bell()
    with ThreadPoolExecutor(1) as threads:
        listening = threads.submit(bell.wait, WAIT_S)
        bell.ring()
        assert listening.result(WAIT_S)


def test_rings_while_nobody_listens_are_remembered_as_one() -> None:
    bell = Bell()
    assert not bell.wait(0)
    for _ in range(3):
        bell.ring()
    assert bell.wait(0)
    assert not bell.wait(0.001)
    bell.ring()
    assert bell.wait(None)


def test_a_time_in_the_past_does_not_wait() -> None:
    assert not Bell().wait(-5.0)
