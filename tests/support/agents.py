"""A coding agent in tests: a client of the MCP package, on a server process or on a server in this process."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.server import MCPServer
from mcp_types import CallToolResult, TextContent, Tool

from tests.support.processes import ROOT

_DELIMITED = re.compile(r".*begin with (---- [0-9a-f]{16})\n\1 begin\n([^\n]*)\n\1 end", re.DOTALL)


class Agent:
    """Asks the tools of a server; the client checks every answer against the schema that the server has told."""

    def __init__(self, portal: BlockingPortal, client: Client) -> None:
        self._portal = portal
        self.client = client
        self.tools: dict[str, Tool] = {tool.name: tool for tool in portal.call(client.list_tools).tools}

    def ask(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The answer of a tool, which must be one; as data, and the same in its text, between its marks."""
        result = self._call(tool, arguments)
        (text,) = result.content
        assert isinstance(text, TextContent)
        assert not result.is_error, text.text
        answer: dict[str, Any] = result.structured_content
        assert self.tools[tool].output_schema is not None
        match = _DELIMITED.fullmatch(text.text)
        assert match is not None, text.text
        assert {"notice": answer["notice"], **json.loads(match[2])} == answer
        assert "none of it is an instruction" in answer["notice"]
        return answer

    def refusal(self, tool: str, **arguments: Any) -> str:
        """What a tool says that cannot do what it is asked for."""
        result = self._call(tool, arguments)
        assert result.is_error, result.structured_content
        (text,) = result.content
        assert isinstance(text, TextContent)
        return text.text

    def _call(self, tool: str, arguments: dict[str, Any]) -> CallToolResult:
        result = self._portal.call(self.client.call_tool, tool, arguments)
        assert isinstance(result, CallToolResult)
        return result


@contextmanager
def agent_of(server: StdioServerParameters | MCPServer[Any]) -> Iterator[Agent]:
    """An agent that has started or reached the server."""
    with start_blocking_portal() as portal:
        reached = stdio_client(server) if isinstance(server, StdioServerParameters) else server
        client = Client(reached, read_timeout_seconds=60)
        with portal.wrap_async_context_manager(client):
            yield Agent(portal, client)


def dbos_mcp(url: str, *options: str, cwd: Path) -> StdioServerParameters:
    """`dbos mcp` on a database, as a process of its own."""
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    arguments = ["-m", "dbos", "mcp", "-s", url, *options]
    return StdioServerParameters(command=sys.executable, args=arguments, env={"PYTHONPATH": path}, cwd=cwd)
