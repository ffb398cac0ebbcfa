"""The other process of the tests of clients and wake-ups: a client, an application, or both."""

from __future__ import annotations

from typing import Any

from dbos import DBOS, DBOSClient
from tests.support.looks import ShiftedClock
from tests.support.puppets import Puppet
from tests.support.remote import serve
from tests.support.twins import Twins


def client(*args: Any, uses_twins: bool = False, **kwargs: Any) -> Any:
    made = DBOSClient(*args, **kwargs)
    return Twins(made) if uses_twins else made


clock = ShiftedClock()


def launch(config: Any, seams: dict[str, Any]) -> None:
    DBOS(config=config)
    application: Any = DBOS._application  # pyright: ignore[reportPrivateUsage]
    application.clock = clock
    for name, value in seams.items():
        setattr(application, name, value)
    DBOS.launch()


def is_launched() -> bool:
    return DBOS._application is not None  # pyright: ignore[reportPrivateUsage]


serve(
    {
        "client": client,
        "launch": launch,
        "is_launched": is_launched,
        "clock": clock,
        "DBOS": DBOS,
        "Puppet": Puppet,
    }
)
