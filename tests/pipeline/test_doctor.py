"""What `doctor` says of real servers: a bucket, the API's health, MLflow's, a registry, and ports where nothing is."""

from __future__ import annotations

import re
import socketserver
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from google.cloud.storage import Client
from typer.testing import CliRunner

from components.cxr.errors import UserError
from pipeline.__main__ import app
from pipeline.config import CONFIGS
from pipeline.registry import find_image

DEAD = "http://127.0.0.1:9"
DIGEST = "sha256:" + "0123456789abcdef" * 4
STEPS = ("preprocess", "train", "evaluate", "serve")


class Handler(BaseHTTPRequestHandler):
    answers: dict[str, tuple[int, bytes]]

    def do_GET(self) -> None:
        status, body = self.answers.get(self.path, (404, b"{}"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


class NoHttp(socketserver.BaseRequestHandler):
    """The first frame of HTTP/2, which http.client takes for a line without sense."""

    def handle(self) -> None:
        self.request.recv(1000)
        self.request.sendall(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\r\n")


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """Kubeflow Pipelines, MLflow and a registry in one."""
    answers = {
        "/apis/v2beta1/healthz": (200, b'{"multi_user": false}'),
        "/health": (200, b"OK"),
        "/login/apis/v2beta1/healthz": (200, b"<html>sign in"),
        "/forbidden/health": (403, b"Invalid Host header"),
        **{f"/v2/cxrflow/{step}/manifests/1.0": (200, b"{}") for step in STEPS},
        f"/v2/cxrflow/train/manifests/{DIGEST}": (200, b"{}"),
        "/v2/cxrflow/private/manifests/1.0": (401, b"{}"),
    }
    handler = type("Answers", (Handler,), {"answers": answers})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def host(server: ThreadingHTTPServer) -> str:
    return f"127.0.0.1:{server.server_port}"


def doctor(*options: str, config: Path = CONFIGS / "demo.yaml", **environment: str | None) -> Result:
    arguments = ["doctor", "--config", str(config), *options]
    environment = {"CXRFLOW_ID_KEY": None, "KF_PIPELINES_ENDPOINT": None, "KFP_TOKEN": None, **environment}
    return CliRunner().invoke(app, arguments, env=environment)


def lines(result: Result) -> dict[str, tuple[str, str]]:
    """Status and text by name; every line is one finding."""
    assert result.stderr == ""
    found = {}
    for line in result.stdout.splitlines():
        status, rest = line.split(maxsplit=1)
        name, text = rest.split("  ", maxsplit=1)
        found[name] = (status, text.strip())
    return found


def test_where_everything_is_there_nothing_fails(host: str, gcs_bucket: str) -> None:
    options = [f"platform.images.{step}={host}/cxrflow/{step}:1.0" for step in STEPS]
    options += [f"platform.env.MLFLOW_TRACKING_URI=http://me:pw@{host}", f"root={gcs_bucket}/cxr"]
    options += [f"data.dir={gcs_bucket}/mimic", "platform.secrets=[{name: ids, env: {key: CXRFLOW_ID_KEY}}]"]
    arguments = [part for option in options for part in ("--set", option)]
    result = doctor(*arguments, "--endpoint", f"http://{host}/")
    assert result.exit_code == 0, result.output
    found = lines(result)
    assert found["endpoint"] == ("ok", f"http://{host} answers")
    assert found["root"] == ("ok", f"{gcs_bucket}/cxr can be written, read and deleted with your credentials")
    assert found["mlflow"] == ("ok", f"http://{host} answers")
    assert found["image train"] == ("ok", f"{host}/cxrflow/train:1.0 is in {host}")
    assert found["secret CXRFLOW_ID_KEY"][0] == "?"
    assert "describe secret ids" in found["secret CXRFLOW_ID_KEY"][1]
    assert found["data"][0] == "?"
    assert "pw" not in result.output
    assert list(Client().list_blobs(gcs_bucket.removeprefix("gs://"))) == []


def test_what_is_not_there_fails_with_its_fix(host: str, gcs_bucket: str) -> None:
    options = [f"platform.env.MLFLOW_TRACKING_URI={DEAD}", f"root={gcs_bucket}-other"]
    options += [f"platform.images.preprocess={host}/cxrflow/preprocess:2.0", "platform.images.serve=Serve:latest"]
    arguments = [part for option in options for part in ("--set", option)]
    result = doctor(*arguments, KF_PIPELINES_ENDPOINT=DEAD)
    assert result.exit_code == 1
    found = lines(result)
    for name, message in {
        "endpoint": f"does not answer: {DEAD}.* port-forward",
        "root": f"Google Cloud Storage answered 404 NotFound: {gcs_bucket}-other. Check the bucket's name",
        "data": "pods do not share a local folder: data.dir; found runs/synthetic",
        "mlflow": f"MLflow does not answer: {DEAD}; .*fix MLFLOW_TRACKING_URI",
        "image preprocess": f"the registry does not have it: {host}/cxrflow/preprocess:2.0. Push it",
        "image train": "no registry in the image's name: cxrflow-train:latest. Push it",
        "image serve": "not the name of an image: Serve:latest",
    }.items():
        status, text = found[name]
        assert status == "fail"
        assert re.search(message, text), f"{name}: {text}"


def test_a_login_page_and_a_refusal_are_told_apart(host: str, gcs_bucket: str) -> None:
    arguments = ["--set", f"root={gcs_bucket}", "--set", f"platform.env.MLFLOW_TRACKING_URI=http://{host}/forbidden"]
    found = lines(doctor(*arguments, "--endpoint", f"http://{host}/login"))
    assert found["endpoint"][0] == "fail"
    assert "not the API of Kubeflow Pipelines" in found["endpoint"][1]
    assert "KFP_TOKEN" in found["endpoint"][1]
    assert found["mlflow"] == (
        "fail", f"MLflow refuses: http://{host}/forbidden; found 403. "
        "Check the address, and `mlflow server --allowed-hosts`.",
    )  # fmt: skip
    assert lines(doctor("--endpoint", f"http://{host}/nothing"))["endpoint"][1].endswith(
        "found 404. Check the address."
    )


def test_a_port_where_nobody_speaks_http_is_told(gcs_bucket: str) -> None:
    """Such as that of gRPC, which stands beside the right one."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), NoHttp) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        host = f"127.0.0.1:{server.server_address[1]}"
        options = [f"root={gcs_bucket}", f"platform.env.MLFLOW_TRACKING_URI=http://{host}"]
        options.append(f"platform.images.train={host}/cxrflow/train:1.0")
        arguments = [part for option in options for part in ("--set", option)]
        found = lines(doctor(*arguments, "--endpoint", f"http://{host}"))
        server.shutdown()
    assert found["endpoint"][0] == found["mlflow"][0] == "fail"
    assert f"not the API of Kubeflow Pipelines: http://{host}. " in found["endpoint"][1]
    assert f"MLflow does not answer: http://{host}; found no answer by HTTP. " in found["mlflow"][1]
    assert found["image train"][0] == "?"


@pytest.mark.parametrize("uri", ["localhost:5000", "mlflow.example.org"])
def test_an_address_of_mlflow_without_http_is_told(uri: str, blob_config: Path) -> None:
    status, text = lines(doctor(config=blob_config, MLFLOW_TRACKING_URI=uri))["mlflow"]
    assert (status, text.startswith("no address of MLflow: MLFLOW_TRACKING_URI; expected an address")) == ("fail", True)


def test_a_name_that_only_the_cluster_knows_is_not_a_failure(host: str) -> None:
    arguments = ["--set", "platform.env.MLFLOW_TRACKING_URI=http://mlflow.mlops.invalid:5000"]
    status, text = lines(doctor(*arguments, "--endpoint", f"http://{host}"))["mlflow"]
    assert (status, text) == (
        "?",
        "http://mlflow.mlops.invalid:5000: no such name on this machine; in the cluster there may be",
    )


def test_this_machine_needs_no_endpoint_and_no_registry(blob_config: Path) -> None:
    result = doctor("--set", "platform.images.train=no-such-image:1", config=blob_config)
    assert result.exit_code == 0, result.output
    found = lines(result)
    assert "endpoint" not in found
    assert found["root"][0] == found["data"][0] == found["mlflow"][0] == "ok"
    assert "sqlite" in found["mlflow"][1]
    assert found["image train"] == ("?", "no-such-image:1 was not found from here; only a run in containers needs it")
    assert found["secret CXRFLOW_ID_KEY"][0] == "?"


def test_secrets_are_wanted_from_this_machines_environment(blob_config: Path, tmp_path: Path) -> None:
    secrets = ["--set", "platform.secrets=[{name: db, env: {pw: CXRFLOW_TEST_PASSWORD}}]"]
    result = doctor(*secrets, config=blob_config)
    assert result.exit_code == 1
    assert lines(result)["secret CXRFLOW_TEST_PASSWORD"] == ("fail", "not set here. export CXRFLOW_TEST_PASSWORD=…")
    result = doctor(*secrets, config=blob_config, CXRFLOW_TEST_PASSWORD="hidden", CXRFLOW_ID_KEY="hidden")
    assert result.exit_code == 0
    assert lines(result)["secret CXRFLOW_TEST_PASSWORD"] == lines(result)["secret CXRFLOW_ID_KEY"] == ("ok", "is set")
    assert "hidden" not in result.output


def test_a_root_that_cannot_be_written_fails(blob_config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = doctor("--set", f"root={tmp_path}/file/root", config=blob_config)
    assert result.exit_code == 1
    status, text = lines(result)["root"]
    assert (status, text.split(";")[0]) == ("fail", f"cannot write: {tmp_path}/file/root")


def test_an_image_is_asked_for_by_tag_or_digest(host: str) -> None:
    assert find_image(f"{host}/cxrflow/train@{DIGEST}", here=False) == f"in {host}"
    assert find_image(f"{host}/cxrflow/train:1.0@{DIGEST}", here=False) == f"in {host}"
    assert find_image(f"{host}/cxrflow/private:1.0", here=False) is None, "a login is wanted"
    with pytest.raises(UserError, match="does not have it"):
        find_image(f"{host}/cxrflow/train", here=False)  # latest
    assert find_image("127.0.0.1:9/cxrflow/train:1", here=False) is None


@pytest.mark.parametrize("image", ["", "a b", "host:5000/", "x@sha256:12", "x:ta/g", "UPPER/x:1", "x:-1"])
def test_what_is_no_image_is_said(image: str) -> None:
    with pytest.raises(UserError, match="not the name of an image"):
        find_image(image, here=True)


def test_every_place_of_the_data_is_looked_at(tmp_path: Path, gcs_bucket: str) -> None:
    """Also where MIMIC-IV lies, and the unlabeled films."""
    more = {
        "tables_dir": "tables_dir=/nowhere",
        "mimic_iv_dir": "mimic_iv_dir=/nowhere",
        "unlabeled.1.dir": f"unlabeled=[{{dir: {gcs_bucket}/mimic}}, {{dir: /nowhere}}]",
    }
    for field, value in more.items():
        places = [f"root={gcs_bucket}", f"data.dir={gcs_bucket}/mimic", f"data.{value}"]
        result = doctor(*(part for place in places for part in ("--set", place)))
        assert f"data.{field}; found /nowhere" in lines(result)["data"][1]


def test_data_in_an_archive_and_below_the_home_folder_are_there(
    blob_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with zipfile.ZipFile(tmp_path / "films.zip", "w") as archive:
        archive.writestr("films/a.dcm", b"")
    for place in (f"{tmp_path}/films.zip/films", "~/films.zip"):
        found = lines(doctor("--set", f"data={{adapter: dicom-folder, dir: {place}}}", config=blob_config))["data"]
        assert found == ("ok", place)


def test_lists_reports_and_a_pacs_are_data_too(tmp_path: Path) -> None:
    root = ["--set", f"root={tmp_path}/root", "--set"]
    table = f"table: {tmp_path}, image_dir: {tmp_path}"
    for data, message in {
        f"{{adapter: csv, {table}, split_lists: {{test: /nowhere}}}}": "data.split_lists.test; found /nowhere",
        "{adapter: openi, reports: /nowhere}": "data.reports; found /nowhere",
        "{adapter: dicomweb, server: {url: 'http://pacs'}, found: f.json}": "http://pacs: a PACS, which preproc",
        "{adapter: dicomweb, server: {url: 'http://pacs'}, found: f.json, query: {study_uids: /nowhere}}": (
            "data.query.study_uids; found /nowhere"
        ),
    }.items():
        assert message in lines(doctor(*root, f"data={data}"))["data"][1]


def test_a_claim_hides_no_folder_that_pods_do_not_share() -> None:
    options = ["--set", "platform.claims={films: /films}", "--set", "data.dir=/films/mimic", "--endpoint", DEAD]
    assert lines(doctor(*options))["data"] == ("?", "/films/mimic: on a claim that only the pods mount")
    found = lines(doctor(*options, "--set", "data.unlabeled=[{dir: /home/me}]"))["data"]
    assert (found[0], "data.unlabeled.0.dir; found /home/me" in found[1]) == ("fail", True)


def test_a_run_here_does_not_need_the_clusters_mlflow(blob_config: Path) -> None:
    """`platform.env` is of the pods alone."""
    status, text = lines(doctor("--set", f"platform.env.MLFLOW_TRACKING_URI={DEAD}", config=blob_config))["mlflow"]
    assert (status, "sqlite" in text) == ("ok", True)
    environment = {"MLFLOW_TRACKING_URI": DEAD}
    assert lines(doctor(config=blob_config, **environment))["mlflow"][0] == "fail"
