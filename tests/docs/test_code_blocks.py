"""The documents are true: their code runs, prints what they say, and their links lead somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.documents import DOCUMENTS, README, Block, blocks_of, links_of
from tests.support.processes import ChildFailure, Spawner

TIME_LIMIT_S = 30.0

RUN_BY_PYTEST = """
import os, pytest

os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
raise SystemExit(pytest.main(["-q", "-p", "pytest_dbos", "-p", "no:cacheprovider", {script!r}]))
"""

BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document, document.read_text(encoding="utf-8"))]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks are run as a new user runs them."""
    for name in ("DBOS__APPVERSION", "DBOS__VMID", "DBOS__APPID", "DBOS_SYSTEM_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_code_block_runs_and_prints_what_the_document_says(
    block: Block, spawn: Spawner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile(block.code, str(block), "exec")
    if not block.is_run:
        return
    if "admin_port" in block.code:
        monkeypatch.delenv("DBOS__ADMIN_PORT", raising=False)
    _run(block, spawn, tmp_path)


def test_nearly_all_blocks_are_run() -> None:
    assert any(block.document == README and block.is_run and block.output for block in BLOCKS)
    left_out = [str(block) for block in BLOCKS if not block.is_run and not block.is_file]
    assert len(left_out) <= len(BLOCKS) // 10, left_out


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_to_files(document: Path) -> None:
    for link in links_of(document.read_text(encoding="utf-8")):
        target = document.parent / link.partition("#")[0]
        assert target.exists(), f"{document.name} links to {link}"


SAMPLE = """
Text with a [link](docs/a.md#part), [another](https://example.org) and one of `code`.

```python
print("one")
```

<!-- output -->
```
two
```

<!-- no-run -->

```python
forever()
```

```python
raise SystemExit("[no link](nowhere.md)")
```
"""


def test_blocks_and_links_are_found_and_false_ones_fail(spawn: Spawner, tmp_path: Path) -> None:
    """The checks of this module, on a document with a wrong output and a block that fails."""
    wrong, left_out, failing = blocks_of(README, SAMPLE)
    assert [str(block) for block in (wrong, left_out, failing)] == ["README.md:5", "README.md:16", "README.md:20"]
    assert [block.is_run for block in (wrong, left_out, failing)] == [True, False, True]
    with pytest.raises(AssertionError, match="two"):
        _run(wrong, spawn, tmp_path)
    with pytest.raises(ChildFailure, match="no link"):
        _run(failing, spawn, tmp_path)
    assert links_of(SAMPLE) == ["docs/a.md#part"]


def _run(block: Block, spawn: Spawner, directory: Path) -> None:
    script = directory / "block.py"
    script.write_text(block.code, encoding="utf-8")
    if "\ndef test_" in block.code:
        # What holds tests is run by pytest.
        runner = directory / "runner.py"
        runner.write_text(RUN_BY_PYTEST.format(script=str(script)), encoding="utf-8")
        script = runner
    output = spawn(script).succeed(timeout=TIME_LIMIT_S)
    assert block.output is None or output == block.output
