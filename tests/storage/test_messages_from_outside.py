"""Messages from outside of workflows: one for each key; without a key one for each send, however often it is tried."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from dbos.model.values import Message
from dbos.storage.batches import EXPIRED_BITE, KEY_LIFE_MS, forget_expired_keys, send_message
from dbos.storage.database import Database
from dbos.storage.errors import TransientStorageError
from tests.storage.conftest import Opener
from tests.support.effects import inbox, leftovers, message, receiving, sending
from tests.support.gates import CountingGate, FailingGate
from tests.support.obstacles import wait_for_obstacle
from tests.support.storage import Part, change, commit, commit_patiently, run, set_status, sql, start

Send = Callable[..., list[bool]]


@pytest.fixture
def database_url(emptied_url: str) -> str:
    """The tests share a database."""
    return emptied_url


@pytest.fixture(params=["by a client", "by the journal", "in company"])
def send(request: pytest.FixtureRequest, database: Database) -> Send:
    """Sends messages; in company, in a batch with another one. The workflow `w` exists."""
    commit(database, start("w"), start("company"))

    def by_client(*messages: Message) -> list[bool]:
        return [send_message(database, one) for one in messages]

    def by_journal(*messages: Message) -> list[bool]:
        return [answer for one in messages for answer in commit(database, one).messages]

    def in_company(*messages: Message) -> list[bool]:
        return list(commit(database, message("company"), *messages).messages)[1:]

    return {"by a client": by_client, "by the journal": by_journal}.get(request.param, in_company)


def keyed(text: str = "hello", key: str = "key", destination_id: str = "w") -> Message:
    """A message with a key of its sender's."""
    return message(destination_id, text, key=key, lasts=True)


def test_message_arrives_once_for_its_key(database: Database, send: Send) -> None:
    """The first one holds; each of its senders is told that the receiver exists."""
    assert send(keyed("first"), keyed("second")) == [True, True]
    assert send(keyed("third")) == [True]
    assert inbox(database, "w") == ["first"]


def test_message_with_a_known_key_does_not_arrive_after_the_first_was_received(database: Database, send: Send) -> None:
    first = keyed()
    send(first)
    commit(database, run("w", receiving(1, first.message_id)))
    set_status(database, "w", "SUCCESS")
    assert send(keyed(), first) == [True, True]
    assert inbox(database, "w") == []


def test_key_counts_for_one_receiver_only(database: Database, send: Send) -> None:
    commit(database, start("v", "token-v"))
    assert send(keyed("to w"), keyed("to v", destination_id="v"), keyed("another key", "key 2")) == [True] * 3
    assert (inbox(database, "w"), inbox(database, "v")) == (["to w", "another key"], ["to v"])


def test_keys_are_told_apart_exactly(database: Database, send: Send) -> None:
    keys = ["key", "Key", "key ", " ", "é", "e\u0301", "'\"\\", "%s :id {now}", "k" * 1024]
    send(*(keyed(str(number), key) for number, key in enumerate(keys)))
    send(*(keyed("again", key) for key in keys))
    assert inbox(database, "w") == [str(number) for number in range(len(keys))]


def test_message_without_a_key_arrives_however_often_its_like_was_sent(database: Database, send: Send) -> None:
    assert send(message("w", "same"), message("w", "same"), message("w", "same")) == [True] * 3
    assert inbox(database, "w") == ["same"] * 3


def test_message_without_a_key_that_is_tried_again_arrives_once(database: Database, send: Send) -> None:
    """The answer to the first try was lost, and maybe it was received meanwhile."""
    one, other = message("w", "one"), message("w", "other")
    send(one, other)
    assert send(one) == [True]
    commit(database, run("w", receiving(1, one.message_id)))
    assert send(other, one) == [True, True]
    assert inbox(database, "w") == ["other"]


def test_unknown_receiver_is_told_and_its_key_is_not_used_up(database: Database, send: Send) -> None:
    """When there is such a workflow later, the message arrives."""
    to_nobody = keyed(destination_id="later"), message("later", "without a key")
    assert send(to_nobody[0], message("w"), to_nobody[1]) == [False, True, False]
    assert (leftovers(database, "later"), inbox(database, "w")) == ({}, ["hello"])
    commit(database, start("later"))
    assert send(*to_nobody) == [True, True]
    assert inbox(database, "later") == ["hello", "without a key"]


def test_keys_of_senders_are_kept_and_others_expire(database: Database, send: Send) -> None:
    """An hour after the message was sent, by the database's clock."""
    (before,) = sql(database, "SELECT {now}")[0]
    send(keyed(), message("w", message_id="nonce"))
    (after,) = sql(database, "SELECT {now}")[0]
    statement = (
        "SELECT idempotency_key, expires_at FROM {schema}message_keys WHERE destination_uuid = 'w' "
        "ORDER BY idempotency_key"
    )
    (kept, (nonce, expires_at)) = sql(database, statement)
    assert (kept, nonce) == (("key", None), "nonce")
    assert before <= expires_at - KEY_LIFE_MS <= after


def keys(database: Database) -> set[str]:
    """All keys that are remembered."""
    return {row[0] for row in sql(database, "SELECT idempotency_key FROM {schema}message_keys")}


def test_expired_keys_are_forgotten_and_no_others(database: Database) -> None:
    """Those of senders are never; the messages stay where they are."""
    commit(database, start("w"))
    commit(database, keyed(), *(message("w", message_id=f"nonce-{n}") for n in range(3)))
    change(database, "UPDATE {schema}message_keys SET expires_at = {now} - 1 WHERE idempotency_key = 'nonce-1'")
    assert forget_expired_keys(database) == 1
    assert (keys(database), len(inbox(database, "w"))) == ({"key", "nonce-0", "nonce-2"}, 4)
    assert forget_expired_keys(database) == 0


def test_expired_keys_are_forgotten_in_bites(database: Database) -> None:
    """So that nobody is held up for long."""
    commit(database, start("w"))
    count = EXPIRED_BITE + 10
    commit(database, *(message("w", message_id=f"nonce-{n}") for n in range(count)))
    change(database, "UPDATE {schema}message_keys SET expires_at = 1")
    assert [forget_expired_keys(database) for _ in range(3)] == [EXPIRED_BITE, 10, 0]
    assert keys(database) == set()


def test_executors_that_forget_keys_at_once_do_not_hinder_each_other(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor
) -> None:
    """Nor senders, who may use the same keys: then one of the messages arrives."""
    commit(database, start("w"))
    sent = [message("w", message_id=f"nonce-{n}") for n in range(2000)]
    commit(database, *sent)
    change(database, "UPDATE {schema}message_keys SET expires_at = 1 WHERE idempotency_key <> 'nonce-7'")
    databases = [open_again() for _ in range(4)]
    together = threading.Barrier(4)

    def forget(number: int) -> int:
        together.wait(30)
        if number == 3:
            assert commit_patiently(databases[3], sent[7]).messages == [True]
            return 0
        return sum(forget_expired_keys(databases[number]) for _ in range(5))

    assert sum(threads.map(forget, range(4))) == 1999
    assert (keys(database), len(inbox(database, "w"))) == ({"nonce-7"}, 2000)


def test_keys_of_messages_from_workflows_are_not_kept(database: Database) -> None:
    """Their checkpoints tell that they were sent."""
    commit(database, start("w"), start("v", "token-v"))
    commit(database, run("w", sending(1, "v")))
    assert leftovers(database, "v") == {"workflow_status": 1, "notifications": 1}


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
def test_send_of_a_client_that_fails_for_now_is_tried_again_and_arrives_once(
    open_again: Opener, database: Database, moment: str
) -> None:
    commit(database, start("w"))
    gate = FailingGate("send", moment, TransientStorageError("cut"))  # type: ignore[arg-type]
    assert send_message(open_again(gate=gate), message("w"))
    assert gate.count("send", "begin") == 2
    assert inbox(database, "w") == ["hello"]


def test_senders_of_one_key_at_the_same_moment_deliver_one_message(
    open_again: Opener, database: Database, threads: ThreadPoolExecutor
) -> None:
    """From eight connections at once, for several keys, in batches and alone."""
    commit(database, start("w"))
    together = threading.Barrier(8)
    databases = [open_again() for _ in range(8)]

    def send_all(number: int) -> None:
        together.wait(30)
        for n in range(5):
            assert commit_patiently(databases[number], keyed(f"{n}", f"key {n}")).messages == [True]
        order = range(5, 30) if number % 2 else range(29, 4, -1)
        batch: list[Part] = [keyed(f"{n}", f"key {n}") for n in order]
        assert list(commit_patiently(databases[number], *batch).messages) == [True] * 25

    list(threads.map(send_all, range(8)))
    assert sorted(inbox(database, "w"), key=int) == [str(n) for n in range(30)]


@pytest.mark.parametrize("is_given_up", [False, True])
def test_second_sender_of_a_key_waits_for_the_first(
    open_again: Opener, threads: ThreadPoolExecutor, is_given_up: bool
) -> None:
    """If the first one gives up after all, the second one's message arrives."""
    gate = CountingGate()
    first, second, reader = open_again(), open_again(gate=gate), open_again()
    commit(reader, start("w", lease_id=None))

    def send_first() -> None:
        with first.transaction("test") as transaction:
            transaction.write("INSERT INTO {schema}message_keys VALUES ('w', 'key', NULL)")
            begun.set()
            assert go.wait(30)
            if is_given_up:
                raise ConnectionError("cut")

    begun, go = threading.Event(), threading.Event()
    sending_first = threads.submit(send_first)
    assert begun.wait(30)
    sending_second = threads.submit(commit_patiently, second, keyed("second"))
    wait_for_obstacle(reader, gate, "journal")
    assert not sending_second.done()
    go.set()
    assert sending_second.result(30).messages == [True]
    assert isinstance(sending_first.exception(30), ConnectionError) == is_given_up
    assert inbox(reader, "w") == (["second"] if is_given_up else [])


def test_a_thousand_messages_share_a_batch(database: Database) -> None:
    """Each is answered for itself: every tenth is for nobody, and keys come twice."""
    commit(database, *(start(f"w{n}", f"token-{n}") for n in range(10)))
    messages = [
        message("nobody", "lost") if n % 10 == 0 else keyed(str(n), f"key {n % 500}", f"w{n % 10}") for n in range(1000)
    ]
    answers = commit(database, *messages).messages
    assert list(answers) == [n % 10 != 0 for n in range(1000)]
    for n in range(1, 10):
        assert inbox(database, f"w{n}") == [str(number) for number in range(n, 500, 10)]
