"""The page of the tables names all tables, and all columns of those that are promised, as they are in the database."""

from __future__ import annotations

import re

import sqlalchemy

from dbos import run_dbos_database_migrations
from dbos.storage.schema import TABLES
from tests.support.processes import ROOT

PAGE = ROOT / "docs" / "reference" / "tables.md"

_SECTION = re.compile(r"^## ([a-z_]+)\n(.*?)(?=^## )", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"`([a-z_]+)`")


def test_all_columns_are_described_and_no_others(database_url: str) -> None:
    run_dbos_database_migrations(database_url)
    engine = sqlalchemy.create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    schema = "dbos" if engine.name == "postgresql" else None
    try:
        tables = sqlalchemy.inspect(engine)
        for table, text in _SECTION.findall(PAGE.read_text(encoding="utf-8")):
            rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
            described = sorted(name for row in rows for name in _NAME.findall(row))
            assert described == sorted(column["name"] for column in tables.get_columns(table, schema)), table
    finally:
        engine.dispose()


def test_all_tables_are_named() -> None:
    text = PAGE.read_text(encoding="utf-8")
    promised = {table for table, _ in _SECTION.findall(text)}
    _, _, own = text.partition("## Tables of the library's own")
    assert promised | {name for name in _NAME.findall(own) if "_" in name or name == "executors"} == set(TABLES)
