"""An agent of the OpenAI Agents SDK as a durable workflow, with a model that is made up.

Usage: openai_agent.py DATABASE-URL LEDGER WORKFLOW-ID. It starts the workflow, or goes on with it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Model, ModelResponse, Usage, function_tool, set_tracing_disabled
from common import Ledger, finish, launch
from dbos_openai_agents import DBOSRunner
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from dbos import DBOS

url, path, workflow_id = sys.argv[1:4]
ledger = Ledger(path)
set_tracing_disabled(True)


class MadeUp(Model):
    """Asks for the weather in two towns, one after the other, then tells both."""

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:
        items = [] if isinstance(input, str) else input
        told = [item["output"] for item in items if item.get("type") == "function_call_output"]
        ledger.record("model", len(told))
        output: Any
        if len(told) < 2:
            arguments = json.dumps({"town": ("Rome", "Oslo")[len(told)]})
            output = ResponseFunctionToolCall(
                type="function_call", name="weather", call_id=f"call-{len(told)}", arguments=arguments
            )
        else:
            text = ResponseOutputText(type="output_text", text=" and ".join(told), annotations=[])
            output = ResponseOutputMessage(
                id="message", type="message", role="assistant", status="completed", content=[text]
            )
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        raise NotImplementedError("nothing here streams")


@function_tool
@DBOS.step(name="weather")
async def weather(town: str) -> str:
    """The weather in a town."""
    ledger.record("tool", town)
    await ledger.hold(town == "Oslo")
    return f"{town}: sunny"


agent = Agent(name="weather", tools=[weather], model=MadeUp())


@DBOS.workflow()
async def ask(question: str) -> str:
    return str((await DBOSRunner.run(agent, question)).final_output)


async def main() -> str:
    return await ask("How is the weather?")


launch("openai-agents", url)
finish(workflow_id, main)
