"""The other process of the tests of debouncers: an application, or a client, that calls as it is told."""

from __future__ import annotations

from functools import partial
from typing import Any

from dbos import DBOS, DBOSClient, Debouncer, DebouncerClient
from tests.support import ledger
from tests.support.apps import in_threads
from tests.support.remote import serve

THREADS = 4
ROUNDS = 5
MOST_CALLS = 5000
NAME = "debounced.note"
_ledger = ""


@DBOS.workflow(name=NAME)
def note(*args: Any) -> list[Any]:
    ledger.record(_ledger, id=DBOS.workflow_id, args=list(args))
    return [*args]


debouncer = Debouncer.create(note)
stormy = Debouncer.create(note, debounce_timeout_sec=0.05)


def launch(config: Any, ledger_file: str) -> None:
    global _ledger
    _ledger = ledger_file
    DBOS(config=config)
    DBOS.launch()


def debounce(period_s: float, *args: Any) -> str:
    return debounce_key("key", period_s, *args)


def debounce_key(key: str, period_s: float, *args: Any) -> str:
    return debouncer.debounce(key, period_s, *args).workflow_id


def storm(process: int) -> list[tuple[int, int, int, str]]:
    """Call in many threads until each has seen some rounds; all calls, with the ids of their rounds."""

    def call(thread: int) -> list[tuple[int, int, int, str]]:
        calls: list[tuple[int, int, int, str]] = []
        seen: set[str] = set()
        while len(seen) < ROUNDS:
            number = len(calls)
            assert number < MOST_CALLS, f"{number} calls saw {len(seen)} rounds"
            period_s = 0 if number % 4 == 3 else 0.01
            handle = stormy.debounce("key", period_s, process, thread, number)
            calls.append((process, thread, number, handle.workflow_id))
            seen.add(handle.workflow_id)
        return calls

    made = in_threads([partial(call, thread) for thread in range(THREADS)])
    return [one for of_thread in made for one in of_thread]


def burst(url: str, queue_name: str, count: int, period_s: float) -> list[str]:
    """Call so often by a client; the ids of the rounds."""
    client = DBOSClient(system_database_url=url)
    debouncer = DebouncerClient(client, {"workflow_name": NAME, "queue_name": queue_name})
    ids = {debouncer.debounce("key", period_s, number).workflow_id for number in range(count)}
    client.destroy()
    return sorted(ids)


serve({"launch": launch, "debounce": debounce, "debounce_key": debounce_key, "storm": storm, "burst": burst})
