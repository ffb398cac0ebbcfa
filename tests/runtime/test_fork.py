"""A process that is forked after the launch, as preforking servers do."""

from __future__ import annotations

import os
import sys

import pytest

from tests.support.processes import Spawner

PROGRAM = """
import os, sys
from dbos import DBOS

@DBOS.step()
def add_one(number: int) -> int:
    return number + 1

@DBOS.workflow()
def add_two(number: int) -> int:
    return add_one(add_one(number))

DBOS(config={"name": "forking", "system_database_url": sys.argv[1], "application_version": "1"})
DBOS.launch()
print("parent", add_two(1), flush=True)
child = os.fork()
if child == 0:
    try:
        add_two(2)
    except Exception as error:
        print("refused", error, flush=True)
    DBOS.launch()
    print("child", add_two(3), flush=True)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
print("parent", add_two(4), flush=True)
print("recorded", sorted(status.output for status in DBOS.list_workflows(status="SUCCESS")), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="needs a safe fork")
def test_forked_process_has_to_launch_for_itself_and_disturbs_nobody(spawn: Spawner, database_url: str) -> None:
    """Neither uses the other's connections, claims or threads."""
    lines = spawn(PROGRAM, database_url).succeed().splitlines()
    assert lines[0] == "parent 3"
    assert lines[1].startswith("refused")
    assert "DBOS.launch()" in lines[1]
    assert lines[2:] == ["child 5", "parent 6", "recorded [3, 5, 6]"]
