"""Random requests made from the admin server's own description: every answer is one that it describes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode

from dbos import DBOS, SetWorkflowID
from tests.support.admin import AdminApp

EXAMPLES = 12

LASTING = {"/deactivate", "/dbos-garbage-collect", "/dbos-global-timeout"}
"""What changes the answers to all later requests."""


@DBOS.workflow(name="fuzz.work")
def work(number: int) -> int:
    return number


def is_known(operation: Any, case: Any) -> None:
    """Ask for a workflow that exists, half of the time: else nearly all that is fuzzed is 404."""
    if case.path_parameters and len(str(case.path_parameters["workflow_id"])) % 2:
        case.path_parameters["workflow_id"] = "known"


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.name.lower())
def test_every_answer_is_as_described(admin: httpx.Client, admin_app: AdminApp, mode: GenerationMode) -> None:
    with SetWorkflowID("known"):
        work(1)
    schema = schemathesis.openapi.from_url(f"{str(admin.base_url).rstrip('/')}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == 16
    for operation in sorted(operations, key=lambda operation: operation.path in LASTING):
        if operation.body or mode is GenerationMode.POSITIVE:
            _fuzz(operation, mode)
    assert admin.get("/dbos-healthz").text == "healthy"


def _fuzz(operation: Any, mode: GenerationMode) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        is_known(operation, case)
        response = case.call()
        assert response.status_code != 500, response.text
        case.validate_response(response)

    check()
