"""An agent of pydantic-ai as a durable workflow, with a model that is made up.

Usage: pydantic_ai_agent.py DATABASE-URL LEDGER WORKFLOW-ID. It starts the workflow, or goes on with it.
"""

from __future__ import annotations

import sys

from common import Ledger, finish, launch
from pydantic_ai import Agent
from pydantic_ai.durable_exec.dbos import DBOSAgent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from dbos import DBOS

url, path, workflow_id = sys.argv[1:4]
ledger = Ledger(path)


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """The model: asks for the weather in two towns, one after the other, then tells both."""
    told = [part.content for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
    ledger.record("model", len(told))
    if len(told) < 2:
        return ModelResponse(parts=[ToolCallPart("weather", {"town": ("Rome", "Oslo")[len(told)]})])
    return ModelResponse(parts=[TextPart(" and ".join(map(str, told)))])


agent = Agent(FunctionModel(answer), name="weather_agent")


@agent.tool_plain
@DBOS.step(name="weather")
async def weather(town: str) -> str:
    """The weather in a town."""
    ledger.record("tool", town)
    await ledger.hold(town == "Oslo")
    return f"{town}: sunny"


durable = DBOSAgent(agent)


async def main() -> str:
    return (await durable.run("How is the weather?")).output


launch("pydantic-ai", url)
finish(workflow_id, main)
