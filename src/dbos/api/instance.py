"""The one launched executor of this process, as the public functions find it."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from typing import TYPE_CHECKING

from dbos.error import DBOSException
from dbos.runtime.context import CONTEXT, Context

if TYPE_CHECKING:
    from dbos.runtime.executor import Executor
    from dbos.runtime.gateway import Gateway
    from dbos.runtime.observing import Observer

_executor: Executor | None = None
_observers: list[Observer] = []
_lock = threading.Lock()


def set_executor(executor: Executor | None) -> None:
    global _executor
    with _lock:
        if executor is not None:
            for observer in _observers:
                executor.observe(observer)
        _executor = executor


def observe(observer: Observer) -> None:
    """Tell the observer of what the launched executor does, and all that are launched later in this process."""
    with _lock:
        _observers.append(observer)
        if _executor is not None:
            _executor.observe(observer)


def is_launched() -> bool:
    """Whether this process has a launched executor."""
    return _executor is not None


def find_executor() -> Executor | None:
    """The executor of the running workflow, or else the launched one, if there is one."""
    run = CONTEXT.get().run
    return _executor if run is None else run.executor


def get_executor(what: str) -> Executor:
    """The executor of the running workflow, or else the launched one.

    Args:
        what: What needs it, for the error's text: "DBOS.start_workflow".

    Raises:
        DBOSException: There is none, or the running code is inside a transaction.
    """
    context = CONTEXT.get()
    refuse_in_transaction(context, what)
    if context.run is not None:
        return context.run.executor
    if _executor is None:
        raise DBOSException(f"{what} needs a launched DBOS. Call DBOS(config=...) and DBOS.launch() first.")
    return _executor


def refuse_on_loop(name: str, instead: str | None = None) -> None:
    """Refuse a blocking call in the thread of a running event loop, which it would stop.

    Args:
        name: What was called.
        instead: What to use; by default what was called with ``_async`` behind it.

    Raises:
        RuntimeError: There is a running loop in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if name.endswith("read_stream"):
        raise RuntimeError(f"{name} would block the running event loop. Use `async for` with {name}_async.")
    raise RuntimeError(f"{name} would block the running event loop. Use {instead or name + '_async'} and await it.")


def refuse_in_step(context: Context, what: str) -> None:
    """Workflows are not started from steps: a step that is retried or run again would start them again.

    Raises:
        DBOSException: The running code is inside a step.
    """
    if context.step is not None:
        raise DBOSException(
            f"{what} was called from a step, which must not start workflows. Call it from the workflow instead."
        )


def refuse_in_transaction(context: Context, what: str) -> None:
    """What the library does it would do beside the transaction, which may be rolled back and run again.

    Raises:
        DBOSException: The running code is inside a transaction.
    """
    if context.session is not None:
        raise DBOSException(
            f"{what} was called in a transaction, which may do nothing but use its database. Call it from the workflow "
            "instead."
        )


def refuse_if_locked_out(client: Gateway) -> None:
    """A client writes beside the transaction, which on SQLite has the file to itself until it ends.

    Raises:
        DBOSException: The running code is inside a transaction on the client's file.
    """
    session = CONTEXT.get().session
    if session is None or client.database.locks_rows:
        return
    own, other = session.get_bind().engine.url, client.database.engine.url
    if own.get_backend_name() == "sqlite" and os.path.realpath(str(own.database)) == os.path.realpath(
        str(other.database)
    ):
        raise DBOSException(
            "A DBOSClient was called in a transaction on its own SQLite file, which lets nobody else write until it "
            "ends: the call would wait for ever. Call it from the workflow instead."
        )


def recording_run(context: Context | None = None) -> tuple[Context, bool]:
    """The current context, and whether library calls in it are recorded as steps: in a workflow, outside its steps."""
    context = CONTEXT.get() if context is None else context
    return context, context.run is not None and context.step is None


def new_workflow_id() -> str:
    return str(uuid.uuid4())
