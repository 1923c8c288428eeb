"""Back to a real PACS: Orthanc's change feed in, structured reports by STOW-RS out, whatever is killed."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pydicom
import pytest
import yaml

from components.cxr.errors import UserError
from components.serve.route_ends import StowSink
from components.serve.route_errors import NoAnswerError, UnavailableError
from tests.components.processes import wait_for
from tests.components.serve.conftest import SERVER_LIMITS
from tests.components.serve.routing import (
    REPOSITORY,
    SECRET,
    Orthanc,
    command,
    enlarge,
    environment,
    put_studies,
    routed,
)
from tests.pacs import orthanc_of_a_token

pytestmark = pytest.mark.orthanc


@pytest.fixture
def orthanc() -> Iterator[Orthanc]:
    """The running one, empty."""
    address = os.environ.get("CXRFLOW_ORTHANC")
    if not address:
        pytest.skip("no Orthanc: infra/orthanc/ci.sh make test-orthanc")
    with contextlib.closing(Orthanc(address)) as found:
        found.clear()
        yield found


def test_a_study_that_is_sent_gets_one_report_that_dcmtk_reads(orthanc, server, dicom_bytes, tmp_path):
    put_studies(tmp_path / "in", dicom_bytes, range(3), num_films=2)
    put_studies(tmp_path / "in", dicom_bytes, range(3, 4), Modality="CT")
    put_studies(tmp_path / "in", dicom_bytes, range(4, 5), num_films=4)
    put_studies(tmp_path / "in", dicom_bytes, range(5, 6), num_films=2)
    enlarge(tmp_path / "in" / "0005" / "1.dcm")
    orthanc.send(tmp_path / "in")
    done = routed(orthanc.address, tmp_path / "state", server.address, **orthanc.credentials)
    assert done.returncode == 0, done.stderr
    assert "route: 4 studies answered, 0 waiting" in done.stderr
    assert "films left out of answers: 1 film-too-large" in done.stderr
    assert "1 no-film" in done.stderr
    assert "1 too-many-films" in done.stderr
    found = orthanc.reports()
    assert sorted(len(files) for files in found.values()) == [0, 0, 1, 1, 1, 1]
    remark = "1 of 2 films could not be used and was left out: 1 film-too-large."
    for uid, files in found.items():
        for data in files:
            report = pydicom.dcmread(io.BytesIO(data))
            assert report.StudyInstanceUID == uid
            assert report.PatientName == SECRET
            (tmp_path / "report.dcm").write_bytes(data)
            dumped = subprocess.run(
                ["dsrdump", "+Pl", tmp_path / "report.dcm"], capture_output=True, text=True, check=True
            )
            assert "Calibrated probability" in dumped.stdout
            assert (remark in dumped.stdout) == (report.PatientID == "P5")
            assert not [line for line in dumped.stderr.splitlines() if line.startswith(("E:", "F:"))]
    for word in ("Doe", orthanc.password, *found):
        assert word not in done.stderr

    time.sleep(3)  # the reports make the studies change and come to rest
    wanted = ("--again", "film-too-large")  # which gives the same report, and the server the same answer
    again = routed(orthanc.address, tmp_path / "state", server.address, *wanted, **orthanc.credentials)
    assert again.returncode == 0, again.stderr
    assert "films left out of answers: 1 film-too-large" in again.stderr
    assert {uid: len(files) for uid, files in orthanc.reports().items()} == {u: len(f) for u, f in found.items()}
    lost = routed(orthanc.address, tmp_path / "other", server.address, **orthanc.credentials)  # as if it was lost
    assert "route: 4 studies answered" in lost.stderr
    assert orthanc.numbers_of_reports() == {0: 2, 1: 4}


def test_only_what_arrives_from_now(orthanc, server, dicom_bytes, tmp_path):
    put_studies(tmp_path / "in", dicom_bytes, range(2))
    orthanc.send(tmp_path / "in")
    time.sleep(3)
    first = routed(orthanc.address, tmp_path / "state", server.address, "--from-now", **orthanc.credentials)
    assert "route: 0 studies answered, 0 waiting" in first.stderr
    put_studies(tmp_path / "more", dicom_bytes, range(2, 3))
    orthanc.send(tmp_path / "more")
    routed(orthanc.address, tmp_path / "state", server.address, "--from-now", **orthanc.credentials)
    assert orthanc.numbers_of_reports() == {0: 2, 1: 1}


def test_a_study_that_is_deleted_before_its_answer_is_not_brought_back(orthanc, server, dicom_bytes, tmp_path):
    put_studies(tmp_path / "in", dicom_bytes, range(3))
    orthanc.send(tmp_path / "in")
    time.sleep(3)
    gone = orthanc.web.get("/studies").json()[0]
    orthanc.web.delete(f"/studies/{gone}")
    done = routed(orthanc.address, tmp_path / "state", server.address, **orthanc.credentials)
    assert "route: 2 studies answered, 0 waiting" in done.stderr
    assert orthanc.numbers_of_reports() == {1: 2}


@pytest.mark.parametrize("end", ["source", "sink"])
def test_wrong_credentials_are_one_error(orthanc, server, dicom_bytes, tmp_path, end):
    put_studies(tmp_path / "in", dicom_bytes, range(1))
    wrong = {"CXRFLOW_PACS_USER": "cxrflow", "CXRFLOW_PACS_PASSWORD": "geheim"}
    source = orthanc.address if end == "source" else tmp_path / "in"
    to = ["--to", f"{orthanc.address}/dicom-web", "--settle", "0"]
    done = routed(source, tmp_path / "state", server.address, *to, **wrong)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("[pacs-refused]")
    assert "geheim" not in done.stderr
    assert "Traceback" not in done.stderr
    done = routed(source, tmp_path / "state", server.address, *to, **orthanc.credentials)
    assert done.returncode == 0, done.stderr
    assert orthanc.numbers_of_reports() == ({1: 1} if end == "sink" else {})


def test_a_bearer_token_lets_the_router_in(server, dicom_bytes, tmp_path):
    put_studies(tmp_path / "in", dicom_bytes, range(2))
    with orthanc_of_a_token(tmp_path, token := "geheim-0123456789.abc_~+/=") as pacs:
        pacs.fill(tmp_path / "in")
        for token_sent, code in (("geheim", 2), (token, 0)):
            done = routed(pacs.root, tmp_path / "state", server.address, CXRFLOW_PACS_TOKEN=token_sent)
            assert done.returncode == code, done.stderr
            assert "geheim" not in done.stderr
            assert done.stderr.splitlines()[-1].endswith("[pacs-refused]") == bool(code)
        series = pacs.request("GET", "/series?expand")
    assert sorted(each["MainDicomTags"]["Modality"] for each in series) == ["DX", "DX", "SR", "SR"]


def test_what_stow_says_is_told_apart(orthanc, dicom_bytes, tmp_path):
    put_studies(tmp_path / "in", dicom_bytes, range(1))
    film = (tmp_path / "in" / "0000" / "0.dcm").read_bytes()
    headers = {"Authorization": f"Basic {_basic(orthanc)}"}
    with pytest.raises(UserError, match="no STOW-RS here"):
        StowSink(f"{orthanc.address}/nowhere", headers).send(film)
    with pytest.raises(UnavailableError):
        StowSink("http://127.0.0.1:9/dicom-web", headers).send(film)
    broken = pydicom.dcmread(io.BytesIO(film))
    del broken.StudyInstanceUID, broken.SeriesInstanceUID, broken.SOPInstanceUID
    buffer = io.BytesIO()
    broken.save_as(buffer, enforce_file_format=False)
    with pytest.raises(NoAnswerError, match="report-refused"):
        StowSink(f"{orthanc.address}/dicom-web", headers).send(buffer.getvalue())


def test_forty_studies_with_two_kills(orthanc, evaluated, dicom_bytes, tmp_path):
    _killed(orthanc, evaluated, dicom_bytes, tmp_path, num_studies=40, num_kills=2, of_server=1)


@pytest.mark.soak
def test_five_hundred_studies_with_five_kills_of_router_and_server(orthanc, evaluated, dicom_bytes, tmp_path):
    _killed(orthanc, evaluated, dicom_bytes, tmp_path, num_studies=500, num_kills=5, of_server=5)


def _killed(orthanc, evaluated, dicom_bytes, tmp_path, *, num_studies, num_kills, of_server):
    """Studies arrive while the router is killed again and again, and the server before it: one report each."""
    put_studies(tmp_path / "in", dicom_bytes, range(num_studies // 2))
    put_studies(tmp_path / "more", dicom_bytes, range(num_studies // 2, num_studies))
    orthanc.send(tmp_path / "in")
    port, random_ = _free_port(), random.Random(7)
    words = command(orthanc.address, tmp_path / "state", f"http://127.0.0.1:{port}", "--once", "--at-most", "3")
    values = environment(**orthanc.credentials)
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(_server(evaluated, port, tmp_path))
        for number in range(num_kills):
            before = orthanc.num_reports()
            with subprocess.Popen(words, cwd=REPOSITORY, env=values, stderr=subprocess.DEVNULL) as router:
                wait_for(lambda before=before: orthanc.num_reports() > before, 300)
                time.sleep(random_.uniform(0, 0.5))
                if number < of_server:
                    process.kill()
                    process.wait()
                    if number == 0:
                        orthanc.send(tmp_path / "more")
                    process = stack.enter_context(_server(evaluated, port, tmp_path))
                    answered = orthanc.num_reports()
                    wait_for(lambda answered=answered: orthanc.num_reports() > answered, 300)
                assert router.poll() is None
                router.send_signal(signal.SIGKILL)
        done = subprocess.run(
            words, cwd=REPOSITORY, env=values, capture_output=True, text=True, check=False, timeout=800
        )
    assert done.returncode == 0, done.stderr
    assert f"route: {num_studies} studies answered, 0 waiting" in done.stderr
    assert orthanc.numbers_of_reports() == {1: num_studies}


@contextlib.contextmanager
def _server(evaluated, port, tmp_path) -> Iterator[subprocess.Popen[bytes]]:
    """A server at a port of its own that can come back there."""
    config = tmp_path / "serve.yaml"
    config.write_text(yaml.safe_dump({"serve": {**SERVER_LIMITS, "host": "127.0.0.1", "port": port}}))
    words = [sys.executable, "-m", "components.serve", "--config", str(config), "--bundle", evaluated.bundle.uri]
    words += ["--evaluation", evaluated.evaluation.uri]
    with subprocess.Popen(words, cwd=REPOSITORY, env=environment(), stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: _listens(port) or process.poll() is not None, 120)
            yield process
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _basic(orthanc: Orthanc) -> str:
    return base64.b64encode(f"{orthanc.user}:{orthanc.password}".encode()).decode()
