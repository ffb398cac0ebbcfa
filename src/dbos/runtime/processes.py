"""Which process this is, and whether another one is known to be gone.

"Gone" needs proof: the same boot of the same machine, the same process-id namespace, and no process with that number,
or one that started at another time. Whatever cannot be read or compared counts as alive. (Host names prove nothing:
containers share them.)
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from dbos.model.values import ProcessIdentity

_PROC = Path("/proc")


def this_process() -> ProcessIdentity:
    """The identity of the running process; what the system does not tell is ``None``."""
    pid = os.getpid()
    return ProcessIdentity(
        hostname=platform.node(),
        pid=pid,
        boot_id=_read(_PROC / "sys/kernel/random/boot_id"),
        pid_namespace=_namespace(),
        pid_started=_started(pid),
    )


def is_gone(other: ProcessIdentity, here: ProcessIdentity) -> bool:
    """Whether the other process has certainly ended, seen from this one."""
    if not (here.boot_id and here.pid_namespace and here.pid_started):
        return False
    if (other.boot_id, other.pid_namespace) != (here.boot_id, here.pid_namespace) or other.pid_started is None:
        return False
    return _started(other.pid) != other.pid_started


def _started(pid: int) -> str | None:
    """When the process started, in ticks since boot; ``None`` if there is none of that number, or only its remains."""
    text = _read(_PROC / str(pid) / "stat")
    if text is None:
        return None
    # The second field is the program's name in parentheses and may hold anything, so count from its end.
    fields = text.rpartition(")")[2].split()
    state, started = fields[0], fields[19]
    return None if state in ("Z", "X") else started


def _namespace() -> str | None:
    try:
        return os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
