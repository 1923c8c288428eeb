"""A Kubernetes API in a thread: keeps objects, answers like the real one, and lets a test play the controllers."""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import yaml

Json = dict[str, Any]

PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v[^/]+)/namespaces/(?P<namespace>[^/]+)"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?"
)
RIGHTS = re.compile(r"^\|[^|]*\|[^|]+\| ([a-z/]+) \| ([a-z, ]+) \|$", re.MULTILINE)
GUIDE = Path(__file__).parents[2] / "docs" / "clusters.md"
VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}


def documented_rights() -> set[tuple[str, str]]:
    """Pairs of verb and resource of the table in docs/clusters.md: a step may do nothing else."""
    header, *rows = RIGHTS.findall(GUIDE.read_text())
    assert header == ("resource", "verbs")
    assert len(rows) == 6
    return {(verb, resource) for resource, verbs in rows for verb in verbs.split(", ")}


class Asked(NamedTuple):
    """One request."""

    verb: str
    plural: str
    name: str | None
    body: Any


class RefusalError(Exception):
    """An answer that is not a success."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = {"kind": "Status", "code": code, "reason": reason, "message": message, "status": "Failure"}


class KubeApi:
    """The server; use as a context manager.

    Attributes:
        objects: by plural and name.
        logs: text of a pod's log, with a timestamp before each line.
        permitted: pairs of verb and plural (or pods/log); anything else is answered with 403.
        unavailable: how many of the next requests are answered with 503.
        controllers: by plural, called with an object before it is returned by a get; what it changes is kept.
        asked: every request.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Json]] = {"pods": {}}
        self.known = {"pods", "services", "deployments", "trainjobs", "inferenceservices"}
        self.logs: dict[str, str] = {}
        self.permitted = documented_rights()
        self.unavailable = 0
        self.controllers: dict[str, Callable[[Json], None]] = {}
        self.asked: list[Asked] = []
        self._lock = threading.RLock()
        self._version = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    def __enter__(self) -> KubeApi:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def write_kubeconfig(self, file: Path) -> None:
        """Credentials for this server, in the namespace `cxr`."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        file.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "here", "cluster": {"server": url}}],
                    "users": [{"name": "me", "user": {"token": "secret"}}],
                    "contexts": [{"name": "c", "context": {"cluster": "here", "user": "me", "namespace": "cxr"}}],
                    "current-context": "c",
                }
            )
        )

    def verbs(self, plural: str) -> list[str]:
        """The verbs asked of a kind, in order, repeated gets as one."""
        found = [asked.verb for asked in self.asked if asked.plural == plural]
        return [verb for i, verb in enumerate(found) if verb != "get" or i == 0 or found[i - 1] != "get"]

    def add_pod(self, name: str, labels: dict[str, str], *, phase: str = "Running", **status: Any) -> None:
        """A pod, which no controller makes here."""
        metadata = {"name": name, "labels": labels, "namespace": "cxr"}
        self.objects["pods"][name] = {"metadata": metadata, "status": {"phase": phase, **status}}

    def answer(self, method: str, url: str, body: Any) -> Any:
        parts = urlsplit(url)
        match = PATH.fullmatch(parts.path)
        if match is None or match["plural"] not in self.known:
            raise RefusalError(404, "NotFound", "the server could not find the requested resource")
        plural, name, sub = match["plural"], match["name"], match["sub"]
        verb = VERBS.get(method, "get" if name else "list")
        with self._lock:
            self.asked.append(Asked(verb, f"{plural}/{sub}" if sub else plural, name, body))
            if self.unavailable > 0:
                self.unavailable -= 1
                raise RefusalError(503, "ServiceUnavailable", "the server is starting")
            if match["namespace"] != "cxr":
                raise RefusalError(404, "NotFound", f'namespaces "{match["namespace"]}" not found')
            what = f"{plural}/{sub}" if sub else plural
            if (verb, what) not in self.permitted:
                message = f'{plural} is forbidden: User "system:serviceaccount:cxr:pipeline" cannot {verb} "{what}"'
                raise RefusalError(403, "Forbidden", message)
            kept = self.objects.setdefault(plural, {})
            if verb == "create":
                return self._create(kept, plural, body)
            if verb == "list":
                asked = parse_qs(parts.query)
                if named := asked.get("fieldSelector"):
                    items = [o for o in kept.values() if named == [f"metadata.name={o['metadata']['name']}"]]
                    return {"kind": "List", "metadata": {}, "items": items}
                wanted = dict(pair.split("=") for pair in asked["labelSelector"][0].split(","))
                items = [o for o in kept.values() if wanted.items() <= o["metadata"].get("labels", {}).items()]
                return {"kind": "List", "metadata": {}, "items": items}
            if name not in kept:
                raise RefusalError(404, "NotFound", f'{plural} "{name}" not found')
            if sub == "log":
                return self._log(name, parse_qs(parts.query))
            if verb == "delete":
                del kept[name]
                return {"kind": "Status", "status": "Success"}
            if verb == "patch":
                kept[name] = self._patched(kept[name], body)
            elif plural in self.controllers:
                self.controllers[plural](kept[name])
            return kept[name]

    def _create(self, kept: dict[str, Json], plural: str, body: Json) -> Json:
        name = body["metadata"]["name"]
        if name in kept:
            raise RefusalError(409, "AlreadyExists", f'{plural} "{name}" already exists')
        kept[name] = copy.deepcopy(body)
        kept[name]["metadata"] |= {"generation": 1, "resourceVersion": self._next(), "uid": self._next()}
        return kept[name]

    def _patched(self, found: Json, operations: list[Json]) -> Json:
        patched = copy.deepcopy(found)
        for operation in operations:
            *parents, last = (p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:])
            node = patched
            for key in parents:
                node = node[key]
            if operation["op"] == "remove":
                del node[last]
            elif operation["op"] == "test":
                if node[last] != operation["value"]:
                    raise RefusalError(409, "Conflict", f"testing value {operation['path']} failed")
            else:
                assert operation["op"] == "add" or last in node, operation
                node[last] = operation["value"]
        changed = patched["spec"] != found["spec"]
        patched["metadata"]["generation"] += changed
        patched["metadata"]["resourceVersion"] = self._next()
        return patched

    def _log(self, name: str, query: dict[str, list[str]]) -> bytes:
        lines = self.logs.get(name, "").splitlines()
        if "tailLines" in query:
            lines = lines[-int(query["tailLines"][0]) :]
        if "timestamps" not in query:
            lines = [line.partition(" ")[2] for line in lines]
        return "\n".join(lines).encode()

    def _next(self) -> str:
        self._version += 1
        return str(self._version)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                code, found = 200, None
                try:
                    assert self.headers["Authorization"] == "Bearer secret"
                    found = answer(self.command, self.path, json.loads(data) if data else None)
                except RefusalError as refusal:
                    code, found = refusal.code, refusal.status
                raw = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(code)
                self.send_header("Content-Type", "text/plain" if isinstance(found, bytes) else "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_PATCH = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Handler
