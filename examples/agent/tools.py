"""What the agent can do: look up orders, and pay money back. Knows nothing of workflows or models."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

ORDERS = {
    7: "a blue teapot for 30 coins; arrived broken, says the carrier",
    8: "a green teapot for 35 coins; delivered, signed for by the customer",
}


@dataclass(frozen=True)
class Tool:
    """Something that a model can ask for.

    Attributes:
        function: What it does. Its first argument is a key: called again with the same key, it does nothing new.
        description: For the model.
        parameters: The names and meanings of its other arguments, all of them whole numbers.
        needs_approval: Whether a human has to agree.
    """

    function: Callable[..., str]
    description: str
    parameters: Mapping[str, str]
    needs_approval: bool = False


def find_order(key: str, order: int) -> str:
    """Tell what we know of an order."""
    return ORDERS.get(order, "there is no such order")


def refund(key: str, order: int, coins: int) -> str:
    """Pay money back. The bank takes the key, as banks do, so that nothing is paid twice."""
    with closing(sqlite3.connect(os.environ.get("BANK_FILE", "bank.sqlite"))) as bank, bank:
        bank.execute("CREATE TABLE IF NOT EXISTS refunds (key TEXT PRIMARY KEY, order_number INTEGER, coins INTEGER)")
        bank.execute("INSERT OR IGNORE INTO refunds VALUES (?, ?, ?)", (key, order, coins))
    return f"{coins} coins were paid back for order {order}"


TOOLS = {
    "find_order": Tool(find_order, "Tell what we know of an order.", {"order": "the order's number"}),
    "refund": Tool(
        refund,
        "Pay money back to the customer of an order. A human decides whether it is done.",
        {"order": "the order's number", "coins": "how much"},
        needs_approval=True,
    ),
}


def parse(name: str, arguments: str) -> dict[str, int]:
    """What a model wrote to call a tool with, in JSON, if it makes sense.

    Raises:
        ValueError: It does not; the message tells the model why.
    """
    if name not in TOOLS:
        raise ValueError(f"there is no tool {name}")
    values: Any = json.loads(arguments)
    try:
        numbers = {parameter: values[parameter] for parameter in TOOLS[name].parameters}
    except (KeyError, TypeError):
        raise ValueError(f"{name} takes {', '.join(TOOLS[name].parameters)}") from None
    if not all(type(number) is int and 0 < number < 1_000_000 for number in numbers.values()):
        raise ValueError(f"{name} takes whole numbers from 1 to 999999")
    return numbers
