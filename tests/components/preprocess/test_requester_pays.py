"""A requester-pays bucket: every request names the project that is billed."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import pytest

from components.cxr.storage import open_storage
from tests.components.preprocess.steps import edit_rows, rows_of, run
from tests.components.preprocess.test_mimic_iv import METADATA, write_iv


class Mimic(Protocol):
    dir: Path

    def values(self, **preprocess: Any) -> dict[str, dict[str, Any]]: ...


@pytest.fixture
def requests(gcs_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the client asks of the storage server, as it goes over the wire."""
    paths: list[str] = []

    class Recorder(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            server = http.client.HTTPConnection(urlsplit(gcs_server).netloc)
            server.request("GET", self.path, headers=dict(self.headers))
            answer = server.getresponse()
            data = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            server.close()

        def log_message(self, *arguments: object) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as recorder:
        Thread(target=recorder.serve_forever, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{recorder.server_port}")
        yield paths
        recorder.shutdown()


@pytest.mark.parametrize("project", ["billed-project", None])
def test_tables_listings_reports_and_films(
    mimic: Mimic,
    tmp_path: Path,
    gcs_server: str,
    gcs_bucket: str,
    requests: list[str],
    monkeypatch: pytest.MonkeyPatch,
    project: str | None,
) -> None:
    edit_rows(mimic.dir / METADATA, lambda row: row | {"StudyDate": "21600101"})
    bucket = gcs_bucket.removeprefix("gs://")
    with monkeypatch.context() as direct:
        direct.setenv("STORAGE_EMULATOR_HOST", gcs_server)
        open_storage(f"{gcs_bucket}/cxr").upload_folder(mimic.dir)
        open_storage(f"{gcs_bucket}/iv").upload_folder(write_iv(tmp_path / "iv"))
    values = mimic.values()
    source = {"dir": f"{gcs_bucket}/cxr", "mimic_iv_dir": f"{gcs_bucket}/iv"}
    values["data"] |= source | ({"user_project": project} if project else {})
    assert len(rows_of(run(values, tmp_path / "root"))) == 18
    asked = [urlsplit(path) for path in requests if bucket in path]
    for part in ("/o?", ".dcm", ".txt", "chexpert", "patients", "admissions"):
        assert any(part in path for path in requests), part
    assert len(asked) > 30
    for url in asked:
        assert parse_qs(url.query).get("userProject") == ([project] if project else None), url.path
