"""Promises and bells."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from dbos.storage.promise import Bell, Promise, new_sleeper, sleep_on_any, wait_for_any
from tests.support.apps import eventually
from tests.support.background import InBackground

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


def record_wakings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is called by other threads on the running loop."""
    loop = asyncio.get_running_loop()
    wakings: list[Any] = []
    call_soon = loop.call_soon_threadsafe

    def record(callback: Any, *args: Any) -> asyncio.Handle:
        wakings.append(callback)
        return call_soon(callback, *args)

    monkeypatch.setattr(loop, "call_soon_threadsafe", record)
    return wakings


async def test_many_promises_wake_a_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wakings = record_wakings(monkeypatch)
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


# -- one of several


def three() -> list[Promise[int]]:
    """Some promises."""
    return [Promise() for _ in range(3)]


def all_have_waiters(promises: list[Promise[int]]) -> bool:
    """Whether somebody waits for each of them."""
    return all(promise.has_waiters for promise in promises)


def test_whoever_sleeps_on_several_wakes_when_one_is_settled() -> None:
    """Whichever, however; what became of it, the promise tells."""
    for number in range(3):
        promises = three()
        sleeping = InBackground(sleep_on_any, promises)
        eventually(partial(all_have_waiters, promises), "the thread sleeps")
        promises[number].reject(KeyError("k")) if number else promises[number].resolve(7)
        sleeping.result()
        assert [promise.is_done for promise in promises] == [number == other for other in range(3)]
        assert not any(promise.has_waiters for promise in promises), "it sleeps on the others no longer"


def test_whoever_sleeps_on_one_that_is_settled_does_not_sleep() -> None:
    for number in range(3):
        promises = three()
        promises[number].resolve(7)
        sleep_on_any(promises)
        sleep_on_any(promises, 600.0)
        assert not any(promise.has_waiters for promise in promises)


def test_whoever_sleeps_on_several_wakes_when_the_time_is_over() -> None:
    promises = three()
    for timeout_s in (0.001, 0.0, -5.0):
        sleep_on_any(promises, timeout_s)
    sleep_on_any([], 0.001)
    assert not any(promise.is_done or promise.has_waiters for promise in promises)


def test_several_that_are_settled_at_once_wake_a_sleeper_once() -> None:
    promises = three()
    sleeping = InBackground(sleep_on_any, [*promises, promises[0]])
    eventually(lambda: all(promise.has_waiters for promise in promises), "the thread sleeps")
    Promise.settle_all([(promise, number, None) for number, promise in enumerate(promises)])
    sleeping.result()
    assert [promise.result() for promise in promises] == [0, 1, 2]


def test_many_threads_sleep_on_the_same_promises() -> None:
    promises = three()
    sleeping = [InBackground(sleep_on_any, promises if number % 2 else promises[:2]) for number in range(20)]
    eventually(lambda: len(promises[0]._sleepers or ()) == 20, "all sleep")
    promises[1].resolve(7)
    for one in sleeping:
        one.result()
    assert not promises[0].has_waiters


async def test_whoever_awaits_several_goes_on_when_one_is_settled() -> None:
    """By any thread."""
    for number in range(3):
        promises = three()
        waiting = asyncio.ensure_future(wait_for_any(promises))
        await asyncio.sleep(0)
        assert not waiting.done()
        settle = partial(promises[number].reject, KeyError("k")) if number else partial(promises[number].resolve, 7)
        await asyncio.to_thread(settle)
        await waiting
        assert [promise.is_done for promise in promises] == [number == other for other in range(3)]
        await asyncio.sleep(0)
        assert not any(promise.has_waiters for promise in promises), "it waits for the others no longer"


async def test_whoever_awaits_one_that_is_settled_does_not_wait() -> None:
    for number in range(3):
        promises = three()
        promises[number].resolve(7)
        await wait_for_any(promises)
        await wait_for_any(promises, 600.0)
        await asyncio.sleep(0)
        assert not any(promise.has_waiters for promise in promises)


async def test_whoever_awaits_several_goes_on_when_the_time_is_over() -> None:
    promises = three()
    for timeout_s in (0.001, 0.0, -5.0):
        await wait_for_any(promises, timeout_s)
        await asyncio.sleep(0)
        assert not any(promise.is_done or promise.has_waiters for promise in promises)
    await wait_for_any([], 0.001)


async def test_whoever_awaits_several_and_is_cancelled_leaves_nothing_behind() -> None:
    """Neither at the promises nor a timer; and who else waits goes on."""
    loop = asyncio.get_running_loop()
    promises = three()

    async def wait() -> None:
        await wait_for_any(promises, 600.0)

    cancelled, staying = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    promises[2].resolve(7)
    await staying
    await asyncio.sleep(0)
    assert not any(promise.has_waiters for promise in promises)
    timers = [timer for timer in getattr(loop, "_scheduled", ()) if not timer.cancelled()]
    assert [timer for timer in timers if timer.when() > loop.time() + 300] == []


async def test_ten_thousand_who_await_several_are_woken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a promise of its own, and all have one in common."""
    common: Promise[int] = Promise()
    own: list[Promise[int]] = [Promise() for _ in range(10_000)]
    waiting = asyncio.gather(*(wait_for_any((promise, common), 600.0) for promise in own))
    await asyncio.sleep(0)
    wakings = record_wakings(monkeypatch)
    await asyncio.to_thread(common.resolve, 7)
    await waiting
    assert len([callback for callback in wakings if callback.__module__ == "dbos.storage.promise"]) == 1
    await asyncio.sleep(0)
    assert not any(promise.has_waiters for promise in own)


def test_loop_that_was_closed_waits_for_nothing_any_more() -> None:
    """Whoever looks whether somebody still waits would be misled for ever."""
    promises = three()

    async def wait() -> None:
        await wait_for_any(promises)

    loop = asyncio.new_event_loop()
    task = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    assert promises[0].has_waiters
    loop.close()
    del task, loop
    gc.collect()
    assert not any(promise.has_waiters for promise in promises)
    promises[0].resolve(7)


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
