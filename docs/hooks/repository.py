"""The site holds pages of the whole repository, and links between them work there as they do in a repository browser.

On the site, the repository's root and ``docs`` are one directory: ``examples/jobs/README.md`` and ``docs/queues.md``
are ``examples/jobs/README.md`` and ``queues.md``. Links are rewritten accordingly; MkDocs says which lead nowhere.
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

OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md", "examples/**/README.md")
"""What belongs to the site and is not in ``docs``. The README is left out: it is the repository's page as the home page
is the site's."""

LANGUAGES = {".py": "python", ".html": "html", ".yaml": "yaml", ".toml": "toml", ".sh": "shell"}
"""The files of examples that are shown, each below its example's page."""

_FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1`*\s*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages that a pattern stands for into the navigation, each with its own title."""
    config.nav = _expanded(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are outside of ``docs``."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File(path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links, and show the source of examples."""
    source = Path(page.file.abs_src_path or "")
    rewritten = _outside_fences(markdown, lambda text: _LINK.sub(lambda link: _rewritten(link, source, page), text))
    if source.name == "README.md" and source.parent.parent == ROOT / "examples":
        rewritten += "".join(_shown(path) for path in sorted(source.parent.rglob("*")) if path.suffix in LANGUAGES)
    return rewritten


def _rewritten(link: re.Match[str], source: Path, page: Page) -> str:
    before, path, anchor, after = link.groups()
    if ":" in path or path.startswith("/"):
        return link[0]
    target = Path(os.path.normpath(source.parent / unquote(path)))
    if target == ROOT / "README.md":
        target = ROOT / "docs" / "index.md"
    there = os.path.relpath(_place(target), Path(page.file.src_uri).parent)
    return f"{before}{Path(there).as_posix()}{anchor or ''}{after}"


def _place(path: Path) -> Path:
    """Where the file is on the site."""
    docs = ROOT / "docs"
    return path.relative_to(docs if path.is_relative_to(docs) else ROOT)


def _expanded(nav: Any) -> Any:
    if isinstance(nav, dict):
        return {title: _expanded(entry) for title, entry in nav.items()}
    expanded: list[Any] = []
    for entry in nav if isinstance(nav, list) else ():
        if isinstance(entry, str) and "*" in entry:
            paths = {_place(path).as_posix() for base in (ROOT / "docs", ROOT) for path in base.glob(entry)}
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


def _shown(path: Path) -> str:
    example = ROOT / "examples"
    title = path.relative_to(example / path.relative_to(example).parts[0])
    return f"\n\n## `{title}`\n\n````{LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8')}````\n"
