"""The widget store: its server is killed and started again between each two requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dbos import DBOS
from tests.support import ledger
from tests.support.apps import App, eventually
from tests.support.messaging import messages_to
from tests.support.processes import ROOT, Child, Spawner
from tests.support.servers import client_of, free_port

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

FOLDER = ROOT / "examples" / "checkout"

WATCHED = f"""
    import os, runpy, sys, threading

    from tests.support import ledger

    sys.path.insert(0, {str(FOLDER)!r})
    import store

    # Each step calls one of these two: they write down when they begin and when they end, and one may be held.
    def watched(function):
        def watch(order, status="reserved"):
            ledger.record("ledger", order=order, status=status, does="begin")
            if status == os.environ.get("HOLD"):
                print("holding", status, order, flush=True)
                threading.Event().wait()
            result = function(order) if status == "reserved" else function(order, status)
            ledger.record("ledger", order=order, status=status, does="end")
            return result
        return watch

    store.reserve, store.set_status = watched(store.reserve), watched(store.set_status)
    runpy.run_path({str(FOLDER / "main.py")!r}, run_name="__main__")
"""


class Shop:
    """The example, in a server process that is killed and started again before each request."""

    def __init__(self, database_url: str, spawn: Spawner, directory: Path) -> None:
        self._spawn = spawn
        self._ledger = directory / "ledger"
        self._settings = {"DBOS_SYSTEM_DATABASE_URL": database_url, "PACKING_S": "0.1"}
        self._server: Child | None = None
        self._observer = App(database_url)
        self._observer.launch()  # this process only looks: its version leaves the workflows alone

    def ask(self, method: str, path: str, *, hold: str | None = None, payment_timeout_s: int = 600) -> Any:
        """Kill the server, start it again, and make a request, which must succeed.

        Args:
            method: Of the request.
            path: Of the request.
            hold: Stop where an order is to get this status: return when the server stands there.
            payment_timeout_s: How long a checkout waits for its payment.
        """
        if self._server is not None:
            self._server.kill()
        port = free_port()
        settings = {"PORT": str(port), "PAYMENT_TIMEOUT_S": str(payment_timeout_s), "HOLD": hold or ""}
        self._server = self._spawn(WATCHED, env={**self._settings, **settings})
        with client_of(self._server, port) as client:
            try:
                response = client.request(method, path)
            except httpx.HTTPError as failure:
                raise AssertionError(f"{method} {path} failed; the server wrote:\n{self._server.stderr}") from failure
        assert response.status_code == 200, response.text
        if hold is not None:
            self._server.wait_for_line(f"holding {hold}")
        return response.json()

    def unread(self, order: str) -> int:
        """How many messages an order has not received."""
        return messages_to(self._observer, order)

    def steps(self, order: str) -> dict[str, tuple[int, int]]:
        """How often the steps of an order began and ended, by the status that they give it."""
        entries = [entry for entry in ledger.read(self._ledger) if entry["order"] == order]
        counts = Counter((entry["status"], entry["does"]) for entry in entries)
        return {status: (counts[status, "begin"], counts[status, "end"]) for status, _ in counts}


@pytest.fixture
def shop(database_url: str, spawn: Spawner, tmp_path: Path) -> Iterator[Shop]:
    yield Shop(database_url, spawn, tmp_path)
    DBOS.destroy()


def test_paid_order_is_dispatched_once(shop: Shop) -> None:
    """The browser asks twice, the payment service calls twice, and two steps are cut off in the middle."""
    assert shop.ask("POST", "/checkout/mine") == {"payment_id": "mine"}
    assert shop.ask("POST", "/checkout/mine") == {"payment_id": "mine"}
    shop.ask("POST", "/payment_webhook/mine/paid", hold="paid")
    shop.ask("POST", "/payment_webhook/mine/paid", hold="dispatched")
    assert shop.ask("POST", "/checkout/mine") == {"payment_id": "mine"}
    assert DBOS.get_result("mine") == "dispatched"
    order = {"id": "mine", "status": "dispatched", "workflow": "SUCCESS", "outcome": "dispatched"}
    page = shop.ask("GET", "/shop")
    assert (page["stock"], page["orders"]) == (11, [order])
    assert [workflow.workflow_id for workflow in DBOS.list_workflows()] == ["mine"]
    assert shop.unread("mine") == 0
    assert shop.steps("mine") == {"reserved": (1, 1), "paid": (2, 1), "dispatched": (2, 1)}


def test_widget_of_a_failed_payment_is_put_back_once(shop: Shop) -> None:
    """The payment service calls twice, then changes its mind, too late."""
    assert shop.ask("POST", "/checkout/mine") == {"payment_id": "mine"}
    shop.ask("POST", "/payment_webhook/mine/failed", hold="cancelled")
    shop.ask("POST", "/payment_webhook/mine/failed")
    assert DBOS.get_result("mine") == "cancelled"
    shop.ask("POST", "/payment_webhook/mine/paid")
    order = {"id": "mine", "status": "cancelled", "workflow": "SUCCESS", "outcome": "cancelled"}
    assert shop.ask("GET", "/orders/mine") == order
    assert shop.unread("mine") == 1, "failed was sent once; paid came too late"
    assert shop.steps("mine") == {"reserved": (1, 1), "cancelled": (2, 1)}


def test_widget_that_nobody_pays_for_is_put_back_when_the_time_is_over(shop: Shop) -> None:
    """The wait goes on in the next life, and is no shorter for it."""
    assert shop.ask("POST", "/checkout/mine", payment_timeout_s=2) == {"payment_id": "mine"}
    assert shop.ask("POST", "/checkout/other", payment_timeout_s=2) == {"payment_id": "other"}
    for order in ("mine", "other"):
        assert DBOS.get_result(order) == "cancelled"
        status = DBOS.get_workflow_status(order)
        assert status is not None
        assert status.updated_at is not None
        assert status.created_at is not None
        assert status.updated_at - status.created_at >= 2000
        assert shop.steps(order) == {"reserved": (1, 1), "cancelled": (1, 1)}


def test_shop_without_a_crash(spawn: Spawner, tmp_path: Path) -> None:
    """As the example's README runs it: the page, the default database, and what is refused."""
    port = free_port()
    server = spawn(FOLDER / "main.py", env={"PORT": str(port)})

    def refusal(response: httpx.Response) -> tuple[int, str]:
        return response.status_code, response.json()["detail"]

    with client_of(server, port) as client:
        assert "<title>Widget store</title>" in client.get("/").text
        for number in range(12):
            assert client.get("/shop").json()["stock"] == 12 - number
            assert client.post(f"/checkout/{number}").json() == {"payment_id": str(number)}
        reserved = {"id": "7", "status": "reserved", "workflow": "PENDING", "outcome": None}
        assert client.get("/orders/7").json() == reserved
        page = client.get("/shop").json()
        assert page["process"] == server.pid
        assert [order["id"] for order in page["orders"]] == [str(number) for number in reversed(range(2, 12))]
        assert page["orders"][4] == reserved
        for _ in range(2):
            assert refusal(client.post("/checkout/late")) == (409, "Sold out")
        sold_out = {"id": "late", "status": None, "workflow": "SUCCESS", "outcome": "sold out"}
        assert client.get("/orders/late").json() == sold_out
        assert refusal(client.get("/orders/nobody")) == (404, "No such order")
        assert refusal(client.post("/payment_webhook/nobody/paid")) == (404, "No such payment")
        assert client.post("/payment_webhook/1/perhaps").status_code == 422
        assert client.post("/payment_webhook/7/failed").status_code == 200
        eventually(lambda: client.get("/shop").json()["stock"] == 1, "the widget is put back")
        assert client.post("/checkout/early").json() == {"payment_id": "early"}
    assert (tmp_path / "checkout.sqlite").exists()
