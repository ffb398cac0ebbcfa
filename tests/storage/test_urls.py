"""Database URLs, also with several hosts."""

from __future__ import annotations

import pytest
from sqlalchemy import make_url

from dbos.storage.urls import read_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("h1:1,h2:2/db?target_session_attrs=read-write", {"host": "h1,h2", "port": "1,2", "dbname": "db"}),
        ("u:p%40@h1:1,h2:2/db", {"user": "u", "password": "p@", "host": "h1,h2", "port": "1,2", "dbname": "db"}),
        ("u:p,q@h1,h2/db", {"user": "u", "password": "p,q", "host": "h1,h2", "port": ",", "dbname": "db"}),
    ],
)
def test_several_hosts_are_passed_on_to_the_driver(url: str, expected: dict[str, str]) -> None:
    parsed = read_url(f"postgresql+psycopg://{url}")
    _, arguments = parsed.get_dialect()().create_connect_args(parsed)
    assert {key: value for key, value in arguments.items() if key != "target_session_attrs"} == expected
    assert read_url(parsed.render_as_string(hide_password=False)) == parsed


@pytest.mark.parametrize(
    "url", ["postgresql://u:p,q@h/a,b", "postgresql://u:p,q/r@h/a", "sqlite:///a,b", "postgresql://h/db?x=1,2"]
)
def test_other_commas_mean_nothing(url: str) -> None:
    assert read_url(url) == make_url(url)


def test_ports_are_numbers() -> None:
    with pytest.raises(ValueError, match="port"):
        read_url("postgresql://host:port,host:5432/db")
