"""Answer the question that an agent waits with. Needs the database only: no agent, and none of its code."""

from __future__ import annotations

import argparse
import os
import sys

from dbos import DBOSClient

DATABASE_URL = os.environ.get("DBOS_SYSTEM_DATABASE_URL", "sqlite:///agent.sqlite")
QUESTION = "question"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Answer the question of an agent, or see whether it has one.")
    parser.add_argument("run", help="the name of the run")
    parser.add_argument("answer", choices=["yes", "no"], nargs="?")
    options = parser.parse_args()

    with DBOSClient(system_database_url=DATABASE_URL) as client:
        question = client.get_event(options.run, QUESTION, timeout_seconds=0)
        if question is None:
            sys.exit(f"{options.run} asks nothing")
        print(question["text"])
        if options.answer is not None:
            client.send(options.run, options.answer, topic=question["id"], idempotency_key=question["id"])
            print(f"answered: {options.answer} (if somebody was faster, that answer counts)")


if __name__ == "__main__":
    main()
