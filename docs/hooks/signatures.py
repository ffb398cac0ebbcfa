"""An extension of griffe: the reference shows what the library computes when it is imported as what it is.

Griffe reads the source without running it. So a method that is made by ``blocking(...)`` or its like would be shown as
an attribute, and a ``classproperty`` as a method.
"""

from __future__ import annotations

import importlib
import inspect

import griffe

MAKERS = ("blocking(", "awaited(", "client_blocking(", "client_awaited(")


class Signatures(griffe.Extension):
    """Replaces these members of each class."""

    def on_class(self, *, cls: griffe.Class, loader: griffe.GriffeLoader, **kwargs: object) -> None:
        """Called when all of the package is loaded."""
        for name, member in list(cls.members.items()):
            if isinstance(member, griffe.Attribute) and _is_made(member):
                cls.set_member(name, _method(cls, member))
            elif isinstance(member, griffe.Function) and _is_class_property(member):
                cls.set_member(name, _property(member))


def _is_made(member: griffe.Attribute) -> bool:
    return str(member.value).removeprefix("staticmethod(").startswith(MAKERS)


def _is_class_property(member: griffe.Function) -> bool:
    return any(str(decorator.value) == "classproperty" for decorator in member.decorators)


def _method(cls: griffe.Class, member: griffe.Attribute) -> griffe.Function:
    made = getattr(getattr(importlib.import_module(cls.module.path), cls.name), member.name)
    signature = inspect.signature(made)
    return griffe.Function(
        member.name,
        parameters=griffe.Parameters(*(_parameter(parameter) for parameter in signature.parameters.values())),
        returns=str(signature.return_annotation),
        docstring=griffe.Docstring(_doc(member.name, made), parser="google", lineno=member.lineno),
        lineno=member.lineno,
        endlineno=member.endlineno,
    )


def _doc(name: str, made: object) -> str:
    twin = name.removesuffix("_async")
    return inspect.getdoc(made) or "" if twin == name else f"As ``{twin}``, awaited."


def _parameter(parameter: inspect.Parameter) -> griffe.Parameter:
    has_default = parameter.default is not parameter.empty
    return griffe.Parameter(
        parameter.name,
        annotation=None if parameter.annotation is parameter.empty else str(parameter.annotation),
        kind=griffe.ParameterKind(parameter.kind.description),
        default=repr(parameter.default) if has_default else None,
    )


def _property(member: griffe.Function) -> griffe.Attribute:
    attribute = griffe.Attribute(
        member.name,
        annotation=member.returns,
        docstring=member.docstring,
        lineno=member.lineno,
        endlineno=member.endlineno,
    )
    attribute.labels |= {"class property"}
    return attribute
