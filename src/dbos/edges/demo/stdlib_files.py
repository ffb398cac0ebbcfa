"""The work: count and hash the sources of the running Python's standard library. Nothing here knows of workflows.

As a program, `python stdlib_files.py 1000`, it indexes the first 1000 files in a plain loop.
"""

from __future__ import annotations

import hashlib
import io
import operator
import sys
import sysconfig
import tokenize
from dataclasses import astuple, dataclass
from pathlib import Path

ROOT = Path(sysconfig.get_path("stdlib"))
NOT_STDLIB = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Summary:
    """What is known of some files; summaries add up, in any order. `broken` files do not tokenise."""

    files: int = 0
    broken: int = 0
    lines: int = 0
    tokens: int = 0
    digest: int = 0
    """The sum of the files' hashes."""

    def __add__(self, other: Summary) -> Summary:
        return Summary(*map(operator.add, astuple(self), astuple(other)))

    def __str__(self) -> str:
        counts = f"{self.files:,} files ({self.broken} broken), {self.lines:,} lines, {self.tokens:,} tokens"
        return f"{counts}, digest {self.digest:x}"


def find_files() -> list[str]:
    """All modules of the standard library, sorted; the library's own tests too, where they are installed."""
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
    return sorted(path.as_posix() for path in paths if path.parts[0] not in NOT_STDLIB)


def summarise(file: str) -> Summary:
    """Count and hash one file."""
    content = (ROOT / file).read_bytes()
    tokens = broken = 0
    try:
        for _ in tokenize.tokenize(io.BytesIO(content).readline):
            tokens += 1
    except (SyntaxError, ValueError, tokenize.TokenError):
        broken = 1  # some of the library's tests are, on purpose
    digest = hashlib.blake2b(file.encode() + content, digest_size=8).digest()
    return Summary(1, broken, content.count(b"\n"), tokens, int.from_bytes(digest, "big"))


if __name__ == "__main__":
    sys.stdout.write(f"{sum(map(summarise, find_files()[: int(sys.argv[1])]), Summary())}\n")
