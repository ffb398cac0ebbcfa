"""The receiver, in another house: checks who a webhook is from, and takes each in once, however often it comes."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import signing

RECEIVED_FILE = os.environ.get("RECEIVED_FILE", "received.sqlite")
FAILS = int(os.environ.get("FAILS", "0"))
"""How many of the first requests to answer with an error."""


class Handler(BaseHTTPRequestHandler):
    """Takes webhooks in."""

    requests = count(1)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        delivery_id, timestamp, signature = (
            self.headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")
        )
        if not signing.is_genuine(delivery_id, timestamp, signature, body):
            self._answer(401, "forged")
        elif next(self.requests) <= FAILS:
            self._answer(503, f"{delivery_id} refused")
        else:
            self._answer(200, f"{delivery_id} {'taken in' if take_in(delivery_id, body) else 'known already'}")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what it answers is printed."""

    def _answer(self, status: int, what: str) -> None:
        print(f"{what}\n", end="", flush=True)
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()


def take_in(delivery_id: str, body: str) -> bool:
    """Keep a delivery; False if it was here before. What is to be done about it belongs into this transaction, too."""
    with closing(sqlite3.connect(RECEIVED_FILE, timeout=30)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS received (id TEXT PRIMARY KEY, body TEXT)")
        return connection.execute("INSERT OR IGNORE INTO received VALUES (?, ?)", (delivery_id, body)).rowcount == 1


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("RECEIVER_PORT", "9000"))), Handler) as server:
        print(f"the receiver listens at http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
