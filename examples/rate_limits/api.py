"""Somebody else's API, as one meets them: it allows so many requests a second, and now and then it fails.

It counts what it answered, and tells that when it is asked for /counts. It is no part of the durable program.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ALLOWED_PER_SECOND = int(os.environ.get("ALLOWED_PER_SECOND", "8"))
FAILS_EACH = int(os.environ.get("FAILS_EACH", "5"))
UNKNOWN = ["Atlantis"]


class Gate:
    """Decides on the answer to each request, and remembers what it was."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recent: deque[float] = deque()
        self._number = 0
        self.answers: Counter[str] = Counter()

    def answer_to(self, city: str) -> int:
        """The status: 429 if there were too many requests in the last second, 503 each so many times."""
        with self._lock:
            now = time.monotonic()
            while self._recent and self._recent[0] <= now - 1:
                self._recent.popleft()
            if len(self._recent) >= ALLOWED_PER_SECOND:
                status = 429
            else:
                self._recent.append(now)
                self._number += 1
                status = 503 if self._number % FAILS_EACH == 0 else 404 if city in UNKNOWN else 200
            self.answers[str(status)] += 1
            self.answers[f"{city} {status}"] += 1
            return status


GATE = Gate()


class Handler(BaseHTTPRequestHandler):
    """Answers requests for the temperature in a city, which is as warm as its name is long."""

    def do_GET(self) -> None:
        city = self.path.removeprefix("/")
        if city == "counts":
            self._answer(200, GATE.answers)
        else:
            self._answer(GATE.answer_to(city), {"city": city, "degrees": len(city)})

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("API_PORT", "9000"))), Handler) as server:
        print(f"the API listens at http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
