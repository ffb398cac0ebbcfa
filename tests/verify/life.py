"""One life of a program: a process that runs it under a gate, and writes what really happens into the ledger.

A program has a `main()`, whose result is written down. For `crash` it also names its workflow's id (`ID`), the names of
the steps of each workflow that comes of it (`EXPECTED`), and how many commits a run takes at least (`COMMITS`); there
`main()` calls the workflow and returns the result.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import json
import os
import sys
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from dbos import DBOS
from tests.support import ledger
from tests.verify.gate import CountingGate, Plan

HANGS_AFTER_S = 40.0

HELD = 60.0
"""A time to hold checkpoints back in which no timer fires: the number of commits is the same in every run."""


@dataclass(frozen=True, slots=True)
class Life:
    """What one life is told. `plan` is the gate's; without one nothing goes wrong."""

    program: str
    url: str
    ledger: str
    schema: str = "dbos"
    number: int = 1
    plan: Plan | None = None
    hold_back_s: float = 0.002
    renew_interval_s: float = 3.0
    lease_ttl_s: float = 10.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Life:
        fields = json.loads(text)
        plan = fields.pop("plan")
        return Life(**fields, plan=None if plan is None else Plan(**{**plan, "operations": tuple(plan["operations"])}))


_life: Life | None = None


def execute() -> str:
    """To be called once by every step of a program: writes a unique value into the ledger, and returns it."""
    assert _life is not None, "not in a life"
    value = uuid.uuid4().hex
    ledger.record(
        _life.ledger, kind="step", life=_life.number, workflow=DBOS.workflow_id, step=DBOS.step_id, value=value
    )
    return value


def number() -> int:
    """The number of this life, from 1."""
    assert _life is not None, "not in a life"
    return _life.number


def path(suffix: str) -> Path:
    """A file of the test, beside the ledger."""
    assert _life is not None, "not in a life"
    return Path(_life.ledger + suffix)


def live(life: Life) -> None:
    """Launch, call the program's `main()`, write its result into the ledger, destroy."""
    global _life
    _life = life
    faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True)
    program = _load(life.program)
    if hasattr(program, "EXPECTED"):
        ledger.record(life.ledger, kind="program", root=program.ID, expected=program.EXPECTED, commits=program.COMMITS)
    DBOS(
        config={
            "name": "program",
            "system_database_url": life.url,
            "dbos_system_schema": life.schema,
            "application_version": "1",
        }
    )
    application = DBOS._application
    assert application is not None
    application.hold_back_s = life.hold_back_s
    application.renew_interval_s = life.renew_interval_s
    application.lease_ttl_s = life.lease_ttl_s
    if life.plan is not None:
        application.gate = CountingGate(life.plan, life.ledger)
    DBOS.launch()
    try:
        ending: dict[str, Any] = {"value": program.main()}
    except Exception as error:
        ending = {"error": f"{type(error).__name__}: {error}"}
    ledger.record(life.ledger, kind="end", life=life.number, pid=os.getpid(), **ending)
    print("end", ending, flush=True)
    DBOS.destroy()


def _load(program: str) -> ModuleType:
    name = Path(program).stem
    spec = importlib.util.spec_from_file_location(name, program)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
