"""FastAPI without the hook: workflows are endpoints over real HTTP."""

from __future__ import annotations

import threading
from contextlib import suppress

import httpx
import pytest

from dbos import DBOS
from tests.support.apps import App
from tests.support.processes import Spawner
from tests.support.servers import client_of, free_port

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")


SERVER = """
    import asyncio, sys
    import uvicorn
    from dbos import DBOS, SetWorkflowID
    from fastapi import FastAPI, HTTPException
    from pydantic import BaseModel

    url, port = sys.argv[1], int(sys.argv[2])
    app = FastAPI()

    class Order(BaseModel):
        item: str
        count: int = 1

    @DBOS.step()
    def price(item: str) -> int:
        return len(item)

    @DBOS.step()
    async def price_async(item: str) -> int:
        await asyncio.sleep(0)
        return len(item)

    @app.get("/sync/{item}")
    @DBOS.workflow()
    def sync(item: str, count: int = 1) -> dict[str, int]:
        return {"total": price(item) * count}

    @app.get("/async/{item}")
    @DBOS.workflow()
    async def coroutine(item: str, count: int = 1) -> dict[str, int]:
        prices = await asyncio.gather(*(price_async(item) for _ in range(count)))
        return {"total": sum(prices)}

    @app.post("/orders")
    @DBOS.workflow()
    def order(order: Order) -> Order:
        return Order(item=order.item.upper(), count=order.count + 1)

    @app.get("/missing")
    @DBOS.workflow()
    def missing() -> None:
        raise HTTPException(404, "nothing here")

    @app.get("/step/{item}")
    @DBOS.step()
    def step(item: str) -> int:
        return price(item)

    @app.get("/started/{item}")
    async def started(item: str) -> str:
        with SetWorkflowID(f"started-{item}"):
            handle = await DBOS.start_workflow_async(coroutine, item, count=2)
        await handle.get_result()
        return handle.workflow_id

    DBOS(config={"name": "app", "system_database_url": url})
    DBOS.launch()
    uvicorn.run(app, host="127.0.0.1", port=port)
    DBOS.destroy()
"""


def test_workflows_are_endpoints_over_http(database_url: str, spawn: Spawner, application: App) -> None:
    """Path and query parameters, bodies, validation, sync and async, errors, and the schema that FastAPI makes."""
    port = free_port()
    child = spawn(SERVER, database_url, str(port))
    with client_of(child, port) as client:
        for kind in ("sync", "async"):
            assert client.get(f"/{kind}/pear").json() == {"total": 4}
            assert client.get(f"/{kind}/pear", params={"count": 3}).json() == {"total": 12}
            assert client.get(f"/{kind}/pear", params={"count": "many"}).status_code == 422
        assert client.post("/orders", json={"item": "fig"}).json() == {"item": "FIG", "count": 2}
        assert client.post("/orders", json={"count": 2}).status_code == 422
        missing = client.get("/missing")
        assert (missing.status_code, missing.json()) == (404, {"detail": "nothing here"})
        assert client.get("/step/apple").json() == 5
        for _ in range(2):
            assert client.get("/started/kiwi").json() == "started-kiwi"
        paths = client.get("/openapi.json").json()["paths"]
    for kind in ("sync", "async"):
        parameters = {
            one["name"]: (one["in"], one["schema"]["type"]) for one in paths[f"/{kind}/{{item}}"]["get"]["parameters"]
        }
        assert parameters == {"item": ("path", "string"), "count": ("query", "integer")}
    application.launch()
    counts = {name: len(DBOS.list_workflows(name=name)) for name in ("sync", "coroutine", "order", "missing", "step")}
    assert counts == {"sync": 2, "coroutine": 3, "order": 1, "missing": 1, "step": 0}
    (failed,) = DBOS.list_workflows(name="missing")
    assert (failed.status, type(failed.error).__name__) == ("ERROR", "HTTPException")


def test_server_killed_in_a_request_finishes_its_workflow_in_the_next(
    database_url: str, spawn: Spawner, application: App
) -> None:
    program = """
        import sys, time
        import uvicorn
        from dbos import DBOS
        from fastapi import FastAPI

        url, port, waits = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "wait"
        app = FastAPI()

        @DBOS.step()
        def work() -> str:
            print("working", flush=True)
            if waits:
                time.sleep(60)
            return "done"

        @app.get("/{item}")
        @DBOS.workflow()
        def workflow(item: str) -> str:
            return work() + item

        DBOS(config={"name": "app", "system_database_url": url, "application_version": "1"})
        DBOS.launch()
        uvicorn.run(app, host="127.0.0.1", port=port)
    """
    port = free_port()
    child = spawn(program, database_url, str(port), "wait")
    with client_of(child, port) as client:

        def ask() -> None:
            with suppress(httpx.HTTPError):
                client.get("/x")

        request = threading.Thread(target=ask, daemon=True)
        request.start()
        child.wait_for_line("working")
        child.kill()
        request.join(30)
    again = spawn(program, database_url, str(free_port()), "go")
    again.wait_for_line("working")
    application.launch()
    (workflow,) = DBOS.list_workflows()
    assert DBOS.get_result(workflow.workflow_id) == "donex"
