"""A shop that tells the world of its orders: each order and its webhook are one transaction, and none is ever lost.

Run `python receiver.py` in one terminal and `python main.py` in another one; README.md tells what to try.
"""

from __future__ import annotations

import os

import sending
import store
import uvicorn
from fastapi import FastAPI, HTTPException

from dbos import DBOS, DBOSConfig, Queue, SetWorkflowID
from dbos.error import DBOSMaxStepRetriesExceeded

MAX_ATTEMPTS = int(os.environ.get("MAX_ATTEMPTS", "5"))
FIRST_PAUSE_S = float(os.environ.get("FIRST_PAUSE_S", "1"))

app = FastAPI(title="A shop with webhooks")
queue = Queue("deliveries", worker_concurrency=10)


# ------------------------------------------------------------------------------------------------------ the workflows


@DBOS.workflow()
def place_order(item: str) -> None:
    """One order, and its delivery to whoever wants to know of it. The workflow's id is the order's, too."""
    order_id = str(DBOS.workflow_id)
    delivery_id = f"{order_id}-placed"
    body = add_order(order_id, item, delivery_id)
    queue.enqueue(deliver, delivery_id, body)


@DBOS.workflow()
def redeliver(delivery_id: str) -> bool:
    """Give a dead delivery another chance; False if it is not dead."""
    body = revive(delivery_id)
    if body is None:
        return False
    queue.enqueue(deliver, delivery_id, body)
    return True


@DBOS.workflow()
def deliver(delivery_id: str, body: str) -> None:
    """Send a webhook until the receiver has it, or until all attempts are used up."""
    try:
        send(delivery_id, body)
    except DBOSMaxStepRetriesExceeded:
        set_status(delivery_id, "dead")
    else:
        set_status(delivery_id, "delivered")


# ---------------------------------------------------------------------------------------------------------- the steps


@DBOS.transaction()
def add_order(order_id: str, item: str, delivery_id: str) -> str:
    """The order, its place in the outbox, and the record that this was done: all or nothing."""
    return store.add_order(DBOS.sql_session, order_id, item, delivery_id)


@DBOS.transaction()
def set_status(delivery_id: str, status: str) -> None:
    """Keep what became of a delivery."""
    store.set_status(DBOS.sql_session, delivery_id, status)


@DBOS.transaction()
def revive(delivery_id: str) -> str | None:
    """Of several that call this at once, one gets the body."""
    return store.revive(DBOS.sql_session, delivery_id)


@DBOS.step(retries_allowed=True, max_attempts=MAX_ATTEMPTS, interval_seconds=FIRST_PAUSE_S, backoff_rate=2)
def send(delivery_id: str, body: str) -> None:
    """One delivery, with all its attempts. If the process dies in here, the receiver may get it twice."""
    sending.send(delivery_id, body)


# ------------------------------------------------------------------------------------------------------ the endpoints


@app.put("/orders/{order_id}")
def put_order(order_id: str, item: str) -> dict[str, str]:
    """Place an order, once for each id. When this answers, it is placed, and the world will be told."""
    with SetWorkflowID(order_id):
        place_order(item)
    return {"order": order_id}


@app.get("/deliveries")
def show_deliveries() -> dict[str, str]:
    """The status of each delivery."""
    return store.statuses()


@app.get("/dead-letters")
def show_dead_letters() -> list[str]:
    """The deliveries that nobody tries any more."""
    return [delivery_id for delivery_id, status in store.statuses().items() if status == "dead"]


@app.post("/dead-letters/{delivery_id}/retry")
def retry(delivery_id: str) -> None:
    """Deliver a dead letter after all."""
    if not redeliver(delivery_id):
        raise HTTPException(404, "No such dead letter")


if __name__ == "__main__":
    config: DBOSConfig = {"name": "webhooks", "system_database_engine": store.engine}
    DBOS(config=config)
    DBOS.launch()
    store.metadata.create_all(store.engine)
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
