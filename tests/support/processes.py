"""Python programs in real child processes: started, listened to, killed."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal

ROOT = Path(__file__).resolve().parents[2]
"""The root of the repository; children can import `tests.…` from it."""

Stream = Literal["stdout", "stderr"]


class ChildFailure(AssertionError):
    """A child process did not do what the test waited for; the message holds its whole output."""


class Child:
    """One running child process, with its output captured as it comes."""

    def __init__(self, command: list[str], *, env: Mapping[str, str], cwd: Path) -> None:
        self._popen = subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        )
        self._changed = threading.Condition()
        self._lines: dict[Stream, list[str]] = {"stdout": [], "stderr": []}
        self._open: set[Stream] = {"stdout", "stderr"}
        self._readers = [self._read("stdout", self._popen.stdout), self._read("stderr", self._popen.stderr)]

    def _read(self, stream: Stream, pipe: IO[str] | None) -> threading.Thread:
        assert pipe is not None

        def run() -> None:
            with pipe:
                for line in pipe:
                    with self._changed:
                        self._lines[stream].append(line)
                        self._changed.notify_all()
            with self._changed:
                self._open.discard(stream)
                self._changed.notify_all()

        thread = threading.Thread(target=run, name=f"child-{self.pid}-{stream}", daemon=True)
        thread.start()
        return thread

    @property
    def pid(self) -> int:
        """The process id."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        return self._popen.poll()

    @property
    def stdout(self) -> str:
        """The standard output so far."""
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        """The standard error so far."""
        return self._text("stderr")

    def _text(self, stream: Stream) -> str:
        with self._changed:
            return "".join(self._lines[stream])

    def wait_for_line(
        self, pattern: str, *, timeout: float = 30.0, count: int = 1, stream: Stream = "stdout"
    ) -> re.Match[str]:
        """Wait until `count` lines in which the regular expression `pattern` is found have been written.

        Lines that came before the call count too. Fails at once if the process ends its output without them.
        """
        give_up = time.monotonic() + timeout
        expression = re.compile(pattern)
        with self._changed:
            lines, seen, found = self._lines[stream], 0, 0
            while True:
                for line in lines[seen:]:
                    match = expression.search(line.rstrip("\n"))
                    found += match is not None
                    if match is not None and found == count:
                        return match
                seen = len(lines)
                ended, left = stream not in self._open, give_up - time.monotonic()
                if ended or left <= 0:
                    break
                self._changed.wait(left)
        if ended:
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout=5)
        wanted = f"line {count} with {pattern!r} on {stream}"
        raise self._failure(f"ended without {wanted}" if ended else f"wrote no {wanted} in {timeout} s")

    def write_line(self, text: str = "") -> None:
        """Write one line to the standard input of the child, for instance to let it go on."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(text + "\n")
        self._popen.stdin.flush()

    def close_stdin(self) -> None:
        """End the standard input of the child."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the end of the process; its exit code (negative for a signal)."""
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self._failure(f"did not end in {timeout} s") from None
        for reader in self._readers:  # bounded: a grandchild may have inherited the pipes
            reader.join(timeout=5)
        return code

    def succeed(self, timeout: float = 30.0) -> str:
        """Wait for the end of the process, which must be a success; its standard output."""
        if self.wait(timeout) != 0:
            raise self._failure("failed")
        return self.stdout

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """Kill the process with SIGKILL, as `kill -9` does, and wait until it is gone."""
        self._popen.kill()
        self.wait()

    def close(self) -> None:
        """Kill the process and all that it started, if anything of it is left, and close the pipes."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()
        with suppress(BrokenPipeError):
            self.close_stdin()

    def _failure(self, what: str) -> ChildFailure:
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGABRT)  # faulthandler then writes the stack of each thread to stderr
            try:
                self._popen.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
            fate = "was still running (its stacks are at the end of stderr)"
        else:
            fate = f"exit code {self._popen.returncode}"
        for reader in self._readers:
            reader.join(timeout=5)
        return ChildFailure(
            f"child {self.pid} {what}; {fate}\n"
            f"--- stdout\n{self.stdout or '(empty)'}\n--- stderr\n{self.stderr or '(empty)'}"
        )


class Spawner:
    """Starts child processes and remembers them, to clean up in the end. Tests get one as the fixture `spawn`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._children: list[Child] = []
        self._numbers = itertools.count(1)

    def __call__(
        self,
        program: str | Path,
        *arguments: str | os.PathLike[str],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        python: Path | None = None,
    ) -> Child:
        """Start `program`, the text of a Python script or the path of one, with this interpreter or another.

        The child inherits the environment, overlaid with `env`, and runs in `cwd` (by default the temporary directory
        of the test); another interpreter finds nothing of this repository. A text is written to a file first, so that
        its tracebacks show its lines.
        """
        if isinstance(program, str):
            script = self._directory / f"program_{next(self._numbers)}.py"
            script.write_text(textwrap.dedent(program), encoding="utf-8")
        else:
            script = program.resolve()
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])) if python is None else ""
        settings = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
        child = Child(
            [str(python or sys.executable), str(script), *(os.fspath(argument) for argument in arguments)],
            env={**os.environ, **settings, **(env or {})},
            cwd=cwd or self._directory,
        )
        self._children.append(child)
        return child

    def close(self) -> None:
        """Kill whatever is left of the children."""
        for child in self._children:
            child.close()
        self._children.clear()
