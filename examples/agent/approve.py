"""Answer the questions that agents wait with. Needs the database only: no agent, and none of its code."""

from __future__ import annotations

import argparse
import os
import sys

from dbos import DBOSClient

DATABASE_URL = os.environ.get("DBOS_SYSTEM_DATABASE_URL", "sqlite:///agent.sqlite")
QUESTION = "question"


def list_questions(client: DBOSClient) -> None:
    """Print what all agents wait with."""
    for run in client.list_workflows(name="agent", status="PENDING"):
        question = client.get_event(run.workflow_id, QUESTION, timeout_seconds=0)
        if question is not None:
            print(f"{run.workflow_id}: {question['text']}")


def give_answer(client: DBOSClient, run: str, answer: str) -> None:
    """Answer the question of one agent."""
    question = client.get_event(run, QUESTION, timeout_seconds=0)
    if question is None:
        sys.exit(f"{run} asks nothing")
    client.send(run, answer, topic=question["id"], idempotency_key=question["id"])
    print(f"{question['text']}: {answer} (if somebody was faster, that answer counts)")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="List the questions of agents, or answer one.")
    parser.add_argument("run", nargs="?", help="the name of the run whose question is answered")
    parser.add_argument("answer", nargs="?", choices=["yes", "no"])
    options = parser.parse_args()
    if options.run is not None and options.answer is None:
        parser.error("is it yes or no?")

    with DBOSClient(system_database_url=DATABASE_URL) as client:
        if options.run is None:
            list_questions(client)
        else:
            give_answer(client, options.run, options.answer)


if __name__ == "__main__":
    main()
