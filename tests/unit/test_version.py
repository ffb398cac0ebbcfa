"""The application's version: the same for the same source, in every process."""

from __future__ import annotations

from tests.support.processes import Spawner

PROGRAM = """
from dbos import DBOS

@DBOS.workflow()
def first(names: list) -> list:
    wanted = {{"a", "b", "c", "d"}}
    return [name for name in names if name in {{"x", "y", "z"}}] + sorted(wanted)

@DBOS.step()
def step() -> int:
    return {step}

@DBOS.workflow()
async def second() -> int:
    def inner() -> int:
        return {inner}
    return inner() + step()

class Shop:
    @staticmethod
    @DBOS.workflow()
    def third() -> str:
        return "größe"

DBOS(config={{"name": "app"}})
print(DBOS.application_version)
"""


def version(spawn: Spawner, program: str, **environment: str) -> str:
    """The version that a program prints."""
    return spawn(program, env=environment).succeed().strip()


def test_the_same_source_has_the_same_version_everywhere(spawn: Spawner) -> None:
    """Whatever the hash seed, the file or the line. Steps do not count, workflows do."""
    program = PROGRAM.format(step=1, inner=1)
    one = version(spawn, program, PYTHONHASHSEED="1")
    assert len(one) == 32
    assert int(one, 16) >= 0
    assert version(spawn, program, PYTHONHASHSEED="2") == one
    assert version(spawn, "# a comment\n\n\n" + program) == one
    assert version(spawn, PROGRAM.format(step=2, inner=1)) == one
    assert version(spawn, PROGRAM.format(step=1, inner=2)) != one


def test_code_without_source_has_the_same_version_everywhere(spawn: Spawner) -> None:
    """Made by `exec`, for instance, or delivered without its source: what it was compiled to tells."""

    def program(inner: int) -> str:
        return f"SOURCE = {PROGRAM.format(step=1, inner=inner)!r}\nexec(compile(SOURCE, '<generated>', 'exec'))\n"

    one = version(spawn, program(1), PYTHONHASHSEED="1")
    assert version(spawn, program(1), PYTHONHASHSEED="2") == one
    assert version(spawn, program(2)) != one


def test_the_order_of_definition_does_not_count(spawn: Spawner) -> None:
    definitions = [f"@DBOS.workflow()\ndef f{n}() -> int:\n    return {n}\n" for n in range(3)]
    begin, end = "from dbos import DBOS\n", "DBOS(config={'name': 'app'})\nprint(DBOS.application_version)\n"
    forwards = version(spawn, begin + "".join(definitions) + end)
    assert version(spawn, begin + "".join(reversed(definitions)) + end) == forwards
    assert version(spawn, begin + "".join(definitions[:2]) + end) != forwards
