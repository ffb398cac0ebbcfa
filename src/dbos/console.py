"""The web console, to be mounted into an ASGI application such as one of FastAPI or Starlette.

    app.mount("/dbos", console_app())

See docs/console.md.
"""

from __future__ import annotations

from dbos.edges.console.mounting import ConsoleApp, console_app

__all__ = ["ConsoleApp", "console_app"]
