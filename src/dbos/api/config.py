"""The configuration: what it may hold, and a check that names what is wrong with it."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict, cast

from dbos.api.retention import RetentionConfig, read_retention
from dbos.error import DBOSInitializationError
from dbos.model.limits import MAX_QUEUE_BYTES
from dbos.model.retention import RetentionPolicy
from dbos.runtime.leases import TTL_S
from dbos.runtime.schedules import POLL_INTERVAL_S
from dbos.runtime.waits import LONGEST_INTERVAL_S
from dbos.serialization.serializer import Serializer

if TYPE_CHECKING:
    import sqlalchemy
    from typing_extensions import Required

_logger = logging.getLogger("dbos")


class DBOSConfig(TypedDict, total=False):
    """The configuration of an application. Only ``name`` is required; any other field may be ``None``: its default.

    Attributes:
        name: The application's name. Names the default database file, so it must be a safe file name.
        system_database_url: Where workflows are recorded: ``postgresql://user:password@host:port/database`` or
            ``sqlite:///path``. Default: ``sqlite:///{name}.sqlite``. Servers of which one takes over from the other:
            ``postgresql://user:password@host1:port,host2:port/database?target_session_attrs=read-write``.
        application_database_url: Where transactions run, in the same form. Default: ``database_url``, which is another
            name for it, else the system database. If only this is given, the system database is its neighbour
            ``{database}_dbos_sys`` on PostgreSQL, and the same file on SQLite.
        system_database_engine: A SQLAlchemy engine to use instead of the URL. It stays yours.
        sys_db_pool_size: The largest number of database connections. Default: 20.
        dbos_system_schema: The PostgreSQL schema of the library's tables. Default: ``dbos``.
        application_version: Workflows are recovered by executors of the version that started them. Default: a hash
            of the workflows' source.
        enable_patching: Whether workflows may call ``DBOS.patch``. All code is then of one version, unless
            ``application_version`` says otherwise: it runs all workflows, also those that older code began.
            Default: False.
        executor_id: A label for this process. Default: ``local``.
        serializer: How values are stored. Default: pickle.
        use_listen_notify: Whether processes notify each other through PostgreSQL of messages, events and the ends of
            workflows, or only look for them now and then. Default: True. SQLite has no notifications; its processes
            watch the file.
        notification_listener_polling_interval_sec: How long to wait at most before looking without having been
            notified, in seconds. Default: 1.
        lease_timeout_sec: For how long an executor may be silent until others take its workflows over, in seconds; the
            same for all executors of a database. One that ends on the same host is noticed at once. Default: 10.
        termination_timeout_sec: For how long running workflows may complete after SIGTERM, before others take them
            over, in seconds. Default: 5.
        alert_queue_wait_sec: For how long work may wait to be taken up until the alert handler is told, in seconds.
            Default: 300. See docs/alerts.md.
        alert_repeat_interval_sec: The shortest time between two alerts of one subject, in seconds; 0: none is held
            back. Default: 300.
        scheduler_polling_interval_sec: How long to wait at most before looking for changes of schedules without having
            been notified, in seconds. Default: 2.
        enable_otlp: Whether workflows and steps make OpenTelemetry spans: docs/telemetry.md. It needs the packages of
            ``dbos[otel]``. Default: False; then the other ``otlp_`` fields do nothing.
        otlp_traces_endpoints: Full URLs of OTLP receivers: ``http://localhost:4318/v1/traces``. Default: none, so that
            spans go to the tracer provider that the application has set up.
        otlp_logs_endpoints: The same for what the logger ``dbos`` logs. Default: none.
        otlp_attributes: What all exported spans and log records have.
        otlp_log_level: The lowest level that is exported, of what ``log_level`` lets pass. Default: all of it.
        log_level: Of the logger ``dbos``. Default: ``INFO``.
        run_admin_server: Whether to serve HTTP requests that tell of this process's workflows and steer them. Default:
            True. See docs/admin.md.
        admin_port: The port it listens at; 0 for any free one. Default: 3001. A port that is taken is a warning. The
            environment variable ``DBOS__ADMIN_PORT`` wins.
        admin_host: The address it listens at. Default: ``127.0.0.1``. Any other but the loopback ones needs a token.
        admin_token: What its clients have to show, of at least 16 characters. The environment variable
            ``DBOS__ADMIN_TOKEN`` wins. Default: none.
        admin_console_writes: Whether the console that it serves at ``/console`` may cancel, resume, fork and delete
            workflows, and steer schedules. Default: False.
        retention: For how long workflows that have ended are kept; see ``RetentionConfig``. Default: for ever.
        database_url: Another name for ``application_database_url``.
        max_executor_threads: Checked, and not used.
        console_log_level: Checked, and not used.
        conductor_key: Checked, and not used: there is no control plane to be connected to.
        conductor_url: Likewise.
    """

    name: Required[str]
    enable_patching: bool | None
    application_version: str | None
    executor_id: str | None

    system_database_url: str | None
    application_database_url: str | None
    database_url: str | None
    sys_db_pool_size: int | None
    dbos_system_schema: str | None
    system_database_engine: sqlalchemy.Engine | None
    use_listen_notify: bool | None
    notification_listener_polling_interval_sec: float | None
    scheduler_polling_interval_sec: float | None
    max_executor_threads: int | None
    lease_timeout_sec: float | None
    termination_timeout_sec: float | None
    alert_queue_wait_sec: float | None
    alert_repeat_interval_sec: float | None

    conductor_key: str | None
    conductor_url: str | None

    enable_otlp: bool | None
    otlp_traces_endpoints: list[str] | None
    otlp_logs_endpoints: list[str] | None
    otlp_attributes: dict[str, str] | None
    log_level: str | None
    console_log_level: str | None
    otlp_log_level: str | None

    run_admin_server: bool | None
    admin_port: int | None
    admin_host: str | None
    admin_token: str | None
    admin_console_writes: bool | None

    retention: RetentionConfig | None

    serializer: Serializer | None


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """Where the admin server listens, and what it asks for.

    Attributes:
        host: An address of this machine.
        port: 0 for any free one.
        token: What requests must show; ``None`` for nothing, on a loopback address only.
        allows_console_writes: Whether its console may change something.
    """

    host: str
    port: int
    token: str | None = field(repr=False)
    allows_console_writes: bool = False


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Where OpenTelemetry traces and logs go.

    Attributes:
        traces_endpoints: URLs of OTLP receivers.
        logs_endpoints: The same for logs.
        attributes: What all that is exported has.
        log_level: The lowest level of the records that are exported.
    """

    traces_endpoints: tuple[str, ...]
    logs_endpoints: tuple[str, ...]
    attributes: Mapping[str, str]
    log_level: str


@dataclass(frozen=True, slots=True)
class Settings:
    """A checked configuration, the defaults filled in. ``given`` keeps all of it, for features to come."""

    name: str
    system_database_url: str | None
    application_database_url: str | None
    system_database_engine: Any
    schema: str
    pool_size: int
    executor_id: str
    application_version: str | None
    application_id: str
    serializer: Serializer | None
    log_level: str
    uses_notifications: bool
    longest_poll_s: float
    lease_ttl_s: float
    termination_timeout_s: float
    is_patching_enabled: bool
    alert_queue_wait_s: float
    alert_repeat_interval_s: float
    admin: AdminSettings | None
    telemetry: TelemetrySettings | None
    retention: RetentionPolicy
    schedules_poll_s: float
    given: Mapping[str, Any]


_STRINGS = (
    "application_version",
    "executor_id",
    "system_database_url",
    "application_database_url",
    "database_url",
    "dbos_system_schema",
    "conductor_key",
    "conductor_url",
    "log_level",
    "console_log_level",
    "otlp_log_level",
    "admin_host",
    "admin_token",
)
_BOOLEANS = ("enable_patching", "use_listen_notify", "enable_otlp", "run_admin_server", "admin_console_writes")
_INTEGERS = {
    "sys_db_pool_size": (1, 10_000),
    "max_executor_threads": (1, 1_000_000),
    "admin_port": (0, 65_535),
}
_SECONDS = (
    "notification_listener_polling_interval_sec",
    "scheduler_polling_interval_sec",
    "lease_timeout_sec",
    "alert_queue_wait_sec",
)
_SECONDS_OR_NONE = ("termination_timeout_sec", "alert_repeat_interval_sec")
_LISTS = ("otlp_traces_endpoints", "otlp_logs_endpoints")
_KEYS = frozenset(DBOSConfig.__annotations__)
_MIN_TOKEN_CHARS = 16
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


ALERT_QUEUE_WAIT_S = 300.0

ALERT_REPEAT_INTERVAL_S = 300.0

TERMINATION_TIMEOUT_S = 5.0
"""Less than what supervisors of processes wait before they kill."""

MAX_NAME_BYTES = 200
"""The longest name of an application: a file's name may have 255 bytes, and the database adds endings."""


def check_config(config: Any) -> Settings:
    """Check the configuration and fill in the defaults.

    Raises:
        DBOSInitializationError: A value is wrong; the message names the field, the value and what it may be.
    """
    if not isinstance(config, Mapping):
        raise DBOSInitializationError(f"The configuration must be a DBOSConfig (a dict), not {_type(config)}.")
    given: dict[str, Any] = {}
    for key, value in cast("Mapping[str, Any]", config).items():
        if key not in _KEYS:
            _warn_unknown(str(key))
        elif value is not None:
            _check_value(key, value)
            given[key] = value
    name = _check_name(given.get("name"))
    if given.get("conductor_key") is not None:
        _logger.warning("conductor_key is set, but there is no conductor: the library needs none. It is ignored.")
    url = given.get("system_database_url")
    if url is None and given.get("system_database_engine") is None:
        url = _url_from_application(given) or default_url(name)
    return Settings(
        name=name,
        system_database_url=url,
        application_database_url=_application_url(given),
        system_database_engine=given.get("system_database_engine"),
        schema=given.get("dbos_system_schema", "dbos"),
        pool_size=given.get("sys_db_pool_size", 20),
        executor_id=os.environ.get("DBOS__VMID") or given.get("executor_id", "local"),
        application_version=os.environ.get("DBOS__APPVERSION") or given.get("application_version"),
        application_id=os.environ.get("DBOS__APPID", ""),
        serializer=given.get("serializer"),
        log_level=given.get("log_level", "INFO").upper(),
        uses_notifications=given.get("use_listen_notify", True),
        admin=_admin_settings(given),
        telemetry=_telemetry_settings(given),
        retention=read_retention(given.get("retention", {})),
        longest_poll_s=float(given.get("notification_listener_polling_interval_sec", LONGEST_INTERVAL_S)),
        lease_ttl_s=float(given.get("lease_timeout_sec", TTL_S)),
        termination_timeout_s=float(given.get("termination_timeout_sec", TERMINATION_TIMEOUT_S)),
        is_patching_enabled=given.get("enable_patching", False),
        alert_queue_wait_s=float(given.get("alert_queue_wait_sec", ALERT_QUEUE_WAIT_S)),
        alert_repeat_interval_s=float(given.get("alert_repeat_interval_sec", ALERT_REPEAT_INTERVAL_S)),
        schedules_poll_s=float(given.get("scheduler_polling_interval_sec", POLL_INTERVAL_S)),
        given=given,
    )


def _telemetry_settings(given: Mapping[str, Any]) -> TelemetrySettings | None:
    if not given.get("enable_otlp", False):
        return None
    return TelemetrySettings(
        traces_endpoints=tuple(given.get("otlp_traces_endpoints", ())),
        logs_endpoints=tuple(given.get("otlp_logs_endpoints", ())),
        attributes=dict(given.get("otlp_attributes", {})),
        log_level=given.get("otlp_log_level", "DEBUG").upper(),
    )


def _check_name(name: Any) -> str:
    if name is None or name == "":
        raise DBOSInitializationError('The configuration has no name. Give your application one: {"name": "my-app"}.')
    is_short = len(name.encode("utf-8", "replace")) <= MAX_NAME_BYTES
    if not is_short or name in (".", "..") or any(character in name for character in '/\\\x00\n\r<>:"|?*'):
        raise DBOSInitializationError(
            f"The application's name is {name[:80]!r}, which is no safe file name. Use at most {MAX_NAME_BYTES} "
            "letters, digits, '-', '_' and '.'."
        )
    return str(name)


def _check_value(key: str, value: object) -> None:
    if key == "name" or key in _STRINGS:
        _expect(key, value, isinstance(value, str), "a str")
        _expect(key, value, key == "name" or value != "", "not empty (leave it out for the default)")
        _expect(key, value, "\x00" not in str(value), "without NUL characters")
        is_unicode = str(value).encode("utf-8", "replace").decode() == value
        _expect(key, value, is_unicode, "valid Unicode, without lone surrogates")
        if key == "application_version":
            is_short = len(str(value).encode("utf-8", "replace")) <= MAX_QUEUE_BYTES
            _expect(key, value, is_short, f"at most {MAX_QUEUE_BYTES} bytes long")
    elif key in _BOOLEANS:
        _expect(key, value, isinstance(value, bool), "True or False")
    elif key in _INTEGERS:
        low, high = _INTEGERS[key]
        is_in_range = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        _expect(key, value, is_in_range, f"an int from {low} to {high}")
    elif key in _SECONDS:
        is_positive = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
        _expect(key, value, is_positive, "a positive number of seconds")
    elif key in _SECONDS_OR_NONE:
        is_time = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
        _expect(key, value, is_time, "a number of seconds, 0 or more")
    elif key in _LISTS:
        _expect(key, value, _is_list(value), "a list of str")
    elif key == "otlp_attributes":
        _expect(key, value, _is_dict(value), "a dict of str to str")
    elif key == "retention":
        try:
            read_retention(value)
        except ValueError as error:
            raise DBOSInitializationError(f"Configuration: retention {error}.") from None
    elif key == "serializer":
        _expect(key, value, isinstance(value, Serializer), "an instance of a subclass of dbos.Serializer")
    elif key == "system_database_engine":
        _expect(key, value, hasattr(value, "raw_connection") and hasattr(value, "url"), "a sqlalchemy.Engine")
    if key.endswith("log_level"):
        _expect(key, value, str(value).upper() in _LEVELS, f"one of {', '.join(_LEVELS)}")


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in cast("list[object]", value))


def _is_dict(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    items = cast("dict[object, object]", value).items()
    return all(isinstance(key, str) and isinstance(item, str) for key, item in items)


def _expect(key: str, value: Any, is_right: bool, what: str) -> None:
    if not is_right:
        shown = "a str" if key.endswith(("_url", "_key", "_token")) and isinstance(value, str) else repr(value)
        raise DBOSInitializationError(f"Configuration: {key} must be {what}, and is {shown} ({_type(value)}).")


def _warn_unknown(key: str) -> None:
    nearest = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    _logger.warning("Configuration: there is no field %r; it is ignored.%s", key, hint)


def _admin_settings(given: Mapping[str, Any]) -> AdminSettings | None:
    """``None`` if there is to be no admin server."""
    if not given.get("run_admin_server", True):
        return None
    host = given.get("admin_host", "127.0.0.1")
    token = os.environ.get("DBOS__ADMIN_TOKEN") or given.get("admin_token")
    if token is None and not is_loopback(host):
        raise DBOSInitializationError(
            f"Configuration: admin_host is {host!r}, where other machines can connect. Set admin_token (or the "
            "environment variable DBOS__ADMIN_TOKEN), which clients of the admin server then have to show; or leave "
            "admin_host out."
        )
    if token is not None:
        check_token(token, "Configuration: admin_token")
    return AdminSettings(host, _admin_port(given), token, given.get("admin_console_writes", False))


def check_token(token: str, what: str) -> None:
    """Raise ``DBOSInitializationError`` if the token can be guessed, or cannot be sent. ``what`` is what it is."""
    if not (token.isascii() and token.isprintable() and len(token) >= _MIN_TOKEN_CHARS):
        raise DBOSInitializationError(
            f"{what} must be at least {_MIN_TOKEN_CHARS} printable ASCII characters that nobody can guess. "
            "Make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
        )


def _admin_port(given: Mapping[str, Any]) -> int:
    text = os.environ.get("DBOS__ADMIN_PORT")
    if not text:
        return int(given.get("admin_port", 3001))
    if not text.isdecimal() or int(text) > 65_535:
        raise DBOSInitializationError(f"The environment variable DBOS__ADMIN_PORT is {text!r}, which is no port.")
    return int(text)


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to the address."""
    if host in ("127.0.0.1", "::1"):
        return True
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _url_from_application(given: Mapping[str, Any]) -> str | None:
    url = _application_url(given)
    return None if url is None else url_beside(url)


def url_beside(application_url: str) -> str:
    """The system database of an application that names none: on Postgres its database's neighbour with a suffix, on
    SQLite the same file.

    Raises:
        DBOSInitializationError: The URL is none, or of another kind of database.
    """
    from dbos.storage.opening import parse_url

    parsed = parse_url(application_url)
    if parsed.get_backend_name() == "sqlite":
        return application_url
    return parsed.set(database=f"{parsed.database}_dbos_sys").render_as_string(hide_password=False)


def _application_url(given: Mapping[str, Any]) -> str | None:
    return cast("str | None", given.get("application_database_url", given.get("database_url")))


def default_url(name: str) -> str:
    """The system database of an application that names none at all: a file of its own name."""
    older = name.replace("-", "_")
    if older != name and os.path.exists(f"{older}.sqlite") and not os.path.exists(f"{name}.sqlite"):
        _logger.info("Opening %s.sqlite, made by an older version; a new one would be %s.sqlite", older, name)
        return f"sqlite:///{older}.sqlite"
    if "%" not in name:
        return f"sqlite:///{name}.sqlite"
    # What a percent sign in a URL stands for depends on the version of SQLAlchemy.
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=f"{name}.sqlite").render_as_string()


def _type(value: Any) -> str:
    return type(value).__name__
