"""Random workflow programs: made from a seed, run by an interpreter, with what must be recorded of them.

A program is a list of instructions, which are lists themselves so that they travel as JSON:

- `["step", ms]`, `["fail"]`: a step that takes so long; one that raises;
- `["call", program]`, `["start", program]`, `["enqueue", queue, program]`: a child, whose result is awaited;
- `["talk", topics, program]`: a child that is sent a message on each of the topics, in this order; it receives them
  with `["recv", topic]`;
- `["sleep", ms]`, `["event", key]`, `["stream", key]`;
- `["gather", n]`: so many steps side by side, in coroutines only.

The workflow returns the list of what it got, so that the outcome can be compared with the records.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from dbos import DBOS, Queue, WorkflowHandle

Program = list[list[Any]]

TOPICS = ("a", "b")
DEPTH = 2


def random_program(random: Random, queues: Sequence[str], depth: int = DEPTH) -> Program:
    """A program of a few instructions, with children as long as there is depth."""
    program: Program = []
    for _ in range(random.randrange(1, 5)):
        kind = random.choice(["step"] * 6 + ["fail", "sleep", "event", "stream"] + ["child"] * 3 * (depth > 0))
        if kind == "step":
            program.append(["step", random.choice([0, 0, 1, 5, 20])])
        elif kind == "sleep":
            program.append(["sleep", random.choice([1, 50, 300])])
        elif kind in ("event", "stream"):
            program.append([kind, random.choice(TOPICS)])
        elif kind == "fail":
            program.append(["fail"])
        else:
            program.append(_random_child(random, queues, depth - 1))
    return program


def _random_child(random: Random, queues: Sequence[str], depth: int) -> list[Any]:
    child = random_program(random, queues, depth)
    match random.randrange(4):
        case 0:
            return ["call", child]
        case 1:
            return ["start", child]
        case 2:
            return ["enqueue", random.choice(queues), child]
        case _:
            topics = [random.choice(TOPICS) for _ in range(random.randrange(1, 4))]
            received: Program = [["recv", topic] for topic in topics]
            random.shuffle(received)
            return ["talk", topics, received + child]


def random_coroutine(random: Random) -> Program:
    """A program for a coroutine."""
    program: Program = [["gather", random.randrange(2, 5)]]
    for _ in range(random.randrange(4)):
        program.append(random.choice([["gather", 3], ["sleep", 20], ["event", "a"]]))
    return program


def is_leaf(program: Program) -> bool:
    """Whether nobody else depends on it, and it depends on nobody: it may be cancelled."""
    return all(instruction[0] not in ("call", "start", "enqueue", "talk") for instruction in program)


# -- running


class Interpreter:
    """Registers the workflows that run programs.

    Args:
        execute: Called by each step; notes that it ran and returns a unique value.
        queues: By name.
    """

    def __init__(self, execute: Callable[[], str], queues: dict[str, Queue]) -> None:
        self._queues = queues

        @DBOS.step(name="programs.step")
        def step(ms: int) -> str:
            time.sleep(ms / 1000)
            return execute()

        @DBOS.step(name="programs.fail")
        def fail() -> str:
            raise ValueError(execute())

        @DBOS.step(name="programs.step_async")
        async def step_async() -> str:
            await asyncio.sleep(0.001)
            return execute()

        @DBOS.workflow(name="programs.run")
        def run(program: Program) -> list[Any]:
            return self._run(program)

        @DBOS.workflow(name="programs.run_async")
        async def run_async(program: Program) -> list[Any]:
            return await self._run_async(program)

        self._step, self._fail, self._step_async = step, fail, step_async
        self.run, self.run_async = run, run_async

    def _run(self, program: Program) -> list[Any]:
        results: list[Any] = []
        sent = 0
        for kind, *arguments in program:
            match kind:
                case "step":
                    results.append(self._step(*arguments))
                case "fail":
                    try:
                        self._fail()
                    except ValueError as error:
                        results.append(type(error).__name__)
                case "sleep":
                    DBOS.sleep(arguments[0] / 1000)
                case "event":
                    DBOS.set_event(arguments[0], len(results))
                case "stream":
                    DBOS.write_stream(arguments[0], len(results))
                case "recv":
                    results.append(DBOS.recv(arguments[0], timeout_seconds=600))
                case "call":
                    results.append(self.run(arguments[0]))
                case _:
                    handle = self._start_child(kind, arguments)
                    for topic in arguments[0] if kind == "talk" else ():
                        sent += 1
                        DBOS.send(handle.workflow_id, [DBOS.workflow_id, sent, topic, f"message {sent}"], topic)
                    results.append(handle.get_result())
        return results

    def _start_child(self, kind: str, arguments: list[Any]) -> WorkflowHandle[list[Any]]:
        if kind == "enqueue":
            return self._queues[arguments[0]].enqueue(self.run, arguments[1])
        return DBOS.start_workflow(self.run, arguments[-1])

    async def _run_async(self, program: Program) -> list[Any]:
        results: list[Any] = []
        for kind, argument in program:
            match kind:
                case "gather":
                    results.extend(await asyncio.gather(*(self._step_async() for _ in range(argument))))
                case "sleep":
                    await DBOS.sleep_async(argument / 1000)
                case _:
                    await DBOS.set_event_async(argument, len(results))
        return results


# -- what must be recorded


def expected_steps(workflow_id: str, program: Program) -> dict[str, list[str]]:
    """The names of the steps of the program's workflow and of all its descendants, by workflow id.

    As in `tests.verify.life`: a name that ends with `?` may be missing.
    """
    names: list[str] = []
    expected = {workflow_id: names}
    for kind, *arguments in program:
        match kind:
            case "step" | "fail":
                names.append(f"programs.{kind}")
            case "sleep":
                names.append("DBOS.sleep")
            case "event":
                names.append("DBOS.setEvent")
            case "stream":
                names.append("DBOS.writeStream")
            case "recv":
                names.extend(["DBOS.recv", "DBOS.sleep?"])
            case "gather":
                names.extend(["programs.step_async"] * arguments[0])
            case _:
                names.append("programs.run")
                expected |= expected_steps(f"{workflow_id}-{len(names)}", arguments[-1])
                names.extend(["DBOS.send"] * (len(arguments[0]) if kind == "talk" else 0))
                names.append("DBOS.getResult")
    return expected
