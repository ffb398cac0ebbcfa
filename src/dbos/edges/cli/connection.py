"""Which database a command works on, and how it is opened: without making anything, unless it is to be made."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from dbos.api.config import default_url, url_beside
from dbos.edges.cli.output import Exit, fail
from dbos.error import DBOSInitializationError

if TYPE_CHECKING:
    from dbos.runtime.gateway import Gateway
    from dbos.storage.database import Database

CONFIG_FILE = "dbos-config.yaml"

F = TypeVar("F", bound=Callable[..., Any])

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Place:
    """A system database: its URL, and the schema in it."""

    url: str
    schema: str


def database_options(command: F) -> F:
    """The options of commands that work on a database."""
    schema = click.option("--schema", default="dbos", show_default=True, help="The PostgreSQL schema of its tables.")
    url = click.option(
        "-s",
        "--sys-db-url",
        metavar="URL",
        help="The system database. Else DBOS_SYSTEM_DATABASE_URL names it, else dbos-config.yaml.",
    )
    return url(schema(command))


def json_option(command: F) -> F:
    """The option of commands that show something."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON to a terminal too.")(command)


def find_place(sys_db_url: str | None, schema: str, application_url: str | None = None) -> Place:
    """The database that the options, the environment or the configuration file name.

    Args:
        sys_db_url: The option, if it is given.
        schema: The option.
        application_url: An application database; the system database is its neighbour, if nothing else names one.
    """
    url = sys_db_url or os.environ.get("DBOS_SYSTEM_DATABASE_URL")
    with initialization_fails():
        if not url and application_url:
            url = url_beside(application_url)
        return Place(url or _configured_url(), schema)


def _configured_url() -> str:
    config = read_config_file()
    if config is None:
        fail(
            "No database is given. Use --sys-db-url, set DBOS_SYSTEM_DATABASE_URL, or run this where "
            f"{CONFIG_FILE} names one.",
            Exit.USAGE,
        )
    url, name = config.get("system_database_url"), config.get("name")
    if url is not None:
        if not isinstance(url, str):
            fail(f"{CONFIG_FILE}: system_database_url must be a string.", Exit.USAGE)
        return _with_variables(url)
    if not isinstance(name, str) or not name:
        fail(f"{CONFIG_FILE} has neither a system_database_url nor the name of an application.", Exit.USAGE)
    return default_url(name)


def read_config_file() -> dict[str, Any] | None:
    """What ``dbos-config.yaml`` in the working directory says; ``None`` if there is none."""
    path = Path(CONFIG_FILE)
    if not path.exists():
        return None
    import yaml

    try:
        value: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        fail(f"{CONFIG_FILE} cannot be read: {error}", Exit.USAGE)
    if value is None:
        return {}
    if not isinstance(value, dict):
        fail(f"{CONFIG_FILE} must hold keys and values.", Exit.USAGE)
    return cast("dict[str, Any]", value)


def _with_variables(text: str) -> str:
    """The text with ``${NAME}`` replaced by what the environment says, as passwords should not be in files."""

    def value_of(match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if value is None:
            fail(f"{CONFIG_FILE} asks for the environment variable {match[1]}, which is not set.", Exit.USAGE)
        return value

    return _VARIABLE.sub(value_of, text)


@contextlib.contextmanager
def opened(place: Place) -> Generator[Database, None, None]:
    """The database, which must be there, with tables of this version. Nothing is made."""
    from dbos.storage.opening import explained, open_existing_database

    with initialization_fails():
        database = open_existing_database(url=place.url, schema=place.schema, pool_size=2)
        try:
            with explained(database.engine):
                yield database
        finally:
            database.close()


@contextlib.contextmanager
def connected(place: Place, application_url: str | None = None) -> Generator[Gateway, None, None]:
    """The way to the database of a command that changes something: running applications are told of it.

    Args:
        place: The system database.
        application_url: The application database, if it is another one, and what is recorded in it matters.
    """
    from dbos.model.clock import SystemClock
    from dbos.runtime.application import ApplicationDatabase
    from dbos.runtime.gateway import Gateway
    from dbos.serialization.codec import Codec
    from dbos.storage.opening import is_same_database, open_application_database

    with opened(place) as database:
        own = None
        if application_url is not None and not is_same_database(database.engine, application_url):
            own = open_application_database(url=application_url, schema=place.schema, pool_size=2)
        application = ApplicationDatabase(database, own)
        gateway = Gateway(database, Codec(), SystemClock(), application=application)
        gateway.connect()
        try:
            yield gateway
        finally:
            gateway.close()
            application.close()


@contextlib.contextmanager
def initialization_fails(code: Exit = Exit.NO_DATABASE) -> Generator[None, None, None]:
    """End the command if the database cannot be used, or what else is set up."""
    try:
        yield
    except DBOSInitializationError as error:
        fail(str(error.message), code)
