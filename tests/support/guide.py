"""The programming guide of the specification, taken apart: chapters, and the blocks of code in them.

The guide is not part of the project. `DBOS_SPEC_DIR` names the directory where it is; without it, what needs the guide
is skipped, loudly.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import pytest

from tests.support.processes import ROOT

_FENCE = re.compile(r"^ *```(\w*)$")
_HEADING = re.compile(r"^(#+) (.*)$")
_SIGNATURE = re.compile(r"^(?:def )?(?:\w+\.)?(\w+)\((.*)\)(?: -> (.*?))?:?$", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of Python in the guide.

    Attributes:
        chapter: The heading of the second level over it.
        section: The nearest heading over it.
        line: The line of the guide where its code begins.
        code: The code.
    """

    chapter: str
    section: str
    line: int
    code: str

    @property
    def signature(self) -> re.Match[str] | None:
        """Its parts (name, parameters, result) if it shows how something is called, with types."""
        found = _SIGNATURE.match(self.code.strip())
        return found if found is not None and (found[3] or re.search(r"\w: \w", found[2])) else None

    @property
    def is_class(self) -> bool:
        """Whether it is the definition of a class."""
        return self.code.startswith("class ")

    @property
    def is_program(self) -> bool:
        """Whether it is code to be executed."""
        return self.signature is None and not self.is_class


def guide_blocks() -> list[Block]:
    """All blocks of Python; skips the test where there is no guide."""
    directory = Path(os.environ.get("DBOS_SPEC_DIR", ROOT / ".." / "shared" / "spec"))
    guide = directory / "programming-guide.md"
    if not guide.exists():
        pytest.skip(f"NOT TESTED: the guide is not there ({guide}); set DBOS_SPEC_DIR to the specification's directory")
    return list(_blocks_of(guide.read_text(encoding="utf-8")))


def _blocks_of(text: str) -> Iterator[Block]:
    chapter = section = language = ""
    code: list[str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        fence, heading = _FENCE.match(line), _HEADING.match(line)
        if fence and code is None:
            language, code = fence[1], []
        elif fence and code is not None:
            if language == "python":
                yield Block(chapter, section, number - len(code), "".join(code))
            code = None
        elif code is not None:
            code.append(line + "\n")
        elif heading:
            section = heading[2]
            chapter = section if len(heading[1]) <= 2 else chapter


Place = tuple[str, int]
"""A program of the guide: its section, and its number in it, from 1."""


def programs_of(blocks: Iterable[Block]) -> dict[Place, Block]:
    """Those of the blocks that are programs."""
    found: dict[Place, Block] = {}
    for block in blocks:
        if block.is_program:
            number = sum(section == block.section for section, _ in found) + 1
            found[block.section, number] = block
    return found


class Program:
    """Programs of the guide that share a namespace, as in a module of a user."""

    def __init__(self, blocks: list[Block], **names: Any) -> None:
        self.blocks = blocks
        self.names: dict[str, Any] = names

    def run(self, number: int = 1, **changes: str) -> Any:
        """Execute a program, after replacing in it each of `old_n` by `new_n`."""
        block = self.blocks[number - 1]
        execute(self.code(number, **changes), block, self.names)

    def code(self, number: int = 1, **changes: str) -> str:
        """A program's text, after replacing in it each of `old_n` by `new_n`."""
        block = self.blocks[number - 1]
        code = block.code
        for key in [key for key in changes if key.startswith("old")]:
            assert changes[key] in code, f"line {block.line} of the guide has no {changes[key]!r}"
            code = code.replace(changes[key], changes["new" + key[3:]])
        return code

    def __getitem__(self, name: str) -> Any:
        return self.names[name]


def differences(block: Block, ours: Callable[..., Any], names: Mapping[str, Any]) -> list[str]:
    """Where a function of ours does not accept what the guide's signature says, or returns something else.

    Ours may take more: further types, further optional parameters.

    Args:
        block: The guide's signature.
        ours: Our function.
        names: What the names of types in the block mean.
    """
    theirs = function_of(block, names)
    wrong: list[str] = []
    wanted, given = inspect.signature(theirs).parameters, inspect.signature(ours).parameters
    wanted_types, given_types = get_type_hints(theirs), get_type_hints(ours)
    positional = [name for name, parameter in wanted.items() if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    if [name for name in given if given[name].kind is not inspect.Parameter.KEYWORD_ONLY][
        : len(positional)
    ] != positional:
        wrong.append(f"positional parameters: {positional}, and not {list(given)}")
    for name, parameter in wanted.items():
        if name not in given:
            wrong.append(f"{name} is missing")
        elif given[name].default != parameter.default:
            wrong.append(f"{name} has the default {given[name].default!r}, and not {parameter.default!r}")
        elif not members(wanted_types[name]) <= members(given_types[name]):
            wrong.append(f"{name} takes {given_types[name]}, and not {wanted_types[name]}")
    for name in given.keys() - wanted.keys():
        if given[name].default is inspect.Parameter.empty:
            wrong.append(f"{name} is not in the guide, and not optional")
    result = wanted_types.get("return")
    if "return" in wanted_types and members(result) != members(given_types.get("return")):
        wrong.append(f"it returns {given_types.get('return')}, and not {result}")
    return wrong


def function_of(block: Block, names: Mapping[str, Any]) -> Callable[..., Any]:
    """A function that does nothing, with the signature that the guide shows."""
    found = block.signature
    assert found, f"line {block.line} of the guide shows no signature"
    namespace: dict[str, Any] = dict(names)
    result = f" -> {found[3]}" if found[3] else ""
    execute(f"def theirs({found[2]}){result}: ...", block, namespace)
    theirs: Callable[..., Any] = namespace["theirs"]
    return theirs


def execute(code: str, block: Block, namespace: dict[str, Any]) -> None:
    """Execute code as a module of its own; tracebacks show the line of the guide where its block begins."""
    exec(compile(code, f"guide:{block.line}", "exec", dont_inherit=True), namespace)


def members(type_: Any) -> frozenset[Any]:
    """The members of a type in one spelling: `Optional[List[str]]` is `list[str] | None`, a variable is `Any`.

    What may be sent to a generator is left out.
    """
    if isinstance(type_, TypeVar):
        return frozenset({Any})
    origin, arguments = get_origin(type_), get_args(type_)
    if origin in (Union, UnionType):
        return frozenset(member for argument in arguments for member in members(argument))
    if origin is Generator:
        arguments = arguments[::2]
    if origin is not None:
        return frozenset({(origin, *map(members, arguments))})
    return frozenset({type(None) if type_ is None else type_})
