"""Programs that are the first process of a container."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT, Child

_UNSHARE = ["unshare", "--fork", "--pid", "--kill-child"]


def _is_allowed() -> bool:
    return (
        shutil.which("unshare") is not None and subprocess.run([*_UNSHARE, "true"], capture_output=True).returncode == 0
    )


_PROGRAM = """
import os
import threading

from dbos import DBOS

DBOS(config={"name": "worker", "run_admin_server": False})
DBOS.launch()
print("process", os.getpid(), flush=True)
threading.Event().wait()
"""


@pytest.mark.skipif(not _is_allowed(), reason="needs the right to make a namespace of processes")
def test_first_process_of_a_container_ends_at_sigterm(tmp_path: Path) -> None:
    """The system ignores a signal without a handler there; the program stayed until it was killed."""
    program = tmp_path / "worker.py"
    program.write_text(_PROGRAM, encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    container = Child([*_UNSHARE, sys.executable, str(program)], env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path)
    try:
        container.wait_for_line("^process 1$")
        (worker,) = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text(encoding="ascii").split()
        os.kill(int(worker), signal.SIGTERM)
        assert container.wait() == 128 + signal.SIGTERM
    finally:
        container.close()
