"""Wake-ups: who waits is woken by what it waits for, and not by a poll.

The applications of these tests poll once in ten minutes, unless a test says otherwise: what arrives, a wake-up brought.
That nothing looked before it is counted at the gate. Time passes by renewals of the lease, which are frequent here.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import pytest
import sqlalchemy
from sqlalchemy import event

from dbos import DBOS, DBOSClient, error
from tests.runtime.conftest import PROGRAMS
from tests.support.apps import App, eventually
from tests.support.background import InBackground
from tests.support.gates import PausingGate
from tests.support.listening import Listener, cut, listening
from tests.support.looks import LooksGate, ShiftedClock
from tests.support.postgres import PostgresAdmin
from tests.support.processes import Spawner
from tests.support.puppets import Puppet
from tests.support.remote import Remote
from tests.support.twins import Twins
from tests.verify.rows import query

pytestmark = pytest.mark.usefixtures("no_other_queues")

SELDOM_S = 600.0
PEER = PROGRAMS / "wake_peer.py"

LISTENING = """
    SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND (query ILIKE 'LISTEN %' OR query ILIKE '%pg_notify%')"""

both_ways = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


class WakingApp(App):
    """An application that renews its lease often, so that tests see time pass, and polls seldom."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.gate = LooksGate()
        self.clock = ShiftedClock()
        self.renew_interval_s = 0.025

    @property
    def is_postgres(self) -> bool:
        return self.url.startswith("postgres")

    def launch(self, *, drops_hints: bool = False, **changes: Any) -> None:
        """Configure, set the seams, launch."""
        DBOS(config=self.config(**{"notification_listener_polling_interval_sec": SELDOM_S, **changes}))
        application: Any = DBOS._application  # pyright: ignore[reportPrivateUsage]
        application.gate = self.gate
        application.clock = self.clock
        application.renew_interval_s = self.renew_interval_s
        application.lease_ttl_s = 600.0
        if drops_hints:
            application.drops_hints = True
        DBOS.launch()
        if self.is_postgres and not drops_hints and changes.get("use_listen_notify", True):
            eventually(lambda: query(self.url, LISTENING), "it listens")


@pytest.fixture
def app(database_url: str) -> Iterator[WakingApp]:
    """An application on a database of each kind, not launched yet."""
    yield WakingApp(database_url)
    Puppet.end_all()
    DBOS.destroy()


@pytest.fixture
def sqlite_app(sqlite_url: str) -> Iterator[WakingApp]:
    """An application on SQLite, not launched yet."""
    yield WakingApp(sqlite_url)
    Puppet.end_all()
    DBOS.destroy()


@pytest.fixture
def postgres_app(postgres_url: str) -> Iterator[WakingApp]:
    """An application on Postgres, not launched yet."""
    yield WakingApp(postgres_url)
    Puppet.end_all()
    DBOS.destroy()


def launch_peer(spawn: Spawner, app: App, *, drops_hints: bool = False, **changes: Any) -> Remote:
    """Another process with an application on the same database. It runs a version of its own, so each keeps its work.

    Launch the application of this process first: its patience with other leases is set.
    """
    peer = Remote(spawn(PEER))
    config = app.config(
        **{"application_version": "peer", "notification_listener_polling_interval_sec": SELDOM_S, **changes}
    )
    peer.new("launch", config, {"lease_ttl_s": 600.0, "drops_hints": drops_hints})
    return peer


# -- what is waited for


class Call(Protocol):
    """A call that waits."""

    def is_done(self) -> bool: ...

    def result(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody who waits, what wakes it, and what it then has or raises."""

    name: str
    call: Call
    wake: Callable[[], object]
    has: Any = None
    raises: type[BaseException] | None = None

    def check(self) -> None:
        """Wake it."""
        print("waking", self.name)  # shown if it fails
        assert not self.call.is_done(), f"{self.name} did not wait"
        self.wake()
        if self.raises is not None:
            with pytest.raises(self.raises):
                self.call.result()
        else:
            assert self.call.result() == self.has, self.name


def waits_for_hands(hands: Any, is_async: bool, poll_s: float = SELDOM_S) -> list[Wait]:
    """Workflows and callers of this process, who wait for what anybody with a client can do: that do the hands."""
    outside: Any = Twins(DBOS) if is_async else DBOS

    def workflow(name: str, method: str, *arguments: Any) -> tuple[str, Call]:
        return name, Puppet(name, is_async=is_async).tell(method, *arguments)

    Puppet("lives on")
    Puppet("cancelled", is_async=is_async)
    return [
        Wait(*workflow("recv", "recv", None, SELDOM_S), lambda: hands.send("recv", "a"), "a"),
        Wait(*workflow("recv of a topic", "recv", "t", SELDOM_S), lambda: hands.send("recv of a topic", 0, "t"), 0),
        *(
            Wait(
                *workflow(f"cancelled {method}", method, *arguments),
                lambda method=method: hands.cancel_workflow(f"cancelled {method}"),  # type: ignore[misc]
                raises=error.DBOSWorkflowCancelledError,
            )
            for method, arguments in {
                "sleep": (SELDOM_S,),
                "recv": ("never", SELDOM_S),
                "get_event": ("lives on", "never", SELDOM_S),
                "get_result": ("lives on",),
            }.items()
        ),
        Wait(
            "get_result of one that is cancelled",
            InBackground(outside.get_result, "cancelled", polling_interval_sec=poll_s),
            lambda: hands.cancel_workflow("cancelled"),
            raises=error.DBOSAwaitedWorkflowCancelledError,
        ),
    ]


def waits_for_actors(actors: Callable[..., Any], is_async: bool, poll_s: float = SELDOM_S) -> list[Wait]:
    """Workflows and callers of this process, who wait for what workflows do: those that the actors give."""
    outside: Any = Twins(DBOS) if is_async else DBOS
    polling = {"polling_interval_sec": poll_s}
    actor, first, second, silent = (actors(name) for name in ("actor", "first", "second", "silent"))

    def workflow(name: str, method: str, *arguments: Any) -> tuple[str, Call]:
        return name, Puppet(name, is_async=is_async).tell(method, *arguments)

    def caller(name: str, method: str, *arguments: Any, **options: Any) -> tuple[str, Call]:
        return f"{name} from outside", InBackground(getattr(outside, method), *arguments, **options)

    def write_and_close(key: str) -> None:
        actor.do("write_stream", key, "v")
        actor.do("close_stream", key)

    return [
        Wait(*workflow("message", "recv", None, SELDOM_S), lambda: actor.do("send", "message", "m"), "m"),
        Wait(*workflow("event", "get_event", "actor", "e", SELDOM_S), lambda: actor.do("set_event", "e", 1), 1),
        Wait(*caller("event", "get_event", "actor", "f", SELDOM_S), lambda: actor.do("set_event", "f", 2), 2),
        Wait(
            *caller("event of one to come", "get_event", "to come", "e", SELDOM_S),
            lambda: actors("to come").do("set_event", "e", 3),
            3,
        ),
        Wait(*workflow("stream", "read_stream", "actor", "s"), lambda: write_and_close("s"), ["v"]),
        Wait(
            "stream from outside",
            InBackground(next, outside.read_stream("actor", "o")),
            lambda: actor.do("write_stream", "o", "w"),
            "w",
        ),
        Wait(
            "end of a stream with its workflow",
            InBackground[Any](list, outside.read_stream("silent", "s")),
            lambda: silent.end(),
            [],
        ),
        Wait(*workflow("result", "get_result", "first"), lambda: first.end("r"), "r"),
        Wait(
            *caller("result", "get_result", "second", **polling), lambda: second.fail(LookupError()), raises=LookupError
        ),
        Wait(
            *caller("result of one to come", "get_result", "future", **polling),
            lambda: actors("future").end("x"),
            "x",
        ),
    ]


def waits_for_peer(peer: Remote, is_async: bool, poll_s: float = SELDOM_S) -> list[Wait]:
    """All of the above, for the application of the other process."""

    def actors(name: str) -> Any:
        return peer.new("Puppet", name)

    return waits_for_hands(peer.offered("DBOS"), is_async, poll_s) + waits_for_actors(actors, is_async, poll_s)


def check_all(waits: list[Wait]) -> None:
    """Everybody is woken by what it waits for."""
    for wait in waits:
        wait.check()


def assert_nobody_looks(app: WakingApp) -> None:
    """On Postgres: once all have looked for the first time, nobody does again while time passes.

    On SQLite every change of the file lets them look; see `test_file_that_nobody_changes_is_not_looked_into`.
    """
    if not app.is_postgres:
        return
    before = app.gate.looks()
    app.gate.await_renewals(4)
    while before != (before := app.gate.looks()):
        app.gate.await_renewals(4)
    app.gate.await_renewals(20)
    assert app.gate.looks() == before


# -- within a process


@both_ways
def test_writes_of_this_process_wake_at_once(app: WakingApp, is_async: bool) -> None:
    app.launch()
    waits = waits_for_hands(DBOS, is_async) + waits_for_actors(Puppet, is_async)
    assert_nobody_looks(app)
    check_all(waits)


def test_resumed_and_forked_workflows_are_picked_up_at_once(app: WakingApp) -> None:
    app.launch()
    check_pick_up(app, DBOS)


def check_pick_up(app: WakingApp, hands: Any) -> None:
    """What is resumed and forked by these hands is run by this process without a poll."""
    puppet = Puppet("w")
    waiting = puppet.tell("recv", None, SELDOM_S)
    hands.cancel_workflow("w")
    with pytest.raises(error.DBOSWorkflowCancelledError):
        waiting.result()
    assert_nobody_looks(app)
    resumed = InBackground(hands.resume_workflow("w").get_result)
    hands.send("w", "again")
    assert waiting.result() == "again"
    puppet.end("done")
    assert resumed.result() == "done"
    assert hands.fork_workflow("w", 100).get_result() == "done", "with all steps of the first"


# -- between processes


@both_ways
def test_hints_of_another_process_wake(postgres_app: WakingApp, spawn: Spawner, is_async: bool) -> None:
    postgres_app.launch()
    peer = launch_peer(spawn, postgres_app)
    waits = waits_for_peer(peer, is_async)
    assert_nobody_looks(postgres_app)
    check_all(waits)


def test_whose_end_is_awaited_is_not_forgotten(postgres_app: WakingApp, spawn: Spawner) -> None:
    """Workflows end all the time, and hints tell only of ends that somebody waits for, however long."""
    postgres_app.launch()
    peer = launch_peer(spawn, postgres_app)
    actor = peer.new("Puppet", "w")
    nudger = Puppet("nudger")
    result = InBackground(DBOS.get_result, "w", polling_interval_sec=SELDOM_S)
    assert_nobody_looks(postgres_app)
    for number in range(10):
        peer.offered("clock").advance(30.0)
        postgres_app.clock.advance(30.0)
        nudged = nudger.tell("recv", None, SELDOM_S)
        DBOS.send("nudger", number)  # whoever sleeps by the real clock sees the time
        assert nudged.result() == number
        peer.new("Puppet", f"busy-{number}").end()
        postgres_app.gate.await_renewals(4)
    assert not result.is_done()
    actor.end("done")
    assert result.result() == "done"


@both_ways
def test_changes_of_the_file_by_another_process_wake(sqlite_app: WakingApp, spawn: Spawner, is_async: bool) -> None:
    """SQLite has no hints, but a counter of the file's changes, which costs next to nothing to look at."""
    sqlite_app.launch()
    peer = launch_peer(spawn, sqlite_app)
    check_all(waits_for_peer(peer, is_async))


def test_file_that_nobody_changes_is_not_looked_into(sqlite_app: WakingApp) -> None:
    """However much time passes."""
    sqlite_app.renew_interval_s = 600.0
    sqlite_app.launch()
    waits = waits_for_hands(DBOS, is_async=True) + waits_for_actors(Puppet, is_async=True)
    before = None
    while before != (before := sqlite_app.gate.looks()):
        for _ in range(3):
            sqlite_app.clock.advance(5.0)  # past the rest after a look, which is long where the machine is slow
            sqlite_app.clock.await_reads(50)
    sqlite_app.clock.advance(SELDOM_S / 2)
    sqlite_app.clock.await_reads(50)
    assert sqlite_app.gate.looks() == before
    check_all(waits)


@both_ways
def test_clients_of_another_process_wake(app: WakingApp, spawn: Spawner, is_async: bool) -> None:
    """There is no application in the client's process."""
    app.launch()
    client = Remote(spawn(PEER)).new("client", system_database_url=app.url, uses_twins=is_async)
    check_all(waits_for_hands(client, is_async))
    client.destroy()


@both_ways
def test_workflow_that_another_process_deletes_is_stopped(app: WakingApp, spawn: Spawner, is_async: bool) -> None:
    """And whoever waits for it is told that there is no such workflow any more."""
    app.launch()
    client = Remote(spawn(PEER)).new("client", system_database_url=app.url)
    puppet = Puppet("w", is_async=is_async)
    sleeping = puppet.tell("sleep", SELDOM_S)
    handles = [puppet.handle, DBOS.retrieve_workflow("w")]
    results = [InBackground(handle.get_result, polling_interval_sec=SELDOM_S) for handle in handles]
    assert_nobody_looks(app)
    client.delete_workflow("w")
    for result in results:
        with pytest.raises(error.DBOSNonExistentWorkflowError):
            result.result()
    assert sleeping.ended() is not None
    assert client.list_workflows() == []


def test_what_clients_resume_and_fork_is_picked_up_at_once(app: WakingApp, spawn: Spawner) -> None:
    app.launch()
    check_pick_up(app, Remote(spawn(PEER)).new("client", system_database_url=app.url))


# -- without hints


@both_ways
def test_polls_find_what_hints_do_not_tell(app: WakingApp, spawn: Spawner, is_async: bool) -> None:
    check_polls(app, spawn, is_async, drops_hints=True)


@both_ways
def test_polls_find_everything_without_notifications(postgres_app: WakingApp, spawn: Spawner, is_async: bool) -> None:
    check_polls(postgres_app, spawn, is_async, use_listen_notify=False)


def check_polls(app: WakingApp, spawn: Spawner, is_async: bool, **changes: Any) -> None:
    """Whatever another process does arrives."""
    often: dict[str, Any] = {"notification_listener_polling_interval_sec": 0.05, **changes}
    app.launch(**often)
    peer = launch_peer(spawn, app, **often)
    check_all(waits_for_peer(peer, is_async, poll_s=0.05))
    if app.is_postgres:
        assert query(app.url, LISTENING) == [], "nobody listens or notifies"


# -- the listening connection


@pytest.fixture
def listener(postgres_app: WakingApp) -> Iterator[Listener]:
    """Hears what the application, which it launches, tells other processes."""
    postgres_app.launch()
    listener = Listener(postgres_app.url)
    yield listener
    listener.close()


def test_process_listens_on_one_connection(
    postgres_app: WakingApp, postgres_admin: PostgresAdmin, spawn: Spawner
) -> None:
    """However many wait; and a client needs no more."""
    postgres_app.launch()
    check_all(waits_for_actors(Puppet, is_async=True))
    eventually(lambda: len(listening(postgres_admin, postgres_app.url)) == 1, "it listens")
    launch_peer(spawn, postgres_app)
    eventually(lambda: len(listening(postgres_admin, postgres_app.url)) == 2, "both listen")


def test_hints_of_many_writes_are_one_notification(postgres_app: WakingApp, listener: Listener, spawn: Spawner) -> None:
    """For receivers of another process, as no others need a hint."""
    receivers = [f"receiver-{number}" for number in range(20)]
    peer = launch_peer(spawn, postgres_app)
    for name in receivers:
        peer.new("Puppet", name)
    before, commits = len(listener.heard()), postgres_app.gate.count("journal")
    DBOS.send(receivers[0], "alone")
    hints = listener.wait_for(lambda heard: len(heard) > before)[before:]
    assert len(hints) == 1

    async def send_all() -> None:
        await asyncio.gather(*(DBOS.send_async(name, number) for number in range(20) for name in receivers[1:]))
        await DBOS.send_async(receivers[0], "the last")

    asyncio.run(send_all())
    # The hint for the first receiver again: it comes with the last message, or after all others.
    heard = listener.wait_for(lambda heard: any(hints[0] in payload for payload in heard[before + 1 :]))[before:]
    assert postgres_app.gate.count("journal") - commits < 40
    assert len(heard) <= postgres_app.gate.count("journal") - commits


def test_hints_go_out_after_the_commit_in_a_transaction_of_their_own(
    postgres_app: WakingApp, listener: Listener
) -> None:
    """Within it they would hold up the commits of everybody else."""
    puppet = Puppet("w")
    before = listener.heard()
    postgres_app.gate.then = pausing = PausingGate("journal", "after_commit")
    setting = puppet.tell("set_event", "k", "x")
    pausing.wait_until_reached()
    assert query(postgres_app.url, "SELECT count(*) FROM {schema}workflow_events") == [(1,)], "it is committed"
    assert listener.heard() == before
    pausing.go()
    setting.result()
    listener.wait_for(lambda heard: len(heard) > len(before))


def test_listening_connection_that_was_cut_comes_back(
    postgres_app: WakingApp, postgres_admin: PostgresAdmin, spawn: Spawner
) -> None:
    """What others did meanwhile is found then, and their hints arrive again."""
    postgres_app.launch()
    client = Remote(spawn(PEER)).new("client", system_database_url=postgres_app.url)
    meanwhile, *later = waits_for_hands(client, is_async=False)
    assert_nobody_looks(postgres_app)
    lost = listening(postgres_admin, postgres_app.url)
    cut(postgres_admin, lost)
    meanwhile.check()
    eventually(lambda: listening(postgres_admin, postgres_app.url) - lost, "it listens again")
    check_all(later)


def test_process_whose_connection_for_hints_was_cut_still_wakes_others(
    postgres_app: WakingApp, postgres_admin: PostgresAdmin, spawn: Spawner
) -> None:
    postgres_app.launch()
    own = listening(postgres_admin, postgres_app.url)
    peer = launch_peer(spawn, postgres_app)
    receiver = peer.new("Puppet", "w")
    for number in range(5):
        waiting = receiver.tell("recv", None, SELDOM_S)
        cut(postgres_admin, own)
        DBOS.send("w", number)
        assert waiting.result() == number
        own = listening(postgres_admin, postgres_app.url)


def test_outage_of_the_database_delays_wake_ups_and_loses_none(
    postgres_app: WakingApp, postgres_admin: PostgresAdmin, spawn: Spawner
) -> None:
    """And meanwhile the server is not stormed, though there is something to be told."""
    engine = sqlalchemy.create_engine(postgres_app.url.replace("postgresql://", "postgresql+psycopg://"))
    tries: list[float] = []

    def note(*_: Any) -> None:
        if threading.current_thread().name == "dbos-hints":
            tries.append(time.monotonic())

    event.listen(engine, "do_connect", note)
    postgres_app.launch(system_database_url=None, system_database_engine=engine)
    waits = waits_for_hands(DBOS, is_async=True)
    with postgres_admin.outage(postgres_app.url):
        tries.clear()
        asking = InBackground(DBOS.get_result, "lives on", polling_interval_sec=SELDOM_S)
        eventually(lambda: len(tries) >= 5, "it tries to connect")
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert pauses[3] > 2 * pauses[0], "it tries ever more seldom"
    client = Remote(spawn(PEER)).new("client", system_database_url=postgres_app.url)
    client.cancel_workflow("lives on")
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        asking.result()
    check_all([wait for wait in waits if wait.name.startswith("recv")])
    DBOS.destroy()
    engine.dispose()


def test_hints_work_with_any_number_of_open_files(postgres_app: WakingApp, spawn: Spawner) -> None:
    """Descriptors beyond a thousand are too much for `select`."""
    child = spawn(PROGRAMS / "wake_many_files.py", postgres_app.url)
    child.wait_for_line("waiting")
    with DBOSClient(system_database_url=postgres_app.url) as client:
        client.send("w", "x")
    assert child.succeed() == "waiting\nx\n"
