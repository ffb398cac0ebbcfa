"""Webhooks: the shop is killed when the receiver has answered and it does not know yet; the receiver is killed, too."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from dbos import DBOSClient
from tests.support.apps import eventually
from tests.support.processes import ROOT, Child, Spawner
from tests.support.servers import client_of, free_port

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

FOLDER = ROOT / "examples" / "webhooks"

WATCHED = f"""
    import os, runpy, sys, threading

    sys.path.insert(0, {str(FOLDER)!r})
    import sending

    # One delivery may be held when the receiver has answered.
    send = sending.send

    def watch(delivery_id, body):
        send(delivery_id, body)
        if delivery_id == os.environ.get("HOLD"):
            print("holding", delivery_id, flush=True)
            threading.Event().wait()

    sending.send = watch
    runpy.run_path({str(FOLDER / "main.py")!r}, run_name="__main__")
"""


def received(directory: Path) -> list[tuple[str, str]]:
    """What the receiver has taken in: ids and bodies."""
    with closing(sqlite3.connect(directory / "received.sqlite")) as connection:
        return connection.execute("SELECT id, body FROM received ORDER BY id").fetchall()


def test_each_webhook_is_taken_in_once(database_url: str, spawn: Spawner, tmp_path: Path) -> None:
    port, receiver_port = free_port(), free_port()
    settings = {
        **{"DBOS_SYSTEM_DATABASE_URL": database_url, "PORT": str(port), "RECEIVER_PORT": str(receiver_port)},
        **{"WEBHOOK_URL": f"http://127.0.0.1:{receiver_port}", "MAX_ATTEMPTS": "3", "FIRST_PAUSE_S": "0.05"},
    }

    def start_receiver(fails: int) -> Child:
        receiver = spawn(FOLDER / "receiver.py", env={**settings, "FAILS": str(fails)})
        receiver.wait_for_line("listens")
        return receiver

    receiver = start_receiver(fails=1)
    killed = spawn(WATCHED, env={**settings, "HOLD": "order-1-placed"})
    with client_of(killed, port) as shop:
        for _ in range(2):
            assert shop.put("/orders/order-1", params={"item": "lamp"}).json() == {"order": "order-1"}
        killed.wait_for_line("holding")
        assert shop.get("/deliveries").json() == {"order-1-placed": "pending"}
        killed.kill()

    with client_of(spawn(WATCHED, env=settings), port) as shop:
        delivered = {"order-1-placed": "delivered"}
        eventually(lambda: shop.get("/deliveries").json() == delivered, "the delivery that was cut off is complete")
        receiver.wait_for_line("known already")
        assert receiver.stdout.splitlines()[1:] == [
            "order-1-placed refused",
            "order-1-placed taken in",
            "order-1-placed known already",
        ]
        forged = httpx.post(settings["WEBHOOK_URL"], content="{}", headers={"webhook-id": "order-1-placed"})
        assert forged.status_code == 401

        receiver.kill()
        shop.put("/orders/order-2", params={"item": "sofa"})
        eventually(lambda: shop.get("/dead-letters").json() == ["order-2-placed"], "the delivery is given up")
        receiver = start_receiver(fails=0)
        assert [shop.post("/dead-letters/order-2-placed/retry").status_code for _ in range(2)] == [200, 404]
        delivered["order-2-placed"] = "delivered"
        eventually(lambda: shop.get("/deliveries").json() == delivered, "the dead letter is delivered")
        receiver.wait_for_line("order-2-placed taken in")
        assert shop.get("/dead-letters").json() == []

    assert received(tmp_path) == [
        ("order-1-placed", '{"type": "order.placed", "order": "order-1", "item": "lamp"}'),
        ("order-2-placed", '{"type": "order.placed", "order": "order-2", "item": "sofa"}'),
    ]
    with DBOSClient(system_database_url=database_url) as client:
        assert client.list_workflows(status="ERROR") == []
