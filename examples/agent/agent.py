"""An agent that outlives its process: it asks a model, calls tools, and waits for a human where that is needed.

Run `python agent.py run-1 "Order 7 arrived broken. I want my money back."`; README.md tells what to try.
"""

from __future__ import annotations

import argparse
import os

import model
import tools
from model import Message, ToolCall
from tools import TOOLS

from dbos import DBOS, DBOSConfig, SetWorkflowID

TRANSCRIPT = "transcript"
QUESTION = "question"
APPROVAL_TIMEOUT_S = float(os.environ.get("APPROVAL_TIMEOUT_S", "3600"))
MAX_TURNS = 10
INSTRUCTIONS = "You help the customers of a teapot shop. Look up the order before you decide. Be brief."


# ------------------------------------------------------------------------------------------------------- the workflow


@DBOS.workflow()
def agent(task: str) -> str:
    """Work on the task until the model has an answer."""
    conversation: list[Message] = [{"role": "system", "content": INSTRUCTIONS}]

    def add(message: Message) -> None:
        conversation.append(message)
        DBOS.write_stream(TRANSCRIPT, message)

    add({"role": "user", "content": task})
    for _ in range(MAX_TURNS):
        message = ask_model(conversation)
        add(message)
        calls = calls_in(message)
        if not calls:
            return str(message["content"])
        for call in calls:
            result = carry_out(call, question_id=f"question-{len(conversation)}")
            add({"role": "tool", "tool_call_id": call["id"], "content": result})
    raise RuntimeError(f"The model came to no answer in {MAX_TURNS} turns.")


def calls_in(message: Message) -> list[ToolCall]:
    """The tool calls that the model asks for; none if this is its answer."""
    return message.get("tool_calls") or []


def carry_out(call: ToolCall, question_id: str) -> str:
    """What comes of a tool call, as the model is told. Part of the workflow, so it does nothing itself."""
    name = call["function"]["name"]
    try:
        arguments = tools.parse(name, call["function"]["arguments"])
    except ValueError as error:
        return f"error: {error}"
    if TOOLS[name].needs_approval:
        answer = ask_human(question_id, f"{name} {arguments}")
        if answer != "yes":
            return f"not done: the human in charge {'said no' if answer else 'did not answer'}"
    return call_tool(name, arguments)


def ask_human(question_id: str, text: str) -> str | None:
    """Publish what is asked, and wait for the answer; None if there is none in time.

    The topic is the question's id, which is ours and not the model's: no answer is ever taken for one to another.
    """
    DBOS.set_event(QUESTION, {"id": question_id, "text": text})
    answer: str | None = DBOS.recv(question_id, timeout_seconds=APPROVAL_TIMEOUT_S)
    DBOS.set_event(QUESTION, None)
    return answer


# ---------------------------------------------------------------------------------------------------------- the steps


@DBOS.step(retries_allowed=True, max_attempts=5)
def ask_model(conversation: list[Message]) -> Message:
    """One turn. Tried again when the model cannot be reached or is overloaded."""
    return model.next_message(conversation)


@DBOS.step()
def call_tool(name: str, arguments: dict[str, int]) -> str:
    """Do what the model wants. If the process dies in here, it is done again, with the same key."""
    return TOOLS[name].function(f"{DBOS.workflow_id}-{DBOS.step_id}", **arguments)


# -------------------------------------------------------------------------------------------------------- the command


def main() -> None:
    """Start the run, or go on with it if there is one of that name, and print its transcript from the beginning."""
    parser = argparse.ArgumentParser(description="Give an agent a task.")
    parser.add_argument("run", help="the name of the run: with the same name it goes on, with a new one it begins")
    parser.add_argument("task", help="what the customer wants")
    options = parser.parse_args()

    config: DBOSConfig = {
        "name": "agent",
        "system_database_url": os.environ.get("DBOS_SYSTEM_DATABASE_URL"),  # None: the file agent.sqlite
    }
    DBOS(config=config)
    DBOS.launch()
    with SetWorkflowID(options.run):
        DBOS.start_workflow(agent, options.task)
    for message in DBOS.read_stream(options.run, TRANSCRIPT):
        show(message, options.run)
    DBOS.get_result(options.run)  # raises what ended the run, if something did
    DBOS.destroy()


def show(message: Message, run: str) -> None:
    """Print a message, and what a human has to do about it."""
    if message["content"]:
        print(f"{message['role']}: {message['content']}", flush=True)
    for call in calls_in(message):
        function = call["function"]
        print(f"{message['role']}: call {function['name']} {function['arguments']}", flush=True)
        if function["name"] in TOOLS and TOOLS[function["name"]].needs_approval:
            print(f"  (waits for: python approve.py {run} yes)", flush=True)


if __name__ == "__main__":
    main()
