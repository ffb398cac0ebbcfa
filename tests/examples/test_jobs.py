"""Jobs: an API that enqueues them and two workers that run them, one of which is killed on the way."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from dbos import DBOSClient
from tests.support import ledger
from tests.support.apps import eventually
from tests.support.processes import ROOT, Child, Spawner
from tests.support.servers import client_of, free_port

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

FOLDER = ROOT / "examples" / "jobs"
JOBS = [f"job-{number}" for number in range(6)]
PAGES = ["first", "second of", "the third page"]
PROGRESS = [{"done": done, "pages": 3} for done in range(4)]

WATCHED = f"""
    import os, runpy, sys, threading

    from tests.support import ledger

    sys.path.insert(0, {str(FOLDER)!r})
    import words

    # Writes down when a page is begun and when it is counted. Second pages are held until a line comes.
    count, released = words.count, threading.Event()

    def watch(page):
        ledger.record("ledger", page=page, worker=os.getpid(), does="begin")
        if "second" in page and not released.is_set():
            print("holding", page, flush=True)
            released.wait()
        result = count(page)
        ledger.record("ledger", page=page, worker=os.getpid(), does="end")
        return result

    def release():
        sys.stdin.readline()
        released.set()

    words.count = watch
    threading.Thread(target=release, daemon=True).start()
    runpy.run_path({str(FOLDER / "worker.py")!r}, run_name="__main__")
"""


def pages_of(job: str) -> list[str]:
    return [f"{job} {page}" for page in PAGES]


def follow(api: httpx.Client, job: str, seen: list[Any]) -> list[Any]:
    """Read the progress of a job to its end, into `seen`."""
    with api.stream("GET", f"/jobs/{job}/progress") as response:
        assert response.status_code == 200
        seen.extend(json.loads(line) for line in response.iter_lines())
    return seen


def test_jobs_of_a_killed_worker_are_done_by_others(database_url: str, spawn: Spawner, tmp_path: Path) -> None:
    """Each job ends once, each page is recorded once, and who follows a job sees each page once."""
    settings = {"DBOS_SYSTEM_DATABASE_URL": database_url, "PAGE_S": "0"}

    def start_worker() -> Child:
        return spawn(WATCHED, env=settings)

    workers = [start_worker() for _ in range(2)]
    for worker in workers:
        worker.wait_for_line(r"worker \d+ is ready")
    port = free_port()
    with client_of(spawn(FOLDER / "api.py", env={**settings, "PORT": str(port)}), port) as api:
        for job in [*JOBS, *JOBS]:
            assert api.put(f"/jobs/{job}", json={"pages": pages_of(job)}).json() == {"job": job}
        for worker in workers:
            worker.wait_for_line("holding", count=2)
        assert api.get("/jobs").json() == dict(zip(JOBS, ["PENDING"] * 4 + ["ENQUEUED"] * 2, strict=True))

        seen: dict[str, list[Any]] = {job: [] for job in JOBS}
        with ThreadPoolExecutor(len(JOBS)) as threads:
            followers = [threads.submit(follow, api, job, seen[job]) for job in JOBS]
            eventually(lambda: all(seen[job] == PROGRESS[:2] for job in JOBS[:4]), "the first pages are seen")
            killed, survivor = workers
            labels = Counter()
            for job in JOBS[:4]:
                answer = api.get(f"/jobs/{job}").json()
                labels[answer.pop("worker")] += 1
                assert answer == {"status": "PENDING", "progress": PROGRESS[1], "words": None}
            assert labels == {f"worker {worker.pid}": 2 for worker in workers}
            killed.kill()
            left = [survivor, start_worker()]
            for worker in left:
                worker.write_line("go on")
            for follower in followers:
                assert follower.result(timeout=60) == PROGRESS
        for job in JOBS:
            answer = eventually(lambda job=job: finished(api, job), f"{job} has ended")
            assert answer.pop("worker") in [f"worker {worker.pid}" for worker in left]
            assert answer == {"status": "SUCCESS", "progress": PROGRESS[3], "words": 9}

    with DBOSClient(system_database_url=database_url) as client:
        assert [workflow.workflow_id for workflow in client.list_workflows()] == JOBS
    entries = ledger.read(tmp_path / "ledger")
    counted = Counter((entry["page"], entry["does"]) for entry in entries)
    cut_off = {entry["page"] for entry in entries if entry["worker"] == killed.pid and "second" in entry["page"]}
    assert len(cut_off) == 2, "the killed worker had two jobs"
    for page in [page for job in JOBS for page in pages_of(job)]:
        assert (counted[page, "begin"], counted[page, "end"]) == (2 if page in cut_off else 1, 1), page


def finished(api: httpx.Client, job: str) -> Any:
    """What the API tells of a job that has ended; None while it has not."""
    answer = api.get(f"/jobs/{job}").json()
    return answer if answer["status"] not in ("ENQUEUED", "PENDING") else None


def test_jobs_without_a_crash(spawn: Spawner, tmp_path: Path) -> None:
    """As the example's README runs it: the default database, and what is refused."""
    worker = spawn(FOLDER / "worker.py", env={"PAGE_S": "0"})
    worker.wait_for_line(r"worker \d+ is ready")
    port = free_port()
    with client_of(spawn(FOLDER / "api.py", env={"PORT": str(port)}), port) as api:
        for method, path in (("GET", "/jobs/hamlet"), ("GET", "/jobs/hamlet/progress"), ("DELETE", "/jobs/hamlet")):
            refused = api.request(method, path)
            assert (refused.status_code, refused.json()) == (404, {"detail": "No such job"})
        assert api.put("/jobs/hamlet", json={"pages": "to be"}).status_code == 422
        pages = ["to be or not to be", "that is the question", "whether", "tis nobler"]
        assert api.put("/jobs/hamlet", json={"pages": pages}).status_code == 202
        assert follow(api, "hamlet", []) == [{"done": done, "pages": 4} for done in range(5)]
        answer = eventually(lambda: finished(api, "hamlet"), "the job has ended")
        last = {"worker": f"worker {worker.pid}", "progress": {"done": 4, "pages": 4}}
        assert answer == {"status": "SUCCESS", **last, "words": 13}
        assert api.delete("/jobs/hamlet").status_code == 200
        worker.kill()
        assert api.put("/jobs/macbeth", json={"pages": pages}).status_code == 202
        assert api.delete("/jobs/macbeth").status_code == 200
        assert follow(api, "macbeth", []) == []
        assert api.get("/jobs").json() == {"hamlet": "SUCCESS", "macbeth": "CANCELLED"}
    assert (tmp_path / "jobs.sqlite").exists()
