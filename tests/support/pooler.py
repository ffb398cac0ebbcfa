"""PgBouncer before the tests' PostgreSQL server, where it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from tests.support.waiting import wait_until

EXECUTABLE = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
"""The program, or ``None``; the environment variable names one that is not on the path."""

_SETTINGS = """
[databases]
* = {target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
{user}
"""


class Pooler:
    """A PgBouncer in transaction mode before the server of the URL.

    Attributes:
        url: The same database through it.
    """

    def __init__(self, url: str) -> None:
        assert EXECUTABLE is not None
        parsed = make_url(url)
        with psycopg.connect(parsed.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
            info = connection.info
            target = f"host={info.host} port={info.port} user={info.user}"
            target += f" password={info.password}" if info.password else ""
            host = info.host
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        user = ""
        if os.geteuid() == 0:
            # It refuses to run as root. The server's own user may use the server's socket.
            owner = Path(host).owner() if host.startswith("/") else "nobody"
            user = f"user = {owner}"
        self._directory = Path(tempfile.mkdtemp(prefix="dbos-pooler-"))
        self._directory.chmod(0o755)
        settings = self._directory / "pgbouncer.ini"
        settings.write_text(_SETTINGS.format(target=target, port=port, user=user))
        self._process = subprocess.Popen([EXECUTABLE, "-q", str(settings)], stderr=subprocess.DEVNULL)
        query = {key: value for key, value in parsed.query.items() if key not in ("host", "port")}
        self.url = parsed.set(host="127.0.0.1", port=port, query=query).render_as_string(hide_password=False)

        def accepts() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        try:
            wait_until(accepts, "PgBouncer accepts connections")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
