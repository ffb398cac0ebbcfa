"""The helper for child processes."""

from __future__ import annotations

import fcntl
import signal
import sys
from pathlib import Path

import pytest

from tests.support.processes import ChildFailure, Spawner

WAITS_FOR_EVER = """
    import sys, threading
    print("ready", flush=True)
    print("a word on stderr", file=sys.stderr, flush=True)
    threading.Event().wait()
"""


def test_a_program_succeeds_with_its_output(spawn: Spawner) -> None:
    assert spawn("print('one')\nprint('two')").succeed() == "one\ntwo\n"


def test_a_file_is_run_with_arguments_environment_and_directory(spawn: Spawner, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import os, sys; print(sys.argv[1], os.environ['COLOUR'], os.getcwd(), sys.prefix)")
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    out = spawn(script, "word", env={"COLOUR": "blue"}, cwd=directory).succeed()
    assert out.split() == ["word", "blue", str(directory), sys.prefix]


def test_a_kill_cannot_be_caught(spawn: Spawner) -> None:
    child = spawn(
        """
        import threading
        try:
            print("ready")
            threading.Event().wait()
        finally:
            print("cleaned up")
        """
    )
    child.wait_for_line("^ready$")
    assert child.returncode is None
    child.kill()
    assert child.returncode == -signal.SIGKILL
    assert child.stdout == "ready\n"


def test_lines_are_waited_for_and_counted(spawn: Spawner) -> None:
    child = spawn("for _ in range(3): print('got', input())")
    for n in (1, 2, 3):
        child.write_line(f"word{n}")
        match = child.wait_for_line(r"got (\w+)", count=n)
        assert match[1] == f"word{n}"
    assert child.wait_for_line("got")[0] == "got", "a line that came before counts"
    assert child.wait() == 0


def test_a_failure_shows_code_and_output(spawn: Spawner) -> None:
    child = spawn("print('so far so good')\nraise SystemExit('then it broke')")
    with pytest.raises(ChildFailure, match=r"(?s)failed; exit code 1.*so far so good.*then it broke"):
        child.succeed()


def test_an_end_without_the_line_fails_at_once(spawn: Spawner) -> None:
    with pytest.raises(ChildFailure, match=r"ended without line 1 with 'ready' on stdout; exit code 3"):
        spawn("raise SystemExit(3)").wait_for_line("ready", timeout=60)


def test_a_line_that_does_not_come_shows_the_stacks(spawn: Spawner) -> None:
    child = spawn(WAITS_FOR_EVER)
    child.wait_for_line("ready")
    with pytest.raises(ChildFailure, match=r"(?s)wrote no line 1 with 'never'.*a word on stderr.*in wait") as caught:
        child.wait_for_line("never", timeout=0.05)
    assert "ready" in str(caught.value)
    assert child.returncode is not None


def test_an_end_that_does_not_come_shows_the_stacks(spawn: Spawner) -> None:
    child = spawn(WAITS_FOR_EVER)
    child.wait_for_line("word", stream="stderr")
    with pytest.raises(ChildFailure, match=r"(?s)did not end in 0\.05 s; was still running.*in wait"):
        child.wait(timeout=0.05)


def test_what_is_left_is_killed_with_its_own_children(tmp_path: Path) -> None:
    spawn = Spawner(tmp_path)
    inner = tmp_path / "inner.py"
    inner.write_text(
        "import fcntl\n"
        "file = open('lock', 'w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "input()\n"
    )
    child = spawn(
        """
        import subprocess, sys
        subprocess.run([sys.executable, "inner.py"])
        """
    )
    child.wait_for_line("locked")
    spawn.close()
    assert child.returncode == -signal.SIGKILL
    with (tmp_path / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # waits until the inner process is gone
