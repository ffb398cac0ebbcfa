"""The guide on configuring and testing: the configuration, URLs, serializers, the fixture."""

from __future__ import annotations

import json
import os
import re
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import create_engine, make_url, text

from dbos import DBOS, error
from tests.guide.inventory import runs
from tests.support.apps import App
from tests.support.guide import Program, guide_blocks
from tests.support.postgres import PostgresAdmin
from tests.support.processes import Spawner


@pytest.fixture
def environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The database's URL is where the guide looks for it; nothing is configured."""
    DBOS.destroy()
    monkeypatch.setenv("DBOS_SYSTEM_DATABASE_URL", database_url)
    yield
    DBOS.destroy()


@runs(("Configuring DBOS", 1))
def test_configuration_takes_its_url_from_the_environment(
    environment: None, database_url: str, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.names["os"] = os
    program.run()
    assert program["config"] == {"name": "dbos-example", "system_database_url": database_url}
    DBOS.launch()

    @DBOS.workflow()
    def workflow() -> str:
        return "done"

    assert workflow() == "done"
    assert [one.status for one in DBOS.list_workflows()] == ["SUCCESS"]
    DBOS.destroy()
    monkeypatch.delenv("DBOS_SYSTEM_DATABASE_URL")
    with pytest.raises(KeyError):
        program.run()


def test_urls_have_the_shape_that_the_guide_shows(database_url: str) -> None:
    """What is in brackets filled in; a password's special characters are escaped."""
    shapes = {number: guide_blocks()["Configuring DBOS", number].code.strip() for number in (3, 4, 5)}
    DBOS.destroy()
    if database_url.startswith("sqlite"):
        path = database_url.removeprefix("sqlite:///")
        App(shapes[4].replace("[path to database file]", path)).launch()
        DBOS.destroy()
        assert os.path.exists(path)
        DBOS(config={"name": "of-the-default"})
        assert _configured_url() == shapes[5].replace("[application_name]", "of-the-default")
        DBOS.destroy()
        return
    parts = {"username": "ann", "password": quote("p@ss:w/rd", safe=""), "hostname": "127.0.0.1", "port": "1"}
    url = re.sub(r"\[([\w ]+)\]", lambda found: parts.get(found[1], "shop"), shapes[3])
    assert make_url(url).password == "p@ss:w/rd"
    with pytest.raises(error.DBOSInitializationError) as refused:
        App(url).launch()
    assert "127.0.0.1" in str(refused.value)
    assert "p@ss" not in str(refused.value)
    assert "p%40ss" not in str(refused.value)


def _configured_url() -> str | None:
    application = DBOS._application
    assert application is not None
    return application.settings.system_database_url


@runs(("Custom Serialization", 2))
def test_values_are_stored_by_the_serializer_of_the_configuration(
    environment: None, database_url: str, program: Program
) -> None:
    program.names |= {"os": os, "json": json, "Any": Any}
    program.run()

    @DBOS.step()
    def step(number: int) -> dict[str, int]:
        return {"number": number}

    @DBOS.workflow()
    def workflow(number: int) -> list[dict[str, int]]:
        return [step(number), step(number + 1)]

    @DBOS.workflow()
    def unstorable() -> object:
        return object()

    expected = [{"number": 1}, {"number": 2}]
    assert workflow(1) == expected
    (status,) = DBOS.list_workflows()
    assert status.output == expected
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    table = "workflow_status" if engine.dialect.name == "sqlite" else "dbos.workflow_status"
    with engine.connect() as connection:
        inputs, output = connection.execute(text(f"SELECT inputs, output FROM {table}")).one()
    engine.dispose()
    assert (json.loads(inputs), json.loads(output)) == ({"args": [1], "kwargs": {}}, expected)
    with pytest.raises(Exception, match="unstorable"):
        unstorable()


@runs(("Testing DBOS Functions", 1))
def test_fixture_gives_each_test_an_empty_database(
    database_url: str, program: Program, spawn: Spawner, postgres_neighbour: None
) -> None:
    """In a real run of pytest, with two tests that do the same."""
    preamble = "import os\nimport pytest\nfrom dbos import DBOS, DBOSConfig\n\n"
    tests = """

@DBOS.step()
def step():
    return 7

@DBOS.workflow()
def workflow():
    return step()

@pytest.mark.parametrize("number", [1, 2])
def test_workflow(reset_dbos, number):
    assert DBOS.list_workflows() == []
    assert workflow() == 7
    assert [one.status for one in DBOS.list_workflows()] == ["SUCCESS"]

if __name__ == "__main__":
    raise SystemExit(pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", os.getcwd(), __file__]))
"""
    environment = {"TESTING_DATABASE_URL": database_url, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    assert "2 passed" in spawn(preamble + program.code() + tests, env=environment).succeed()


@pytest.fixture
def postgres_neighbour(request: pytest.FixtureRequest, database_url: str) -> Any:
    """On Postgres the workflows of an application database are in a neighbour of it, to be dropped after the test."""
    yield
    if database_url.startswith("postgres"):
        admin: PostgresAdmin = request.getfixturevalue("postgres_admin")
        name = database_url.rpartition("/")[2].partition("?")[0]
        admin.drop_database(admin.url_of(f"{name}_dbos_sys"))
