"""Documents that tell a story, carried out in a shell exactly as they are written.

Blocks of ``console`` hold commands, after ``$ ``, and what is printed then. Blocks that have a ``title`` are files. A
block that is marked as not to be run is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.documents import NO_RUN, fences_of, is_marked
from tests.support.processes import Child

TIME_LIMIT_S = 60.0

PROMPT = "$ "

_PRINTED = re.compile(r"^(?!done \d+ \d+$).")
"""A line that is not empty, and no mark of this module's."""


@dataclass(frozen=True)
class File:
    """A file to be saved."""

    name: str
    text: str


@dataclass(frozen=True)
class Command:
    """A line to be typed, and the lines that are printed then."""

    line: str
    output: list[str] = field(default_factory=list)


def acts_of(text: str) -> Iterator[File | Command]:
    """What a document has its reader do, in order."""
    for fence in fences_of(text):
        if is_marked(text, fence, NO_RUN):
            continue
        if fence.title is not None:
            yield File(fence.title, fence.code)
        elif fence.language == "console":
            yield from _commands(fence.code)


def _commands(code: str) -> Iterator[Command]:
    command: Command | None = None
    for line in code.splitlines():
        if line.startswith(PROMPT):
            if command is not None:
                yield command
            command = Command(line.removeprefix(PROMPT))
        else:
            assert command is not None, f"no command before {line!r}"
            command.output.append(line)
    if command is not None:
        yield command


class Session:
    """A shell in a directory, with a reader who types what the document says, and waits for what it shows."""

    def __init__(self, directory: Path, environment: Mapping[str, str], typed: Callable[[str], str]) -> None:
        self._directory = directory
        self._typed = typed
        self._shell = Child(["bash", "--noprofile", "--norc"], env=environment, cwd=directory)
        self._seen = 0
        self._done = 0

    def carry_out(self, text: str) -> None:
        """All that the document says. Fails with the first line that is not as it is shown."""
        for act in acts_of(text):
            if isinstance(act, File):
                file = self._working_directory() / act.name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(act.text, encoding="utf-8")
            else:
                self._type(act)
        self._run("true")
        rest = self._printed()[self._seen :]
        assert rest == [], f"it prints what is not shown: {rest}"

    def close(self) -> None:
        """End the shell and all that it started."""
        self._shell.close()

    def _type(self, command: Command) -> None:
        line = self._typed(command.line)
        if line.endswith("&"):
            self._shell.write_line(line)
        else:
            assert self._run(line) == 0, f"{line}\n{self._shell.stderr}"
        for expected in command.output:
            printed = self._next()
            assert printed == expected, f"after {line!r} it prints {printed!r}, not {expected!r}"

    def _run(self, line: str) -> int:
        # On a line of its own, also if a program in the background has just written half of one.
        self._done += 1
        self._shell.write_line(f"{line}\nprintf '\\ndone %s %s\\n' {self._done} $?")
        return int(self._shell.wait_for_line(rf"^done {self._done} (\d+)$", timeout=TIME_LIMIT_S)[1])

    def _next(self) -> str:
        self._seen += 1
        self._shell.wait_for_line(_PRINTED.pattern, timeout=TIME_LIMIT_S, count=self._seen)
        return self._printed()[self._seen - 1]

    def _printed(self) -> list[str]:
        return [line for line in self._shell.stdout.splitlines() if _PRINTED.match(line)]

    def _working_directory(self) -> Path:
        self._run(f"pwd > '{self._directory}/.pwd'")
        return Path((self._directory / ".pwd").read_text(encoding="utf-8").strip())
