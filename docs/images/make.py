"""Takes the pictures of the console that the documentation shows: `.venv/bin/python docs/images/make.py`.

It needs a Chromium, and takes half a minute: what waits shall have been waiting for a while.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from playwright.sync_api import Page  # noqa: E402

from tests.support.chromium import NO_CHROMIUM, chromium, find_chromium  # noqa: E402
from tests.support.console import serve_console  # noqa: E402
from tests.support.processes import Spawner  # noqa: E402

PICTURES = {
    "console-workflows": ("workflows", 640),
    "console-workflow": ("workflow?id=order-1038", 840),
}
"""For each picture its page, and how high it is."""

WIDTH = 1100


def main() -> None:
    executable = find_chromium()
    if executable is None:
        sys.exit(NO_CHROMIUM)
    with tempfile.TemporaryDirectory() as directory:
        spawner = Spawner(Path(directory))
        try:
            url = f"sqlite:///{directory}/shop.sqlite"
            spawner(HERE / "shop.py", url).wait_for_line("ready")
            address = serve_console(spawner, url)
            with chromium(executable) as browser:
                page = browser.new_page(color_scheme="light")
                page.wait_for_timeout(20_000)
                for name, (path, height) in PICTURES.items():
                    take(page, address + path, height, HERE / f"{name}.png")
        finally:
            spawner.close()


def take(page: Page, address: str, height: int, file: Path) -> None:
    """Take a picture of a page."""
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.goto(address)
    page.screenshot(path=file)
    print(f"{file.relative_to(Path.cwd())}: {file.stat().st_size // 1024} kB")


main()
