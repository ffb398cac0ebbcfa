"""The shop's own tables, in the database in which the workflows are recorded: the orders, and the outbox.

What writes is called in a transaction, with its session; what reads opens one of its own.
"""

from __future__ import annotations

import json
import os

from sqlalchemy import Column, MetaData, String, Table, create_engine, insert, select, update
from sqlalchemy.orm import Session

DATABASE_URL = os.environ.get("DBOS_SYSTEM_DATABASE_URL", "sqlite:///webhooks.sqlite")

engine = create_engine(DATABASE_URL.replace("postgresql://", "postgresql+psycopg://", 1))
metadata = MetaData()
orders = Table("orders", metadata, Column("id", String, primary_key=True), Column("item", String, nullable=False))
outbox = Table(
    "outbox",
    metadata,
    Column("id", String, primary_key=True),
    Column("body", String, nullable=False),
    Column("status", String, nullable=False),  # pending, delivered, dead
)


def add_order(session: Session, order_id: str, item: str, delivery_id: str) -> str:
    """Keep an order, and the webhook that tells of it; returns the webhook's body."""
    body = json.dumps({"type": "order.placed", "order": order_id, "item": item})
    session.execute(insert(orders).values(id=order_id, item=item))
    session.execute(insert(outbox).values(id=delivery_id, body=body, status="pending"))
    return body


def set_status(session: Session, delivery_id: str, status: str) -> None:
    """Keep what became of a delivery."""
    session.execute(update(outbox).where(outbox.c.id == delivery_id).values(status=status))


def revive(session: Session, delivery_id: str) -> str | None:
    """Make a dead delivery a pending one; returns its body, or None if it was not dead."""
    dead = (outbox.c.id == delivery_id, outbox.c.status == "dead")
    body = session.execute(select(outbox.c.body).where(*dead)).scalar_one_or_none()
    session.execute(update(outbox).where(*dead).values(status="pending"))
    return body


def statuses() -> dict[str, str]:
    """The status of each delivery, by id."""
    with engine.connect() as connection:
        rows = connection.execute(select(outbox.c.id, outbox.c.status).order_by(outbox.c.id))
        return {row.id: row.status for row in rows}
