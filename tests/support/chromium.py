"""A headless Chromium, where there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

NO_CHROMIUM = (
    "NOT TESTED: there is no Chromium; install one (apt-get install chromium, or playwright install chromium), or set "
    "CHROMIUM to its path"
)


def find_chromium() -> str | None:
    """The executable that `CHROMIUM` names, or one on the path, or the one that playwright has installed."""
    given = os.environ.get("CHROMIUM")
    if given is not None:
        return given or None
    for name in NAMES:
        if found := shutil.which(name):
            return found
    installed = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", "~/.cache/ms-playwright")).expanduser()
    return next((str(path) for path in sorted(installed.glob("chromium-*/chrome-*/chrome"), reverse=True)), None)


@contextmanager
def chromium(executable: str) -> Iterator[Browser]:
    """A running browser. In this thread nothing of asyncio can be used until it is closed."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
