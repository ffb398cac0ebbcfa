"""The documentation site builds without a warning, is complete, and needs nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import dbos
import dbos.console
import dbos.testing
from tests.support.processes import ROOT

_LOADED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=\"?((?:https?:)?//[^\"\s>]*)")


def _build(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory), *options],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built. (Not with ``--quiet``, which would have warnings count for nothing.)"""
    directory = tmp_path_factory.mktemp("site")
    built = _build(directory)
    assert built.returncode == 0, built.stderr
    return directory


def test_link_that_leads_nowhere_is_noticed(tmp_path: Path) -> None:
    """The check of this module, on a site with a dead link."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "index.md").write_text("[gone](gone.md)", encoding="utf-8")
    settings = f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: pages\nhooks: []\nplugins: []\nnav: [index.md]\n"
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    built = _build(tmp_path / "site", "--config-file", str(tmp_path / "mkdocs.yml"))
    assert built.returncode != 0
    assert "gone.md" in built.stderr


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    public = {f"dbos.{name}" for name in dbos.__all__ if name != "error"}
    for module in (dbos.error, dbos.testing, dbos.console):
        public |= {f"{module.__name__}.{name}" for name in module.__all__}
    for part in (dbos.DBOS, dbos.DBOSClient, dbos.Queue):
        public |= {f"dbos.{part.__name__}.{name}" for name in dir(part) if not name.startswith("_")}
    assert public - _described(site) == set()


@pytest.mark.parametrize("name", [name for name in dbos.__all__ if "__annotations__" in vars(getattr(dbos, name))])
def test_every_field_is_described(name: str) -> None:
    part = getattr(dbos, name)
    fields = [field for field in part.__annotations__ if not field.startswith("_")]
    assert [field for field in fields if f"\n        {field}: " not in part.__doc__] == []


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    loaded = {str(page.relative_to(site)): _LOADED.findall(page.read_text(encoding="utf-8")) for page in pages}
    assert {page: addresses for page, addresses in loaded.items() if addresses} == {}
    styles = "".join(style.read_text(encoding="utf-8") for style in site.rglob("*.css"))
    assert re.findall(r"url\(['\"]?(?:https?:)?//", styles) == []


def test_pages_of_the_repository_are_on_the_site(site: Path) -> None:
    """Also those outside of docs; and links to them, which a repository browser follows, lead there."""
    assert 'href="benchmarks/index.html"' in (site / "benchmarks.html").read_text(encoding="utf-8")
    example = (site / "examples" / "jobs" / "index.html").read_text(encoding="utf-8")
    assert "worker.py" in example
    assert 'class="highlight"' in example
    assert not (site / "hooks").exists()


def test_command_line_is_described(site: Path) -> None:
    page = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    for command in ("dbos doctor", "dbos workflow fork", "dbos migrate"):
        assert f"Usage: {command} " in page


def test_a_page_that_loads_something_is_noticed() -> None:
    assert _LOADED.findall('<script async src="https://unpkg.com/mermaid"></script>') == ["https://unpkg.com/mermaid"]
    assert _LOADED.findall("<link rel=preconnect href=//fonts.example>") == ["//fonts.example"]
    assert _LOADED.findall('<a href="https://example.org">no</a><img src="diagrams/a.svg">') == []


def _described(site: Path) -> set[str]:
    """The names in the site's inventory, in the format of Sphinx: four lines, then compressed lines."""
    *_, compressed = (site / "objects.inv").read_bytes().split(b"\n", 4)
    return {line.split(" ", 1)[0] for line in zlib.decompress(compressed).decode().splitlines()}
