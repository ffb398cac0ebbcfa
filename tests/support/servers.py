"""HTTP servers in child processes."""

from __future__ import annotations

import socket

import httpx

from tests.support.processes import Child


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def client_of(server: Child, port: int) -> httpx.Client:
    """A client of the server that uvicorn runs in the child, once it is up."""
    server.wait_for_line("Uvicorn running on", stream="stderr")  # written when it listens
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
