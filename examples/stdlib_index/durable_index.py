"""The worker: the index of the standard library as a durable workflow.

This is the whole of the durable program; the rest of the directory watches it, kills it and checks it. There is no code
for recovery in here. `main` is the same in every life: it launches DBOS, which takes up whatever the last life left
unfinished, and then asks for the workflow by its id, which starts it once and attaches to it ever after.
"""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path

from stdlib_files import Package, Summary, combine, find_packages, summarise_package
from step_ledger import LedgerWriter, step_key

from dbos import DBOS, DBOSConfig, Queue, SetWorkflowID

PACKAGES_PER_SHARD = 32
SHARDS_AT_ONCE = 4

shards = Queue("stdlib-shards", worker_concurrency=SHARDS_AT_ONCE)


@DBOS.workflow()
def index_stdlib() -> Summary:
    """Index the standard library: one child workflow per shard, a few of them at a time."""
    packages = take_inventory()
    slices = [packages[i : i + PACKAGES_PER_SHARD] for i in range(0, len(packages), PACKAGES_PER_SHARD)]
    handles = [shards.enqueue(index_shard, shard) for shard in slices]
    return combine("standard library", chain.from_iterable(handle.get_result() for handle in handles))


@DBOS.workflow()
def index_shard(packages: list[Package]) -> list[Summary]:
    """Index some packages, one step each."""
    return [index_package(package) for package in packages]


@DBOS.step()
def take_inventory() -> list[Package]:
    """List the packages: looking at the disk is a step, so that every life works from the same list."""
    with _noted_in_ledger():
        return find_packages()


@DBOS.step()
def index_package(package: Package) -> Summary:
    """Tokenise and hash one package."""
    with _noted_in_ledger():
        return summarise_package(package)


def main() -> None:
    """Run one life of the worker."""
    run_id = os.environ["STDLIB_INDEX_RUN_ID"]
    config: DBOSConfig = {
        "name": "stdlib-index",
        "application_version": run_id,  # on a shared database: leave other runs of the demo alone
        "system_database_url": os.environ["STDLIB_INDEX_DATABASE_URL"],
        "run_admin_server": False,
        "log_level": "WARNING",
    }
    DBOS(config=config)
    DBOS.launch()
    with SetWorkflowID(run_id):
        handle = DBOS.start_workflow(index_stdlib)
    handle.get_result()
    DBOS.destroy()


def worker_command() -> list[str]:
    """The command line that starts a life."""
    return [sys.executable, __file__]


def worker_environment(run_id: str, database_url: str, ledger: Path, life: int) -> dict[str, str]:
    """What a life has to know: the same every time, but for the number by which the ledger tells the lives apart."""
    return {
        "STDLIB_INDEX_RUN_ID": run_id,
        "STDLIB_INDEX_DATABASE_URL": database_url,
        "STDLIB_INDEX_LEDGER": str(ledger),
        "STDLIB_INDEX_LIFE": str(life),
    }


def _noted_in_ledger() -> AbstractContextManager[None]:
    """Note this execution of the current step in the ledger."""
    ledger = LedgerWriter(Path(os.environ["STDLIB_INDEX_LEDGER"]), int(os.environ["STDLIB_INDEX_LIFE"]))
    return ledger.execution(step_key(DBOS.workflow_id, DBOS.step_id))


if __name__ == "__main__":
    main()
