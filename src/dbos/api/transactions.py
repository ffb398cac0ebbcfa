"""The part of ``DBOS`` that declares transactions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, cast

from dbos.api.classproperty import classproperty
from dbos.api.functions import (
    Decorator,
    is_coroutine_function,
    mark_workflow_function,
    new_call,
    on_methods_too,
    require_function,
)
from dbos.api.instance import get_executor, refuse_in_transaction
from dbos.api.roles import authorize, without_guard
from dbos.error import DBOSException
from dbos.runtime.context import CONTEXT
from dbos.runtime.drivers import drive
from dbos.runtime.registry import REGISTRY, TEMPORARY_PREFIX, WorkflowFunction
from dbos.runtime.starting import call_workflow
from dbos.runtime.transactions import TransactionRules, run_transaction

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

P = ParamSpec("P")
R = TypeVar("R")

IsolationLevel = Literal["SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED", "READ UNCOMMITTED"]


class TransactionMethods:
    """Transactions: steps that are one transaction of the application database."""

    @staticmethod
    def transaction(isolation_level: IsolationLevel = "SERIALIZABLE", *, name: str | None = None) -> Decorator:
        """Make a function a transaction: a step whose statements, made by ``DBOS.sql_session``, are committed once.

        Called by a workflow it is recorded in the transaction itself, so that its effect and its record are durable
        together. What it raises is rolled back, recorded and raised. It is run again when the database ends it for
        another's sake (serialization failure, deadlock) or the connection is lost, so it should do nothing but use the
        database. Called outside of workflows it runs as a workflow of its own.

        Args:
            isolation_level: On PostgreSQL; on SQLite all transactions are serializable.
            name: What is recorded. Default: the function's ``__qualname__``.

        Raises:
            ValueError: There is no such isolation level.
            TypeError: The function is a coroutine function.
        """
        if not isinstance(cast(object, isolation_level), str):
            raise TypeError(
                f"An isolation level must be a str, not {isolation_level!r}. (Write @DBOS.transaction(), with its "
                "parentheses.)"
            )

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            require_function(function, "transaction")
            return _decorate(function, TransactionRules(name or function.__qualname__, isolation_level))

        return on_methods_too(decorate)

    @classproperty
    def sql_session(cls) -> Session:
        """The SQLAlchemy session of the running transaction.

        What it executes is committed when the function returns, together with the record that it has, and rolled back
        when it raises. Its own commit and rollback are refused by SQLAlchemy.

        Raises:
            DBOSException: Used outside of transactions.
        """
        session = CONTEXT.get().session
        if session is None:
            raise DBOSException(
                "DBOS.sql_session was used outside of a transaction. It is there in functions decorated with "
                "@DBOS.transaction(), while they run."
            )
        return session


def _decorate(function: Callable[P, R], rules: TransactionRules) -> Callable[P, R]:
    function, required_roles = without_guard(function)
    if is_coroutine_function(function):
        raise TypeError(
            f"{function.__qualname__} is a coroutine function, which cannot be a transaction. Make it a plain function "
            f"and call it from coroutines by `await asyncio.to_thread({function.__name__}, ...)`."
        )

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        context = CONTEXT.get()
        refuse_in_transaction(context, f"Transaction {rules.name}")
        if context.step is not None:
            raise DBOSException(
                f"Transaction {rules.name} was called from a step, which may run again. Call it from the workflow."
            )
        if context.run is None:
            executor = get_executor(f"Calling transaction {rules.name}")
            REGISTRY.require(alone)
            its_call, _ = new_call(context, alone, args, kwargs)
            return drive(call_workflow(executor, its_call))
        run, authentication = context.run, authorize(alone, context)
        return drive(run_transaction(run, run.next_function_id(), rules, function, args, kwargs, authentication))

    # Called on its own, a transaction runs as a workflow that calls it.
    alone = WorkflowFunction(
        TEMPORARY_PREFIX + rules.name, call, is_async=False, is_temporary=True, required_roles=required_roles
    )
    REGISTRY.add_temporary(alone)
    mark_workflow_function(call, alone)
    return cast("Callable[P, R]", call)
