"""Another process that does what the test tells it, through objects that stand for those over there.

    peer = Remote(spawn(PEER))
    client = peer.new("Client", url)
    client.send("w", "hello")           # happens in the other process

The program over there calls `serve` with what it offers. Requests and answers are pickled lines on its standard input
and output; each request runs in a thread of its own. Whatever cannot be sent, such as a handle or a generator, stays
there, and an object that stands for it comes back.
"""

from __future__ import annotations

import base64
import itertools
import pickle
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dbos import WorkflowHandle
from tests.support.processes import Child
from tests.support.twins import Twins


@dataclass(frozen=True, slots=True)
class _Request:
    number: int
    target: str | int
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Answer:
    """`kind` says what `value` is: a value, an error, or the number of an object that stayed over there."""

    kind: str
    value: Any


class Remote:
    """The test's end of the line."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def new(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call what the other process offers under this name."""
        return self.call(name, "__call__", args, kwargs)

    def offered(self, name: str) -> Any:
        """Stands for what the other process offers under this name."""
        return RemoteObject(self, name)

    def call(self, target: str | int, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method over there; return or raise what it does."""
        with self._lock:
            number = next(self._numbers)
            self.child.write_line(_to_line(_Request(number, target, method, args, kwargs)))
        answer: _Answer = _from_line(self.child.wait_for_line(rf"^answer {number} (\S+)$")[1])
        if answer.kind == "error":
            raise answer.value
        return RemoteObject(self, answer.value) if answer.kind == "object" else answer.value


class RemoteObject:
    """Stands for an object of the other process: its methods, its attributes, its items."""

    def __init__(self, remote: Remote, target: str | int) -> None:
        self._remote = remote
        self._target = target

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._remote.call(self._target, name, args, kwargs)

        return call

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._remote.call(self._target, "__next__", (), {})


def serve(offers: Mapping[str | int, Any]) -> None:
    """Do what the other end of the line says, until that ends."""
    objects: dict[str | int, Any] = dict(offers)
    keys = itertools.count(1)
    lock = threading.Lock()

    def answer_for(value: Any) -> _Answer:
        if not isinstance(value, Twins | WorkflowHandle):
            try:
                pickle.dumps(value)
                return _Answer("value", value)
            except Exception:
                pass  # it stays here
        key = next(keys)
        objects[key] = value
        return _Answer("object", key)

    def work(request: _Request) -> None:
        try:
            value = getattr(objects[request.target], request.method)(*request.args, **request.kwargs)
            answer = answer_for(value)
        except BaseException as error:
            answer = _Answer("error", error)
        with lock:
            print("answer", request.number, _to_line(answer), flush=True)

    print("serving", flush=True)
    for line in sys.stdin:
        threading.Thread(target=work, args=(_from_line(line),), daemon=True).start()


def _to_line(value: Any) -> str:
    return base64.b64encode(pickle.dumps(value)).decode()


def _from_line(line: str) -> Any:
    return pickle.loads(base64.b64decode(line))
