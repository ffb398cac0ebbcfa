"""Whether another process is known to be gone, with real ones."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dbos.model.values import ProcessIdentity
from dbos.runtime.processes import is_gone, this_process
from tests.support.processes import Spawner

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="only Linux tells")

TELL = """
    from dbos.runtime.processes import this_process
    import dataclasses, json, sys
    print(json.dumps(dataclasses.asdict(this_process())))
    sys.stdin.read()
"""


@pytest.fixture
def here() -> ProcessIdentity:
    return this_process()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for the end of its input."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        yield child
        child.kill()


def identity_of(pid: int, here: ProcessIdentity) -> ProcessIdentity:
    """The identity that the living process of this number would register."""
    with open(f"/proc/{pid}/stat") as file:
        started = file.read().rpartition(")")[2].split()[19]
    return dataclasses.replace(here, pid=pid, pid_started=started)


def test_this_process_knows_itself_and_is_there(here: ProcessIdentity) -> None:
    assert here.pid == os.getpid()
    assert here == this_process()
    assert None not in dataclasses.astuple(here)
    assert not is_gone(here, here)


def test_a_living_process_sees_itself_as_others_see_it(spawn: Spawner, here: ProcessIdentity) -> None:
    """Its identity is comparable, so that it is alive first and gone afterwards."""
    process = spawn(TELL)
    line = process.wait_for_line("pid")[0]
    assert line
    import json

    identity = ProcessIdentity(**json.loads(process.stdout))
    assert identity.pid == process.pid
    assert identity == identity_of(process.pid, here)
    assert not is_gone(identity, here)
    process.kill()
    assert is_gone(identity, here)


def test_a_process_that_ended_is_gone(child: subprocess.Popen[bytes], here: ProcessIdentity) -> None:
    identity = identity_of(child.pid, here)
    assert not is_gone(identity, here)
    child.kill()
    child.wait()
    assert is_gone(identity, here)


def test_a_zombie_is_gone(child: subprocess.Popen[bytes], here: ProcessIdentity) -> None:
    """It has ended, and its parent has not looked yet."""
    identity = identity_of(child.pid, here)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with open(f"/proc/{child.pid}/stat") as file:
        assert ") Z " in file.read()
    assert is_gone(identity, here)


def test_a_stopped_process_is_not_gone(child: subprocess.Popen[bytes], here: ProcessIdentity) -> None:
    identity = identity_of(child.pid, here)
    child.send_signal(19)  # SIGSTOP
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert not is_gone(identity, here)


def test_a_later_process_of_the_same_number_is_another(child: subprocess.Popen[bytes], here: ProcessIdentity) -> None:
    identity = identity_of(child.pid, here)
    assert identity.pid_started is not None
    earlier = dataclasses.replace(identity, pid_started=str(int(identity.pid_started) - 1))
    assert is_gone(earlier, here)
    assert not is_gone(identity, here)


def test_whatever_cannot_be_compared_counts_as_alive(child: subprocess.Popen[bytes], here: ProcessIdentity) -> None:
    """Another boot, another container, a system that does not tell; the same host name proves nothing."""
    identity = identity_of(child.pid, here)
    child.kill()
    child.wait()
    assert is_gone(identity, here)
    assert is_gone(dataclasses.replace(identity, hostname="another name"), here)
    for change in (
        {"boot_id": "another boot"},
        {"boot_id": None},
        {"pid_namespace": "pid:[1]"},
        {"pid_namespace": None},
        {"pid_started": None},
    ):
        assert not is_gone(dataclasses.replace(identity, **change), here), change
    for change in ({"boot_id": None}, {"pid_namespace": None}, {"pid_started": None}):
        unreadable = dataclasses.replace(here, **change)
        assert not is_gone(dataclasses.replace(identity, **change), unreadable), change
        assert not is_gone(identity, unreadable), change


def test_a_program_may_have_any_name(spawn: Spawner, here: ProcessIdentity) -> None:
    """The system prints it in parentheses, unquoted."""
    process = spawn(
        """
        import sys
        open("/proc/self/comm", "w").write(") Z 1 (")
        print("ready")
        sys.stdin.read()
        """
    )
    process.wait_for_line("ready")
    identity = identity_of(process.pid, here)
    assert not is_gone(identity, here)
    process.kill()
    assert is_gone(identity, here)
