"""The documents, and what is in them: blocks of code, links, names of tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import ROOT

README = ROOT / "README.md"
EXAMPLES = sorted((ROOT / "examples").rglob("README.md"))
DOCUMENTS = [README, ROOT / "CHANGELOG.md", *EXAMPLES, *sorted((ROOT / "docs").rglob("*.md"))]

NO_RUN = "<!-- no-run -->"
OUTPUT = "<!-- output -->"

_FENCE = re.compile(r"^```(\w*)(?: title=\"(.*?)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Fence:
    """A fenced block.

    Attributes:
        language: What it is written in; empty if it does not say.
        title: The name of the file that it is; ``None`` if it is none.
        code: What is in it.
        start: Where it starts in the text, with its fence.
        line: The first line of its code, from 1.
    """

    language: str
    title: str | None
    code: str
    start: int
    line: int


@dataclass(frozen=True)
class Block:
    """A fenced block of Python.

    Attributes:
        document: Where it is.
        line: The first line of its code, from 1.
        code: The code.
        is_run: Whether it is executed by itself; if not, it is compiled only.
        is_file: Whether it is a file of a story, which is carried out as a whole.
        output: What it must print: the text of the block after it, if that is marked as its output.
    """

    document: Path
    line: int
    code: str
    is_run: bool
    is_file: bool
    output: str | None

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def fences_of(text: str) -> list[Fence]:
    """The fenced blocks in the text of a document."""
    return [
        Fence(found[1], found[2], found[3], found.start(), text.count("\n", 0, found.start(3)) + 1)
        for found in _FENCE.finditer(text)
    ]


def blocks_of(document: Path, text: str) -> Iterator[Block]:
    """The blocks of Python in the text of a document."""
    fences = fences_of(text)
    for number, fence in enumerate(fences):
        if fence.language != "python":
            continue
        follower = fences[number + 1] if number + 1 < len(fences) else None
        yield Block(
            document=document,
            line=fence.line,
            code=fence.code,
            is_run=fence.title is None and not is_marked(text, fence, NO_RUN),
            is_file=fence.title is not None,
            output=follower.code if follower is not None and is_marked(text, follower, OUTPUT) else None,
        )


def links_of(text: str) -> list[str]:
    """The targets of links to other files, without those to the web."""
    outside_code = _FENCE.sub("", text)
    return [link for link in _LINK.findall(outside_code) if not link.startswith(("http://", "https://", "#"))]


def is_marked(text: str, fence: Fence, mark: str) -> bool:
    """Whether the mark stands before the block."""
    return text[: fence.start].rstrip().endswith(mark)
