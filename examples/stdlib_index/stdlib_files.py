"""The real work of the demo: find, tokenise and hash the sources of the running Python's standard library.

Nothing here knows of workflows. The plain run and the durable run both call these functions, so that their results can
be compared digest by digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

PACKAGE_BYTES = 64_000
"""A directory with more source than this is cut into several packages, so that every step stays small."""

NOT_STDLIB = frozenset({"site-packages", "dist-packages", "__pycache__"})


@dataclass(frozen=True, slots=True)
class Package:
    """One unit of work: modules that lie in one directory. `files` are paths relative to the library's root."""

    name: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known of one package, or of the whole library. `unreadable` counts files that are not valid Python."""

    name: str
    files: int
    unreadable: int
    lines: int
    tokens: int
    digest: str


def stdlib_root() -> Path:
    """The directory of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def find_packages() -> list[Package]:
    """All packages of the standard library in a fixed order, test packages included where they are installed."""
    root = stdlib_root()
    found: list[Package] = []
    for directory, subdirectories, files in os.walk(root):
        subdirectories[:] = sorted(set(subdirectories) - NOT_STDLIB)
        modules = sorted(Path(directory, file) for file in files if file.endswith(".py"))
        found += _packages_in(Path(directory).relative_to(root), modules, root)
    return found


def summarise_package(package: Package) -> Summary:
    """Tokenise and hash every file of one package."""
    root = stdlib_root()
    return combine(package.name, (_summarise_file(root, file) for file in package.files))


def combine(name: str, parts: Iterable[Summary]) -> Summary:
    """Add up summaries into one; its digest covers everything in every part, in order."""
    files = unreadable = lines = tokens = 0
    digest = hashlib.sha256()
    for part in parts:
        files += part.files
        unreadable += part.unreadable
        lines += part.lines
        tokens += part.tokens
        digest.update(json.dumps(astuple(part)).encode())
    return Summary(name, files, unreadable, lines, tokens, digest.hexdigest())


def _packages_in(directory: Path, modules: list[Path], root: Path) -> Iterator[Package]:
    """The modules of one directory as a package, or as several where they are many."""
    dotted = ".".join(directory.parts) or "top level"
    pieces = list(_pieces(modules))
    for piece in pieces:
        name = dotted if len(pieces) == 1 else f"{dotted}: {piece[0].stem} to {piece[-1].stem}"
        yield Package(name, tuple(path.relative_to(root).as_posix() for path in piece))


def _pieces(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """Cut a list of files into runs of at most `PACKAGE_BYTES`; a larger file is a run of its own."""
    piece: list[Path] = []
    size = 0
    for path in paths:
        path_size = path.stat().st_size
        if piece and size + path_size > PACKAGE_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(path)
        size += path_size
    if piece:
        yield piece


def _summarise_file(root: Path, file: str) -> Summary:
    content = (root / file).read_bytes()
    tokens, readable = _count_tokens(content)
    return Summary(file, 1, int(not readable), content.count(b"\n"), tokens, hashlib.sha256(content).hexdigest())


def _count_tokens(content: bytes) -> tuple[int, bool]:
    """The number of tokens, and whether all of the file could be read: some test files are broken on purpose."""
    tokens = 0
    try:
        for _ in tokenize.tokenize(io.BytesIO(content).readline):
            tokens += 1
    except (SyntaxError, tokenize.TokenError, ValueError):
        return tokens, False
    return tokens, True
