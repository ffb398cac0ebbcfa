"""Blocks that are not Python: each is checked as far as its language allows, and none is of a language nobody checks.

YAML is checked in ``test_deployment``; commands with their output are carried out in ``test_stories`` where a page is a
story, and are checked for their syntax here everywhere.
"""

from __future__ import annotations

import configparser
import json
import re
import subprocess

import pytest

from tests.docs.documents import DOCUMENTS, Fence, fences_of
from tests.docs.sessions import PROMPT
from tests.support.processes import ROOT

PAGES = [*DOCUMENTS, *sorted(ROOT.glob("examples/*/README.md"))]
FENCES = [(page, fence) for page in PAGES for fence in fences_of(page.read_text(encoding="utf-8"))]

CHECKED = {"", "text", "python", "console", "shell", "yaml", "ini", "dockerfile", "json", "toml"}


def _of(*languages: str) -> list[object]:
    found = [(page, fence) for page, fence in FENCES if fence.language in languages]
    return [pytest.param(fence, id=f"{page.relative_to(ROOT)}:{fence.line}") for page, fence in found]


def test_every_language_is_known() -> None:
    assert {fence.language for _, fence in FENCES} - CHECKED == set()


def test_every_fence_is_seen() -> None:
    """A fence that the pattern does not know would turn blocks and text upside down."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = re.findall(r"^ {0,3}(?:```|~~~)", text, re.MULTILINE)
        assert len(lines) == 2 * len(fences_of(text)), page.name


def test_commands_are_of_the_shell() -> None:
    scripts = {f"{page.relative_to(ROOT)}:{fence.line}": _commands(fence) for page, fence in FENCES}
    script = "\n".join(f"# {place}\n{commands}" for place, commands in scripts.items() if commands)
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=30)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("fence", _of("ini"))
def test_settings_are_read(fence: Fence) -> None:
    settings = configparser.ConfigParser()
    settings.read_string(fence.code)
    assert settings.sections()


@pytest.mark.parametrize("fence", _of("json"))
def test_json_is_read(fence: Fence) -> None:
    json.loads(fence.code)


@pytest.mark.parametrize("fence", _of("toml"))
def test_toml_is_read(fence: Fence) -> None:
    pytest.importorskip("tomllib", reason="comes with Python 3.11").loads(fence.code)


@pytest.mark.parametrize("fence", _of("dockerfile"))
def test_image_starts_its_program_without_a_shell(fence: Fence) -> None:
    instructions = [line.partition(" ") for line in fence.code.splitlines() if line]
    assert instructions[0][0] == "FROM"
    assert json.loads(instructions[-1][2]) == ["python", "worker.py"]
    assert instructions[-1][0] == "CMD"


def _commands(fence: Fence) -> str:
    if fence.language == "shell":
        return fence.code
    if fence.language != "console":
        return ""
    return "\n".join(line.removeprefix(PROMPT) for line in fence.code.splitlines() if line.startswith(PROMPT))


def test_a_line_that_is_no_command_is_noticed() -> None:
    (fence,) = fences_of("```console\n$ echo 'open\nopen\n```\n")
    assert subprocess.run(["bash", "-n"], input=_commands(fence), text=True, capture_output=True).returncode != 0
