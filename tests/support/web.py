"""Workflows for tests of web servers."""

from __future__ import annotations

from dbos import DBOS

KEY = "dbos-idempotency-key"
"""The header that sets the id of a request's first workflow."""


@DBOS.workflow()
def workflow_id() -> str | None:
    return DBOS.workflow_id


@DBOS.workflow()
async def workflow_id_async() -> str | None:
    return DBOS.workflow_id
