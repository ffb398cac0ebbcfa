"""What type checkers see of methods, classes and roles. Never run, as `public_api.py`."""

# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedCoroutine=false

from __future__ import annotations

from typing_extensions import assert_type

from dbos import (
    DBOS,
    DBOSConfiguredInstance,
    DBOSContextEnsure,
    DBOSContextSetAuth,
    Queue,
    WorkflowHandle,
    WorkflowHandleAsync,
)


@DBOS.dbos_class()
class Shop(DBOSConfiguredInstance):
    def __init__(self, name: str) -> None:
        super().__init__(instance_name=name)

    @DBOS.workflow()
    def order(self, item: str, *, count: int = 1) -> list[str]:
        return [item] * count

    @DBOS.workflow(name="named")
    async def order_async(self, item: str) -> bytes:
        return item.encode()

    @DBOS.step()
    def step(self, number: int) -> int:
        return number

    @classmethod
    @DBOS.workflow()
    def of_class(cls, number: int) -> str:
        return str(number)

    @DBOS.workflow()
    @classmethod
    def of_class_above(cls, number: int) -> str:
        return str(number)

    @staticmethod
    @DBOS.step()
    def static(number: int) -> str:
        return str(number)

    @DBOS.workflow()
    @staticmethod
    def static_above(number: int) -> str:
        return str(number)

    @DBOS.required_roles(["admin"])
    @DBOS.workflow()
    def guarded(self, number: int) -> str:
        return str(number)


@DBOS.default_required_roles(["clerk"])
@DBOS.dbos_class
class Bare(DBOSConfiguredInstance): ...


@DBOS.required_roles(["admin"])
def plain(text: str) -> int:
    return len(text)


async def methods_keep_their_parameters_and_results(shop: Shop, queue: Queue) -> None:
    assert_type(shop.order("book", count=2), list[str])
    assert_type(await shop.order_async("book"), bytes)
    assert_type(shop.step(1), int)
    assert_type(shop.of_class(1), str)
    assert_type(Shop.of_class(1), str)
    assert_type(Shop.of_class_above(1), str)
    assert_type(shop.of_class_above(1), str)
    assert_type(Shop.static(1), str)
    assert_type(Shop.static_above(1), str)
    assert_type(shop.guarded(1), str)
    assert_type(plain("x"), int)
    assert_type(DBOS.start_workflow(shop.order, "book", count=2), WorkflowHandle[list[str]])
    assert_type(DBOS.start_workflow(Shop.of_class, 1), WorkflowHandle[str])
    assert_type(queue.enqueue(shop.order_async, "book"), WorkflowHandle[bytes])
    assert_type(await DBOS.start_workflow_async(shop.order_async, "book"), WorkflowHandleAsync[bytes])
    shop.order(1)  # type: ignore[arg-type]
    shop.order("book", 2)  # type: ignore[call-arg]
    shop.step("1")  # type: ignore[arg-type]
    Shop.of_class("1")  # type: ignore[arg-type]
    Shop.static_above("1")  # type: ignore[arg-type]
    plain(1)  # type: ignore[arg-type]
    DBOS.start_workflow(shop.order, 1)  # type: ignore[call-overload]


def classes_stay_what_they_are(shop: Shop) -> None:
    assert_type(Shop("a"), Shop)
    assert_type(Bare("a"), Bare)
    assert_type(Bare(config_name="a"), Bare)
    assert_type(shop.config_name, str)
    Shop()  # type: ignore[call-arg]
    DBOS.dbos_class(1)  # type: ignore[call-overload]
    DBOS.required_roles("admin")  # type: ignore[arg-type]


def authentication() -> None:
    with DBOSContextSetAuth("ann", ["admin"]), DBOSContextEnsure():
        DBOS.set_authentication("ann", ("admin", "clerk"))
        DBOS.set_authentication(None, None)
    assert_type(DBOS.authenticated_user, str | None)
    assert_type(DBOS.authenticated_roles, list[str] | None)
    assert_type(DBOS.assumed_role, str | None)
    DBOSContextSetAuth("ann")  # type: ignore[call-arg]
    DBOSContextSetAuth(1, [])  # type: ignore[arg-type]
