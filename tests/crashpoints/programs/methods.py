"""Methods of two instances and of their class that call each other, directly and through a queue, for one user.

Each step makes sure that it runs on what its workflow was called on, and for whom.
"""

from __future__ import annotations

from dbos import DBOS, DBOSConfiguredInstance, DBOSContextSetAuth, Queue, SetWorkflowID
from tests.verify.life import execute

ID = "root"
EXPECTED = {
    ID: ["Shop.step", "Shop.pack", "DBOS.getResult", "Shop.ship", "DBOS.getResult", "Shop.step"],
    "root-2": ["Shop.step", "Shop.step"],
    "root-4": ["Shop.class_step"],
}
COMMITS = 6

queue = Queue("methods")


@DBOS.dbos_class()
@DBOS.default_required_roles(["clerk"])
class Shop(DBOSConfiguredInstance):
    @DBOS.workflow()
    def order(self) -> list[str]:
        values = [self.step("one"), *two.pack()]
        return [*values, *queue.enqueue(Shop.ship).get_result(), self.step("one")]

    @DBOS.workflow()
    def pack(self) -> list[str]:
        return [self.step("two"), self.step("two")]

    @classmethod
    @DBOS.workflow()
    def ship(cls) -> list[str]:
        return [cls.class_step()]

    @DBOS.step()
    def step(self, expected: str) -> str:
        assert self is {"one": one, "two": two}[expected], self.config_name
        check_user()
        return execute()

    @DBOS.step()
    @classmethod
    def class_step(cls) -> str:
        assert cls is Shop
        check_user()
        return execute()


def check_user() -> None:
    who = (DBOS.authenticated_user, DBOS.assumed_role, DBOS.authenticated_roles)
    assert who == ("ann", "clerk", ["buyer", "clerk"]), who


one, two = Shop("one"), Shop("two")


def main() -> list[str]:
    with DBOSContextSetAuth("ann", ["buyer", "clerk"]), SetWorkflowID(ID):
        return one.order()
