import time

from dbos import DBOS, SetWorkflowID


@DBOS.step()
def work(number: int) -> int:
    print(f"step {number}")
    time.sleep(0.5)
    return number


@DBOS.workflow()
def add_up() -> int:
    return sum(work(number) for number in range(1, 11))


DBOS(config={"name": "first-program"})
DBOS.launch()
with SetWorkflowID("my-first-run"):
    print("result", add_up())
