"""What the page on containers says is tried out: the manifests are valid, and the worker runs as they have it run."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml

from tests.docs.documents import DOCUMENTS, Fence, fences_of
from tests.support.processes import ROOT, Spawner
from tests.support.servers import free_port

PAGE = ROOT / "docs" / "deployment.md"
FENCES = fences_of(PAGE.read_text(encoding="utf-8"))

DATA = [
    (document, fence)
    for document in DOCUMENTS
    for fence in fences_of(document.read_text(encoding="utf-8"))
    if fence.language == "yaml"
]

TOKEN = "a-token-that-is-long-enough"


@pytest.mark.parametrize(("document", "fence"), DATA, ids=lambda part: getattr(part, "name", getattr(part, "line", "")))
def test_block_of_yaml_is_valid(document: Path, fence: Fence) -> None:
    for value in yaml.safe_load_all(fence.code):
        assert isinstance(value, dict)
        if "apiVersion" in value:
            kubernetes_validate.validate(value, "1.31", strict=True)


def test_wrong_manifest_is_noticed() -> None:
    deployment = _deployment()
    deployment["spec"]["template"]["spec"]["terminationGraceSeconds"] = 30
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.31", strict=True)


def test_worker_runs_as_the_deployment_says(database_url: str, spawn: Spawner, tmp_path: Path) -> None:
    (source,) = (fence.code for fence in FENCES if fence.title == "worker.py")
    (tmp_path / "worker.py").write_text(source, encoding="utf-8")
    pod = _deployment()["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    port = free_port()
    values = {"DBOS__VMID": "shop-worker-1", "DBOS_SYSTEM_DATABASE_URL": database_url, "DBOS__ADMIN_TOKEN": TOKEN}
    environment = {entry["name"]: entry.get("value") or values[entry["name"]] for entry in container["env"]}
    worker = spawn(tmp_path / "worker.py", env={**environment, "DBOS__ADMIN_PORT": str(port)})
    worker.wait_for_line("^the worker is up$")

    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Host": "10.1.2.3:3001"}, timeout=30) as kubelet:
        for probe in ("startupProbe", "livenessProbe"):
            assert kubelet.get(container[probe]["httpGet"]["path"]).text == "healthy"
        assert kubelet.post("/workflows", json={}).status_code == 401
        assert kubelet.post("/workflows", json={}, headers={"Authorization": f"Bearer {TOKEN}"}).json() == []

    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=pod["terminationGracePeriodSeconds"]) == -signal.SIGTERM
    assert "termination_timeout_sec" in source


def _deployment() -> dict[str, Any]:
    values = (yaml.safe_load(fence.code) for fence in FENCES if "kind: Deployment" in fence.code)
    deployment: dict[str, Any] = next(values)
    return deployment
