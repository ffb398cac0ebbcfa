"""The model that decides what to do next: a real one if there is a key for it, otherwise one that plays a part.

Messages have the form of OpenAI's chat completions, which many other servers understand, too. Knows nothing of
workflows.
"""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections.abc import Sequence
from typing import Any

from tools import TOOLS

Message = dict[str, Any]
"""One message of a conversation: a ``role``, the ``content``, and of the model maybe ``tool_calls``."""

ToolCall = dict[str, Any]
"""What the model wants to be done: an ``id``, and a ``function`` with its ``name`` and its ``arguments`` in JSON."""


def next_message(conversation: Sequence[Message]) -> Message:
    """What the model says to a conversation: an answer, or the tools that it wants to be called.

    Raises:
        OSError: The model cannot be reached, or refuses (``urllib.error.HTTPError``).
    """
    key = os.environ.get("OPENAI_API_KEY")
    return play(conversation) if key is None else ask(conversation, key)


def ask(conversation: Sequence[Message], key: str) -> Message:
    """Ask a real model, by plain HTTP."""
    url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
    body = {
        "model": os.environ.get("OPENAI_MODEL", "gpt-4o-mini"),
        "messages": list(conversation),
        "tools": [_described(name) for name in TOOLS],
    }
    request = urllib.request.Request(
        f"{url}/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer: Message = json.load(response)["choices"][0]["message"]
    return {"content": None, **{key: answer[key] for key in ("role", "content", "tool_calls") if key in answer}}


def play(conversation: Sequence[Message]) -> Message:
    """Play a part: look the order up; if it arrived broken, pay back what it cost; tell the customer."""
    results = [message["content"] for message in conversation if message["role"] == "tool"]
    order = re.search(r"\d+", conversation[1]["content"])
    if order is None:
        return _said("Which order is it? Please tell me its number.")
    if not results:
        return _wants("find_order", order=int(order[0]))
    price = re.search(r"for (\d+) coins; arrived broken", results[0])
    if price is None:
        return _said(f"I cannot refund this order: {results[0]}.")
    if len(results) == 1:
        return _wants("refund", order=int(order[0]), coins=int(price[1]))
    return _said(f"About your order {order[0]}: {results[1]}.")


def _said(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _wants(name: str, **arguments: int) -> Message:
    call = {"id": f"call-{name}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _described(name: str) -> dict[str, Any]:
    """A tool, as chat completions want it described."""
    tool = TOOLS[name]
    properties = {
        parameter: {"type": "integer", "description": meaning} for parameter, meaning in tool.parameters.items()
    }
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": tool.description, "parameters": schema}}
