"""From a file to chunks of plain text. Knows nothing of workflows."""

from __future__ import annotations

import os
import time
from html.parser import HTMLParser
from pathlib import Path

EXTRACT_S = float(os.environ.get("EXTRACT_S", "1"))
CHUNK_WORDS = 40


def text_of(document: Path) -> str:
    """The plain text of a document.

    Raises:
        ValueError: It has none that we can read.
    """
    time.sleep(EXTRACT_S)  # as if it were hard
    if document.suffix not in (".html", ".md", ".txt"):
        raise ValueError(f"cannot read {document.suffix} files")
    try:
        text = document.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError("not in UTF-8") from None
    return _text_of_html(text) if document.suffix == ".html" else text


def chunks_of(text: str) -> list[str]:
    """The text in pieces that are short enough to be shown as an answer."""
    words = text.split()
    return [" ".join(words[start : start + CHUNK_WORDS]) for start in range(0, len(words), CHUNK_WORDS)]


def _text_of_html(html: str) -> str:
    parser = _TextParser()
    parser.feed(html)
    parser.close()
    return " ".join(parser.texts)


class _TextParser(HTMLParser):
    """Collects what a browser would show."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._is_shown = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_shown = tag not in ("script", "style", "title")

    def handle_endtag(self, tag: str) -> None:
        self._is_shown = True

    def handle_data(self, data: str) -> None:
        if self._is_shown:
            self.texts.append(data)
