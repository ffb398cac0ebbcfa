"""Signatures and classes that a document shows, compared with the live objects."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Generator, Mapping
from types import UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from tests.support.guide import Block, execute

_SIGNATURE = re.compile(r"^(?:def )?(?:\w+\.)?(\w+)\((.*)\)(?: -> (.*?))?:?$", re.DOTALL)


def shown_function(block: Block, names: Mapping[str, Any]) -> Callable[..., Any]:
    """A function that does nothing, with the signature that the block shows.

    Args:
        block: It holds a signature and nothing else.
        names: What the names of types in it mean.
    """
    found = _SIGNATURE.match(block.code.strip())
    assert found, f"line {block.line} of the guide shows no signature"
    namespace: dict[str, Any] = dict(names)
    result = f" -> {found[3]}" if found[3] else ""
    execute(f"def shown({found[2]}){result}: ...", block, namespace)
    shown: Callable[..., Any] = namespace["shown"]
    return shown


def shown_class(block: Block, names: Mapping[str, Any]) -> type:
    """The class that the block defines."""
    namespace: dict[str, Any] = dict(names)
    execute(block.code, block, namespace)
    ((_, defined),) = [(name, value) for name, value in namespace.items() if name not in names and name[0] != "_"]
    assert isinstance(defined, type)
    return defined


def differences(shown: Callable[..., Any], ours: Callable[..., Any]) -> list[str]:
    """Where a function of ours does not accept what the shown one does, or returns something else.

    Ours may take more: further types, further optional parameters.
    """
    wrong: list[str] = []
    wanted, given = inspect.signature(shown).parameters, inspect.signature(ours).parameters
    wanted_types, given_types = get_type_hints(shown), get_type_hints(ours)
    positional = [name for name, parameter in wanted.items() if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    if [name for name in given if given[name].kind is not inspect.Parameter.KEYWORD_ONLY][
        : len(positional)
    ] != positional:
        wrong.append(f"positional parameters: {positional}, and not {list(given)}")
    for name, parameter in wanted.items():
        if name not in given:
            wrong.append(f"{name} is missing")
        elif _is_variadic(given[name]) != _is_variadic(parameter):
            wrong.append(f"{name} is {given[name].kind.description}, and not {parameter.kind.description}")
        elif given[name].default != parameter.default:
            wrong.append(f"{name} has the default {given[name].default!r}, and not {parameter.default!r}")
        elif not members(wanted_types[name]) <= members(given_types[name]):
            wrong.append(f"{name} takes {given_types[name]}, and not {wanted_types[name]}")
    for name in given.keys() - wanted.keys():
        if given[name].default is inspect.Parameter.empty and not _is_variadic(given[name]):
            wrong.append(f"{name} is not shown, and not optional")
    result = wanted_types.get("return")
    if "return" in wanted_types and members(result) != members(given_types.get("return")):
        wrong.append(f"it returns {given_types.get('return')}, and not {result}")
    return wrong


def _is_variadic(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


def members(type_: Any) -> frozenset[Any]:
    """The members of a type in one spelling: `Optional[List[str]]` is `list[str] | None`, a variable is of any name.

    What may be sent to a generator is left out.
    """
    if isinstance(type_, TypeVar):
        return frozenset({Any})
    if isinstance(type_, ParamSpec):
        return frozenset({ParamSpec})
    origin, arguments = get_origin(type_), get_args(type_)
    if origin in (Union, UnionType):
        return frozenset(member for argument in arguments for member in members(argument))
    if origin is Generator:
        arguments = arguments[::2]
    if origin is not None:
        return frozenset({(origin, *map(members, arguments))})
    return frozenset({type(None) if type_ is None else type_})
