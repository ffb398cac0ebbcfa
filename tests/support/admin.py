"""Admin servers for tests: an application that has one, and clients of it."""

from __future__ import annotations

from typing import Any

import httpx

from dbos import DBOS
from tests.support.apps import App


class AdminApp(App):
    """An application whose admin server listens at a free port."""

    def launch(self, *, is_calm: bool = False, **changes: Any) -> None:
        """Configure and launch. One that is calm does not look by itself for what is to be recovered."""
        DBOS(config=self.config(**{"run_admin_server": True, "admin_port": 0, **changes}))
        if is_calm:
            application: Any = DBOS._application
            application.renew_interval_s = application.lease_ttl_s = 3600.0
        DBOS.launch()


def admin_port() -> int:
    """The port of the launched application's admin server."""
    port: int | None = DBOS._application._admin.port  # type: ignore[union-attr]
    assert port is not None, "the admin server does not listen"
    return port


def admin_client(host: str = "127.0.0.1", **options: Any) -> httpx.Client:
    """A client of the launched application's admin server."""
    shown = f"[{host}]" if ":" in host else host
    return httpx.Client(base_url=f"http://{shown}:{admin_port()}", timeout=30, **options)
