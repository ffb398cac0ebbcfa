"""A checkout that outlives its server: reserve a widget, wait for the payment, dispatch the widget or put it back.

Run `python main.py` and open http://127.0.0.1:8000; README.md tells what to try.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import store
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse

from dbos import DBOS, DBOSConfig, SetWorkflowID, WorkflowStatus
from dbos.error import DBOSNonExistentWorkflowError

PAYMENT_ID = "payment_id"
PAYMENT_STATUS = "payment_status"
PAYMENT_TIMEOUT_S = float(os.environ.get("PAYMENT_TIMEOUT_S", "120"))
PACKING_S = float(os.environ.get("PACKING_S", "5"))

app = FastAPI(title="Widget store")


# ------------------------------------------------------------------------------------------------------- the workflow


@DBOS.workflow()
def checkout() -> str:
    """One order, from the reservation to its end. The workflow's id is the order's and the payment's, too."""
    order_id = str(DBOS.workflow_id)
    if not reserve_widget(order_id):
        DBOS.set_event(PAYMENT_ID, None)
        return "sold out"
    DBOS.set_event(PAYMENT_ID, order_id)
    if DBOS.recv(PAYMENT_STATUS, timeout_seconds=PAYMENT_TIMEOUT_S) != "paid":
        undo_reserve_widget(order_id)
        return "cancelled"
    mark_paid(order_id)
    DBOS.sleep(PACKING_S)
    dispatch(order_id)
    return "dispatched"


@DBOS.step()
def reserve_widget(order_id: str) -> bool:
    """Take a widget off the shelf, if there is one."""
    return store.reserve(order_id)


@DBOS.step()
def undo_reserve_widget(order_id: str) -> None:
    """Put it back."""
    store.set_status(order_id, "cancelled")


@DBOS.step()
def mark_paid(order_id: str) -> None:
    """Keep that the customer has paid."""
    store.set_status(order_id, "paid")


@DBOS.step()
def dispatch(order_id: str) -> None:
    """Send the parcel."""
    store.set_status(order_id, "dispatched")


# ------------------------------------------------------------------------------------------------------- the endpoints


@app.post("/checkout/{key}")
def start_checkout(key: str) -> dict[str, str]:
    """Start the checkout, once for each key, and tell the id of its payment."""
    with SetWorkflowID(key):
        handle = DBOS.start_workflow(checkout)
    payment_id = DBOS.get_event(handle.workflow_id, PAYMENT_ID)
    if payment_id is None:
        raise HTTPException(409, "Sold out")
    return {"payment_id": payment_id}


@app.post("/payment_webhook/{payment_id}/{status}")
def payment_webhook(payment_id: str, status: Literal["paid", "failed"]) -> None:
    """Called by the payment service, maybe more than once: tell the checkout how the payment went."""
    try:
        with SetWorkflowID(f"{payment_id}-{status}"):  # the message's idempotency key
            DBOS.send(payment_id, status, PAYMENT_STATUS)
    except DBOSNonExistentWorkflowError:
        raise HTTPException(404, "No such payment") from None


@app.get("/orders/{order_id}")
def show_order(order_id: str) -> dict[str, str | None]:
    """How an order stands, for the shop and for the workflow."""
    workflow = DBOS.get_workflow_status(order_id)
    if workflow is None:
        raise HTTPException(404, "No such order")
    return described(workflow)


@app.get("/shop")
def show_shop() -> dict[str, Any]:
    """What the page shows: who serves it, how many widgets are left, and the newest orders."""
    orders = DBOS.list_workflows(name="checkout", sort_desc=True, limit=10)
    return {"process": os.getpid(), "stock": store.in_stock(), "orders": [described(order) for order in orders]}


def described(workflow: WorkflowStatus) -> dict[str, str | None]:
    order_id = workflow.workflow_id
    status = store.status_of(order_id)
    return {"id": order_id, "status": status, "workflow": workflow.status, "outcome": workflow.output}


@app.get("/", include_in_schema=False)
def show_page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))


if __name__ == "__main__":
    config: DBOSConfig = {
        "name": "checkout",
        "system_database_url": os.environ.get("DBOS_SYSTEM_DATABASE_URL"),  # None: the file checkout.sqlite
    }
    DBOS(config=config)
    DBOS.launch()
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
