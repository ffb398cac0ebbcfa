"""The configuration: what each field may hold, and how a mistake is named."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from dbos import DBOS, DBOSConfig, Serializer, error
from tests.support.apps import App
from tests.support.postgres import PostgresAdmin


@DBOS.workflow(name="configured")
def workflow() -> str:
    return "done"


class Other(Serializer):
    def serialize(self, data: Any) -> str:
        return repr(data)

    def deserialize(cls, serialized_data: str) -> Any:
        return eval(serialized_data)


def configure(**fields: Any) -> None:
    DBOS(config={"name": "app", **fields})  # type: ignore[typeddict-item]


def launch(**fields: Any) -> None:
    configure(**fields)
    DBOS.launch()


GOOD: dict[str, list[Any]] = {
    "enable_patching": [True, False],
    "application_version": ["1.0"],
    "executor_id": ["me"],
    "system_database_url": ["sqlite:///x.sqlite", "postgres://u@localhost/x"],
    "application_database_url": ["sqlite:///x.sqlite"],
    "database_url": ["sqlite:///x.sqlite"],
    "sys_db_pool_size": [1, 20],
    "dbos_system_schema": ["dbos", "my Schema"],
    "use_listen_notify": [True, False],
    "notification_listener_polling_interval_sec": [0.01, 1],
    "scheduler_polling_interval_sec": [0.01, 30],
    "max_executor_threads": [1, 64],
    "lease_timeout_sec": [0.5, 60],
    "termination_timeout_sec": [0, 0.5, 60],
    "alert_queue_wait_sec": [0.5, 600],
    "alert_repeat_interval_sec": [0, 0.5, 600],
    "conductor_key": ["key"],
    "conductor_url": ["wss://conductor"],
    "enable_otlp": [False],
    "otlp_traces_endpoints": [[], ["http://localhost:4318/v1/traces"]],
    "otlp_logs_endpoints": [["http://localhost:4318/v1/logs"]],
    "otlp_attributes": [{}, {"service": "x"}],
    "log_level": ["DEBUG", "info", "CRITICAL"],
    "console_log_level": ["WARNING"],
    "otlp_log_level": ["ERROR"],
    "run_admin_server": [True, False],
    "admin_port": [0, 3001, 65535],
    "admin_host": ["127.0.0.1", "::1", "localhost"],
    "admin_token": ["a-secret-of-sixteen-characters"],
    "admin_console_writes": [True, False],
    "retention": [{}, {"max_age_sec": 0.5, "max_workflows": 0, "max_age_sec_by_name": {"f": 1}}, {"max_age_sec": None}],
    "serializer": [Other()],
    "system_database_engine": [create_engine("sqlite://")],
}

BAD: dict[str, list[Any]] = {
    "name": [7, b"app", True],
    "enable_patching": ["yes", 1],
    "application_version": [1.0, ""],
    "executor_id": [7, "", "a\x00b"],
    "system_database_url": [Path("x.sqlite"), ""],
    "application_database_url": [5],
    "database_url": [[]],
    "sys_db_pool_size": [0, -1, 2.5, "20", True],
    "dbos_system_schema": ["", 1, "a\x00b"],
    "use_listen_notify": ["on"],
    "notification_listener_polling_interval_sec": [0, -1, float("inf"), float("nan"), "1"],
    "scheduler_polling_interval_sec": [0, True],
    "max_executor_threads": [0, "many"],
    "lease_timeout_sec": [0, -1, float("inf"), "1", True],
    "termination_timeout_sec": [-1, float("inf"), "1", True],
    "alert_queue_wait_sec": [0, -1, "1", True],
    "alert_repeat_interval_sec": [-1, float("nan"), "1", True],
    "conductor_key": [1],
    "conductor_url": [1],
    "enable_otlp": [0],
    "otlp_traces_endpoints": ["http://localhost", [1]],
    "otlp_logs_endpoints": [("http://localhost",)],
    "otlp_attributes": [["a"], {"a": 1}],
    "log_level": ["LOUD", 10],
    "console_log_level": ["quiet"],
    "otlp_log_level": [1],
    "run_admin_server": ["no"],
    "admin_port": [-1, 65536, "3001", False],
    "admin_host": [1, "", "0.0.0.0", "example.org"],
    "retention": [
        1,
        {"max_age": 1},
        {"max_age_sec": -1},
        {"max_age_sec": "1"},
        {"max_age_sec": float("nan")},
        {"max_workflows": 1.5},
        {"max_workflows": -1},
        {"max_age_sec_by_name": []},
        {"max_age_sec_by_name": {1: 1}},
        {"max_age_sec_by_name": {"f": True}},
    ],
    "admin_token": [1, "short", "x" * 15, "tökens of sixteen characters"],
    "admin_console_writes": ["yes", 1],
    "serializer": [Other, "json", object()],
    "system_database_engine": ["sqlite://", object()],
}


def test_tables_above_cover_every_field() -> None:
    assert set(GOOD) | {"name"} == set(DBOSConfig.__annotations__) == set(BAD)


@pytest.mark.parametrize("field", GOOD)
def test_right_values_and_none_are_accepted(unlaunched: Path, field: str, caplog: pytest.LogCaptureFixture) -> None:
    for value in (*GOOD[field], None):
        configure(**{field: value})
        DBOS.destroy()
    assert "there is no field" not in caplog.text


@pytest.mark.parametrize("field", BAD)
def test_wrong_values_are_refused_by_name(unlaunched: Path, field: str) -> None:
    for value in BAD[field]:
        with pytest.raises(error.DBOSInitializationError) as info:
            configure(**{field: value})
        assert field in str(info.value), value
        with pytest.raises(error.DBOSException):
            DBOS.launch()


@pytest.mark.parametrize("field", ["system_database_url", "application_database_url", "database_url"])
def test_refused_url_does_not_leak_its_password(unlaunched: Path, field: str) -> None:
    for url in ("mysql://u:secret@localhost/x", "secret nonsense", "postgresql+asyncpg://u:secret@localhost/x"):
        with pytest.raises(error.DBOSInitializationError) as info:
            launch(**{field: url})
        assert "secret" not in str(info.value)
        assert "URL" in str(info.value)
        DBOS.destroy()


def test_no_configuration_is_a_type_error() -> None:
    for wrong in (lambda: DBOS(), lambda: DBOS({"name": "app"})):  # type: ignore[call-arg,misc]
        with pytest.raises(TypeError, match=r"config|positional"):
            wrong()  # type: ignore[no-untyped-call]
    for config in (None, "app", ["name"]):
        with pytest.raises(error.DBOSInitializationError, match="must be a DBOSConfig"):
            DBOS(config=config)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [None, "", ".", "..", "a/b", "a\\b", "a\x00b", "a\nb", "a:b", "a*", "x" * 300])
def test_names_that_are_no_safe_file_names_are_refused(unlaunched: Path, name: Any) -> None:
    with pytest.raises(error.DBOSInitializationError, match="name"):
        DBOS(config={"name": name})
    with pytest.raises(error.DBOSInitializationError, match="has no name"):
        DBOS(config={})  # type: ignore[typeddict-item]


@pytest.mark.parametrize("name", ["app", "my-app", "My App 2", ".hidden", "日本", "a%20b", "a#b", "100% sure", "a;b@c"])
def test_name_names_the_default_database_as_it_is(unlaunched: Path, name: str) -> None:
    DBOS(config={"name": name})
    DBOS.launch()
    assert workflow() == "done"
    DBOS.destroy()
    assert {path.name for path in unlaunched.iterdir() if path.suffix == ".sqlite"} == {f"{name}.sqlite"}


def test_older_file_name_is_opened_only_where_it_alone_exists(
    unlaunched: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dbos")
    DBOS(config={"name": "my_app"})
    DBOS.launch()
    workflow()
    DBOS.destroy()
    DBOS(config={"name": "my-app"})
    DBOS.launch()
    assert len(DBOS.list_workflows()) == 1
    assert "my_app.sqlite" in caplog.text
    DBOS.destroy()
    assert not (unlaunched / "my-app.sqlite").exists()
    (unlaunched / "my-app.sqlite").touch()
    DBOS(config={"name": "my-app"})
    DBOS.launch()
    assert DBOS.list_workflows() == []


def test_unknown_fields_warn_and_name_the_nearest(unlaunched: Path, caplog: pytest.LogCaptureFixture) -> None:
    configure(system_databse_url="sqlite:///x.sqlite", zzz=1)
    assert "'system_databse_url'" in caplog.text
    assert "Did you mean 'system_database_url'?" in caplog.text
    (unrelated,) = (record.getMessage() for record in caplog.records if "'zzz'" in record.getMessage())
    assert "Did you mean" not in unrelated


def test_conductor_key_is_one_warning(unlaunched: Path, caplog: pytest.LogCaptureFixture) -> None:
    configure(conductor_key="secret-key", conductor_url="wss://c")
    DBOS.launch()
    assert caplog.text.count("conductor") >= 1
    assert len([record for record in caplog.records if "conductor" in record.getMessage()]) == 1
    assert "secret-key" not in caplog.text


def test_only_an_application_database_is_given(
    unlaunched: Path, postgres_admin: PostgresAdmin, postgres_url: str
) -> None:
    """On SQLite the system tables go to the same file, on Postgres to the database's neighbour."""
    configure(application_database_url="sqlite:///both.sqlite")
    DBOS.launch()
    DBOS.destroy()
    assert (unlaunched / "both.sqlite").exists()
    configure(database_url="sqlite:///not.sqlite", application_database_url="sqlite:///wins.sqlite")
    DBOS.launch()
    DBOS.destroy()
    assert (unlaunched / "wins.sqlite").exists()
    assert not (unlaunched / "not.sqlite").exists()
    configure(database_url=postgres_url)
    neighbour = f"{postgres_url.rpartition('/')[2].partition('?')[0]}_dbos_sys"
    try:
        DBOS.launch()
        assert workflow() == "done"
        DBOS.destroy()
        found = postgres_admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (neighbour,))
        assert found == [(1,)]
    finally:
        postgres_admin.drop_database(postgres_admin.url_of(neighbour))


def test_missing_postgres_database_is_created(unlaunched: Path, postgres_admin: PostgresAdmin) -> None:
    url = postgres_admin.url_of('dbos_test_"missing" db')
    try:
        configure(system_database_url=url)
        DBOS.launch()
        assert workflow() == "done"
        DBOS.destroy()
    finally:
        postgres_admin.drop_database(url)


@pytest.mark.parametrize("schema", ["custom", "my Schema", 'quo"te', "dbos"])
def test_tables_live_in_the_configured_schema(
    unlaunched: Path, postgres_admin: PostgresAdmin, postgres_url: str, schema: str
) -> None:
    configure(system_database_url=postgres_url, dbos_system_schema=schema)
    DBOS.launch()
    assert workflow() == "done"
    assert len(DBOS.list_workflows()) == 1
    DBOS.destroy()
    engine = create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT table_schema FROM information_schema.tables WHERE table_name = 'workflow_status'")
        )
        assert [row[0] for row in rows] == [schema]
    engine.dispose()


def test_engine_of_the_application_is_used_and_stays_open(app: App) -> None:
    DBOS.destroy()
    engine = create_engine(app.url.replace("postgresql://", "postgresql+psycopg://"))
    config = app.config(system_database_engine=engine)
    del config["system_database_url"]
    for _ in range(2):
        DBOS(config=config)
        DBOS.launch()
        assert workflow() == "done"
        DBOS.destroy()
    table = "dbos.workflow_status" if app.url.startswith("postgresql") else "workflow_status"
    with engine.connect() as connection:
        assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 2
    engine.dispose()


def test_engine_in_memory_works(unlaunched: Path) -> None:
    from sqlalchemy.pool import StaticPool

    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    configure(system_database_engine=engine)
    DBOS.launch()
    assert DBOS.start_workflow(workflow).get_result() == "done"
    DBOS.destroy()
    configure(system_database_url="sqlite://")
    DBOS.launch()
    assert DBOS.start_workflow(workflow).get_result() == "done"


def test_pool_of_one_connection_is_enough(app: App) -> None:
    app.relaunch(sys_db_pool_size=1)
    handles = [DBOS.start_workflow(workflow) for _ in range(20)]
    assert {handle.get_result() for handle in handles} == {"done"}


def test_listen_notify_on_sqlite_is_refused(unlaunched: Path) -> None:
    for url in (None, "sqlite:///x.sqlite"):
        configure(use_listen_notify=True, system_database_url=url)
        with pytest.raises(error.DBOSInitializationError, match="use_listen_notify"):
            DBOS.launch()
        DBOS.destroy()


def test_labels_and_versions(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the configuration; the environment overrides it; workflows are tagged with them."""

    def tags() -> tuple[str | None, str | None, str | None]:
        handle = DBOS.start_workflow(workflow)
        handle.get_result()
        status = handle.get_status()
        assert (status.executor_id, status.app_version) == (DBOS.executor_id, DBOS.application_version)
        return status.executor_id, status.app_version, status.app_id

    assert tags()[:2] == ("local", "test")
    app.relaunch(executor_id="me", application_version="v1")
    assert tags()[:2] == ("me", "v1")
    app.relaunch(application_version=None, enable_patching=True)
    assert tags()[:2] == ("local", "PATCHING_ENABLED")
    monkeypatch.setenv("DBOS__VMID", "vm")
    monkeypatch.setenv("DBOS__APPVERSION", "env")
    monkeypatch.setenv("DBOS__APPID", "id")
    app.relaunch(executor_id="me", application_version="v1", enable_patching=True)
    assert tags() == ("vm", "env", "id")
