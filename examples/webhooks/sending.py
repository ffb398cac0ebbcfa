"""Sends one webhook, once. Knows nothing of workflows."""

from __future__ import annotations

import os
import urllib.request

import signing

WEBHOOK_URL = os.environ.get("WEBHOOK_URL", "http://127.0.0.1:9000")


def send(delivery_id: str, body: str) -> None:
    """Post the body to the receiver.

    Raises:
        OSError: The receiver cannot be reached, or answers with an error (``urllib.error.HTTPError``).
    """
    headers = {"content-type": "application/json", **signing.headers_for(delivery_id, body)}
    request = urllib.request.Request(WEBHOOK_URL, data=body.encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=10):
        pass
