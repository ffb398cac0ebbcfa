"""The survey: killed on the way, against an API that refuses and fails. The API counts."""

from __future__ import annotations

import re
from collections.abc import Mapping

import httpx

from dbos import DBOSClient
from tests.support.apps import eventually
from tests.support.processes import ROOT, Spawner

FOLDER = ROOT / "examples" / "rate_limits"
END = "29 of 30 cities; nothing for Atlantis"


def start_api(spawn: Spawner, settings: Mapping[str, str]) -> str:
    """Start the API; its URL."""
    api = spawn(FOLDER / "api.py", env={"API_PORT": "0", **settings})
    return api.wait_for_line(r"listens at (http\S+)")[1]


def cities_in(log: str) -> set[str]:
    """The cities whose temperature a log tells of."""
    return set(re.findall(r": (\w+): \d+ degrees$", log, re.MULTILINE))


def recorded_cities(client: DBOSClient) -> set[str]:
    """The cities that will not be asked for again."""
    done = client.list_workflows(name="ask", status="SUCCESS")
    return {workflow.input["args"][0] for workflow in done if workflow.input is not None}


def test_killed_survey_asks_again_only_for_what_was_not_recorded(database_url: str, spawn: Spawner) -> None:
    """Each sixth request fails."""
    api = start_api(spawn, {"ALLOWED_PER_SECOND": "1000", "FAILS_EACH": "6"})
    settings = {"DBOS_SYSTEM_DATABASE_URL": database_url, "API_URL": api, "REQUESTS_PER_SECOND": "15"}
    killed = spawn(FOLDER / "main.py", "monday", env=settings)
    killed.wait_for_line("degrees", count=3, stream="stderr")
    with DBOSClient(system_database_url=database_url) as client:
        eventually(lambda: recorded_cities(client), "an answer is recorded")
        killed.kill()
        recorded = recorded_cities(client)
    assert len(recorded) < 30, "it was killed too late to prove anything"

    second = spawn(FOLDER / "main.py", "monday", env=settings)
    assert second.succeed() == f"{END}\n"
    assert cities_in(second.stderr).isdisjoint(recorded)
    cities = cities_in(killed.stderr) | cities_in(second.stderr)
    assert len(cities) == 29
    counts = httpx.get(f"{api}/counts").json()
    assert counts["503"] > 0
    for city in cities:
        assert counts[f"{city} 200"] <= (1 if city in recorded else 2), city


def test_survey_without_a_crash(spawn: Spawner) -> None:
    """As the example's README runs it: the default database. Some requests are refused, if the machine is quick."""
    api = start_api(spawn, {"ALLOWED_PER_SECOND": "20", "FAILS_EACH": "1000"})
    settings = {"API_URL": api, "REQUESTS_PER_SECOND": "1000"}
    survey = spawn(FOLDER / "main.py", "monday", env=settings)
    assert survey.succeed() == f"{END}\n"
    assert len(cities_in(survey.stderr)) == 29
    assert spawn(FOLDER / "main.py", "monday", env=settings).succeed() == f"{END}\n", "as recorded"
    counts = httpx.get(f"{api}/counts").json()
    assert (counts["200"], counts["404"], counts["Atlantis 404"]) == (29, 1, 1)
