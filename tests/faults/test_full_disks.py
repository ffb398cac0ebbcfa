"""The disk is full: writes wait until there is room again, nothing is lost, and nothing runs twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event

from dbos import DBOS
from tests.support.background import InBackground
from tests.support.busy import STEPS, Busy
from tests.support.processes import Spawner

pytestmark = pytest.mark.usefixtures("destroyed")

UNLIMITED = 2**30

FILE_SIZE_PROGRAM = """
    import os, resource, signal, sys
    from dbos import DBOS
    from tests.support.background import InBackground
    from tests.support.busy import STEPS, Busy

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    @DBOS.workflow(name="big")
    def big():
        return "x" * 1_000_000

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = sys.argv[1]
    busy = Busy(f"sqlite:///{path}")
    busy.launch()
    handles = busy.start()
    busy.wait_for(STEPS)
    limit(max(os.path.getsize(path), os.path.getsize(path + "-wal")) + 100_000)
    result = InBackground(lambda: DBOS.start_workflow(big).get_result())
    assert not result.is_done(within_s=0.5), "it was recorded on a full disk"
    limit(resource.RLIM_INFINITY)
    assert len(result.result()) == 1_000_000
    busy.finish(handles)
    DBOS.destroy()
"""


def test_workflows_wait_while_the_database_has_reached_its_limit_of_pages(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url, connect_args={"check_same_thread": False})
    pages = [UNLIMITED]

    @event.listens_for(engine, "checkout")
    def set_limit(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages[-1]}").fetchall()

    @DBOS.workflow(name="big")
    def big() -> str:
        return "x" * 1_000_000

    busy = Busy(sqlite_url)
    busy.launch(system_database_engine=engine)
    handles = busy.start()
    busy.wait_for(STEPS)
    pages.append(1)  # no less than what it has now
    result = InBackground(lambda: DBOS.start_workflow(big).get_result())
    assert not result.is_done(within_s=0.5), "it was recorded on a full disk"
    pages.append(UNLIMITED)
    assert len(result.result()) == 1_000_000
    busy.finish(handles)
    DBOS.destroy()
    engine.dispose()


def test_workflows_wait_while_files_may_not_grow(spawn: Spawner, tmp_path: Path) -> None:
    """The system refuses to write, as on a disk that is full, in the middle of the write-ahead log."""
    spawn(FILE_SIZE_PROGRAM, tmp_path / "dbos.sqlite").succeed()
