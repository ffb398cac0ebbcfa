"""The private names that programs of version 2 import: each is there, and works."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update

import dbos
from dbos import DBOS, Queue, SetWorkflowID, error
from tests.support.apps import App, Roadblock, status_of, steps_of

NAMES: dict[str, str] = {
    "dbos._error": "DBOSException DBOSWorkflowCancelledError DBOSWorkflowConflictIDError DBOSMaxStepRetriesExceeded "
    "DBOSNonExistentWorkflowError DBOSUnexpectedStepError DBOSNotAuthorizedError DBOSQueueDeduplicatedError",
    "dbos._dbos": "_get_dbos_instance _dbos_global_instance DBOS WorkflowHandle WorkflowHandleAsync "
    "DBOSConfiguredInstance IsolationLevel",
    "dbos._context": "get_local_dbos_context snapshot_step_context DBOSContext SetWorkflowID SetEnqueueOptions "
    "SetWorkflowTimeout DBOSContextEnsure DBOSContextSetAuth _dbos_context_var _set_local_dbos_context",
    "dbos._core": "run_step_async write_stream",
    "dbos._queue": "Queue QueueRateLimit",
    "dbos._utils": "GlobalParams INTERNAL_QUEUE_NAME",
    "dbos._sys_db": "WorkflowStatusString WorkflowStatus SystemDatabase",
    "dbos._client": "DBOSClient EnqueueOptions",
    "dbos._serialization": "DefaultSerializer Serializer",
    "dbos._workflow_commands": "garbage_collect",
    "dbos._recovery": "startup_recovery_thread",
    "dbos._schemas.system_database": "SystemSchema",
}


@pytest.mark.parametrize("module", NAMES)
def test_names_can_be_imported_and_are_the_public_ones_where_there_are_such(module: str) -> None:
    found = importlib.import_module(module)
    for name in NAMES[module].split():
        value = getattr(found, name)
        for public in (dbos, error):
            assert getattr(public, name, value) is value
    with pytest.raises(AttributeError, match="unheard_of"):
        _ = found.unheard_of


def test_nothing_of_it_is_imported_by_the_library_itself() -> None:
    program = "import dbos, sys; print([m for m in sys.modules if m.startswith(('dbos._', 'dbos.compat'))])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


def test_instance_shows_the_application_its_databases_and_its_configuration(app: App, tmp_path: Path) -> None:
    from dbos import _dbos
    from dbos._dbos import _get_dbos_instance
    from dbos._sys_db import SystemDatabase
    from dbos._utils import INTERNAL_QUEUE_NAME, GlobalParams

    instance = _get_dbos_instance()
    assert isinstance(instance, DBOS)
    assert isinstance(_dbos._dbos_global_instance, DBOS)
    assert instance._initialized
    assert instance._launched
    assert instance._config["name"] == "app"
    assert isinstance(instance._sys_db, SystemDatabase)
    for database in (instance._sys_db, instance._app_db):
        with database.engine.connect() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1
    assert (GlobalParams.app_version, GlobalParams.executor_id) == ("test", "local")
    assert INTERNAL_QUEUE_NAME == "_dbos_internal_queue"
    app.relaunch(application_database_url=f"sqlite:///{tmp_path / 'own.sqlite'}")
    with instance._app_db.engine.connect() as connection:
        assert connection.engine.url.database == str(tmp_path / "own.sqlite")
    DBOS.destroy()
    assert _dbos._dbos_global_instance is None
    assert (GlobalParams.app_version, GlobalParams.executor_id) == ("", "local")
    with pytest.raises(error.DBOSException, match="needs a configuration"):
        _get_dbos_instance()
    DBOS(config=app.config())
    assert _get_dbos_instance()._initialized
    assert not _get_dbos_instance()._launched
    with pytest.raises(error.DBOSException, match="needs a launched DBOS"):
        _ = _get_dbos_instance()._sys_db


@pytest.mark.parametrize("schema", ["dbos", "my Schema"])
def test_tables_are_found_by_the_engine_whatever_the_schema_is(app: App, schema: str) -> None:
    """Read and written: a workflow that is set to PENDING by hand is taken up."""
    from dbos._dbos import _get_dbos_instance
    from dbos._recovery import startup_recovery_thread
    from dbos._schemas.system_database import SystemSchema

    @DBOS.step()
    def step() -> int:
        return 7

    @DBOS.workflow()
    def workflow() -> int:
        return step()

    app.relaunch(dbos_system_schema=schema)
    with SetWorkflowID("w"):
        workflow()
    instance = _get_dbos_instance()
    statuses, steps = SystemSchema.workflow_status, SystemSchema.operation_outputs
    with instance._sys_db.engine.begin() as connection:
        for name in vars(SystemSchema):
            table = getattr(SystemSchema, name)
            if hasattr(table, "c"):
                connection.execute(select(table)).fetchall()
        row = connection.execute(select(statuses.c.name, statuses.c.status, statuses.c.priority)).one()
        assert tuple(row) == (workflow.__qualname__, "SUCCESS", 0)
        found = connection.execute(select(steps.c.function_id).where(steps.c.workflow_uuid == "w")).scalars().all()
        assert list(found) == [1]
        connection.execute(update(statuses).where(statuses.c.workflow_uuid == "w").values(status="PENDING"))
    startup_recovery_thread(instance, [])
    assert DBOS.get_result("w") == 7
    with instance._sys_db.engine.connect() as connection:
        assert connection.execute(select(statuses.c.recovery_attempts)).scalar() == 2


def test_garbage_is_collected_beyond_either_bound(app: App) -> None:
    from dbos._dbos import _get_dbos_instance
    from dbos._workflow_commands import garbage_collect

    @DBOS.workflow()
    def workflow() -> None: ...

    for number in range(5):
        with SetWorkflowID(f"w{number}"):
            workflow()
    garbage_collect(_get_dbos_instance(), cutoff_epoch_timestamp_ms=None, rows_threshold=3)
    assert [status.workflow_id for status in DBOS.list_workflows()] == ["w2", "w3", "w4"]
    newest = DBOS.list_workflows()[-1].created_at
    assert newest is not None
    garbage_collect(_get_dbos_instance(), newest + 1, None)
    assert DBOS.list_workflows() == []


async def test_steps_run_in_places_that_were_taken_before(app: App) -> None:
    """As an agent framework does: it takes the places in order, and runs the steps as they come; also replayed."""
    from dbos._context import get_local_dbos_context, snapshot_step_context
    from dbos._core import run_step_async
    from dbos._dbos import _get_dbos_instance

    roadblock = Roadblock()
    ran: list[str] = []

    async def act(name: str, *, suffix: str) -> str:
        ran.append(name)
        return name + suffix

    @DBOS.workflow()
    async def workflow() -> list[Any]:
        context = get_local_dbos_context()
        assert context is not None
        assert context.function_id == 0
        places = [snapshot_step_context(), snapshot_step_context(reserve_sleep_id=True)]
        assert context.function_id == 3
        done: list[str] = []
        for name, place in zip("ba", reversed(places), strict=True):
            done.append(
                await run_step_async(_get_dbos_instance(), place, act, {"name": name}, (name,), {"suffix": "!"})
            )
        done.append(await DBOS.run_step_async({"name": "wait"}, wait))
        return done

    async def wait() -> str:
        await roadblock.stop_async()
        return "waited"

    with SetWorkflowID("w"):
        await DBOS.start_workflow_async(workflow)
    await asyncio.to_thread(roadblock.wait_until_reached)
    await asyncio.to_thread(DBOS.destroy)
    roadblock.open()
    app.launch()
    assert await DBOS.get_result_async("w") == ["b!", "a!", "waited"]
    recorded = await DBOS.list_workflow_steps_async("w")
    assert [(step["function_id"], step["function_name"]) for step in recorded] == [(1, "a"), (2, "b"), (4, "wait")]
    assert ran == ["b", "a"]
    assert snapshot_step_context() is None
    assert await run_step_async(_get_dbos_instance(), None, act, None, ("x",), {"suffix": "?"}) == "x?"


def test_context_is_one_object_for_one_execution_and_goes_with_threads(app: App) -> None:
    from dbos._context import _dbos_context_var, _set_local_dbos_context, get_local_dbos_context

    assert get_local_dbos_context() is None
    seen: list[Any] = []

    @DBOS.step()
    def step() -> int:
        here = get_local_dbos_context()
        assert here is seen[0]
        return -1 if here is None else here.function_id

    @DBOS.workflow()
    def child() -> str | None:
        here = get_local_dbos_context()
        assert here is not None
        assert here is not seen[0]
        return here.workflow_id

    @DBOS.workflow()
    def workflow() -> list[Any]:
        here = _dbos_context_var.get()
        assert here is not None
        seen.append(here)
        in_thread: list[str | None] = []

        def work() -> None:
            assert DBOS.workflow_id is None
            _set_local_dbos_context(here)
            in_thread.append(DBOS.workflow_id)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        token = _dbos_context_var.set(None)
        assert DBOS.workflow_id is None
        _dbos_context_var.reset(token)
        done = [here.workflow_id, here.function_id, step(), here.function_id, child(), here.function_id]
        with SetWorkflowID("unused"):
            assert get_local_dbos_context() is here
        return [*done, *in_thread, here.is_within_workflow()]

    with SetWorkflowID("w"):
        assert workflow() == ["w", 0, 1, 1, "w-2", 3, "w", True]
    assert steps_of("w")[0] == (1, step.__qualname__)
    assert len(weakref.WeakKeyDictionary({seen[0]: 1})) == 1, "it can be a key of such a dict"
    with dbos.DBOSContextSetAuth("ada", []):
        here = get_local_dbos_context()
        assert here is not None
        assert (here.authenticated_user, here.workflow_id, here.function_id) == ("ada", None, 0)


def test_streams_queues_and_serializers_by_their_private_names(app: App) -> None:
    from dbos._core import write_stream
    from dbos._dbos import _get_dbos_instance
    from dbos._queue import Queue as PrivateQueue
    from dbos._serialization import DefaultSerializer
    from dbos._sys_db import WorkflowStatusString

    queue: Queue = PrivateQueue("by its private name")

    @DBOS.workflow()
    def workflow() -> None:
        write_stream(_get_dbos_instance(), "key", 1)

    with SetWorkflowID("w"):
        queue.enqueue(workflow).get_result()
    assert list(DBOS.read_stream("w", "key")) == [1]
    assert status_of("w") == WorkflowStatusString.SUCCESS
    assert DefaultSerializer().deserialize(DefaultSerializer().serialize({"a": 1})) == {"a": 1}
