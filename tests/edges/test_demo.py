"""The demo, ``dbos demo``: a workflow that is killed twice on its way."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from tests.support.commands import dbos, run_dbos
from tests.support.processes import Spawner

FILES = 240

COMMAND = "from dbos.edges.cli.main import main; main()"

FORGET = """
    import sqlite3

    from dbos.edges.cli.main import main
    from dbos.edges.demo import lives

    live = lives.live

    def live_and_forget(run, *arguments):
        life = live(run, *arguments)
        with sqlite3.connect(run.database_url.removeprefix("sqlite:///")) as connection:
            connection.execute("DELETE FROM operation_outputs WHERE function_name = 'list_files'")
        return life

    lives.live = live_and_forget
    main(["demo", "--files", "60", "--kills", "1"])
"""

FORGE = """
    import json
    from dataclasses import replace

    from dbos.edges.demo.checks import check
    from dbos.edges.demo.lives import Life, Run

    run = Run("r", "", files=4)
    first = Life(True, 1.0, 0.1, ["list", "a", "b", "c", "d"], {"list", "a"}, "")
    last = Life(False, 1.0, 0.1, ["b", "c", "d"], {"list", "a", "b", "c", "d"}, "result")

    def fails(first, last):
        return [check.claim for check in check(run, 1, [first, last], "result") if not check.holds]

    print(json.dumps({
        "nothing": fails(first, last),
        "a recorded step runs again": fails(first, replace(last, started=["a", "b", "c", "d"])),
        "a step runs twice in a life": fails(first, replace(last, started=["b", "c", "d", "d"])),
        "a step is not recorded": fails(first, replace(last, recorded={"list", "a", "b", "c"})),
        "a step does not run": fails(replace(first, started=["list", *"abc"]), replace(last, started=["b", "c"])),
        "a kill cuts off too much": fails(replace(first, recorded=set()), last),
        "the result differs": fails(first, replace(last, result="resold")),
        "nobody is killed": fails(replace(first, killed=False), last),
    }))
"""


def test_the_demo_survives_two_kills(spawn: Spawner, database_url: str) -> None:
    demo = spawn(COMMAND, "demo", "--files", str(FILES), "--kills", "2", "-s", database_url)
    output = demo.succeed(timeout=100)

    assert re.findall(r"^(ok|FAILED)", output, re.MULTILINE) == ["ok"] * 7
    assert output.count("SIGKILL after ") == 2
    assert re.search(rf"^│ steps recorded .* {FILES + 1} │$", output, re.MULTILINE)
    # Recovered twice, and its four children with it, but for those that had finished.
    root, *children = _attempts(database_url)
    assert root == ("SUCCESS", 3)
    assert len(children) == 4
    assert all(status == "SUCCESS" and attempts <= 3 for status, attempts in children)


def test_the_demo_notices_a_lost_checkpoint(spawn: Spawner) -> None:
    """A recorded step is taken out of the database between two lives, and so it runs again."""
    demo = spawn(FORGET)
    assert demo.wait() == 1
    assert "FAILED no recorded step ran again: 1 did" in demo.stdout


def test_each_forgery_makes_the_right_checks_fail(spawn: Spawner) -> None:
    """The demo's checks, on what hand-made lives did."""
    assert json.loads(spawn(FORGE).succeed()) == {
        "nothing": [],
        "a recorded step runs again": ["no recorded step ran again", "only what was in flight ran twice"],
        "a step runs twice in a life": ["only what was in flight ran twice"],
        "a step is not recorded": ["every step is recorded", "every recorded step really ran"],
        "a step does not run": ["every recorded step really ran"],
        "a kill cuts off too much": ["in flight: one step a lane"],
        "the result differs": ["same result as the plain loop"],
        "nobody is killed": ["killed as planned"],
    }


def test_a_worker_that_cannot_start_fails_the_demo(tmp_path: Path) -> None:
    demo = run_dbos("demo", "--files", "1", "-s", f"sqlite:///{tmp_path}/missing/demo.sqlite", cwd=tmp_path)
    assert demo.code == 1
    assert "missing/demo.sqlite" in demo.stderr
    assert "Error: The worker failed with exit code 1. What it wrote above says why." in demo.stderr


def test_what_the_demo_does_not_understand_it_refuses() -> None:
    assert dbos("demo", "-s", "mysql://localhost/x").code == 4
    assert dbos("demo", "--files", "0").code == 2
    assert dbos("demo", "--kills", "-1").code == 2


def _attempts(database_url: str) -> list[tuple[str, int]]:
    """Status and number of attempts of every workflow, the root first."""
    url, schema = make_url(database_url), ""
    if url.get_backend_name() == "postgresql":
        url, schema = url.set(drivername="postgresql+psycopg"), "dbos."
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(
            text(f"SELECT status, recovery_attempts FROM {schema}workflow_status ORDER BY workflow_uuid")
        ).all()
    engine.dispose()
    return [(status, attempts) for status, attempts in rows]
