"""Database URLs: read as SQLAlchemy does, and with several hosts as PostgreSQL's own library does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_SEVERAL_HOSTS = re.compile(
    r"(?P<before>postgres[a-z0-9+]*://(?:[^@]*@|(?!.*@)))(?P<hosts>[^@/?]*,[^@/?]*)(?P<path>/[^?]*)?"
)


def read_url(url: str) -> URL:
    """The URL in its parts; ``//host1:5432,host2:5432/database`` is one of two hosts, which are tried in turn.

    Raises:
        sqlalchemy.exc.ArgumentError: It is none.
        ValueError: As well.
    """
    from sqlalchemy.engine import make_url

    match = _SEVERAL_HOSTS.match(url)
    if match is None:
        return make_url(url)
    parsed = make_url(match["before"] + (match["path"] or "") + url[match.end() :])
    hosts = tuple(match["hosts"].split(","))
    for host in hosts:
        int(host.rpartition(":")[2] if ":" in host else 0)
    return parsed.update_query_dict({"host": hosts})
