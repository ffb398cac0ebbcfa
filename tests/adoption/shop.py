"""The database of an application, its ledger, and copies of both."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from tests.support import ledger
from tests.support.older import prepare_postgres
from tests.support.postgres import PostgresAdmin
from tests.support.processes import ROOT, Child, Spawner
from tests.verify.rows import query


@dataclass(frozen=True, slots=True)
class Shop:
    """See the module's description."""

    url: str
    ledger: Path
    admin: PostgresAdmin | None

    program = ROOT / "tests" / "adoption" / "programs" / "shop.py"

    @contextlib.contextmanager
    def copy(self, directory: Path) -> Iterator[Shop]:
        """A copy of the database and of the ledger. Nobody may use the original meanwhile."""
        with open_shop(directory, self.admin, self) as copy:
            if self.ledger.exists():
                shutil.copy(self.ledger, copy.ledger)
            yield copy

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of the database, read by plain SQL; ``{schema}`` stands for the tables' prefix."""
        return query(self.url, statement)

    def by_key(self, table: str, columns: str, key: int = 1) -> dict[Any, tuple[Any, ...]]:
        """The columns of a table by the first ones of them, which are its key."""
        rows = self.rows(f"SELECT {columns} FROM {{schema}}{table}")
        return {row[0] if key == 1 else row[:key]: row for row in rows}

    def entries(self, what: str, library: str | None = None) -> list[dict[str, Any]]:
        """The entries of the ledger."""
        return [
            entry for entry in ledger.read(self.ledger) if entry["what"] == what and library in (None, entry["library"])
        ]


@contextlib.contextmanager
def open_shop(directory: Path, admin: PostgresAdmin | None, template: Shop | None = None) -> Iterator[Shop]:
    """A shop in the directory, with an empty database or a copy of another one's."""
    if admin is None:
        path = directory / "shop.sqlite"
        if template is not None:
            source = Path(make_url(template.url).database or "")
            # What a killed process left beside it belongs to it.
            for file in source.parent.glob(f"{source.name}*"):
                shutil.copy(file, directory / file.name)
        yield Shop(f"sqlite:///{path}", directory / "ledger", None)
        return
    url = admin.create_database(template=None if template is None else template.url)
    try:
        if template is None:
            prepare_postgres(url)
        yield Shop(url, directory / "ledger", admin)
    finally:
        admin.drop_database(url)


class RunningShop:
    """The application, run by this library in a process of its own."""

    def __init__(self, shop: Shop, spawner: Spawner) -> None:
        self.shop = shop
        self.child: Child = spawner(Shop.program, shop.url, shop.ledger, "ours")
        self._answers = 0
        self.child.wait_for_line("launched", timeout=60)

    def ask(self, expression: str) -> Any:
        """What the expression is in the application; exceptions and the like by their ``repr``."""
        self.child.write_line(expression)
        self._answers += 1
        line = self.child.wait_for_line(r"^answer (.*)$", count=self._answers, timeout=60)
        return json.loads(line.group(1))

    def result(self, workflow_id: str) -> Any:
        """How the workflow ended."""
        return self.ask(f"DBOS.retrieve_workflow({workflow_id!r}).get_result()")
