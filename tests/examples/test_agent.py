"""The agent: killed while it waits for a human, and in the middle of a tool call."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dbos import DBOSClient
from tests.support import ledger
from tests.support.processes import ROOT, Spawner

FOLDER = ROOT / "examples" / "agent"
QUESTION = "refund {'order': 7, 'coins': 30}"
TASK = "Order 7 arrived broken. I want my money back."

TRANSCRIPT = [
    f"user: {TASK}",
    'assistant: call find_order {"order": 7}',
    "tool: a blue teapot for 30 coins; arrived broken, says the carrier",
    'assistant: call refund {"order": 7, "coins": 30}',
    "  (waits for: python approve.py run-1 yes)",
    "tool: 30 coins were paid back for order 7",
    "assistant: About your order 7: 30 coins were paid back for order 7.",
]
"""What the agent prints, as the README says."""

WATCHED = f"""
    import dataclasses, os, runpy, sys, threading

    from tests.support import ledger

    sys.path.insert(0, {str(FOLDER)!r})
    import model, tools

    # Writes down what the model is asked and which tools are called. A tool may be held when it has done its work.
    next_message = model.next_message

    def watch_model(conversation):
        ledger.record("ledger", does=f"turn {{len(conversation)}}")
        return next_message(conversation)

    def watched(name, tool):
        def watch(key, **arguments):
            ledger.record("ledger", does=name)
            result = tool.function(key, **arguments)
            if name == os.environ.get("HOLD"):
                print(f"holding {{name}}\\n", end="", flush=True)
                threading.Event().wait()
            return result
        return dataclasses.replace(tool, function=watch)

    model.next_message = watch_model
    tools.TOOLS.update({{name: watched(name, tool) for name, tool in tools.TOOLS.items()}})
    runpy.run_path({str(FOLDER / "agent.py")!r}, run_name="__main__")
"""


def refunds(directory: Path) -> list[tuple[int, int]]:
    """What the bank has paid: orders and coins."""
    if not (directory / "bank.sqlite").exists():
        return []
    with closing(sqlite3.connect(directory / "bank.sqlite")) as bank:
        return bank.execute("SELECT order_number, coins FROM refunds").fetchall()


def test_killed_agent_pays_once_and_asks_nothing_again(database_url: str, spawn: Spawner, tmp_path: Path) -> None:
    """Killed while it waits; answered while it is dead, twice; killed again right after it has paid."""
    settings = {"DBOS_SYSTEM_DATABASE_URL": database_url}
    first = spawn(WATCHED, "run-1", TASK, env=settings)
    first.wait_for_line("waits for")
    with DBOSClient(system_database_url=database_url) as client:
        assert client.get_event("run-1", "question")["text"] == QUESTION
    first.kill()
    assert refunds(tmp_path) == []
    assert spawn(FOLDER / "approve.py", env=settings).succeed() == f"run-1: {QUESTION}\n"
    for answer in ("yes", "no"):
        answered = spawn(FOLDER / "approve.py", "run-1", answer, env=settings).succeed()
        assert answered.startswith(f"{QUESTION}: {answer}")

    second = spawn(WATCHED, "run-1", TASK, env={**settings, "HOLD": "refund"})
    second.wait_for_line("holding refund")
    second.kill()
    assert refunds(tmp_path) == [(7, 30)]

    assert spawn(WATCHED, "run-1", TASK, env=settings).succeed().splitlines() == TRANSCRIPT
    assert refunds(tmp_path) == [(7, 30)]
    done = Counter(entry["does"] for entry in ledger.read(tmp_path / "ledger"))
    assert done == {"turn 2": 1, "find_order": 1, "turn 4": 1, "refund": 2, "turn 6": 1}


def test_no_money_is_paid_if_nobody_answers(spawn: Spawner, tmp_path: Path) -> None:
    """As the example's README runs it: the default database. In the end nothing is asked any more."""
    output = spawn(FOLDER / "agent.py", "run-1", TASK, env={"APPROVAL_TIMEOUT_S": "0.1"}).succeed()
    assert "tool: not done: the human in charge did not answer" in output.splitlines()
    assert refunds(tmp_path) == []
    assert spawn(FOLDER / "approve.py").succeed() == ""
    late = spawn(FOLDER / "approve.py", "run-1", "yes")
    assert late.wait() == 1
    assert "run-1 asks nothing" in late.stderr


def test_real_model_is_asked_by_http_and_its_nonsense_is_told_back(spawn: Spawner) -> None:
    """A server that fails first, then wants a tool that there is not and one with wrong arguments, and then answers."""
    calls = [call("pay_all", "{}"), call("refund", '{"order": 7, "coins": -1}')]
    answers = [
        None,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "assistant", "content": "ok"},
    ]
    with model_server(answers) as (url, requests):
        settings = {"OPENAI_API_KEY": "secret", "OPENAI_BASE_URL": url, "OPENAI_MODEL": "some-model"}
        output = spawn(FOLDER / "agent.py", "run-1", TASK, env=settings).succeed()
    assert output.splitlines()[-3:] == [
        "tool: error: there is no tool pay_all",
        "tool: error: refund takes whole numbers from 1 to 999999",
        "assistant: ok",
    ]
    assert [request["path"] for request in requests] == ["/chat/completions"] * 3
    assert {request["authorization"] for request in requests} == {"Bearer secret"}
    assert requests[0]["body"] == requests[1]["body"], "tried again"
    body = requests[2]["body"]
    assert body["model"] == "some-model"
    assert [tool["function"]["name"] for tool in body["tools"]] == ["find_order", "refund"]
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "tool", "tool"]
    assert [message.get("tool_call_id") for message in body["messages"][3:]] == ["id-pay_all", "id-refund"]


def call(name: str, arguments: str) -> dict[str, Any]:
    """A tool call, as a model writes it."""
    return {"id": f"id-{name}", "type": "function", "function": {"name": name, "arguments": arguments}}


@contextmanager
def model_server(answers: list[dict[str, Any] | None]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server of chat completions that gives these answers, an error for None; its URL, and the requests that came."""
    requests: list[dict[str, Any]] = []
    left = iter(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append({"path": self.path, "authorization": self.headers["Authorization"], "body": body})
            answer = next(left)
            self.send_response(503 if answer is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"choices": [{"message": answer}]}).encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()
