"""Roles: who calls is kept with the workflow, and functions that require a role are refused to all who have none."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable
from typing import Any

import pytest

from dbos import (
    DBOS,
    DBOSClient,
    DBOSConfiguredInstance,
    DBOSContextEnsure,
    DBOSContextSetAuth,
    Debouncer,
    DebouncerClient,
    Queue,
    SetWorkflowID,
)
from dbos.error import DBOSException, DBOSNotAuthorizedError
from dbos.runtime.registry import QUEUES
from tests.support.apps import App, Roadblock, interrupt_at, status_of, steps_of
from tests.support.storage import change, sql

Way = Callable[..., Any]
Who = tuple[str | None, str | None, list[str] | None]

NOBODY: Who = (None, None, None)


def me() -> Who:
    """Whom the running code acts for."""
    return DBOS.authenticated_user, DBOS.assumed_role, DBOS.authenticated_roles


@DBOS.step(name="roles.ask")
def ask() -> Who:
    return me()


@DBOS.step(name="roles.ask_async")
async def ask_async() -> Who:
    await asyncio.sleep(0)
    return me()


@DBOS.workflow(name="roles.free")
def free() -> tuple[Who, Who]:
    """Requires no role."""
    return me(), ask()


@DBOS.required_roles(["clerk", "admin"])
@DBOS.workflow(name="roles.guarded")
def guarded() -> tuple[Who, Who]:
    return me(), ask()


@DBOS.workflow(name="roles.guarded_below")
@DBOS.required_roles(["clerk", "admin"])
def guarded_below() -> tuple[Who, Who]:
    return me(), ask()


@DBOS.required_roles(["clerk", "admin"])
@DBOS.workflow(name="roles.guarded_async")
async def guarded_async() -> tuple[Who, Who]:
    return me(), await ask_async()


@DBOS.workflow(name="roles.guarded_async_below")
@DBOS.required_roles(["clerk", "admin"])
async def guarded_async_below() -> tuple[Who, Who]:
    return me(), await ask_async()


@DBOS.required_roles(["admin"])
@DBOS.step(name="roles.admin_step")
def admin_step() -> Who:
    return me()


@DBOS.step(name="roles.admin_step_async")
@DBOS.required_roles(["admin"])
async def admin_step_async() -> Who:
    await asyncio.sleep(0)
    return me()


@pytest.fixture
def queue(app: App) -> Any:
    yield Queue("roles")
    QUEUES.clear()


@pytest.fixture(params=["called", "started", "enqueued"])
def way(request: pytest.FixtureRequest, queue: Queue) -> Way:
    """The ways to run a workflow."""

    def call(function: Way, *args: Any) -> Any:
        if request.param == "called":
            result = function(*args)
            return asyncio.run(result) if asyncio.iscoroutine(result) else result
        start = DBOS.start_workflow if request.param == "started" else queue.enqueue
        return start(function, *args).get_result()

    return call


def as_(user: str, *roles: str) -> DBOSContextSetAuth:
    return DBOSContextSetAuth(user, list(roles))


def row_of(workflow_id: str) -> Who:
    status = DBOS.get_workflow_status(workflow_id)
    assert status is not None
    return status.authenticated_user, status.assumed_role, status.authenticated_roles


# -- what is kept


def test_a_workflow_its_steps_and_its_row_know_who_called(app: App, way: Way) -> None:
    who = ("ann", None, ["buyer", "clerk"])
    with as_("ann", "buyer", "clerk"), SetWorkflowID("w"):
        assert me() == who
        assert way(free) == (who, who)
    assert me() == NOBODY
    assert row_of("w") == who
    listed = DBOS.list_workflows(user="ann")
    assert [workflow.workflow_id for workflow in listed] == ["w"]
    assert listed[0].authenticated_roles == ["buyer", "clerk"]
    assert DBOS.list_workflows(user="bob") == []


def test_roles_are_stored_as_a_list_of_json(app: App) -> None:
    with as_("ann", 'with "quotes"', "ü"), SetWorkflowID("w"):
        free()
    with as_("ann"), SetWorkflowID("none"):
        assert free()[0] == ("ann", None, [])
    with SetWorkflowID("nobody"):
        assert free() == (NOBODY, NOBODY)
    assert DBOS._application is not None
    assert DBOS._application.executor is not None
    statement = "SELECT authenticated_roles FROM {schema}workflow_status ORDER BY created_at, seq"
    stored = [row[0] for row in sql(DBOS._application.executor.database, statement)]
    assert [None if roles is None else json.loads(roles) for roles in stored] == [['with "quotes"', "ü"], [], None]


@pytest.mark.parametrize("function", [guarded, guarded_below, guarded_async, guarded_async_below])
def test_a_workflow_runs_as_the_first_required_role_that_the_caller_has(app: App, way: Way, function: Way) -> None:
    for roles, assumed in ((["clerk"], "clerk"), (["admin", "clerk"], "clerk"), (["x", "admin"], "admin")):
        who = ("ann", assumed, roles)
        with as_("ann", *roles):
            assert way(function) == (who, who)
    newest = DBOS.list_workflows(sort_desc=True, limit=1)[0]
    assert (newest.authenticated_user, newest.assumed_role) == ("ann", "admin")


@pytest.mark.parametrize("function", [guarded, guarded_below, guarded_async, guarded_async_below])
def test_who_has_no_required_role_is_refused_before_anything_is_recorded(app: App, way: Way, function: Way) -> None:
    with pytest.raises(DBOSNotAuthorizedError, match="'clerk', 'admin', and nobody is authenticated"):
        way(function)
    with as_("ann", "buyer"), pytest.raises(DBOSNotAuthorizedError, match="'clerk', 'admin'; user 'ann' has 'buyer'"):
        way(function)
    with as_("ann"), pytest.raises(DBOSNotAuthorizedError, match="has none") as caught:
        way(function)
    assert caught.value.dbos_error_code == 8
    with DBOSContextSetAuth(None, None), pytest.raises(DBOSNotAuthorizedError, match="nobody is authenticated"):
        way(function)
    assert DBOS.list_workflows() == []


@pytest.mark.parametrize("how", ["call", "start", "enqueue"])
def test_children_run_for_whom_their_parent_runs(app: App, queue: Queue, how: str) -> None:
    @DBOS.workflow(name="roles.parent")
    def parent() -> Any:
        if how == "call":
            return guarded()
        return (DBOS.start_workflow(guarded) if how == "start" else queue.enqueue(guarded)).get_result()

    who = ("ann", "admin", ["admin"])
    with as_("ann", "admin"), SetWorkflowID("parent"):
        assert parent() == (who, who)
    assert row_of("parent") == ("ann", None, ["admin"])
    assert row_of("parent-1") == who
    with as_("bob", "buyer"), SetWorkflowID("refused"), pytest.raises(DBOSNotAuthorizedError, match=r"roles.guarded"):
        parent()
    assert steps_of("refused") == []


def test_a_child_without_required_roles_keeps_its_parents(app: App) -> None:
    @DBOS.required_roles(["admin"])
    @DBOS.workflow(name="roles.admins_parent")
    def parent() -> Any:
        return free()

    who = ("ann", "admin", ["admin"])
    with as_("ann", "admin"), SetWorkflowID("w"):
        assert parent() == (who, who)
    assert row_of("w-1") == who


def test_roles_survive_interruption_resume_and_fork(app: App, queue: Queue) -> None:
    roadblock = Roadblock()

    @DBOS.step(name="roles.stop")
    def stop() -> None:
        roadblock.stop()

    @DBOS.required_roles(["admin"])
    @DBOS.workflow(name="roles.stopping")
    def stopping() -> Any:
        stop()
        return me(), ask(), free()

    with as_("ann", "admin", "clerk"):
        for workflow_id, start in {"started": DBOS.start_workflow, "enqueued": queue.enqueue}.items():
            with SetWorkflowID(workflow_id):
                start(stopping)
        with SetWorkflowID("cancelled"):
            DBOS.start_workflow(stopping)
    DBOS.cancel_workflow("cancelled")
    interrupt_at(roadblock, app)
    who = ("ann", "admin", ["admin", "clerk"])
    for workflow_id in ("started", "enqueued"):
        assert DBOS.retrieve_workflow(workflow_id).get_result() == (who, who, (who, who))
    assert DBOS.resume_workflow("cancelled").get_result() == (who, who, (who, who))
    forked = DBOS.fork_workflow("started", 2)
    assert forked.get_result() == (who, who, (who, who))
    for workflow_id in ("started", "enqueued", "cancelled", forked.workflow_id):
        assert row_of(workflow_id) == who


def test_an_interrupted_workflow_needs_the_role_that_is_required_by_now(app: App) -> None:
    roadblock = Roadblock()

    @DBOS.step(name="roles.stop_open")
    def stop() -> None:
        roadblock.stop()

    @DBOS.workflow(name="roles.open")
    def open_to_all() -> None:
        stop()

    with as_("ann", "clerk"):
        handle = DBOS.start_workflow(open_to_all)
    roadblock.wait_until_reached()
    DBOS.destroy()
    roadblock.open()
    DBOS.required_roles(["admin"])(open_to_all)
    app.launch()
    with pytest.raises(DBOSNotAuthorizedError, match="requires one of the roles 'admin'; user 'ann' has 'clerk'"):
        DBOS.retrieve_workflow(handle.workflow_id).get_result()


def test_a_debounced_workflow_runs_for_whoever_began_the_round(app: App) -> None:
    debouncer = Debouncer.create(guarded)
    with as_("ann", "clerk"):
        handle = debouncer.debounce("key", 3600)
    with as_("bob", "admin"):
        assert debouncer.debounce("key", 0).workflow_id == handle.workflow_id
    with as_("eve", "buyer"), pytest.raises(DBOSNotAuthorizedError):
        debouncer.debounce("other", 0)
    with pytest.raises(DBOSNotAuthorizedError):
        debouncer.debounce("key", 0)
    who = ("ann", "clerk", ["clerk"])
    assert handle.get_result() == (who, who)


# -- clients


def test_a_client_says_for_whom_it_enqueues(app: App, queue: Queue) -> None:
    who = ("ann", "admin", ["x", "admin"])
    with DBOSClient(system_database_url=app.url) as client:
        options: Any = {"queue_name": queue.name, "workflow_name": "roles.guarded", "workflow_id": "w"}
        by: Any = {"authenticated_user": "ann", "authenticated_roles": ["x", "admin"]}
        assert client.enqueue({**options, **by}).get_result() == (who, who)
        debouncer = DebouncerClient(client, {**options, **by, "workflow_id": "debounced"})
        assert debouncer.debounce("key", 0).get_result() == (who, who)
    assert row_of("w") == ("ann", None, ["x", "admin"])
    assert [workflow.workflow_id for workflow in DBOS.list_workflows(user="ann")] == ["w", "debounced"]


def test_what_a_client_enqueues_without_the_role_ends_unauthorized(app: App, queue: Queue) -> None:
    """And does not run."""
    with DBOSClient(system_database_url=app.url) as client:
        options: Any = {"queue_name": queue.name, "workflow_name": "roles.guarded"}
        for by in ({}, {"authenticated_user": "ann", "authenticated_roles": ["buyer"]}):
            handle = client.enqueue({**options, **by})
            with pytest.raises(DBOSNotAuthorizedError, match=r"roles.guarded requires"):
                handle.get_result()
            assert (status_of(handle.workflow_id), steps_of(handle.workflow_id)) == ("ERROR", [])


def test_stored_roles_that_are_no_list_give_no_right(app: App, queue: Queue) -> None:
    """The library does not write such; they are shown as they stand."""
    assert DBOS._application is not None
    assert DBOS._application.executor is not None
    with DBOSClient(system_database_url=app.url) as client:
        options: Any = {"queue_name": "not yet", "workflow_name": "roles.guarded", "workflow_id": "w"}
        client.enqueue({**options, "authenticated_user": "ann", "authenticated_roles": ["admin"]})
        change(DBOS._application.executor.database, "UPDATE {schema}workflow_status SET authenticated_roles = 'admin'")
        assert row_of("w") == ("ann", None, ["admin"])
        Queue("not yet")
        with pytest.raises(DBOSNotAuthorizedError, match="user 'ann' has none"):
            DBOS.retrieve_workflow("w").get_result()


# -- steps and other functions


def test_a_step_that_requires_a_role_is_refused_in_a_workflow_and_outside(app: App) -> None:
    @DBOS.workflow(name="roles.calls_admin_step")
    def calls() -> tuple[Who, Who, Who]:
        return me(), admin_step(), me()

    plain, admin = ("ann", None, ["admin"]), ("ann", "admin", ["admin"])
    with as_("ann", "admin"):
        assert calls() == (plain, admin, plain)
        assert admin_step() == admin
        assert DBOS.start_workflow(admin_step).get_result() == admin
        assert asyncio.run(admin_step_async()) == admin
        assert me() == plain
    with as_("bob", "clerk"):
        for refused in (calls, admin_step, lambda: DBOS.start_workflow(admin_step)):
            with pytest.raises(DBOSNotAuthorizedError, match=r"^DBOS Error 8: roles.admin_step requires"):
                refused()
        with pytest.raises(DBOSNotAuthorizedError, match=r"roles.admin_step_async|admin_step_async"):
            asyncio.run(admin_step_async())


async def test_coroutines_know_for_whom_they_run(app: App) -> None:
    @DBOS.workflow(name="roles.gathering")
    async def gathering() -> Any:
        with as_("inner", "admin"):
            step, child = admin_step_async(), guarded_async()
        return me(), await asyncio.gather(step, child), me()

    outer, inner = ("ann", None, ["clerk"]), ("inner", "admin", ["admin"])
    with as_("ann", "clerk"):
        assert await gathering() == (outer, [inner, (inner, inner)], outer)
        handle = await DBOS.start_workflow_async(guarded_async)
    who = ("ann", "clerk", ["clerk"])
    assert await handle.get_result() == (who, who)
    with pytest.raises(DBOSNotAuthorizedError):
        await guarded_async()


def test_roles_are_required_of_any_function() -> None:
    @DBOS.required_roles(["admin"])
    def plain(value: int) -> tuple[int, Who]:
        """Says."""
        return value, me()

    @DBOS.required_roles(["admin"])
    async def plain_async(value: int) -> tuple[int, Who]:
        await asyncio.sleep(0)
        return value, me()

    assert (plain.__name__, plain.__doc__) == ("plain", "Says.")
    who = ("ann", "admin", ["admin"])
    with as_("ann", "admin"):
        assert plain(1) == (1, who)
        assert asyncio.run(plain_async(2)) == (2, who)
    with pytest.raises(DBOSNotAuthorizedError, match="plain requires one of the roles 'admin'"):
        plain(1)
    with pytest.raises(DBOSNotAuthorizedError):
        asyncio.run(plain_async(2))


def test_decorators_between_the_library_s_are_kept(app: App) -> None:
    calls: list[str] = []

    def counted(function: Way) -> Way:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            calls.append(function.__name__)
            return function(*args)

        return call

    @DBOS.workflow(name="roles.counted")
    @counted
    @DBOS.required_roles(["admin"])
    def counted_workflow() -> Who:
        return me()

    with as_("ann", "clerk"), pytest.raises(DBOSNotAuthorizedError):
        counted_workflow()
    assert (calls, DBOS.list_workflows()) == ([], [])
    with as_("ann", "admin"):
        assert counted_workflow() == ("ann", "admin", ["admin"])
    assert calls == ["counted_workflow"]


# -- classes


def make_office() -> Any:
    @DBOS.dbos_class("Office")
    @DBOS.default_required_roles(["clerk"])
    class Office(DBOSConfiguredInstance):
        @DBOS.workflow(name="Office.by_default")
        def by_default(self) -> tuple[Who, Who]:
            return me(), self.step()

        @DBOS.required_roles(["admin"])
        @DBOS.workflow(name="Office.own")
        def own(self) -> Who:
            return me()

        @DBOS.workflow(name="Office.own_below")
        @DBOS.required_roles(["admin"])
        def own_below(self) -> Who:
            return me()

        @DBOS.required_roles([])
        @DBOS.workflow(name="Office.open")
        def open(self) -> Who:
            return me()

        @DBOS.required_roles(["admin"])
        @classmethod
        @DBOS.workflow(name="Office.of_class")
        def of_class(cls) -> Who:
            return me()

        @staticmethod
        @DBOS.workflow(name="Office.static")
        def static() -> Who:
            return me()

        @DBOS.step(name="Office.step")
        def step(self) -> Who:
            return me()

        def plain(self) -> Who:
            return me()

    return Office


def test_a_class_says_which_roles_its_functions_require_by_default(app: App, way: Way) -> None:
    office = make_office()
    one = office("one")
    clerk, admin = ("ann", "clerk", ["clerk"]), ("ann", "admin", ["admin"])
    with as_("ann", "clerk"):
        assert way(one.by_default) == (clerk, clerk)
        assert way(office.static) == clerk
        assert one.step() == clerk
        assert way(one.open) == one.plain() == ("ann", None, ["clerk"])
        for refused in (one.own, one.own_below, office.of_class):
            with pytest.raises(DBOSNotAuthorizedError, match="requires one of the roles 'admin'"):
                way(refused)
    with as_("ann", "admin"):
        for allowed in (one.own, one.own_below, office.of_class):
            assert way(allowed) == admin
        for refused in (one.by_default, office.static):
            with pytest.raises(DBOSNotAuthorizedError, match="requires one of the roles 'clerk'"):
                way(refused)


def test_defaults_may_be_given_above_the_decorator_of_the_class(sqlite_app: App) -> None:
    @DBOS.default_required_roles(["clerk"])
    @DBOS.dbos_class("Above")
    class Above:
        @staticmethod
        @DBOS.workflow(name="Above.run")
        def run() -> Who:
            return me()

    with pytest.raises(DBOSNotAuthorizedError):
        Above.run()
    with as_("ann", "clerk"):
        assert Above.run() == ("ann", "clerk", ["clerk"])


# -- saying who it is


def test_authentication_is_set_until_the_end_of_the_block(sqlite_app: App) -> None:
    with DBOSContextEnsure():
        assert me() == NOBODY
        DBOS.set_authentication("ann", ["clerk"])
        assert guarded()[0] == ("ann", "clerk", ["clerk"])
        with DBOSContextEnsure():
            DBOS.set_authentication("bob", ["admin"])
        assert me() == ("bob", None, ["admin"]), "the outer block is the one that counts"
        with as_("eve"):
            DBOS.set_authentication("inner", [])
            assert me() == ("inner", None, [])
        assert me() == ("bob", None, ["admin"])
        DBOS.set_authentication(None, None)
        assert me() == NOBODY
    with SetWorkflowID("w"):
        DBOS.set_authentication("ann", ["clerk"])
        assert guarded()[0] == ("ann", "clerk", ["clerk"])
    assert me() == NOBODY


def test_authentication_is_not_set_where_nothing_would_end_it(sqlite_app: App) -> None:
    with pytest.raises(DBOSException, match=r"DBOSContextEnsure\(\)"):
        DBOS.set_authentication("ann", ["clerk"])
    assert me() == NOBODY


def test_threads_that_copied_a_context_set_it_for_all_of_it() -> None:
    """As the sync dependencies of web frameworks do."""

    async def request() -> Who:
        with DBOSContextEnsure():
            await asyncio.to_thread(DBOS.set_authentication, "ann", ["clerk"])
            return me()

    assert asyncio.run(request()) == ("ann", None, ["clerk"])
    assert me() == NOBODY


def test_a_workflow_may_go_on_for_another_user(app: App) -> None:
    roadblock = Roadblock()

    @DBOS.step(name="roles.changing_step")
    def changing_step() -> Who:
        DBOS.set_authentication("in step", [])
        roadblock.stop()
        return me()

    @DBOS.workflow(name="roles.changing")
    def changing() -> Any:
        before = me()
        DBOS.set_authentication("other", ["admin"])
        after = me(), ask(), free(), changing_step(), me()
        with as_("third"):
            return before, after, (me(), ask(), free()), me()

    ann, other, third = ("ann", None, ["clerk"]), ("other", None, ["admin"]), ("third", None, [])
    with as_("ann", "clerk"), SetWorkflowID("w"):
        DBOS.start_workflow(changing)
    interrupt_at(roadblock, app)
    assert DBOS.retrieve_workflow("w").get_result() == (
        ann,
        (other, other, (other, other), ("in step", None, []), other),
        (third, third, (third, third)),
        third,
    )
    assert row_of("w") == ann
    assert row_of("w-2") == other


# -- bad input


@pytest.mark.parametrize(
    ("user", "roles", "error"),
    [
        (1, [], TypeError),
        ("ann", "admin", TypeError),
        ("ann", [1], TypeError),
        ("ann", {"admin": 1}, TypeError),
        ("a\x00", [], ValueError),
        ("ann", ["a\x00"], ValueError),
        ("x" * 1025, [], ValueError),
    ],
)
def test_users_and_roles_are_strings_that_can_be_stored(user: Any, roles: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"user|role"):
        DBOSContextSetAuth(user, roles)
    with DBOSContextEnsure(), pytest.raises(error, match=r"user|role"):
        DBOS.set_authentication(user, roles)


@pytest.mark.parametrize("roles", ["admin", [1], None, {"admin"}])
def test_required_roles_are_a_list_of_strings(roles: Any) -> None:
    for decorator in (DBOS.required_roles, DBOS.default_required_roles):
        with pytest.raises(TypeError, match="required_roles must be a list of str"):
            decorator(roles)


async def _generator() -> Any:
    yield


def test_roles_are_required_of_functions_and_by_classes() -> None:
    with pytest.raises(TypeError, match="decorates functions"):
        DBOS.required_roles(["admin"])(5)
    for generator in (lambda: (yield), _generator):
        with pytest.raises(TypeError, match="is a generator function"):
            DBOS.required_roles(["admin"])(generator)
    with pytest.raises(TypeError, match="decorates classes"):
        DBOS.default_required_roles(["admin"])(me)
