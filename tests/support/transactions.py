"""Applications whose transactions run in the system database, or in one of their own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import create_engine, make_url, text

from dbos import DBOSConfig
from tests.support.apps import App
from tests.verify.rows import query

PLACES = ("sqlite", "sqlite-sqlite", "postgres", "postgres-postgres")
"""The system database, and the application database if that is another one."""

MIXED_PLACES = ("sqlite-postgres", "postgres-sqlite")


class TransactionApp(App):
    """An application with a table `greetings`, in the database where transactions run.

    Attributes:
        own_url: The application database, if it is not the system database.
    """

    def __init__(self, url: str, own_url: str | None) -> None:
        super().__init__(url)
        self.own_url = own_url
        engine = create_engine(_with_driver(self.application_url))
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE greetings (name TEXT NOT NULL, note TEXT)"))
        engine.dispose()

    @property
    def application_url(self) -> str:
        """Where transactions run."""
        return self.own_url or self.url

    @property
    def is_separate(self) -> bool:
        """Whether that is a database of its own."""
        return self.own_url is not None

    def config(self, **changes: Any) -> DBOSConfig:
        """The configuration, with the application database if there is one."""
        place = {"application_database_url": self.own_url} if self.own_url else {}
        return super().config(**{**place, **changes})

    def greetings(self) -> list[tuple[str, str | None]]:
        """What is committed, in order."""
        return sorted(self.ask("SELECT name, note FROM greetings"))

    def ask(self, statement: str) -> list[Any]:
        """Ask the application database, without the library."""
        return query(self.application_url, statement)

    def records(self, workflow_id: str) -> list[tuple[Any, ...]]:
        """Number, name, and whether there is an output and an error, of the records of a workflow's transactions."""
        return self.ask(
            "SELECT function_id, function_name, output IS NOT NULL, error IS NOT NULL FROM {schema}transaction_outputs "
            f"WHERE workflow_uuid = '{workflow_id}' ORDER BY function_id"
        )


def _with_driver(url: str) -> Any:
    parsed = make_url(url)
    return parsed.set(drivername="postgresql+psycopg") if parsed.get_backend_name() == "postgresql" else parsed
