"""A shop whose console the pictures show: orders in every state, imports on a queue, two schedules.

It is told on its standard input what to start: "order ID", "import ID".
"""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import Any

from dbos import DBOS, Queue, SetWorkflowID

imports = Queue("imports", concurrency=2, limiter={"limit": 100, "period": 60})
mails = Queue("mails", worker_concurrency=5)


@DBOS.step()
def reserve(item: str, count: int) -> dict[str, Any]:
    time.sleep(0.03)
    return {"item": item, "count": count, "warehouse": "Lyon"}


@DBOS.step(retries_allowed=True, max_attempts=3, interval_seconds=0.05)
def charge(customer: str, cents: int) -> str:
    time.sleep(0.05)
    if customer == "mallory":
        raise ValueError("the card was declined")
    if DBOS.step_status.current_attempt == 0 and customer == "bob":
        raise ConnectionError("the bank did not answer")
    return f"receipt-{cents}"


@DBOS.step()
def pack(item: str) -> str:
    time.sleep(0.04)
    return f"parcel of {item}"


@DBOS.workflow()
def send_mail(to: str, subject: str) -> str:
    DBOS.sleep(0.05)
    return f"sent to {to}: {subject}"


@DBOS.workflow()
def ship(item: str) -> dict[str, str]:
    parcel = pack(item)
    DBOS.set_event("tracking", "FR-2041-77")
    return {"parcel": parcel, "tracking": "FR-2041-77"}


@DBOS.workflow()
def order(item: str, count: int, customer: str) -> dict[str, Any]:
    DBOS.set_event("state", "reserved")
    reserve(item, count)
    receipt = charge(customer, 1990 * count)
    DBOS.set_event("state", "paid")
    DBOS.sleep(0.1)
    shipped = ship(item)
    mail = mails.enqueue(send_mail, customer, "Your order is on its way")
    return {"receipt": receipt, **shipped, "mail": mail.get_result()}


@DBOS.workflow()
def approve(order_id: str) -> str:
    DBOS.set_event("state", "waits for somebody to approve it")
    answer = DBOS.recv("approval", timeout_seconds=7 * 24 * 3600)
    return f"{order_id}: {answer}"


@DBOS.workflow()
def import_catalogue(supplier: str) -> int:
    for page in range(1, 4):
        DBOS.write_stream("progress", f"page {page}")
        reserve(f"{supplier} page {page}", 1)
    DBOS.sleep(3600)
    return 3


@DBOS.workflow()
def report(at: datetime, context: Any) -> str:
    return f"report of {at:%Y-%m-%d} for {context['to']}"


def begin(kind: str, workflow_id: str, customer: str) -> None:
    """Start what a line asks for."""
    with SetWorkflowID(workflow_id):
        if kind == "order":
            DBOS.start_workflow(order, "desk lamp", 2, customer)
        elif kind == "approve":
            DBOS.start_workflow(approve, "order-1042")
        elif kind == "import":
            imports.enqueue(import_catalogue, customer)


def main() -> None:
    """Launch, fill, and do what is asked for."""
    DBOS(config={"name": "shop", "system_database_url": sys.argv[1], "application_version": "2026.11",
                 "executor_id": "worker-1", "run_admin_server": False, "log_level": "ERROR"})  # fmt: skip
    DBOS.launch()
    DBOS.apply_schedules(
        [
            {"schedule_name": "nightly-report", "workflow_fn": report, "schedule": "30 3 * * *",
             "context": {"to": "accounts"}},
            {"schedule_name": "stocktaking", "workflow_fn": report, "schedule": "0 6 1 * *",
             "context": {"to": "warehouse"}},
        ]
    )  # fmt: skip
    DBOS.pause_schedule("stocktaking")
    for number, customer in enumerate(("ann", "bob", "mallory", "carol", "dave"), 1037):
        begin("order", f"order-{number}", customer)
        if customer != "mallory":
            DBOS.get_result(f"order-{number}")
    begin("approve", "approve-1042", "")
    for supplier in ("ikea", "vitra", "flos", "artek"):
        begin("import", f"import-{supplier}", supplier)
    print("ready", flush=True)
    for line in sys.stdin:
        begin(*line.split())
        print("begun", flush=True)


main()
