"""Opens the admin server's port at the launch, and serves it from a thread of its own once somebody connects.

A launch must stay light, and most processes are never asked anything: so nothing but the standard library is used until
the first connection. Only then the HTTP stack is imported, which takes that connection some 100 ms.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
from typing import TYPE_CHECKING

from dbos.api.config import AdminSettings
from dbos.edges.listening import listen

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor

_logger = logging.getLogger("dbos")

_STOP_S = 0.08
"""How long shutdown waits for the thread, which may be importing just now."""


class AdminServer:
    """The admin server of one launch. ``start`` opens its port, ``stop`` frees it."""

    def __init__(self, executor: Executor, settings: AdminSettings) -> None:
        self.settings = settings
        self._executor = executor
        self._listener: socket.socket | None = None
        self._stops, self._stopper = socket.socketpair()
        """Readable when the server is to stop."""
        self._is_stopping = False
        self._thread = threading.Thread(target=self._serve, name="dbos-admin", daemon=True)

    @property
    def port(self) -> int | None:
        """The port it listens at; ``None`` if it does not."""
        return None if self._listener is None else int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Listen. If that is not possible, a warning says so."""
        settings = self.settings
        try:
            self._listener = listen(settings.host, settings.port)
        except OSError as error:
            self._close()
            _logger.warning(
                "The admin server cannot listen at %s port %d (%s); this process runs without one. Choose another "
                "admin_port in the configuration, or switch it off: run_admin_server=False.",
                *(settings.host, settings.port, error.strerror or error),
            )
            return
        self._thread.start()
        if not settings.port:
            _logger.info("The admin server listens at %s port %s", settings.host, self.port)

    def stop(self) -> None:
        """Free the port. What is being answered is broken off."""
        self._is_stopping = True
        with contextlib.suppress(OSError):
            self._stopper.send(b"s")
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_STOP_S)
        self._close()

    def abandon(self) -> None:
        """Drop what was inherited from the parent process, which goes on listening."""
        self._close()

    def _close(self) -> None:
        for one in (self._listener, self._stops, self._stopper):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.close()

    def _serve(self) -> None:
        assert self._listener is not None
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._listener, selectors.EVENT_READ)
                selector.register(self._stops, selectors.EVENT_READ)
                selector.select()
            if self._is_stopping:
                return
            from dbos.edges.admin.app import admin_app
            from dbos.edges.serving import serve

            if not self._is_stopping:
                serve(admin_app(self._executor, self.settings), self._listener, self._stops)
        except Exception as error:
            if not self._is_stopping:
                _logger.error("The admin server has failed, this process runs on without it: %r", error)


def start(executor: Executor, settings: AdminSettings) -> AdminServer:
    """Start the admin server of a launched executor."""
    server = AdminServer(executor, settings)
    server.start()
    return server
