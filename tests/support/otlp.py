"""A receiver of OTLP over HTTP, and what it received."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class OtlpReceiver:
    """Listens at a free port. What it received are spans and records as they were sent, each with its resource."""

    def __init__(self) -> None:
        self.spans: list[tuple[dict[str, Any], Any]] = []
        self.records: list[tuple[dict[str, Any], Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.receive(self.path, body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{self._server.server_port}"
        self.traces_url, self.logs_url = f"{url}/v1/traces", f"{url}/v1/logs"

    def receive(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for spans in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = values(spans.resource.attributes)
                self.spans.extend((resource, span) for scope in spans.scope_spans for span in scope.spans)
        else:
            for logs in ExportLogsServiceRequest.FromString(body).resource_logs:
                resource = values(logs.resource.attributes)
                self.records.extend((resource, record) for scope in logs.scope_logs for record in scope.log_records)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def values(attributes: Any) -> dict[str, Any]:
    """Attributes as they were sent, as a dict."""
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}
