"""The command line in tests: called in this process, or as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from dbos.edges.cli.main import main
from tests.support.processes import ROOT


@dataclass(frozen=True)
class Ended:
    """What a command wrote, and how it ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def value(self) -> Any:
        """Its result; it must have succeeded."""
        assert self.code == 0, self
        return json.loads(self.stdout)


def dbos(*arguments: str, **environment: str | None) -> Ended:
    """Call the command in this process."""
    ended = CliRunner(env=environment).invoke(main, arguments)
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return Ended(ended.exit_code, ended.stdout, ended.stderr)


def run_dbos(*arguments: str, cwd: Path, stdin: str = "", **environment: str) -> Ended:
    """Run the command as a process of its own, as it is installed."""
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "dbos", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Ended(done.returncode, done.stdout, done.stderr)
