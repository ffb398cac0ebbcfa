"""Instances over processes: what a killed process ran and enqueued goes on where there are instances of its names."""

from __future__ import annotations

from pathlib import Path

from dbos import DBOSClient
from tests.support import ledger
from tests.support.apps import eventually
from tests.support.processes import Spawner

PROGRAM = """
import os, sys, time
from dbos import DBOS, DBOSConfiguredInstance, DBOSContextSetAuth, Queue, SetWorkflowID
from tests.support import ledger

url, path, names, what = sys.argv[1:]


@DBOS.dbos_class()
class Agent(DBOSConfiguredInstance):
    @DBOS.required_roles(["clerk"])
    @DBOS.workflow()
    def work(self, number):
        self.step(number)
        if what == "stop":
            os.write(1, b"reached\\n")
            time.sleep(600)
        return [self.config_name, number, DBOS.authenticated_user, DBOS.assumed_role]

    @DBOS.step()
    def step(self, number):
        ledger.record(path, id=DBOS.workflow_id, on=self.config_name, user=DBOS.authenticated_user)


agents = [Agent(instance_name=name) for name in names.split(",")]
queue = Queue("agents", worker_concurrency=2)
DBOS(config={"name": "app", "system_database_url": url, "application_version": "1", "run_admin_server": False})
assert DBOS._application is not None
DBOS._application.renew_interval_s = 0.1
DBOS.launch()
if what == "stop":
    with DBOSContextSetAuth("ann", ["clerk"]):
        for agent in agents:
            with SetWorkflowID(f"started {agent.config_name}"):
                DBOS.start_workflow(agent.work, 1)
            with SetWorkflowID(f"enqueued {agent.config_name}"):
                queue.enqueue(agent.work, 2)
print("launched", flush=True)
sys.stdin.readline()
DBOS.destroy()
"""


def test_what_a_killed_process_left_goes_on_where_its_instances_are(
    spawn: Spawner, database_url: str, tmp_path: Path
) -> None:
    """And only there: what is of no instance here waits, is reported, and holds up nobody."""
    path = tmp_path / "ledger.jsonl"
    first = spawn(PROGRAM, database_url, path, "a,b,c", "stop")
    first.wait_for_line("launched")
    first.wait_for_line("reached", count=5)
    first.kill()
    second = spawn(PROGRAM, database_url, path, "a,b", "go on")
    with DBOSClient(system_database_url=database_url) as client:

        def result(workflow_id: str) -> object:
            return client.retrieve_workflow(workflow_id).get_result()

        for name in ("a", "b"):
            assert result(f"started {name}") == [name, 1, "ann", "clerk"]
            assert result(f"enqueued {name}") == [name, 2, "ann", "clerk"]
        unknown = "'Agent.work' of instance 'c' of class 'Agent'"
        second.wait_for_line(f"Interrupted workflows run the function {unknown}", stream="stderr")
        second.wait_for_line(f"Work waits on queue 'agents' for the function {unknown}", stream="stderr")
        waiting = {one.workflow_id: one.status for one in client.list_workflows(status=["PENDING", "ENQUEUED"])}
        assert waiting == {"started c": "PENDING", "enqueued c": "ENQUEUED"}
        third = spawn(PROGRAM, database_url, path, "c,d", "go on")
        assert result("started c") == ["c", 1, "ann", "clerk"]
        assert result("enqueued c") == ["c", 2, "ann", "clerk"]
        ended = eventually(lambda: client.list_workflows(status="SUCCESS"), "they have ended")
        assert len(ended) == 6
    for child in (second, third):
        child.write_line()
        child.succeed()
    assert {(entry["on"], entry["user"]) for entry in ledger.read(path)} == {(name, "ann") for name in "abc"}
    assert all(entry["id"].endswith(entry["on"]) for entry in ledger.read(path))
