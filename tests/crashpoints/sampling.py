"""Which of the many combinations run: by default a part, all with CRASH=all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.verify.crash import Scenario
from tests.verify.gate import Action, Moment
from tests.verify.life import HELD_BRIEFLY

PROGRAMS = Path(__file__).parent / "programs"
RUNS_ALL = os.environ.get("CRASH") == "all"
MOMENTS: tuple[Moment, ...] = ("begin", "before_commit", "after_commit")
_DATABASES = ("sqlite", "postgres")


def program(name: str) -> Path:
    """The file of a program."""
    return PROGRAMS / f"{name.partition(':')[0]}.py"


def scenario(name: str, url: str, action: Action, moment: Moment, operation: str = "journal") -> Scenario:
    """A scenario of a program that waits or talks, whose name may be followed by a colon and its variant."""
    variant = name.partition(":")[2]
    return Scenario(program(name), url, action, moment, HELD_BRIEFLY, operation=operation, variant=variant)


def sampled(
    names: Sequence[str], moments: Sequence[Moment], all_moments: Sequence[Moment] = MOMENTS
) -> pytest.MarkDecorator:
    """The parameters `name` and `moment`: by default each program once, on one database after the other."""
    cases = [
        _case(database, name, moment)
        for number, name in enumerate(names)
        for on, database in enumerate(_DATABASES)
        for moment in _some(moments, number, all_moments)
        if RUNS_ALL or number % 2 == on
    ]
    return pytest.mark.parametrize(("database_url", "name", "moment"), cases, indirect=["database_url"])


def sampled_operations(
    operations: Sequence[tuple[str, str]],
    moments: Sequence[Moment] = ("before_commit", "after_commit"),
    all_moments: Sequence[Moment] = MOMENTS,
    first: int = 0,
) -> pytest.MarkDecorator:
    """The parameters `operation`, `name` and `moment`, as `sampled`: programs by the operation that is counted.

    `first` is the number of the database that the first one runs on by default.
    """
    cases = [
        _case(database, operation, name, moment)
        for number, (operation, name) in enumerate(operations, first)
        for on, database in enumerate(_DATABASES)
        for moment in _some(moments, number, all_moments)
        if RUNS_ALL or number % 2 == on
    ]
    return pytest.mark.parametrize(("database_url", "operation", "name", "moment"), cases, indirect=["database_url"])


def _some(moments: Sequence[Moment], number: int, all_moments: Sequence[Moment]) -> Sequence[Moment]:
    return all_moments if RUNS_ALL else (moments[number // 2 % len(moments)],)


def _case(database: str, *values: str) -> object:
    marks = [pytest.mark.postgres] if database == "postgres" else []
    return pytest.param(database, *values, marks=marks)
