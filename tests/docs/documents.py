"""The documents, and what is in them: blocks of code, links, names of tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import ROOT

README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

NO_RUN = "<!-- no-run -->"
OUTPUT = "<!-- output -->"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of Python.

    Attributes:
        document: Where it is.
        line: The first line of its code, from 1.
        code: The code.
        is_run: Whether it is executed; if not, it is compiled only.
        output: What it must print: the text of the block after it, if that is marked as its output.
    """

    document: Path
    line: int
    code: str
    is_run: bool
    output: str | None

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks_of(document: Path, text: str) -> Iterator[Block]:
    """The blocks of Python in the text of a document."""
    fences = list(_FENCE.finditer(text))
    for number, fence in enumerate(fences):
        if fence[1] != "python":
            continue
        follower = fences[number + 1] if number + 1 < len(fences) else None
        yield Block(
            document=document,
            line=text.count("\n", 0, fence.start(2)) + 1,
            code=fence[2],
            is_run=not _is_marked(text, fence, NO_RUN),
            output=follower[2] if follower is not None and _is_marked(text, follower, OUTPUT) else None,
        )


def links_of(text: str) -> list[str]:
    """The targets of links to other files, without those to the web."""
    outside_code = _FENCE.sub("", text)
    return [link for link in _LINK.findall(outside_code) if not link.startswith(("http://", "https://", "#"))]


def _is_marked(text: str, fence: re.Match[str], mark: str) -> bool:
    return text[: fence.start()].rstrip().endswith(mark)
