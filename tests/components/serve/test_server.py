import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from components.cxr.errors import UserError
from components.cxr.films.pixels import encode_png
from components.cxr.model.predictor import answer, predict
from components.serve.config import ServeConfig
from components.serve.golden import running_server
from components.serve.server import _names, serve

SECRET = "Jane Doe 19999999"


@pytest.fixture
def web(server):
    with httpx.Client(base_url=server.address, timeout=60, trust_env=False) as client:
        yield client


def test_every_endpoint_answers(web, evaluated):
    assert web.get("/healthz").json() == {"status": "ok"}
    assert web.get("/readyz").json() == {"status": "ready"}
    assert web.get("/v1/model").json()["bundle_hash"] == evaluated.report.bundle_hash
    assert "<title>cxrflow</title>" in web.get("/").text
    assert web.get("/openapi.json").json()["info"]["title"] == "cxrflow"


def test_probes_may_ask_without_a_body(web):
    for path in ("/healthz", "/readyz"):
        response = web.head(path)
        assert (response.status_code, response.content) == (200, b"")
        assert web.get(path).headers["content-length"] == response.headers["content-length"]


def test_a_page_of_another_site_does_not_reach_a_server_on_this_machine(web):
    for name in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""):
        response = web.get("/v1/model", headers={"host": name})
        assert response.status_code == 400
        assert "bundle_hash" not in response.text
    for name in ("localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:8000"):
        assert web.get("/v1/model", headers={"host": name}).status_code == 200


@pytest.mark.parametrize(
    ("address", "allowed", "names"),
    [
        ("127.0.0.1", (), ["localhost", "127.0.0.1", "[::1]"]),
        ("::1", ("cxr.example.org",), ["localhost", "127.0.0.1", "[::1]", "cxr.example.org"]),
        ("0.0.0.0", (), ["*"]),  # a container's: whoever publishes its port decides under which name
        ("0.0.0.0", ("*.example.org",), ["localhost", "127.0.0.1", "[::1]", "*.example.org"]),
    ],
)
def test_which_names_a_server_answers_to(address, allowed, names):
    assert _names(ServeConfig(allowed_hosts=allowed), address) == names


def test_the_answer_is_evaluations(web, predictor, study):
    fields = {
        "text": study.text,
        "age_years": study.age_years,
        "sex": study.sex,
        "view_positions": study.view_positions,
    }
    files = [("files", ("f.png", encode_png(film), "image/png")) for film in study.films]
    answers = web.post("/v1/predict", data=fields, files=files).json()["answers"]
    expected = answer(predictor.bundle, predict(predictor.bundle, [study]), predictor.points, condition="all")
    assert list(answers) == list(expected)
    for name, value in expected.items():
        assert answers[name]["probability"] == pytest.approx(value.probability, abs=1e-6)
        assert answers[name]["uncertain"] == pytest.approx(value.uncertain, abs=1e-6)
        assert answers[name]["state"] == value.state


def test_over_the_limits_the_reason_arrives(web):
    def code(size):
        response = web.post("/v1/predict", files={"files": ("f", bytes(size))})
        assert response.status_code == 413
        return response.json()["error"]["code"]

    assert code((1 << 20) + 1) == "film-too-large"
    assert code(3 << 20) == "request-too-large"


def test_a_body_without_a_length_is_limited_too(server):
    connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=30)
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="f"\r\n\r\n'
    connection.request(
        "POST", "/v1/predict", body=iter([head, *[bytes(1 << 19)] * 5]), headers=kind, encode_chunked=True
    )
    assert connection.getresponse().status == 413
    connection.close()


def _lines(server):
    """The log's objects; what else is printed is the start, on standard output."""
    lines = [line for line in server.log.read_text().splitlines() if not line.startswith("serve: ")]
    return [json.loads(line) for line in lines]


def test_the_log_says_what_happened_and_nothing_of_whom(server, web, dicom_bytes, evaluated):
    stored, uid = np.arange(40 * 40, dtype=np.uint16).reshape(40, 40), "1.2.840.99999.77"
    film = dicom_bytes(stored, bits_stored=12, PatientName="Doe^Jane", PatientID="19999999", StudyInstanceUID=uid)
    damaged = film[:-300]
    planted, answers = {"name": SECRET, "x": uid}, []
    for files, fields in (
        ([film], {"text": SECRET, "study_uid": uid}),
        ([damaged], {"text": SECRET}),
        ([SECRET.encode()], {}),
        ([], {"text": SECRET, "age_years": SECRET}),
        ([], {SECRET: SECRET}),
    ):
        upload = [("files", (f"{SECRET}.dcm", data)) for data in files]
        headers = {"x-patient": SECRET, "cookie": SECRET, "x-request-id": "19999999", "user-agent": SECRET}
        answers.append(web.post("/v1/predict", params=planted, data=fields, files=upload or None, headers=headers))
    for path in (f"/{SECRET}", f"/v2/models/{SECRET}", f"/v2/models/cxrflow/versions/{SECRET}", f"/examples/{SECRET}"):
        web.get(path, params=planted)
    web.get("/v1/model", headers={"host": "Jane.Doe.19999999.example"})
    web.request("JANE", "/v1/predict")
    web.post("/v1/render", params={"size": SECRET})
    kinds = (f"multipart/form-data; boundary={SECRET}", f"text/{SECRET}", "application/json")
    for path in ("/v1/predict", "/v2/models/cxrflow/infer"):
        for kind in kinds:
            web.post(path, content=SECRET, headers={"content-type": kind, "inference-header-content-length": SECRET})
    web.post("/v2/models/cxrflow/infer", json={"id": SECRET, "inputs": [{"name": SECRET, "data": [SECRET]}]})
    with socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2]))) as raw:
        raw.sendall(f"{SECRET}\r\n\r\n".encode())
        raw.recv(1000)
    log = server.log.read_text()
    requests = [line for line in _lines(server) if line["message"] == "request"]
    told = {(line["method"], line["path"], line["status"], line.get("code")) for line in requests}
    assert {
        ("POST", "/v1/predict", 200, None),
        ("POST", "/v1/predict", 422, "film-truncated"),
        ("POST", "/v1/predict", 422, "film-unknown-format"),
        ("POST", "/v1/predict", 422, "bad-age"),
        ("POST", "/v1/predict", 415, "not-a-form"),
        ("GET", "(other)", 404, "http-404"),
        ("GET", "/v2/models/cxrflow/versions/{version}", 404, "unknown-version"),
        ("GET", "/examples/{name}", 404, "http-404"),
        ("(other)", "/v1/predict", 405, "http-405"),
        ("GET", "(other)", 400, None),
        ("POST", "/v1/render", 422, "bad-size"),
        ("POST", "/v2/models/cxrflow/infer", 422, "bad-infer-request"),
    } <= told
    (answered,) = [line for line in requests if line["request_id"] == answers[0].headers["x-request-id"]]
    assert answered["films"] == 1
    assert answered["bytes_in"] > len(film)
    assert answered["bytes_out"] > 100
    parts = [answered[part] for part in ("upload_ms", "form_ms", "read_ms", "model_ms")]
    assert answered["model_ms"] > 0
    assert min(parts) >= 0
    assert answered["ms"] / 2 < sum(parts) < answered["ms"] + 0.3  # each is rounded
    for word in ("Jane", "JANE", "Doe", "19999999", "99999.77"):
        assert word not in log
    for known in ("test-patient", "test-image"):
        assert known not in log
    assert evaluated.report.bundle_hash[:16] in log


def test_a_request_has_an_id_that_a_client_may_choose_where_it_says_nothing(server, web):
    chosen = "0f8fad5b-d9cb-469f-a165-70867728950e"
    assert web.get("/healthz", headers={"x-request-id": chosen}).headers["x-request-id"] == chosen
    latest = time.monotonic() + 10  # the line is written once the answer has gone out
    while not (found := [line for line in _lines(server) if line.get("request_id") == chosen]):
        assert time.monotonic() < latest
        time.sleep(0.05)
    (line,) = found
    assert (line["level"], line["logger"], line["status"]) == ("info", "cxrflow.requests", 200)
    assert line["time"].endswith("Z")
    for sent in ("Jane", "19999999", f"{chosen} Jane", chosen[:-1], chosen + "0"):
        found = web.get("/healthz", headers={"x-request-id": sent}).headers["x-request-id"]
        assert found != sent
        assert len(found) == 36


@pytest.mark.slow
def test_sigterm_answers_what_is_under_way_and_ends_with_code_0(evaluated):
    with running_server(ServeConfig(), evaluated.bundle, evaluated.evaluation) as server:
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as raw:
            body = b"text=cough"
            head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            raw.sendall(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n".encode() + body[:4])
            httpx.get(f"{server.address}/healthz", trust_env=False)
            server.process.send_signal(signal.SIGTERM)
            raw.sendall(body[4:])
            assert raw.recv(100).startswith(b"HTTP/1.1 200")
        assert server.process.wait(30) == 0
        assert server.log.read_text().rstrip().endswith("serve: stopped")


def test_a_taken_port_is_one_clear_line(evaluated):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"127.0.0.1:{port}; found Address already in use\. .*--set serve\.port"):
            serve(evaluated.bundle, ServeConfig(port=port))


def test_an_unknown_host_is_one_clear_line(evaluated):
    with pytest.raises(UserError, match=r"cannot listen: serve\.host: no such host"):
        serve(evaluated.bundle, ServeConfig(host="no such host"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_one_clear_line(evaluated):
    with pytest.raises(UserError, match=r"no CUDA device: serve\.device"):
        serve(evaluated.bundle, ServeConfig(device="cuda"))


def _command(tmp_path, *arguments):
    config = tmp_path / "c.yaml"
    config.write_text("serve: {}\n")
    command = [sys.executable, "-m", "components.serve", "--config", str(config), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=Path(__file__).parents[3])


def test_nothing_deployed_is_one_clear_line(tmp_path):
    done = _command(tmp_path, "--root", str(tmp_path / "root"))
    assert (done.returncode, done.stdout) == (2, "")
    where = tmp_path / "root" / "deployed"
    assert (
        done.stderr == f"error: nothing is deployed: {where}. Run the pipeline, or pass --bundle.  [nothing-deployed]\n"
    )


def test_a_typo_in_the_configuration_is_one_clear_line(tmp_path):
    done = _command(tmp_path, "--root", str(tmp_path), "--set", "serve.prot=1")
    assert done.returncode == 2
    assert "serve.prot" in done.stderr
    assert "Did you mean port?" in done.stderr
