"""Runs lives one after the other, each in a fresh fork of this process, which has imported everything already.

Reads one life per line as JSON, beside the file for its output; answers with its exit code (negative for a signal).
"""

from __future__ import annotations

import asyncio  # noqa: F401
import os
import sys
import traceback

import psycopg  # noqa: F401
import sqlalchemy.dialects.postgresql.psycopg
import sqlalchemy.dialects.sqlite.pysqlite  # noqa: F401

import dbos.runtime.executor
import dbos.storage.batches_postgres
import dbos.storage.batches_sqlite
import dbos.storage.opening
import dbos.storage.postgres
import dbos.storage.sqlite  # noqa: F401
from tests.verify.life import Life, live


def main() -> None:
    for line in sys.stdin:
        output, _, life = line.partition("\t")
        pid = os.fork()
        if pid == 0:
            _live(output, life)
        _, status = os.waitpid(pid, 0)
        print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)


def _live(output: str, life: str) -> None:
    code = 1
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        live(Life.from_json(life))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


main()
