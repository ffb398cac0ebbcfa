"""One life of a program: a process that runs it under a gate, and writes what really happens into the ledger.

A program has a `main()`, whose result is written down. For `crash` it also says what must come of it:

- `ID`: its workflow, which `main()` calls or starts, and whose result it returns;
- `EXPECTED`: the names of the steps of each workflow, by function id from 1 on. `""` is a function id that nothing is
  recorded under; a name that ends with `?` may be missing;
- `COMMITS`: how many commits a run takes at least; by operation, if not only the journal is meant.

Where that is not all, it also has:

- `STATUSES`: how workflows may end, by id; all others succeed;
- `OPTIONAL`: workflows that may be missing;
- `NEVER`: steps, as workflow id and function id, that must not begin;
- `FORKS`: for each fork its source and the first step that is its own;
- `DETACHED`: children that do not have their parent's deadline;
- `UNORDERED`: messages are received by several at the same time, in no order;
- `RESUMES`: a workflow that was cancelled may go on;
- `SERIAL`: workflows of which one runs at a time;
- `GUARDS`: what must have stopped a run somewhere, see `tests.verify.guards`;
- `pause(operation, moment)`: called at each transaction, before the gate;
- `CONFIG`: more of the configuration.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from dbos import DBOS, DBOSClient, WorkflowHandle
from dbos.storage.gate import Gate
from tests.support import ledger
from tests.verify.gate import CountingGate, Moment, Plan, databases_of_clients
from tests.verify.guards import watch_guards
from tests.verify.rows import query

HANGS_AFTER_S = 40.0

EXPECTATIONS = ("statuses", "optional", "never", "forks", "detached", "unordered", "resumes", "serial", "guards")

HELD = 60.0
"""A time to hold checkpoints back in which no timer fires: the number of commits is the same in every run."""

HELD_BRIEFLY = 0.002
"""The ordinary time; needed where somebody waits for what a run holds back."""


@dataclass(frozen=True, slots=True)
class Life:
    """What one life is told. `plan` is the gate's; without one nothing goes wrong."""

    program: str
    url: str
    ledger: str
    schema: str = "dbos"
    number: int = 1
    plan: Plan | None = None
    hold_back_s: float = HELD_BRIEFLY
    renew_interval_s: float = 3.0
    lease_ttl_s: float = 10.0
    variant: str = ""
    """For programs that run in more than one way."""
    application_url: str = ""
    """Where transactions run, if not in the system database."""

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
    value = uuid.uuid4().hex
    note("step", workflow=DBOS.workflow_id, step=DBOS.step_id, value=value, at_ms=time.time() * 1000)
    return value


def note(kind: str, **fields: Any) -> None:
    """Write something else that really happened into the ledger."""
    assert _life is not None, "not in a life"
    ledger.record(_life.ledger, kind=kind, life=_life.number, **fields)


def see(handle: WorkflowHandle[Any]) -> None:
    """Wait for the workflow's end, and write down what the handle tells of it."""
    try:
        note("seen", workflow=handle.workflow_id, value=handle.get_result())
    except Exception as error:
        note("seen", workflow=handle.workflow_id, error=type(error).__name__)


def new_message(number: int, topic: str | None = None, sender: str | None = None) -> list[Any]:
    """A message that tells who sends it (by default the running workflow), its number among the sender's, its topic.

    It is unique: sent anew it is another one.
    """
    return [sender or DBOS.workflow_id, number, topic, uuid.uuid4().hex]


def wait_until_waiting(workflow_id: str, step: int) -> None:
    """Wait until that step of the workflow is recorded, for instance the `DBOS.sleep` of one that waits."""
    statement = (
        f"SELECT 1 FROM {{schema}}operation_outputs WHERE workflow_uuid = '{workflow_id}' AND function_id = {step}"
    )
    gives_up_at = time.monotonic() + HANGS_AFTER_S
    while not select(statement):
        assert time.monotonic() < gives_up_at, f"workflow {workflow_id} never waits in step {step}"
        time.sleep(0.01)


def select(statement: str) -> list[tuple[Any, ...]]:
    """Ask the database of this life, without the library."""
    assert _life is not None, "not in a life"
    return query(_life.url, statement, _life.schema)


def ask_application(statement: str) -> list[tuple[Any, ...]]:
    """Ask the database in which transactions run, without the library."""
    assert _life is not None, "not in a life"
    return query(_life.application_url or _life.url, statement, _life.schema)


def table_prefix() -> str:
    """What stands for `{schema}` in the statements of transactions."""
    assert _life is not None, "not in a life"
    is_sqlite = (_life.application_url or _life.url).startswith("sqlite")
    return "" if is_sqlite else f'"{_life.schema}".'


@contextmanager
def gated_client() -> Iterator[DBOSClient]:
    """A client of this life's database; its transactions pass the gate too."""
    application = DBOS._application
    assert _life is not None, "not in a life"
    assert application is not None
    with DBOSClient(system_database_url=_life.url, dbos_system_schema=_life.schema) as client:
        database = client.gateway.database
        database._gate = application.gate
        databases_of_clients.append(database)
        yield client


def number() -> int:
    """The number of this life, from 1."""
    assert _life is not None, "not in a life"
    return _life.number


def variant() -> str:
    """In which of its ways the program is to run; known from its import on."""
    assert _life is not None, "not in a life"
    return _life.variant


def path(suffix: str) -> Path:
    """A file of the test, beside the ledger."""
    assert _life is not None, "not in a life"
    return Path(_life.ledger + suffix)


def live(life: Life) -> None:
    """Launch, call the program's `main()`, write its result into the ledger, destroy."""
    global _life
    _life = life
    faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True)
    watch_guards(note)
    program = _load(life.program)
    if hasattr(program, "EXPECTED"):
        expectations = {name: getattr(program, name.upper()) for name in EXPECTATIONS if hasattr(program, name.upper())}
        commits = {"journal": program.COMMITS} if isinstance(program.COMMITS, int) else program.COMMITS
        note("program", pid=os.getpid(), root=program.ID, expected=program.EXPECTED, commits=commits, **expectations)
    DBOS(
        config={
            "name": "program",
            "system_database_url": life.url,
            "dbos_system_schema": life.schema,
            "application_version": "1",
            "application_database_url": life.application_url or None,
            **getattr(program, "CONFIG", {}),
        }
    )
    application = DBOS._application
    assert application is not None
    application.hold_back_s = life.hold_back_s
    application.renew_interval_s = life.renew_interval_s
    application.lease_ttl_s = life.lease_ttl_s
    application.gate = _gate(program, life)
    DBOS.launch()
    try:
        ending: dict[str, Any] = {"value": program.main()}
    except Exception as error:
        ending = {"error": f"{type(error).__name__}: {error}"}
    note("end", pid=os.getpid(), **ending)
    print("end", ending, flush=True)
    DBOS.destroy()


def _gate(program: ModuleType, life: Life) -> Gate | None:
    """What the program and the plan do at transactions, one after the other."""
    gates: list[Gate] = [program.pause] if hasattr(program, "pause") else []
    if life.plan is not None:
        gates.append(CountingGate(life.plan, life.ledger))

    def pass_all(operation: str, moment: Moment) -> None:
        for gate in gates:
            gate(operation, moment)

    return pass_all if gates else None


def _load(program: str) -> ModuleType:
    name = Path(program).stem
    spec = importlib.util.spec_from_file_location(name, program)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
