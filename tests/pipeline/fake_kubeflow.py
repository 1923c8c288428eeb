"""A stand-in for the API of Kubeflow Pipelines, small but strict, for the tests of what talks to it."""

from __future__ import annotations

import email
import json
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

from pipeline.config import CONFIGS

API = "/apis/v2beta1"
DEMO = CONFIGS / "demo.yaml"
ROOT = "root=gs://cxr/root"


class FakeKubeflow(ThreadingHTTPServer):
    """The part of the v2beta1 API that kfp's client uses for runs; what it was sent is kept."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.token: str | None = None
        self.states = ["PENDING", "RUNNING", "SUCCEEDED"]
        self.failure: dict[str, Any] = {}
        self.broken_answers = 0
        self.refusal: str | None = None
        self.pipelines: list[dict[str, Any]] = []
        self.versions: list[dict[str, Any]] = []
        self.experiments: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.recurring: list[dict[str, Any]] = []

    def added(self, rows: list[dict[str, Any]], prefix: str, values: dict[str, Any]) -> dict[str, Any]:
        rows.append({f"{prefix}_id": f"{prefix}-{len(rows) + 1}", **values})
        return rows[-1]


class Handler(BaseHTTPRequestHandler):
    server: FakeKubeflow

    def do_GET(self) -> None:
        server, (path, query) = self.server, self.asked()
        if path == "/healthz":
            self.answer({"multi_user": False})
        elif path == "/experiments":
            self.answer({"experiments": named(server.experiments, query)})
        elif path == "/pipelines":
            found = [row for row in named(server.pipelines, query) if row["namespace"] == query.get("namespace")]
            self.answer({"pipelines": found} if found else {})
        elif path.endswith("/versions"):
            newest = server.versions[::-1]
            found = named(newest, query) if "filter" in query else newest
            self.answer({"pipeline_versions": found[: int(query["page_size"])]})
        elif path.startswith("/runs/"):
            if server.broken_answers:
                server.broken_answers -= 1
                self.answer({"message": "try later"}, 503)
                return
            run = server.runs[int(path.rpartition("-")[2]) - 1]
            state = server.states.pop(0) if len(server.states) > 1 else server.states[0]
            self.answer(run | {"state": state} | (server.failure if state == "FAILED" else {}))
        else:
            self.answer({"message": f"no {path}"}, 404)

    def do_POST(self) -> None:
        server, (path, query) = self.server, self.asked()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if path.startswith("/pipelines/upload"):
            name, documents = query["name"], list(yaml.safe_load_all(uploaded(self.headers["Content-Type"], body)))
            pipeline = query.get("pipelineid")
            if pipeline is None:
                pipeline = server.added(
                    server.pipelines, "pipeline", {"display_name": name, "namespace": query.get("namespace")}
                )["pipeline_id"]
            if name in {version["display_name"] for version in server.versions}:
                self.answer({"code": 6, "message": f"Already exist error: version {name}"}, 409)
                return
            version = {"pipeline_id": pipeline, "display_name": name, "documents": documents}
            self.answer({**server.added(server.versions, "pipeline_version", version), "documents": None})
            return
        if path == "/runs" and server.refusal:
            self.answer({"code": 3, "message": server.refusal}, 400)
            return
        rows, prefix = {
            "/experiments": (server.experiments, "experiment"),
            "/runs": (server.runs, "run"),
            "/recurringruns": (server.recurring, "recurring_run"),
        }[path]
        self.answer(server.added(rows, prefix, json.loads(body)))

    def asked(self) -> tuple[str, dict[str, str]]:
        url = urllib.parse.urlsplit(self.path)
        if self.server.token and self.headers["Authorization"] != f"Bearer {self.server.token}":
            return "/refused", {}
        return url.path.removeprefix(API), dict(urllib.parse.parse_qsl(url.query))

    def answer(self, values: dict[str, Any], status: int = 200) -> None:
        status = 401 if self.asked()[0] == "/refused" else status
        data = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def named(rows: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
    (predicate,) = json.loads(query["filter"])["predicates"]
    return [row for row in rows if row["display_name"] == predicate["stringValue"]]


def uploaded(content_type: str, body: bytes) -> bytes:
    message = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    (part,) = message.get_payload()
    assert isinstance(part, email.message.Message)
    assert part.get_param("name", header="Content-Disposition") == "uploadfile"
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    return data
