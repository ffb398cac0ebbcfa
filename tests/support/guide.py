"""The programming guide of the specification, taken apart: every block of code in it, by its place.

The guide is not part of the project. `DBOS_GUIDE` names its file; without it, what needs the guide is skipped, loudly.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import dbos
from tests.support.processes import ROOT

Place = tuple[str, int]
"""Where a block of the guide is: the nearest heading over it, and its number under headings of that name, from 1."""

_FENCE = re.compile(r"^ *```(\w*) *$")
_HEADING = re.compile(r"^#+ (.*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block of the guide.

    Attributes:
        place: What tests know it by.
        line: The line of the guide where its code begins.
        language: What its fence says, maybe nothing.
        code: What it holds.
    """

    place: Place
    line: int
    language: str
    code: str


def guide_path() -> Path:
    """The guide's file, which may not be there."""
    beside = ROOT.parent / "shared" / "spec" / "programming-guide.md"
    return Path(os.environ.get("DBOS_GUIDE", beside)).resolve()


def guide_blocks() -> dict[Place, Block]:
    """All blocks by their places; skips the test where there is no guide."""
    guide = guide_path()
    if not guide.exists():
        pytest.skip(f"NOT TESTED: the programming guide is not there ({guide}); set DBOS_GUIDE to its path")
    return {block.place: block for block in _blocks_of(guide)}


@cache
def _blocks_of(guide: Path) -> list[Block]:
    return list(blocks_of(guide.read_text(encoding="utf-8")))


def blocks_of(text: str) -> Iterator[Block]:
    """The blocks of a text, one after the other."""
    section = language = ""
    code: list[str] | None = None
    numbers: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        fence, heading = _FENCE.match(line), _HEADING.match(line)
        if fence and code is None:
            language, code = fence[1], []
        elif fence and code is not None:
            numbers[section] = numbers.get(section, 0) + 1
            yield Block((section, numbers[section]), number - len(code), language, "".join(code))
            code = None
        elif code is not None:
            code.append(line + "\n")
        elif heading:
            section = heading[1]


@dataclass
class Program:
    """Blocks that share a namespace, as in a module of a user; it has the public names of the library.

    Attributes:
        blocks: The blocks.
        repairs: What each block needs to be code at all.
        names: The namespace.
    """

    blocks: list[Block]
    repairs: list[dict[str, str]]
    names: dict[str, Any] = field(default_factory=lambda: {name: getattr(dbos, name) for name in dbos.__all__})

    def run(self, number: int = 1, **changes: str) -> None:
        """Execute a block, after replacing in it each of `old_n` by `new_n`."""
        execute(self.code(number, **changes), self.blocks[number - 1], self.names)

    def code(self, number: int = 1, **changes: str) -> str:
        """A block's text, after replacing in it each of `old_n` by `new_n`."""
        block = self.blocks[number - 1]
        code = block.code
        replacements = [(changes[key], changes["new" + key[3:]]) for key in changes if key.startswith("old")]
        for old, new in [*self.repairs[number - 1].items(), *replacements]:
            assert old in code, f"line {block.line} of the guide has no {old!r}"
            code = code.replace(old, new)
        return code

    def __getitem__(self, name: str) -> Any:
        return self.names[name]


def execute(code: str, block: Block, namespace: dict[str, Any]) -> None:
    """Execute code as a module of its own; tracebacks show the line of the guide where its block begins."""
    exec(compile(code, f"guide:{block.line}", "exec", dont_inherit=True), namespace)
