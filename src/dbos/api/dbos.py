"""``DBOS``: the façade that applications use. Its methods live by theme in the modules beside this one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dbos.api.alerts import ALERTS, AlertMethods
from dbos.api.authentication import AuthenticationMethods
from dbos.api.classes import ClassMethods
from dbos.api.classproperty import classproperty
from dbos.api.config import DBOSConfig, check_config
from dbos.api.instance import is_launched
from dbos.api.lifecycle import Application, set_up_logging
from dbos.api.management_methods import ManagementMethods
from dbos.api.messaging_methods import MessagingMethods
from dbos.api.queues import Queue, listen
from dbos.api.schedule_methods import ScheduleMethods
from dbos.api.seams import load_edge
from dbos.api.telemetry_methods import TelemetryMethods
from dbos.api.transactions import TransactionMethods
from dbos.api.upgrading_methods import UpgradingMethods
from dbos.api.workflow_methods import WorkflowMethods
from dbos.error import DBOSException
from dbos.runtime.context import CONTEXT, StepStatus
from dbos.runtime.registry import QUEUES, REGISTRY, SCHEDULES

if TYPE_CHECKING:
    from fastapi import FastAPI
    from flask import Flask

_logger = logging.getLogger("dbos")
_lock = threading.Lock()
_launching = threading.Lock()


class DBOS(
    ClassMethods,
    AuthenticationMethods,
    WorkflowMethods,
    TransactionMethods,
    MessagingMethods,
    ManagementMethods,
    ScheduleMethods,
    UpgradingMethods,
    TelemetryMethods,
    AlertMethods,
):
    """Durable workflows.

    ``DBOS(config=...)`` configures the application, ``DBOS.launch()`` starts it. The decorators work before either.
    Everything is a method of the class; the object that ``DBOS(config=...)`` returns has the same methods.

    Args:
        config: See ``DBOSConfig``.
        fastapi: An app of FastAPI that has not started yet: DBOS is launched when it starts, unless it is by then, and
            destroyed when it shuts down. The header ``dbos-idempotency-key`` of a request sets the id of its first
            workflow, and errors of the library become answers: docs/web.md.
        flask: The same for an app of Flask, which has no start: the first request launches, unless
            ``DBOS.launch()`` was called before.

    Raises:
        DBOSInitializationError: The configuration is wrong, the package of the app is not installed, or the app has
            started already.
        TypeError: There is no ``config``, or the app is none.
    """

    _application: Application | None = None

    def __init__(self, *, config: DBOSConfig, fastapi: FastAPI | None = None, flask: Flask | None = None) -> None:
        settings = check_config(config)
        for name, app in (("fastapi", fastapi), ("flask", flask)):
            if app is not None:
                load_edge(name, name, f"DBOS({name}=...)").attach(app, config)
        with _lock:
            current = DBOS._application
            if current is not None and current.executor is not None:
                if current.settings != settings:
                    _logger.warning(
                        "DBOS(config=...) was called after DBOS.launch(); the new configuration is ignored. Call "
                        "DBOS.destroy() first."
                    )
                return
            DBOS._application = Application(settings)
        set_up_logging(settings.log_level)

    @classmethod
    def launch(cls) -> None:
        """Open the database, making or upgrading its tables, and start: interrupted workflows are recovered.

        Raises:
            DBOSException: ``DBOS(config=...)`` was not called.
            DBOSInitializationError: The database cannot be used.
        """
        cls._configured("DBOS.launch()").launch()

    @classmethod
    def listen_queues(cls, queues: Iterable[Queue]) -> None:
        """Start workflows of these queues only; by default, of all that are declared in this process.

        It says nothing about enqueueing. Workflows that were resumed, forked or debounced are always started.

        Raises:
            DBOSException: It was called after ``DBOS.launch()``.
        """
        application = DBOS._application
        if application is not None and application.executor is not None:
            raise DBOSException("DBOS.listen_queues() was called after DBOS.launch(). Call it before.")
        listen(queues)

    @classmethod
    def destroy(cls, *, destroy_registry: bool = False, workflow_completion_timeout_sec: float = 0) -> None:
        """Stop: what was recorded is durable, running workflows are interrupted and stay recoverable.

        Afterwards ``DBOS(config=...)`` may be called again. Nothing to stop is fine.

        Args:
            destroy_registry: Whether to forget the decorated functions too.
            workflow_completion_timeout_sec: How long to wait for running workflows to end, in seconds. What waits on
                queues is not started any more meanwhile, also if a running workflow waits for it.
        """
        with _lock:
            application, DBOS._application = DBOS._application, None
        if application is not None:
            application.shut_down(workflow_completion_timeout_sec)
            QUEUES.listen(None)
        if destroy_registry:
            REGISTRY.clear()
            QUEUES.clear()
            SCHEDULES.clear()
            ALERTS.clear()

    @classmethod
    def reset_system_database(cls) -> None:
        """Delete all workflows and everything else that the library has stored. For tests.

        Raises:
            DBOSException: It is launched, or not configured.
        """
        cls._configured("DBOS.reset_system_database()").reset_system_database()

    @classproperty
    def logger(cls) -> logging.Logger:
        """The library's logger, for workflows and steps to use: ``logging.getLogger("dbos")``."""
        return _logger

    @classproperty
    def workflow_id(cls) -> str | None:
        """The id of the workflow that the running code belongs to; ``None`` outside of workflows."""
        run = CONTEXT.get().run
        return None if run is None else run.workflow_id

    @classproperty
    def step_id(cls) -> int | None:
        """The number of the running step in its workflow, from 1; ``None`` outside of steps."""
        step = CONTEXT.get().step
        return None if step is None else step.step_id

    @classproperty
    def step_status(cls) -> StepStatus | None:
        """The running step's number and attempt; ``None`` outside of steps."""
        return CONTEXT.get().step

    @classproperty
    def application_version(cls) -> str:
        """The version that workflows started here are tagged with."""
        return DBOS._configured("DBOS.application_version").application_version

    @classproperty
    def executor_id(cls) -> str:
        """The label of this process."""
        return DBOS._configured("DBOS.executor_id").settings.executor_id

    @classmethod
    def _configured(cls, what: str) -> Application:
        application = DBOS._application
        if application is None:
            raise DBOSException(f"{what} needs a configuration. Call DBOS(config=...) first.")
        return application


def launch_if_needed(config: DBOSConfig) -> None:
    """Launch for a server that does not call ``DBOS.launch()`` itself; launched already, it does nothing.

    Args:
        config: What to configure if nothing is configured.
    """
    if is_launched():
        return
    with _launching:
        if DBOS._application is None:  # pyright: ignore[reportPrivateUsage]
            DBOS(config=config)
        if not is_launched():
            DBOS.launch()
