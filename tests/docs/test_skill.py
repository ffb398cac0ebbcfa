"""The agent skill, the prompt and llms.txt are true: their code does what they say, their names and links exist."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click
import pytest
import yaml

import dbos
from dbos.edges.cli.main import main as command_line
from tests.docs.documents import fences_of, links_of
from tests.docs.skill_examples import PAGES, SHOWN, SKILL, examples_of
from tests.support.processes import ROOT, Spawner

PROMPT = ROOT / "docs" / "prompt.md"
INDEX = ROOT / "llms.txt"
FOR_AGENTS = [*PAGES, PROMPT, INDEX, ROOT / "skills" / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_correct_examples_work_and_incorrect_ones_fail_as_they_say(
    page: Path, spawn: Spawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DBOS__APPVERSION", "DBOS__VMID", "DBOS__APPID", "DBOS_SYSTEM_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    spawn(ROOT / "tests" / "docs" / "skill_examples.py", page.stem).succeed(timeout=100)


def test_every_example_is_carried_out() -> None:
    examples = {key for page in PAGES for key in examples_of(page)}
    assert examples == set(SHOWN)
    assert {key.page for key in examples} == {page.stem for page in PAGES}
    incorrect = [key for key in examples if key.verdict == "Incorrect"]
    assert len(incorrect) > 20


def test_front_matter_is_that_of_a_skill() -> None:
    text = (SKILL / "SKILL.md").read_text(encoding="utf-8")
    _, front, _ = text.split("---\n", 2)
    fields = yaml.safe_load(front)
    assert set(fields) == {"name", "description"}
    assert fields["name"] == SKILL.name
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", fields["name"])
    assert 0 < len(fields["description"]) <= 1024


def test_sizes_are_bounded() -> None:
    """An agent reads a page as a whole."""
    lines = {page.stem: page.read_text(encoding="utf-8").count("\n") for page in [*PAGES, PROMPT, INDEX]}
    assert lines.pop("SKILL") < 200
    assert max(lines.values()) < 350, lines


@pytest.mark.parametrize("page", FOR_AGENTS, ids=lambda page: page.name)
def test_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    unknown = {f"DBOS.{name}" for name in re.findall(r"\bDBOS\.(\w+)", text) if name not in dir(dbos.DBOS)}
    unknown |= {name for name in re.findall(r"\bDBOSClient\.(\w+)", text) if name not in dir(dbos.DBOSClient)}
    unknown |= {
        name
        for name in re.findall(r"\b((?:DBOS|Set)[A-Z]\w+)\b", text)
        if not hasattr(dbos, name) and not hasattr(dbos.error, name)
    }
    assert unknown == set()


@pytest.mark.parametrize("page", [*PAGES, PROMPT], ids=lambda page: page.name)
def test_parameters_exist(page: Path) -> None:
    unknown: list[str] = []
    for function, given in re.findall(r"`@?((?:\w+\.)?\w+)\(([^`]*)\)`", page.read_text(encoding="utf-8")):
        owner, _, name = function.rpartition(".")
        found = getattr({"DBOS": dbos.DBOS, "DBOSClient": dbos.DBOSClient}.get(owner, dbos), name, None)
        if found is None:  # a method of a handle, a function of the example
            continue
        known = inspect.signature(found).parameters
        if not any(its.kind is inspect.Parameter.VAR_KEYWORD for its in known.values()):
            unknown += [f"{function}({name}=)" for name in re.findall(r"(\w+)=", given) if name not in known]
    assert unknown == []


def test_fields_of_the_configuration_exist() -> None:
    text = (SKILL / "references" / "operations.md").read_text(encoding="utf-8")
    paragraph = text.partition("## Configuration")[2].partition("Others: ")[2].partition("**In production**")[0]
    fields = re.findall(r"`([a-z_]+)`", paragraph)
    assert len(fields) > 8
    assert set(fields) - dbos.DBOSConfig.__annotations__.keys() == set()


@pytest.mark.parametrize("page", FOR_AGENTS, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = links_of(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("page", FOR_AGENTS, ids=lambda page: page.name)
def test_commands_are_understood(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    commands = [line for fence in fences_of(text) if fence.language == "console" for line in fence.code.splitlines()]
    commands += [f"$ {inline}" for inline in re.findall(r"`(dbos [a-z][^`…]*)`", text)]
    for line in commands:
        words = line.partition("#")[0].removeprefix("$ ").split()
        if words and words[0] == "dbos":
            _understand(command_line, words[1:])


def _understand(command: click.Command, words: list[str]) -> None:
    """Let the command line parse the words, without doing anything."""
    if isinstance(command, click.Group) and words:
        assert words[0] in command.commands, words
        _understand(command.commands[words[0]], words[1:])
        return
    required = sum(isinstance(its, click.Argument) and its.required for its in command.params)
    arguments = [word for word in words if not word.startswith("-")]
    command.make_context(command.name, words if arguments or words else ["x"] * required)


def test_every_reference_is_pointed_to() -> None:
    pointed = {(SKILL / link).resolve() for link in links_of((SKILL / "SKILL.md").read_text(encoding="utf-8"))}
    assert set(PAGES[1:]) <= pointed


@pytest.mark.parametrize("page", FOR_AGENTS, ids=lambda page: page.name)
def test_nobody_is_told_to_install_the_other_package(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"(\w+[^\w\n]*)?pip install '?dbos", text):
        assert (match[1] or "").lower().startswith("never"), text[match.start() : match.end() + 40]
