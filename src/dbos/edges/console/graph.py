"""The family of a workflow: its parents, its children, and what was forked from what, drawn and as a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dbos.edges.console.asked import workflow_id_of
from dbos.error import DBOSNonExistentWorkflowError
from dbos.runtime.gateway import Gateway
from dbos.storage.family import Family, Relative, read_family

if TYPE_CHECKING:
    from dbos.edges.console.app import Console

MAX_MEMBERS = 200

_WIDTH, _HEIGHT = 220, 52
_COLUMN, _ROW = 290, 68
_MARGIN = 12
_NAME_CHARS, _ID_CHARS = 26, 28


@dataclass(frozen=True, slots=True)
class Node:
    """A workflow in the graph.

    Attributes:
        workflow: The workflow.
        x: Where its box begins.
        y: Likewise, from above.
        is_fork: Whether it comes from the one to its left by a fork; else it is its child.
        nodes: Those that come from it.
        hidden_children: How many children it has that are not in the graph.
        hidden_forks: How many workflows were forked from it that are not.
    """

    workflow: Relative
    x: int
    y: int
    is_fork: bool
    nodes: Sequence[Node]
    hidden_children: int
    hidden_forks: int

    @property
    def short_name(self) -> str:
        """Its name, as far as it fits into the box."""
        return _cut(self.workflow.name or "?", _NAME_CHARS)

    @property
    def short_id(self) -> str:
        """Its id, likewise: the end, in which ids of children differ."""
        its = self.workflow.workflow_id
        return its if len(its) <= _ID_CHARS else f"…{its[1 - _ID_CHARS :]}"

    @property
    def hidden(self) -> str:
        """What comes from it and is not in the graph, in words; empty if nothing."""
        counts = ((self.hidden_children, "child", "children"), (self.hidden_forks, "fork", "forks"))
        return ", ".join(f"{count:,} more {one if count == 1 else many}" for count, one, many in counts if count)


@dataclass(frozen=True, slots=True)
class Edge:
    """A line from a workflow to one that comes from it."""

    path: str
    is_fork: bool


@dataclass(frozen=True, slots=True)
class Graph:
    """The drawing.

    Attributes:
        roots: Those at the left: mostly one.
        nodes: All of them.
        edges: The lines between them.
        width: How wide it is.
        height: How high it is.
    """

    roots: Sequence[Node]
    nodes: Sequence[Node]
    edges: Sequence[Edge]
    width: int
    height: int

    @property
    def outline(self) -> Iterator[tuple[Node, bool]]:
        """Each workflow twice: where it begins, and where all that comes from it has ended. (A family may be deep.)"""
        stack = [(root, True) for root in reversed(self.roots)]
        while stack:
            node, begins = stack.pop()
            yield node, begins
            if begins:
                stack.append((node, False))
                stack.extend((inner, True) for inner in reversed(node.nodes))

    @property
    def hidden_count(self) -> int:
        """How many children and forks of those in the graph are not in it."""
        return sum(node.hidden_children + node.hidden_forks for node in self.nodes)


def routes(console: Console) -> list[BaseRoute]:
    """The routes of this page."""

    async def show(request: Request) -> Response:
        workflow_id = workflow_id_of(request)

        def read(gateway: Gateway) -> Graph:
            family = read_family(gateway.database, workflow_id, MAX_MEMBERS)
            if family is None:
                raise DBOSNonExistentWorkflowError(workflow_id)
            return drawn(family)

        graph = await console.work(read)
        return await console.page(request, "graph.html", workflow_id=workflow_id, graph=graph)

    return [Route("/graph", show, methods=["GET"], name="graph")]


def drawn(family: Family) -> Graph:
    """The family as a tree from left to right: each generation is a column, each leaf has a line of its own."""
    return _Drawing(family).graph()


class _Drawing:
    def __init__(self, family: Family) -> None:
        self._family = family
        self._members = {one.workflow_id: one for one in family.members}
        self._drawn: set[str] = set()
        self._nodes: list[Node] = []
        self._lines = 0
        self._coming: dict[str, list[Relative]] = {}
        for one in family.members:
            self._coming.setdefault(one.origin_id or "", []).append(one)

    def graph(self) -> Graph:
        # What comes from nobody here; then what goes round in circles, from wherever it is entered.
        heads = [one for one in self._family.members if (one.origin_id or "") not in self._members]
        roots = [self._node(one, 0) for one in (*heads, *self._family.members) if one.workflow_id not in self._drawn]
        width = max(node.x for node in self._nodes) + _WIDTH + _MARGIN
        return Graph(roots, self._nodes, self._edges(), width, self._lines * _ROW + 2 * _MARGIN)

    def _node(self, one: Relative, depth: int) -> Node:
        self._drawn.add(one.workflow_id)
        its_id = one.workflow_id
        line = self._lines
        nodes: list[Node] = []
        for other in self._coming.get(its_id, ()):
            if other.workflow_id not in self._drawn:
                nodes.append(self._node(other, depth + 1))
        if not nodes:
            self._lines += 1
        y = nodes[0].y if nodes else _MARGIN + line * _ROW
        children = sum(other.parent_workflow_id == its_id for other in self._family.members)
        forks = sum(other.forked_from == its_id for other in self._family.members)
        node = Node(
            one,
            _MARGIN + depth * _COLUMN,
            y,
            one.parent_workflow_id is None and one.forked_from is not None,
            nodes,
            max(0, self._family.children.get(its_id, 0) - children),
            max(0, self._family.forks.get(its_id, 0) - forks),
        )
        self._nodes.append(node)
        return node

    def _edges(self) -> list[Edge]:
        places = {node.workflow.workflow_id: node for node in self._nodes}
        edges: list[Edge] = []
        for node in self._nodes:
            for origin_id, is_fork in ((node.workflow.parent_workflow_id, False), (node.workflow.forked_from, True)):
                origin = places.get(origin_id or "")
                if origin is not None:
                    edges.append(Edge(_path(origin, node), is_fork))
        return edges


def _path(origin: Node, node: Node) -> str:
    """A line from the right edge of one box to the left edge of the other."""
    x, y, to_x, to_y = origin.x + _WIDTH, origin.y + _HEIGHT // 2, node.x, node.y + _HEIGHT // 2
    return f"M{x} {y}H{(x + to_x) // 2}V{to_y}H{to_x}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
