"""``dbos init`` and ``dbos start``: a first application, and running one as its configuration file says."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import Any, cast

import click

from dbos.edges.cli.connection import CONFIG_FILE, read_config_file
from dbos.edges.cli.output import Exit, fail, note

_MAIN = '''\
"""A durable workflow: stop the program in the middle, start it again, and it goes on after the last recorded step."""

import os

from dbos import DBOS, SetWorkflowID


@DBOS.step()
def work(number: int) -> int:
    print(f"step {number}")
    return number


@DBOS.workflow()
def add_up() -> int:
    total = 0
    for number in range(1, 6):
        total += work(number)
        DBOS.sleep(1)
    return total


if __name__ == "__main__":
    DBOS(config={"name": "NAME", "system_database_url": os.environ.get("DBOS_SYSTEM_DATABASE_URL")})
    DBOS.launch()
    with SetWorkflowID("first"):
        print("result", add_up())
    DBOS.destroy()
'''

_CONFIG = """\
# What the command `dbos` knows of this application.
name: NAME
# Where workflows are recorded, if not in the file NAME.sqlite. The environment variable DBOS_SYSTEM_DATABASE_URL wins.
# system_database_url: postgresql://user:${PGPASSWORD}@localhost:5432/database
runtimeConfig:
  start:
    - PYTHON main.py
"""


@click.command()
@click.argument("name", required=False)
@click.option("-c", "--config", "only_config", is_flag=True, help=f"Write {CONFIG_FILE} alone.")
def init(name: str | None, only_config: bool) -> None:
    """Write a small application into the working directory. Nothing that is there is overwritten."""
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", Path.cwd().name).strip("-.") or "my-app"
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", name):
        fail(f"{name!r} is no name for an application. Use letters, digits, '-', '_' and '.'.", Exit.USAGE)
    python = "python" if sys.platform == "win32" else "python3"
    files = {CONFIG_FILE: _CONFIG.replace("PYTHON", python)}
    if not only_config:
        files["main.py"] = _MAIN
    there = [file for file in files if Path(file).exists()]
    if there:
        fail(f"There is {' and '.join(there)} already. Run this in an empty directory.")
    for file, text in files.items():
        Path(file).write_text(text.replace("NAME", name), encoding="utf-8")
        note(f"Wrote {file}.")
    note("Start it with: dbos start" if not only_config else f"Edit {CONFIG_FILE} to your needs.")


@click.command()
@click.option("--setup", "with_setup", is_flag=True, help="First run the commands of runtimeConfig.setup.")
def start(with_setup: bool) -> None:
    """Start the application: run the commands of runtimeConfig.start in dbos-config.yaml, one after the other.

    The exit code is that of the last command that ran.
    """
    config = read_config_file()
    if config is None:
        fail(f"There is no {CONFIG_FILE} here. `dbos init --config` writes one.", Exit.USAGE)
    commands = [*(_commands(config, "setup") if with_setup else []), *_commands(config, "start")]
    if not commands:
        fail(f"{CONFIG_FILE} has no commands in runtimeConfig.start.", Exit.USAGE)
    for command in commands:
        code = _run(command)
        if code:
            note(f"{command!r} ended with exit code {code}.")
            raise click.exceptions.Exit(code)


def _commands(config: dict[str, Any], key: str) -> list[str]:
    runtime: object = config.get("runtimeConfig") or {}
    if not isinstance(runtime, dict):
        fail(f"{CONFIG_FILE}: runtimeConfig must hold keys and values.", Exit.USAGE)
    commands: object = cast("dict[str, object]", runtime).get(key) or []
    if not isinstance(commands, list) or not all(isinstance(one, str) for one in cast("list[object]", commands)):
        fail(f"{CONFIG_FILE}: runtimeConfig.{key} must be a list of commands.", Exit.USAGE)
    return cast("list[str]", commands)


def _run(command: str) -> int:
    """Run a command in the shell; its exit code, as a shell tells it. Signals to end are passed on to it."""
    with subprocess.Popen(command, shell=True, start_new_session=True) as process, _passing_on_signals(process):
        code = process.wait()
    return 128 - code if code < 0 else code


@contextlib.contextmanager
def _passing_on_signals(process: subprocess.Popen[bytes]) -> Generator[None, None, None]:
    import os

    def pass_on(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)

    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
