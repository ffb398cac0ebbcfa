"""The worker: the index of the standard library as a durable workflow.

`python durable_index.py sqlite:///index.sqlite my-index 1000` indexes the first 1000 files. Kill it and run it again!

This is the whole of the durable program; the rest of the package kills it and checks it. It holds no code for
recovery. `main` is the same in every life: `DBOS.launch` takes up whatever the last life left unfinished, and starting
the workflow under its fixed id starts it once and attaches to it ever after.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

from dbos import DBOS, DBOSConfig, SetWorkflowID
from dbos.edges.demo.stdlib_files import Summary, find_files, summarise

LANES = 4


@DBOS.workflow()
def index_stdlib(count: int) -> Summary:
    """Index the first `count` files of the standard library, in four child workflows side by side."""
    files = list_files(count)
    handles = [DBOS.start_workflow(index_lane, files[lane::LANES]) for lane in range(LANES)]
    return sum((handle.get_result() for handle in handles), Summary())


@DBOS.workflow()
def index_lane(files: list[str]) -> Summary:
    """Index some files, one step each."""
    return sum(map(index_file, files), Summary())


@DBOS.step()
def list_files(count: int) -> list[str]:
    """Look at the disk: a step, so that every life works from the same list."""
    with reported():
        return find_files()[:count]


@DBOS.step()
def index_file(file: str) -> Summary:
    """Count and hash one file."""
    with reported():
        return summarise(file)


@contextmanager
def reported() -> Generator[None, None, None]:
    """Tell when the current step starts and when it is finished."""
    step = f"{DBOS.workflow_id}/{DBOS.step_id}"
    tell(f"started {step}")
    yield
    tell(f"finished {step}")


def tell(line: str) -> None:
    """Print a line with a single `write`: neither other threads nor a SIGKILL can cut it in two."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


def main(database_url: str, run_id: str, count: str) -> None:
    """One life: do what is left of the work."""
    config: DBOSConfig = {
        "name": "stdlib-index",
        "system_database_url": database_url,
        "application_version": run_id,  # on a shared database: leave other runs of the demo alone
        "log_level": "ERROR",
        "run_admin_server": False,
    }
    DBOS(config=config)
    DBOS.launch()
    with SetWorkflowID(run_id):
        handle = DBOS.start_workflow(index_stdlib, int(count))
    tell(f"result {handle.get_result()}")
    DBOS.destroy()


if __name__ == "__main__":
    main(*sys.argv[1:])
