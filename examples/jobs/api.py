"""The API: takes jobs, and tells how far they are. It runs none of them, and knows their code by name only."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from dbos import DBOSClient, WorkflowStatus

DATABASE_URL = os.environ.get("DBOS_SYSTEM_DATABASE_URL", "sqlite:///jobs.sqlite")
PROGRESS = "progress"

client: DBOSClient


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    """Connect to the database, where a worker must have been launched before."""
    global client
    with DBOSClient(system_database_url=DATABASE_URL) as client:
        yield


app = FastAPI(title="Word counter", lifespan=lifespan)


class Job(BaseModel):
    """What is to be counted."""

    pages: list[str]


@app.put("/jobs/{job_id}", status_code=202)
async def add_job(job_id: str, job: Job) -> dict[str, str]:
    """Enqueue a job, once for each id. When this answers, the job will be done, whatever is killed."""
    await client.enqueue_async({"queue_name": "jobs", "workflow_name": "count_words", "workflow_id": job_id}, job.pages)
    return {"job": job_id}


@app.get("/jobs")
async def list_jobs() -> dict[str, str]:
    """The status of each job, in the order in which they came."""
    return {job.workflow_id: job.status for job in await client.list_workflows_async(name="count_words")}


@app.get("/jobs/{job_id}")
async def show_job(job_id: str) -> dict[str, Any]:
    """How far a job is, which worker has it, or had it last, and its result once it has one."""
    job = await find_job(job_id)
    progress = await client.get_event_async(job_id, PROGRESS, timeout_seconds=0)
    return {"status": job.status, "worker": job.executor_id, "progress": progress, "words": job.output}


@app.delete("/jobs/{job_id}")
async def cancel_job(job_id: str) -> None:
    """Have a job stop before its next page, or never start. One that has ended stays as it is."""
    await find_job(job_id)
    await client.cancel_workflow_async(job_id)


@app.get("/jobs/{job_id}/progress")
async def follow_job(job_id: str) -> StreamingResponse:
    """The progress of a job, a line of JSON for each page, as it comes, until the job ends."""
    await find_job(job_id)

    async def lines() -> AsyncIterator[str]:
        async for progress in client.read_stream_async(job_id, PROGRESS):
            yield json.dumps(progress) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


async def find_job(job_id: str) -> WorkflowStatus:
    job = await client.get_workflow_status_async(job_id)
    if job is None:
        raise HTTPException(404, "No such job")
    return job


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
