"""The site holds pages of the whole repository, and links between them work there as they do in a repository browser.

On the site, the repository's root and ``docs`` are one directory: ``examples/jobs/README.md`` and ``docs/queues.md``
are ``examples/jobs/README.md`` and ``queues.md``. Links are rewritten accordingly; MkDocs says which lead nowhere. A
file of code that a page links to is a page that shows it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md", "examples/**/README.md")
"""What belongs to the site and is not in ``docs``. The README is left out: it is the repository's page as the home page
is the site's."""

LANGUAGES = {".py": "python", ".html": "html", ".yaml": "yaml", ".toml": "toml", ".sh": "shell"}
"""The files of code that are shown below the page of their example."""

AS_THEY_ARE = {".md", ".png", ".svg"}
"""The files that are not shown on a page made for them."""

_FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1`*\s*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages that a pattern stands for into the navigation, each with its own title."""
    config.nav = _expanded(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are outside of ``docs``, and those for the files that pages link to."""
    outside = {path for pattern in OUTSIDE for path in ROOT.glob(pattern)}
    inside = {Path(page.abs_src_path or "") for page in files.documentation_pages()}
    new = outside
    while new := _linked(inside | new) - outside:
        outside |= new
    for path in sorted(outside):
        if path.suffix in AS_THEY_ARE:
            place = path.relative_to(ROOT).as_posix()
            files.append(File(place, str(ROOT), config.site_dir, config.use_directory_urls))
        else:
            files.append(File.generated(config, _place(path).as_posix(), content=f"# {_shown(path, ROOT)}"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links, and show the source of examples."""
    if page.file.abs_src_path is None:
        return markdown
    source, place = Path(page.file.abs_src_path), Path(page.file.src_uri)
    rewritten = _outside_fences(markdown, lambda text: _LINK.sub(lambda link: _rewritten(link, source, place), text))
    if source.name == "README.md" and source.parent.parent == ROOT / "examples":
        code = sorted(path for path in source.parent.rglob("*") if path.suffix in LANGUAGES)
        rewritten += "".join(f"\n\n## {_shown(path, source.parent)}" for path in code)
    return rewritten


def _linked(pages: set[Path]) -> set[Path]:
    """The files outside of ``docs`` that the pages link to."""
    texts = ((page, _FENCE.sub("", page.read_text(encoding="utf-8"))) for page in pages)
    targets = {_target(link[2], page) for page, text in texts for link in _LINK.finditer(text)}
    return {path for path in targets if path is not None and path.is_file() and not path.is_relative_to(DOCS)}


def _rewritten(link: re.Match[str], source: Path, place: Path) -> str:
    before, path, anchor, after = link.groups()
    target = _target(path, source)
    if target is None:
        return link[0]
    there = os.path.relpath(_place(target), place.parent)
    return f"{before}{Path(there).as_posix()}{anchor or ''}{after}"


def _target(path: str, source: Path) -> Path | None:
    """The file that a link leads to; ``None`` if it leads out of the repository."""
    if ":" in path or path.startswith("/"):
        return None
    target = Path(os.path.normpath(source.parent / unquote(path)))
    if target == ROOT / "README.md":
        return DOCS / "index.md"
    if target.is_dir():
        target /= "README.md"
    return target if target.is_relative_to(ROOT) else None


def _place(path: Path) -> Path:
    """Where the file is on the site."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS)
    place = path.relative_to(ROOT)
    return place if path.suffix in AS_THEY_ARE else place.with_name(place.name + ".md")


def _expanded(nav: Any) -> Any:
    if isinstance(nav, dict):
        return {title: _expanded(entry) for title, entry in nav.items()}
    expanded: list[Any] = []
    for entry in nav if isinstance(nav, list) else ():
        if isinstance(entry, str) and "*" in entry:
            paths = {_place(path).as_posix() for base in (DOCS, ROOT) for path in base.glob(entry)}
            expanded += sorted(paths)
        else:
            expanded.append(_expanded(entry))
    return expanded if isinstance(nav, list) else nav


def _outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    parts: list[str] = []
    end = 0
    for fence in _FENCE.finditer(markdown):
        parts += [change(markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(markdown[end:])])


def _shown(path: Path, base: Path) -> str:
    """The title and the code of a file."""
    code = path.read_text(encoding="utf-8")
    return f"`{path.relative_to(base).as_posix()}`\n\n````{LANGUAGES.get(path.suffix, 'text')}\n{code}````\n"
