"""Signatures of webhooks, by which who knows the secret can tell who sent them: those of Standard Webhooks.

https://www.standardwebhooks.com
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import time

SECRET = os.environ.get("WEBHOOK_SECRET", "known to the sender and the receiver").encode()
TOLERANCE_S = 300
"""How old a request may be: what somebody has recorded cannot be sent again much later."""


def headers_for(delivery_id: str, body: str) -> dict[str, str]:
    """The headers of a request that is sent now."""
    timestamp = str(int(time.time()))
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": _signature(delivery_id, timestamp, body),
    }


def is_genuine(delivery_id: str, timestamp: str, signature: str, body: str) -> bool:
    """Whether a request with these headers and this body was signed with the secret, and not long ago."""
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE_S:
        return False
    return hmac.compare_digest(_signature(delivery_id, timestamp, body).encode(), signature.encode())


def _signature(delivery_id: str, timestamp: str, body: str) -> str:
    digest = hmac.digest(SECRET, f"{delivery_id}.{timestamp}.{body}".encode(), hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"
