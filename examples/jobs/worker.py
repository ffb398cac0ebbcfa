"""A worker: runs jobs, two at a time. Start as many as you like, and kill any of them; README.md tells what to try."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

import words

from dbos import DBOS, DBOSConfig, Queue

PROGRESS = "progress"

queue = Queue("jobs", worker_concurrency=2)


@DBOS.workflow()
def count_words(pages: list[str]) -> int:
    """One job: the words of all pages together."""
    total = 0
    tell(0, len(pages))
    for number, page in enumerate(pages, start=1):
        total += count_page(page)
        tell(number, len(pages))
    DBOS.close_stream(PROGRESS)
    return total


@DBOS.step()
def count_page(page: str) -> int:
    """The slow part."""
    return words.count(page)


def tell(done: int, pages: int) -> None:
    """Say how far the job is: as an event for who looks now and then, as a stream for who follows."""
    progress = {"done": done, "pages": pages}
    DBOS.set_event(PROGRESS, progress)
    DBOS.write_stream(PROGRESS, progress)


if __name__ == "__main__":
    config: DBOSConfig = {
        "name": "jobs",
        "system_database_url": os.environ.get("DBOS_SYSTEM_DATABASE_URL"),  # None: the file jobs.sqlite
        "executor_id": f"worker {os.getpid()}",  # a label: the API tells who has a job
        "run_admin_server": False,
    }
    DBOS(config=config)
    DBOS.launch()
    print(f"worker {os.getpid()} is ready", flush=True)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    DBOS.destroy()
