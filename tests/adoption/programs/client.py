"""A client of the older library, of an application that runs with this one. Prints what each call gave."""

import json
import sys
from collections.abc import Callable
from typing import Any

from dbos import DBOSClient, DebouncerClient

client = DBOSClient(system_database_url=sys.argv[1])


def tell(what: str, call: Callable[[], Any]) -> None:
    try:
        answer = call()
    except Exception as error:
        answer = type(error).__name__
    print(json.dumps([what, answer], default=str), flush=True)


def enqueue(name: str, workflow_id: str, *args: Any, **options: Any) -> Any:
    return client.enqueue({"queue_name": "jobs", "workflow_name": name, "workflow_id": workflow_id, **options}, *args)


enqueue("talk", "talk", 5)
client.send("talk", "hello", "topic")
client.send("talk", "once", "topic", idempotency_key="key")
client.send("talk", "once", "topic", idempotency_key="key")
tell("result", lambda: client.retrieve_workflow("talk").get_result())
tell("event", lambda: client.get_event("talk", "said", 1))
tell("stream", lambda: list(client.read_stream("talk", "words")))
tell("status", lambda: client.retrieve_workflow("talk").get_status().status)
tell("error", lambda: enqueue("fail", "fail").get_result())
tell("steps", lambda: [step["function_name"] for step in client.list_workflow_steps("talk")])
tell("listed", lambda: [one.workflow_id for one in client.list_workflows(name="talk")])
enqueue("talk", "held", 1, queue_name="nowhere", deduplication_id="one")
tell("second", lambda: enqueue("talk", "other", 1, queue_name="nowhere", deduplication_id="one"))
tell("queued", lambda: [one.workflow_id for one in client.list_queued_workflows(queue_name="nowhere")])
client.cancel_workflow("held")
tell("cancelled", lambda: client.retrieve_workflow("held").get_status().status)
client.resume_workflow("held")
client.send("held", "a", "topic")
client.send("held", "b", "topic")
tell("resumed", lambda: client.retrieve_workflow("held").get_result())
tell("forked", lambda: client.fork_workflow("fail", 1).get_result())
debouncer = DebouncerClient(client, {"queue_name": "jobs", "workflow_name": "double"})
handle = debouncer.debounce("key", 1.0, 1)
debouncer.debounce("key", 0.1, 2)
tell("debounced", lambda: handle.get_result())
client.destroy()
