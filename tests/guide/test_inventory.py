"""Every block of the guide is somebody's: executed, compared, no Python, or warned of."""

from __future__ import annotations

import ast
import importlib
from collections import Counter
from pathlib import Path

import pytest

from tests.guide.inventory import EXECUTED, REPAIRS, TEXTS, WARNED_OF
from tests.guide.test_signatures import COMPARED
from tests.support.guide import Place, blocks_of, guide_blocks, guide_path


def accounts() -> Counter[Place]:
    """How often each block is accounted for."""
    for module in sorted(Path(__file__).parent.glob("test_*.py")):
        importlib.import_module(f"{__package__}.{module.stem}")  # its decorators take their blocks
    return Counter([*EXECUTED, *COMPARED, *TEXTS, *WARNED_OF])


def test_every_block_is_accounted_for_exactly_once() -> None:
    blocks, taken = guide_blocks(), accounts()
    assert len(blocks) > 80, "it is the guide"
    assert sorted(blocks.keys() - taken.keys()) == [], "nobody's: give each to a test"
    assert sorted(taken.keys() - blocks.keys()) == [], "not in the guide (any more)"
    assert [place for place, count in taken.items() if count > 1] == []


def test_block_that_is_added_or_removed_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above, on the guide with one block more, and with one less."""
    block = guide_blocks()["Durable Sleep", 1]
    text = guide_path().read_text(encoding="utf-8")
    changed = tmp_path / "guide.md"
    monkeypatch.setenv("DBOS_GUIDE", str(changed))
    changed.write_text(text + "\n# A new chapter\n```python\npass\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="A new chapter"):
        test_every_block_is_accounted_for_exactly_once()
    changed = tmp_path / "shorter.md"
    monkeypatch.setenv("DBOS_GUIDE", str(changed))
    changed.write_text(text.replace(f"```python\n{block.code}```\n", ""), encoding="utf-8")
    with pytest.raises(AssertionError, match="Durable Sleep"):
        test_every_block_is_accounted_for_exactly_once()


def test_what_is_executed_is_python_and_the_rest_is_not() -> None:
    accounts()
    blocks = guide_blocks()
    assert {place for place, block in blocks.items() if block.language != "python"} == set(TEXTS)
    assert sorted(REPAIRS.keys() - EXECUTED.keys()) == []


@pytest.mark.parametrize("place", list(REPAIRS), ids=lambda place: place[0].replace(" ", "-"))
def test_repaired_is_only_what_cannot_be_parsed(place: Place) -> None:
    code = guide_blocks()[place].code
    with pytest.raises(SyntaxError):
        ast.parse(code)
    for old, new in REPAIRS[place].items():
        assert old in code
        code = code.replace(old, new)
    ast.parse(code)


def test_blocks_are_found_by_their_headings_and_numbers() -> None:
    text = (
        "# One\n```python\na\n```\n\n ```\n b\n```\n"
        "## Two\n````markdown\n```shell\n```\n# One\n```python\nc\n\nd\n```\n"
    )
    found = [(block.place, block.line, block.language, block.code) for block in blocks_of(text)]
    assert found == [
        (("One", 1), 3, "python", "a\n"),
        (("One", 2), 7, "", " b\n"),
        (("Two", 1), 12, "shell", ""),
        (("One", 3), 15, "python", "c\n\nd\n"),
    ]
