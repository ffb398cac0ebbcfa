"""Fan out over an API that allows few requests a second: ask it for each city, gather the answers.

Run `python api.py` in one terminal and `python main.py monday` in another one; README.md tells what to try.
"""

from __future__ import annotations

import argparse
import json
import os
import urllib.request
from urllib.error import HTTPError
from urllib.parse import quote

from dbos import DBOS, DBOSConfig, Queue, SetWorkflowID
from dbos.error import DBOSMaxStepRetriesExceeded

API_URL = os.environ.get("API_URL", "http://127.0.0.1:9000")
REQUESTS_PER_SECOND = int(os.environ.get("REQUESTS_PER_SECOND", "5"))
CITIES = [
    *("Accra", "Atlantis", "Bergen", "Berlin", "Bogota", "Cairo", "Dakar", "Delhi", "Dublin", "Geneva"),
    *("Hanoi", "Havana", "Jakarta", "Lagos", "Lima", "Lisbon", "London", "Madrid", "Nairobi", "Osaka"),
    *("Oslo", "Paris", "Prague", "Quito", "Riga", "Rome", "Seoul", "Sofia", "Tunis", "Vienna"),
]

# Fewer than the API allows, as requests that are tried again do not pass the queue a second time.
queue = Queue("weather", limiter={"limit": REQUESTS_PER_SECOND, "period": 1.0})


@DBOS.workflow()
def survey(cities: list[str]) -> dict[str, int | None]:
    """The temperature of each city; None where there is none to be had."""
    handles = {city: queue.enqueue(ask, city) for city in cities}
    temperatures: dict[str, int | None] = {}
    for city, handle in handles.items():
        try:
            temperatures[city] = handle.get_result()
        except DBOSMaxStepRetriesExceeded:
            temperatures[city] = None  # the others count, nevertheless
    return temperatures


@DBOS.workflow()
def ask(city: str) -> int | None:
    """One city. A workflow for each, as it is workflows that queues start, limit and show."""
    return fetch(city)


@DBOS.step(retries_allowed=True, max_attempts=8, interval_seconds=0.5, backoff_rate=2)
def fetch(city: str) -> int | None:
    """One request. That there is no such city (404) is an answer.

    Raises:
        OSError: A refusal (429), a failure (503), no connection: to be tried again.
    """
    try:
        with urllib.request.urlopen(f"{API_URL}/{quote(city)}", timeout=10) as response:
            degrees: int = json.load(response)["degrees"]
    except HTTPError as error:
        if error.code == 404:
            return None
        raise
    DBOS.logger.info("%s: %d degrees", city, degrees)
    return degrees


def main() -> None:
    """Start the survey, or go on with it if there is one of that name, and print what it found."""
    parser = argparse.ArgumentParser(description="Ask for the weather in many cities.")
    parser.add_argument("run", help="the name of the run: with the same name it goes on, with a new one it begins")
    options = parser.parse_args()

    config: DBOSConfig = {
        "name": "weather",
        "system_database_url": os.environ.get("DBOS_SYSTEM_DATABASE_URL"),  # None: the file weather.sqlite
    }
    DBOS(config=config)
    DBOS.launch()
    with SetWorkflowID(options.run):
        temperatures = DBOS.start_workflow(survey, CITIES).get_result()
    missing = [city for city, degrees in temperatures.items() if degrees is None]
    print(f"{len(temperatures) - len(missing)} of {len(CITIES)} cities; nothing for {', '.join(missing) or 'none'}")
    DBOS.destroy()


if __name__ == "__main__":
    main()
