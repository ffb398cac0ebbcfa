"""Methods as workflows and steps: what is recorded of them, and that they run on the instance that they belong to."""

from __future__ import annotations

import importlib
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from dbos import (
    DBOS,
    DBOSClient,
    DBOSConfiguredInstance,
    DBOSContextSetAuth,
    Debouncer,
    DebouncerClient,
    Queue,
    SetWorkflowID,
)
from dbos.error import (
    DBOSConflictingRegistrationError,
    DBOSConflictingWorkflowError,
    DBOSException,
    DBOSNotAuthorizedError,
)
from dbos.runtime.registry import QUEUES, REGISTRY
from tests.support.apps import App, Roadblock, eventually, interrupt_at, status_of, steps_of
from tests.support.gates import CountingGate

Way = Callable[..., Any]


@pytest.fixture
def queue(app: App) -> Any:
    """A queue of the test's own."""
    yield Queue("classes", polling_interval_sec=0.02)
    QUEUES.clear()


def call(function: Way, *args: Any) -> Any:
    return function(*args)


def start(function: Way, *args: Any) -> Any:
    return DBOS.start_workflow(function, *args).get_result()


@pytest.fixture(params=["called", "started", "enqueued"])
def way(request: pytest.FixtureRequest) -> Any:
    """The ways to run a workflow."""
    if request.param == "enqueued":
        queue = Queue("ways")
        yield lambda function, *args: queue.enqueue(function, *args).get_result()
        QUEUES.clear()
    else:
        yield call if request.param == "called" else start


def recorded(workflow_id: str) -> tuple[Any, ...]:
    """Name, class, instance and arguments of a workflow."""
    status = DBOS.get_workflow_status(workflow_id)
    assert status is not None
    assert status.input is not None
    return status.name, status.class_name, status.config_name, status.input["args"], status.input["kwargs"]


def log_of(caplog: pytest.LogCaptureFixture, *words: str) -> list[str]:
    """The warnings in which all words are."""
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [message for message in messages if all(word in message for word in words)]


class Unpicklable:
    """Nothing of it can be stored."""

    def __reduce__(self) -> Any:
        raise TypeError("must not be pickled")


def make_counter() -> Any:
    """A class with methods of every kind, defined anew for each test."""

    @DBOS.dbos_class("Counter")
    class Counter(DBOSConfiguredInstance):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.treasure = Unpicklable()

        @DBOS.workflow(name="Counter.count")
        def count(self, by: int, times: int = 1) -> tuple[str, int]:
            return self.config_name, self.multiply(by, times)

        @DBOS.workflow(name="Counter.count_async")
        async def count_async(self, by: int) -> tuple[str, int]:
            return self.config_name, await self.multiply_async(by, 2)

        @DBOS.step(name="Counter.multiply")
        def multiply(self, one: int, other: int) -> int:
            assert isinstance(self.treasure, Unpicklable)
            return one * other

        @DBOS.step(name="Counter.multiply_async")
        async def multiply_async(self, one: int, other: int) -> int:
            assert isinstance(self.treasure, Unpicklable)
            return one * other

        @classmethod
        @DBOS.workflow(name="Counter.of_class")
        def of_class(cls, by: int) -> tuple[str, int]:
            return cls.__name__, cls.class_step(by)

        @DBOS.workflow(name="Counter.of_class_above")
        @classmethod
        def of_class_above(cls, by: int) -> tuple[str, int]:
            return cls.__name__, cls.class_step(by)

        @classmethod
        @DBOS.step(name="Counter.class_step")
        def class_step(cls, by: int) -> int:
            return by

        @staticmethod
        @DBOS.workflow(name="Counter.static")
        def static(by: int) -> int:
            return by

        @DBOS.workflow(name="Counter.static_above")
        @staticmethod
        def static_above(by: int) -> int:
            return by

    return Counter


# -- what is recorded


def test_a_row_names_the_class_and_the_instance_and_holds_the_arguments_only(app: App, way: Way) -> None:
    counter = make_counter()
    one, two = counter("one"), counter("two")
    expected: list[tuple[Any, Any, tuple[Any, ...], tuple[Any, ...]]] = [
        (one.count, (3, 2), ("one", 6), ("Counter.count", "Counter", "one")),
        (two.count, (3,), ("two", 3), ("Counter.count", "Counter", "two")),
        (counter.of_class, (1,), ("Counter", 1), ("Counter.of_class", "Counter", None)),
        (one.of_class, (1,), ("Counter", 1), ("Counter.of_class", "Counter", None)),
        (counter.of_class_above, (1,), ("Counter", 1), ("Counter.of_class_above", "Counter", None)),
        (counter.static, (1,), 1, ("Counter.static", None, None)),
        (two.static, (1,), 1, ("Counter.static", None, None)),
        (counter.static_above, (1,), 1, ("Counter.static_above", None, None)),
    ]
    for number, (method, args, result, names) in enumerate(expected):
        with SetWorkflowID(str(number)):
            assert way(method, *args) == result
        assert recorded(str(number)) == (*names, args, {})
    listed = DBOS.list_workflows(workflow_ids=["0"])[0]
    assert (listed.class_name, listed.config_name) == ("Counter", "one")
    assert steps_of("0") == [(1, "Counter.multiply")]


def test_an_unbound_method_belongs_to_its_first_argument(app: App, way: Way) -> None:
    counter = make_counter()
    one = counter("one")
    with SetWorkflowID("w"):
        assert way(counter.count, one, 2, 3) == ("one", 6)
    assert recorded("w")[:3] == ("Counter.count", "Counter", "one")


async def test_coroutine_methods_belong_to_their_instance_too(app: App) -> None:
    one = make_counter()("one")
    queue = Queue("async")
    try:
        with SetWorkflowID("called"):
            assert await one.count_async(1) == ("one", 2)
        with SetWorkflowID("started"):
            assert await (await DBOS.start_workflow_async(one.count_async, 2)).get_result() == ("one", 4)
        with SetWorkflowID("enqueued"):
            assert await (await queue.enqueue_async(one.count_async, 3)).get_result() == ("one", 6)
    finally:
        QUEUES.clear()
    for number, workflow_id in enumerate(("called", "started", "enqueued"), 1):
        status = await DBOS.get_workflow_status_async(workflow_id)
        assert status is not None
        assert (status.name, status.class_name, status.config_name) == ("Counter.count_async", "Counter", "one")
        assert status.input == {"args": (number,), "kwargs": {}}


def test_a_step_on_its_own_belongs_to_its_instance(app: App, way: Way) -> None:
    counter = make_counter()
    one = counter("one")
    if way is call:
        assert one.multiply(2, 3) == 6
        assert DBOS.list_workflows() == []
        return
    with SetWorkflowID("instance"):
        assert way(one.multiply, 2, 3) == 6
    with SetWorkflowID("class"):
        assert start(counter.class_step, 4) == 4
    assert recorded("instance") == ("<temp>.Counter.multiply", "Counter", "one", (2, 3), {})
    assert recorded("class") == ("<temp>.Counter.class_step", "Counter", None, (4,), {})
    assert steps_of("instance") == [(1, "Counter.multiply")]


def test_the_names_are_the_qualified_ones_by_default(sqlite_app: App) -> None:
    @DBOS.dbos_class
    class Bare(DBOSConfiguredInstance):
        @DBOS.workflow()
        def run(self) -> str:
            return self.step()

        @DBOS.step()
        def step(self) -> str:
            return self.config_name

    with SetWorkflowID("w"):
        assert Bare("x").run() == "x"
    scope = "test_the_names_are_the_qualified_ones_by_default.<locals>.Bare"
    assert recorded("w")[:3] == (f"{scope}.run", scope, "x")
    assert steps_of("w") == [(1, f"{scope}.step")]


def test_an_instance_is_named_in_three_ways() -> None:
    assert DBOSConfiguredInstance("a").config_name == "a"
    assert DBOSConfiguredInstance(instance_name="b").config_name == "b"
    assert DBOSConfiguredInstance(config_name="c").config_name == "c"


def test_a_function_put_into_a_class_is_its_method(sqlite_app: App) -> None:
    @DBOS.workflow(name="attached")
    def attached(me: Any, value: int) -> tuple[str, int]:
        return me.config_name, value

    @DBOS.dbos_class("Attaching")
    class Attaching(DBOSConfiguredInstance):
        run = attached

    attaching = Attaching("a")
    with SetWorkflowID("w"):
        assert attaching.run(1) == ("a", 1)
    assert recorded("w") == ("attached", "Attaching", "a", (1,), {})
    with SetWorkflowID("plain"):
        assert attached(Point("p"), 1) == ("p", 1)
    assert recorded("plain")[1:3] == (None, None)
    assert DBOS.fork_workflow("w", 1).get_result() == ("a", 1)
    assert DBOS.fork_workflow("plain", 1).get_result() == ("p", 1), "it is a function as well"


class Point(DBOSConfiguredInstance):
    """Not decorated, and pickled as an argument."""

    def __init__(self, name: str = "origin") -> None:
        super().__init__(name)


def test_an_instance_is_an_argument_of_a_function_that_is_no_method(sqlite_app: App) -> None:
    @DBOS.workflow(name="takes")
    def takes(point: Point) -> str:
        return point.config_name

    with SetWorkflowID("w"):
        assert takes(Point("p")) == "p"
    name, class_name, config_name, (argument,), _ = recorded("w")
    assert (name, class_name, config_name, argument.config_name) == ("takes", None, None, "p")


# -- transactions


def make_bank() -> Any:
    @DBOS.dbos_class("Bank")
    class Bank(DBOSConfiguredInstance):
        @DBOS.transaction(name="Bank.book")
        def book(self, value: int) -> tuple[str, int]:
            return self.config_name, DBOS.sql_session.execute(text("SELECT :value"), {"value": value}).scalar_one()

        @classmethod
        @DBOS.transaction(name="Bank.of_class")
        def of_class(cls) -> str:
            return cls.__name__

        @DBOS.required_roles(["teller"])
        @DBOS.transaction(name="Bank.static")
        @staticmethod
        def static() -> str | None:
            return DBOS.assumed_role

        @DBOS.workflow(name="Bank.transfer")
        def transfer(self) -> list[Any]:
            return [self.book(1), self.of_class(), self.static()]

    return Bank


def test_transactions_may_be_methods(app: App) -> None:
    bank = make_bank()
    one = bank("one")
    with DBOSContextSetAuth("ann", ["teller"]), SetWorkflowID("w"):
        assert one.transfer() == [("one", 1), "Bank", "teller"]
    assert steps_of("w") == [(1, "Bank.book"), (2, "Bank.of_class"), (3, "Bank.static")]
    with SetWorkflowID("refused"), pytest.raises(DBOSNotAuthorizedError, match=r"Bank\.static requires"):
        one.transfer()


def test_a_transaction_on_its_own_belongs_to_its_instance(app: App, way: Way) -> None:
    bank = make_bank()
    one = bank("one")
    for workflow_id, method, args, result, names in (
        ("instance", one.book, (2,), ("one", 2), ("<temp>.Bank.book", "Bank", "one")),
        ("class", bank.of_class, (), "Bank", ("<temp>.Bank.of_class", "Bank", None)),
    ):
        with SetWorkflowID(workflow_id):
            assert way(method, *args) == result
        assert recorded(workflow_id) == (*names, args, {})
        assert DBOS.fork_workflow(workflow_id, 1).get_result() == result
    with DBOSContextSetAuth("ann", ["teller"]), SetWorkflowID("static"):
        assert way(bank.static) == "teller"
    assert recorded("static")[:3] == ("<temp>.Bank.static", None, None)
    with pytest.raises(DBOSNotAuthorizedError, match=r"Bank\.static requires"):
        way(bank.static)


# -- classes that have only steps


class Toolbox:
    """Neither decorated nor of a base class."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @DBOS.step()
    def times(self, number: int) -> int:
        return self.factor * number

    @classmethod
    @DBOS.step()
    def name_of(cls) -> str:
        return cls.__name__

    @DBOS.step()
    @staticmethod
    def half(number: int) -> int:
        return number // 2


def test_steps_may_be_methods_of_any_class(app: App) -> None:
    toolbox = Toolbox(3)

    @DBOS.workflow(name="uses a toolbox")
    def uses() -> tuple[int, str, int]:
        return toolbox.times(2), Toolbox.name_of(), toolbox.half(8)

    with SetWorkflowID("w"):
        assert uses() == (6, "Toolbox", 4)
    assert steps_of("w") == [(1, "Toolbox.times"), (2, "Toolbox.name_of"), (3, "Toolbox.half")]
    assert (toolbox.times(3), toolbox.half(2)) == (9, 1)


def test_a_step_of_a_plain_object_on_its_own_records_the_object(app: App, way: Way) -> None:
    """There is nothing else by which another process could find it."""
    if way is call:
        return
    with SetWorkflowID("object"):
        assert way(Toolbox(3).times, 2) == 6
    name, class_name, config_name, (toolbox, number), _ = recorded("object")
    assert (name, class_name, config_name) == ("<temp>.Toolbox.times", None, None)
    assert (toolbox.factor, number) == (3, 2)


# -- inheritance


def make_family() -> tuple[Any, Any, Any]:
    """A base that is not decorated, and two decorated classes, of which the second inherits from the first."""

    class Base(DBOSConfiguredInstance):
        @DBOS.workflow(name="Base.run")
        def run(self) -> list[str]:
            return [f"base {type(self).__name__} {self.config_name}"]

        @classmethod
        @DBOS.workflow(name="Base.make")
        def make(cls) -> str:
            return cls.__name__

    @DBOS.dbos_class("Parent")
    class Parent(Base):
        pass

    @DBOS.dbos_class("Child")
    class Child(Parent):
        @DBOS.workflow(name="Child.run")
        def run(self) -> list[str]:
            return ["child", *super().run()]

    return Base, Parent, Child


def test_an_inherited_workflow_belongs_to_the_class_it_is_called_on(app: App, way: Way) -> None:
    _, parent, child = make_family()
    a, b = parent("x"), child("x")  # names are unique in their class only
    with SetWorkflowID("parent"):
        assert way(a.run) == ["base Parent x"]
    with SetWorkflowID("child"):
        assert way(b.run) == ["child", "base Child x"]
    with SetWorkflowID("class"):
        assert way(child.make) == "Child"
    assert recorded("parent")[:3] == ("Base.run", "Parent", "x")
    assert recorded("child")[:3] == ("Child.run", "Child", "x")
    assert recorded("child-1")[:3] == ("Base.run", "Child", "x")
    assert recorded("class")[:3] == ("Base.make", "Child", None)


def test_an_instance_of_a_class_that_is_not_decorated_belongs_to_the_one_above(sqlite_app: App) -> None:
    _, parent, _ = make_family()

    class Grandchild(parent):  # type: ignore[misc, valid-type]
        pass

    with SetWorkflowID("w"):
        assert Grandchild("g").run() == ["base Grandchild g"]
    assert recorded("w")[:3] == ("Base.run", "Parent", "g")
    with pytest.raises(DBOSConflictingRegistrationError, match="Two instances of class Parent are named 'g'"):
        parent("g")


# -- the right instance, afterwards


def make_stopping(roadblock: Roadblock) -> Any:
    """A class whose workflows stop at the roadblock."""

    @DBOS.dbos_class("Stopping")
    class Stopping(DBOSConfiguredInstance):
        @DBOS.workflow(name="Stopping.run")
        def run(self, value: int) -> tuple[str, int]:
            self.stop()
            return self.config_name, value

        @DBOS.workflow(name="Stopping.run_async")
        async def run_async(self, value: int) -> tuple[str, int]:
            await DBOS.run_step_async({"name": "stop"}, roadblock.stop_async)
            return self.config_name, value

        @classmethod
        @DBOS.workflow(name="Stopping.of_class")
        def of_class(cls, value: int) -> tuple[str, int]:
            DBOS.run_step({"name": "stop"}, roadblock.stop)
            return cls.__name__, value

        @DBOS.workflow(name="Stopping.parent")
        def parent(self, other: str) -> list[Any]:
            child = DBOS.start_workflow(instances[other].run, 1)
            return [self.config_name, child.get_result(), self.run(2)]

        @DBOS.step(name="Stopping.stop")
        def stop(self) -> None:
            roadblock.stop()

    instances = {name: Stopping(name) for name in ("one", "two")}
    Stopping.instances = instances  # type: ignore[attr-defined]
    return Stopping


def test_interrupted_methods_are_recovered_on_their_instance(app: App) -> None:
    roadblock = Roadblock()
    stopping = make_stopping(roadblock)
    one, two = stopping.instances["one"], stopping.instances["two"]
    for workflow_id, method in {
        "one": one.run,
        "two": two.run,
        "async": two.run_async,
        "class": stopping.of_class,
        "step": one.stop,
    }.items():
        with SetWorkflowID(workflow_id):
            DBOS.start_workflow(method, *([] if workflow_id == "step" else [7]))
    with SetWorkflowID("parent"):
        DBOS.start_workflow(one.parent, "two")
    interrupt_at(roadblock, app)
    ends = {w: DBOS.retrieve_workflow(w).get_result() for w in ("one", "two", "async", "class", "step", "parent")}
    assert ends == {
        "one": ("one", 7),
        "two": ("two", 7),
        "async": ("two", 7),
        "class": ("Stopping", 7),
        "step": None,
        "parent": ["one", ("two", 1), ("one", 2)],
    }


def test_enqueued_methods_run_on_their_instance_also_after_a_restart(app: App) -> None:
    roadblock = Roadblock()
    stopping = make_stopping(roadblock)
    one, two = stopping.instances["one"], stopping.instances["two"]
    queue = Queue("restarted", worker_concurrency=1)
    try:
        handles = [queue.enqueue(instance.run, number) for number, instance in enumerate((one, two, two, one))]
        interrupt_at(roadblock, app)
        ends = [DBOS.retrieve_workflow(handle.workflow_id).get_result() for handle in handles]
        assert ends == [("one", 0), ("two", 1), ("two", 2), ("one", 3)]
    finally:
        QUEUES.clear()


def test_resumed_and_forked_methods_run_on_their_instance(app: App) -> None:
    roadblock = Roadblock()
    two = make_stopping(roadblock).instances["two"]
    with SetWorkflowID("w"):
        DBOS.start_workflow(two.run, 5)
    roadblock.wait_until_reached()
    DBOS.cancel_workflow("w")
    roadblock.open()
    assert DBOS.resume_workflow("w").get_result() == ("two", 5)
    forked = DBOS.fork_workflow("w", 1)
    assert forked.get_result() == ("two", 5)
    assert recorded(forked.workflow_id) == recorded("w") == ("Stopping.run", "Stopping", "two", (5,), {})


# -- clients


def test_a_client_enqueues_methods_by_the_names_of_class_and_instance(app: App, queue: Queue) -> None:
    counter = make_counter()
    counter("one")
    client = DBOSClient(system_database_url=app.url)
    try:
        of: dict[str, Any] = {"queue_name": queue.name, "class_name": "Counter"}
        method: Any = {"workflow_name": "Counter.count", "instance_name": "one", **of}
        assert client.enqueue({**method, "workflow_id": "w"}, 2, times=4).get_result() == ("one", 8)
        assert client.enqueue({"workflow_name": "Counter.of_class", **of}, 2).get_result() == ("Counter", 2)  # type: ignore[typeddict-item]
        assert client.enqueue({"workflow_name": "Counter.static", "queue_name": queue.name}, 2).get_result() == 2
        assert recorded("w") == ("Counter.count", "Counter", "one", (2,), {"times": 4})
        with pytest.raises(DBOSConflictingWorkflowError, match=r"instance 'one' .* instance 'two'"):
            client.enqueue({**method, "workflow_id": "w", "instance_name": "two"}, 2)
    finally:
        client.destroy()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workflow_name": "Counter.count"}, "Counter.count is a method, .* give class_name"),
        ({"workflow_name": "Counter.of_class"}, "Counter.of_class is a method, .* give class_name"),
        ({"workflow_name": "Counter.count", "class_name": "Counter"}, "no method 'Counter.count' of class 'Counter'"),
        (
            {"workflow_name": "Counter.of_class", "class_name": "Counter", "instance_name": "one"},
            "no method 'Counter.of_class' of instance 'one' of class 'Counter'",
        ),
        ({"workflow_name": "no method", "class_name": "Counter"}, "no method 'no method' of class 'Counter'"),
    ],
)
def test_what_is_enqueued_as_no_method_is_called_ends_in_a_clear_error(
    app: App, queue: Queue, options: dict[str, str], message: str
) -> None:
    make_counter()("one")

    @DBOS.workflow(name="no method")
    def no_method() -> None: ...

    client = DBOSClient(system_database_url=app.url)
    try:
        with pytest.raises(DBOSException, match=message):
            client.enqueue({"queue_name": queue.name, **options}, 1).get_result()  # type: ignore[typeddict-item]
    finally:
        client.destroy()


# -- instances that are not there


def claims_while_looking(gate: CountingGate) -> int:
    """How many claims were made while the queues were looked at twenty times."""

    def claims() -> int:
        return gate.count("claim_enqueued") + gate.count("claim_orphans")

    looks, before = gate.count("find_waiting"), claims()
    eventually(lambda: gate.count("find_waiting") > looks + 20, "the queues were looked at")
    return claims() - before


def test_workflows_of_an_instance_that_is_not_there_wait_and_hold_up_nobody(
    app: App, queue: Queue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    roadblock = Roadblock()
    stopping = make_stopping(roadblock)
    for name in ("one", "two"):
        with SetWorkflowID(f"run {name}"):
            DBOS.start_workflow(stopping.instances[name].run, 1)
        with SetWorkflowID(f"queued {name}"):
            queue.enqueue(stopping.instances[name].run, 2)
    roadblock.wait_until_reached()
    DBOS.destroy()
    roadblock.open()
    info = REGISTRY.classes._classes["Stopping"]
    one = info.instances.pop("one")
    monkeypatch.setattr(REGISTRY.classes, "_owners", None)
    DBOS(config=app.config())
    assert DBOS._application is not None
    DBOS._application.renew_interval_s = 0.02
    gate = DBOS._application.gate = CountingGate()
    DBOS.launch()
    assert DBOS.retrieve_workflow("run two").get_result() == ("two", 1)
    assert DBOS.retrieve_workflow("queued two").get_result() == ("two", 2)
    what = "'Stopping.run' of instance 'one' of class 'Stopping'"
    eventually(lambda: log_of(caplog, "Interrupted workflows", what), "the workflow was reported")
    eventually(lambda: log_of(caplog, "Work waits on queue 'classes'", what), "the queued workflow was reported")
    assert claims_while_looking(gate) <= 2, "looks find nothing to be claimed; what was told before may be looked for"
    assert (status_of("run one"), status_of("queued one")) == ("PENDING", "ENQUEUED")
    REGISTRY.classes.add_instance(one, "one")
    assert DBOS.retrieve_workflow("run one").get_result() == ("one", 1)
    assert DBOS.retrieve_workflow("queued one").get_result() == ("one", 2)
    assert len(log_of(caplog, "Interrupted workflows", what)) == 1, "it is said once"


# -- one id, one instance


def test_an_id_belongs_to_one_instance(app: App, queue: Queue) -> None:
    counter = make_counter()
    one, two = counter("one"), counter("two")
    with SetWorkflowID("w"):
        assert one.count(1) == ("one", 1)
    for other in (two.count, counter.of_class):
        for attempt in (call, start, queue.enqueue):
            with (
                SetWorkflowID("w"),
                pytest.raises(DBOSConflictingWorkflowError, match="instance 'one' of class 'Counter'"),
            ):
                attempt(other, 1)
    with SetWorkflowID("w"):
        assert one.count(2) == ("one", 1), "the same instance gets the recorded outcome"


@pytest.mark.parametrize("how", ["call", "start", "enqueue"])
def test_an_id_belongs_to_one_instance_among_children_too(app: App, queue: Queue, how: str) -> None:
    counter = make_counter()
    one, two = counter("one"), counter("two")

    @DBOS.workflow(name="parent of a taken id")
    def parent() -> Any:
        with SetWorkflowID("w"):
            if how == "call":
                return two.count(1)
            handle = DBOS.start_workflow(two.count, 1) if how == "start" else queue.enqueue(two.count, 1)
        return handle.get_result()

    with SetWorkflowID("w"):
        one.count(1)
    with pytest.raises(DBOSConflictingWorkflowError, match=r"'one' .* 'two'"):
        parent()


# -- what cannot be


def test_a_workflow_of_a_class_that_is_not_decorated_is_refused(sqlite_app: App, way: Way) -> None:
    class Plain(DBOSConfiguredInstance):
        @DBOS.workflow()
        def run(self) -> None: ...

        @classmethod
        @DBOS.workflow()
        def of_class(cls) -> None: ...

        @staticmethod
        @DBOS.workflow()
        def static() -> int:
            return 1

    class Below(Plain):
        pass

    for cls in (Plain, Below):
        with pytest.raises(DBOSException, match=rf"Plain\.run .*instance of class .*{cls.__name__}, which is not"):
            way(cls("a").run)
        with pytest.raises(
            DBOSException, match=rf"Plain\.of_class .*the class .*{cls.__name__}, which is not decorated"
        ):
            way(cls.of_class)
        assert way(cls.static) == 1
    assert [workflow.class_name for workflow in DBOS.list_workflows()] == [None, None]


def test_an_override_in_a_class_that_is_not_decorated_is_refused(sqlite_app: App, way: Way) -> None:
    _, parent, _ = make_family()

    class Below(parent):  # type: ignore[misc, valid-type]
        @DBOS.workflow()
        def run(self) -> None: ...

    with pytest.raises(DBOSException, match=r"Below\.run .*Below, which is not decorated"):
        way(Below("b").run)
    with pytest.raises(DBOSException, match=r"the class .*Below, which is not decorated .* though .*Parent is"):
        way(Below.make)


def test_a_workflow_of_an_instance_without_a_name_is_refused(sqlite_app: App, way: Way) -> None:
    @DBOS.dbos_class("Nameless")
    class Nameless:
        config_name = "not a name, as the class has no base"

        @DBOS.workflow()
        def run(self) -> None: ...

        @DBOS.step()
        def step(self) -> int:
            return 1

    @DBOS.dbos_class("Forgetful")
    class Forgetful(DBOSConfiguredInstance):
        def __init__(self) -> None:
            pass

        @DBOS.workflow()
        def run(self) -> None: ...

    for nameless in (Nameless(), Forgetful()):
        with pytest.raises(DBOSException, match=r"must inherit from DBOSConfiguredInstance, .* super\(\).__init__"):
            way(nameless.run)
    assert Nameless().step() == 1
    assert DBOS.list_workflows() == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, TypeError),
        ({"instance_name": "a", "config_name": "a"}, TypeError),
        ({"instance_name": 1}, TypeError),
        ({"config_name": ["a"]}, TypeError),
        ({"instance_name": ""}, ValueError),
        ({"instance_name": "a\x00b"}, ValueError),
        ({"instance_name": "x" * 1025}, ValueError),
    ],
)
def test_an_instance_needs_one_name_that_can_be_stored(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="name"):
        DBOSConfiguredInstance(**arguments)


@pytest.mark.parametrize(
    ("name", "error"), [("", ValueError), ("a\x1fb", ValueError), ("x" * 1025, ValueError), (1, TypeError)]
)
def test_a_class_needs_a_name_that_can_be_stored(name: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="class's name"):
        DBOS.dbos_class(name)(type("Odd", (), {}))


def test_only_classes_are_decorated_as_classes() -> None:
    decorate: Any = DBOS.dbos_class()
    with pytest.raises(TypeError, match="decorates classes"):
        decorate(lambda: None)


def test_two_instances_of_one_name_are_refused(sqlite_app: App) -> None:
    counter = make_counter()
    one = counter("one")
    with pytest.raises(DBOSConflictingRegistrationError, match="Two instances of class Counter are named 'one'"):
        counter("one")
    assert one.count(1) == ("one", 1)


def test_two_classes_of_one_name_are_refused() -> None:
    @DBOS.dbos_class("Taken")
    class First:
        def one(self) -> None: ...

    with pytest.raises(DBOSConflictingRegistrationError, match=r"Two classes .* 'Taken', .*First.* and .*Second"):

        @DBOS.dbos_class("Taken")
        class Second:
            def one(self) -> None: ...


def test_a_class_that_is_defined_again_replaces_the_former(sqlite_app: App) -> None:
    """As when a module is loaded again: names of instances are free, workflows run on the new ones."""
    former = make_counter()
    former("one")
    one = make_counter()("one")
    with SetWorkflowID("w"):
        assert one.count(2) == ("one", 2)
    forked = DBOS.fork_workflow("w", 1)
    assert forked.get_result() == ("one", 2)
    assert REGISTRY.classes._classes["Counter"].instances == {"one": one}


def test_a_module_may_be_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_functions", {})
    monkeypatch.setattr(REGISTRY.classes, "_classes", {})
    monkeypatch.setattr(REGISTRY.classes, "_owners", None)
    monkeypatch.syspath_prepend(tmp_path)
    lines = (
        "from dbos import DBOS, DBOSConfiguredInstance",
        "@DBOS.dbos_class()",
        "class Loaded(DBOSConfiguredInstance):",
        "    @DBOS.workflow()",
        "    def run(self): ...",
        "instance = Loaded('one')",
    )
    for name in ("loaded_first", "loaded_second"):
        (tmp_path / f"{name}.py").write_text("\n".join(lines))
    first = importlib.import_module("loaded_first")
    former = first.instance
    assert importlib.reload(first).instance is not former
    assert REGISTRY.classes.owners() == ["Loaded\x1f", "Loaded\x1fone"]
    with pytest.raises(DBOSConflictingRegistrationError, match="the name 'Loaded"):
        importlib.import_module("loaded_second")


def test_a_method_cannot_be_debounced(sqlite_app: App) -> None:
    counter = make_counter()
    one = counter("one")
    for method in (one.count, counter.of_class):
        with pytest.raises(TypeError, match="is a method, and methods cannot be debounced"):
            Debouncer.create(method)
    unbound = Debouncer.create(counter.count)
    with pytest.raises(TypeError, match="is a method, and methods cannot be debounced"):
        unbound.debounce("key", 1, one, 2)
    client = DBOSClient(system_database_url=sqlite_app.url)
    try:
        options: Any = {"workflow_name": "Counter.count", "queue_name": "q", "class_name": "Counter"}
        with pytest.raises(TypeError, match=r"Counter\.count is a method, and methods cannot be debounced"):
            DebouncerClient(client, options)
    finally:
        client.destroy()
    assert Debouncer.create(counter.static).debounce("key", 0, 3).get_result() == 3
    assert [workflow.name for workflow in DBOS.list_workflows()] == ["Counter.static"]


# -- the registry


def test_methods_are_part_of_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def version_of(define: Callable[[], None]) -> str:
        REGISTRY.clear()
        define()
        return REGISTRY.source_hash()

    def plain() -> None:
        class Versioned:
            @DBOS.workflow(name="versioned")
            def run(self) -> int:
                return 1

    def changed() -> None:
        class Versioned:
            @DBOS.workflow(name="versioned")
            def run(self) -> int:
                return 2

    monkeypatch.setattr(REGISTRY, "_functions", {})
    monkeypatch.setattr(REGISTRY.classes, "_classes", {})
    assert version_of(plain) == version_of(plain) != version_of(changed)


def test_a_destroyed_registry_holds_no_classes_and_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_functions", {})
    monkeypatch.setattr(REGISTRY.classes, "_classes", {})
    monkeypatch.setattr(REGISTRY.classes, "_owners", None)
    counter = make_counter()
    counter("one")
    assert REGISTRY.classes.owners() == ["Counter\x1f", "Counter\x1fone"]
    DBOS.destroy(destroy_registry=True)
    assert REGISTRY.classes.owners() == []
    counter("one")
    assert make_counter()("one").config_name == "one"


def test_instances_are_not_changed_by_being_named() -> None:
    """They can be pickled, as arguments of other workflows, and come back with their name."""
    assert pickle.loads(pickle.dumps(Point("p"))).config_name == "p"
