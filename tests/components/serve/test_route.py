"""The router from a folder: each study answered once, whatever is killed, refused or gone."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time

import httpx
import pydicom
import pytest
from pydicom.uid import generate_uid

from components.cxr.errors import UserError
from components.cxr.storage.local import LocalStorage
from components.serve.config import ServeConfig
from components.serve.golden import running_server
from components.serve.route import route
from components.serve.route_ends import Ends, FolderSink, Server, open_ends
from components.serve.route_errors import NoAnswerError, UnavailableError, UnusableFilmsError, VanishedError
from components.serve.route_sources import FolderSource
from components.serve.route_state import Done, RouteState
from tests.components.processes import wait_for
from tests.components.serve.conftest import MIB
from tests.components.serve.routing import (
    REPOSITORY,
    SECRET,
    command,
    comments_of,
    enlarge,
    environment,
    put_studies,
    reports_in,
    routed,
    shorten,
)
from tests.terminal import IN_A_TERMINAL

UNUSED = "http://127.0.0.1:9"


def test_studies_are_answered_once_each_and_the_others_get_a_reason(server, dicom_bytes, tmp_path):
    source, out, state = tmp_path / "in", tmp_path / "out", tmp_path / "state"
    put_studies(source, dicom_bytes, range(6), num_films=2)
    put_studies(source, dicom_bytes, range(6, 7), num_films=4)  # the server takes three
    put_studies(source, dicom_bytes, range(7, 8))
    shorten(source / "0007" / "0.dcm")
    (source / "notes.txt").write_text(SECRET)
    arguments = ("--to", str(out), "--settle", "0", "--fhir", str(tmp_path / "fhir"))
    done = routed(source, state, server.address, *arguments)
    assert done.returncode == 0, done.stderr
    assert "route: 6 studies answered, 0 waiting; without an answer: " in done.stderr
    assert "1 too-many-films" in done.stderr
    assert "1 film-truncated" in done.stderr
    assert len(reports_in(out)) == 6
    assert {path.stem for path in (tmp_path / "fhir").iterdir()} == {path.stem for path in reports_in(out)}
    assert list((state / "under-way").iterdir()) == []
    for path in reports_in(out):
        report = pydicom.dcmread(path)
        number = int(report.PatientID[1:])
        film = pydicom.dcmread(source / f"{number:04}" / "0.dcm")
        assert report.StudyInstanceUID == film.StudyInstanceUID
        assert report.PatientName == SECRET
    for word in ("Doe", "P3", "2.25.", *(str(generate_uid(entropy_srcs=["study", str(i)])) for i in range(8))):
        assert word not in done.stderr.replace(str(tmp_path), ""), word

    before = {path: path.stat().st_mtime_ns for path in reports_in(out)}
    again = routed(source, state, server.address, *arguments)
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in reports_in(out)} == before
    put_studies(source, dicom_bytes, range(1), num_films=3)  # a film more is a study to answer anew
    routed(source, state, server.address, *arguments)
    assert len(reports_in(out)) == 7


@pytest.mark.parametrize("restarted", [False, True])
def test_films_that_are_tidied_up_after_the_answer_make_no_other(dicom_bytes, server, tmp_path, restarted):
    source, out = tmp_path / "in", tmp_path / "out"
    put_studies(source, dicom_bytes, range(1), num_films=3)
    with httpx.Client(base_url=server.address, trust_env=False, timeout=60) as client:
        folder = FolderSource(source, settle_s=0)
        for _ in range(3):
            if restarted:
                folder = FolderSource(source, settle_s=0)
            with RouteState(tmp_path / "state", source="x") as state:
                ends = Ends(folder, Server(client), FolderSink(out), None)
                route(ends, state, num_parallel=1, once=True, poll_s=0.05)
                assert state.counts() == {"answered": 1}
            max(source.rglob("*.dcm")).unlink()
        assert len(reports_in(out)) == 1
        put_studies(source, dicom_bytes, range(1), num_films=4)  # all of them, and one more
        (source / "0000" / "0.dcm").unlink()
        with RouteState(tmp_path / "state", source="x") as state:
            route(Ends(folder, Server(client), FolderSink(out), None), state, num_parallel=1, once=True, poll_s=0.05)
        assert len(reports_in(out)) == 2


def test_what_had_no_answer_is_asked_again_when_that_is_wanted(evaluated, server, dicom_bytes, tmp_path):
    source, out, state = tmp_path / "in", tmp_path / "out", tmp_path / "state"
    put_studies(source, dicom_bytes, range(1, 4))
    put_studies(source, dicom_bytes, range(2), num_films=2)
    for name in ("0000/0", "0000/1", "0001/1"):
        enlarge(source / f"{name}.dcm")
    shorten(source / "0002" / "0.dcm")
    arguments = ("--to", str(out), "--settle", "0")
    nothing = routed(source, state, server.address, *arguments, "--again", "film-too-large")
    assert nothing.stderr.splitlines()[-1].endswith("[no-such-reason]")
    first = routed(source, state, server.address, *arguments)
    assert "route: 2 studies answered, 0 waiting" in first.stderr
    before = {path: path.read_bytes() for path in reports_in(out)}

    wrong = routed(source, state, server.address, *arguments, "--again", "film-too-large", "--again", "no-film")
    assert wrong.returncode == 2
    assert "expected one of film-too-large, film-truncated" in " ".join(wrong.stderr.split())
    assert "Traceback" not in wrong.stderr
    with RouteState(state, source=str(source)) as kept:
        assert not kept.waiting
    larger = ServeConfig(max_file_bytes=4 * MIB, max_request_bytes=9 * MIB)
    with running_server(larger, evaluated.bundle, evaluated.evaluation) as server:
        same = routed(source, state, server.address, *arguments)
        assert {path: path.read_bytes() for path in reports_in(out)} == before
        assert same.stderr.splitlines()[-1] == first.stderr.splitlines()[-1]
        again = ("--again", "film-too-large", "--again", "film-truncated")
        done = routed(source, state, server.address, *arguments, *again)
    assert done.stderr.splitlines()[-1] == "route: 3 studies answered, 0 waiting; without an answer: 1 film-truncated"
    added = [pydicom.dcmread(path) for path in reports_in(out) if path not in before]
    assert sorted(report.PatientID for report in added) == ["P0", "P1"]
    assert not any(comments_of(report) for report in added)
    assert {path: path.read_bytes() for path in before} == before


def test_a_report_is_sent_again_as_it_was(server, dicom_bytes, tmp_path):
    source, out, state = tmp_path / "in", tmp_path / "out", tmp_path / "state"
    put_studies(source, dicom_bytes, range(1), num_films=2)
    shorten(source / "0000" / "1.dcm")
    out.mkdir(mode=0o500)
    (tmp_path / "wall").write_text("")
    done = routed(source, state, server.address, "--to", str(tmp_path / "wall" / "out"), "--settle", "0")
    assert done.returncode != 0
    (kept,) = (state / "under-way").glob("*.dcm")
    first = kept.read_bytes()
    time.sleep(1.1)  # its time would be another
    out.chmod(0o700)
    done = routed(source, state, server.address, "--to", str(out), "--settle", "0")
    assert done.returncode == 0, done.stderr
    assert [path.read_bytes() for path in reports_in(out)] == [first]
    assert "films left out of answers: 1 film-truncated" in done.stderr


@pytest.mark.slow
def test_ctrl_c_and_sigterm_stop_cleanly_and_the_next_goes_on(server, dicom_bytes, tmp_path):
    source, out, state = tmp_path / "in", tmp_path / "out", tmp_path / "state"
    put_studies(source, dicom_bytes, range(60))
    options = ("--to", str(out), "--settle", "0", "--at-most", "1")
    words = [*IN_A_TERMINAL, *command(source, state, server.address, *options)]
    counts = [0]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with subprocess.Popen(words, cwd=REPOSITORY, env=environment(), stderr=subprocess.PIPE, text=True) as process:
            wait_for(lambda: len(reports_in(out)) > counts[-1] + 1, 120)
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        assert process.returncode == code, said
        assert "run the same command again" in said
        counts.append(len(reports_in(out)))
        with RouteState(state, source=str(source)) as kept:
            assert kept.counts()["answered"] == counts[-1]  # what was under way was written down
            assert sum(kept.done(study) is None for study in kept.waiting) == 60 - counts[-1]
    assert routed(source, state, server.address, "--to", str(out), "--settle", "0").returncode == 0
    assert len(reports_in(out)) == 60


def test_films_without_uids_get_a_reason(dicom_bytes, server, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    put_studies(source, dicom_bytes, range(3), num_films=2)
    for place, name in (("0000/0", "StudyInstanceUID"), ("0000/1", "StudyInstanceUID"), ("0001/0", "SOPInstanceUID")):
        film = pydicom.dcmread(source / f"{place}.dcm")
        delattr(film, name)
        film.save_as(source / f"{place}.dcm", enforce_file_format=False)
    done = routed(source, tmp_path / "state", server.address, "--to", str(out), "--settle", "0")
    assert done.returncode == 0, done.stderr
    assert "2 studies answered, 0 waiting; without an answer: 2 header-unfit" in done.stderr
    assert "films left out of answers: 1 header-unfit" in done.stderr
    assert len(reports_in(out)) == 2


def test_a_header_that_is_not_whole_yet_makes_no_study(dicom_bytes, tmp_path):
    put_studies(tmp_path, dicom_bytes, range(1))
    film = tmp_path / "0000" / "0.dcm"
    whole = film.read_bytes()
    film.write_bytes(whole[:200])
    source = FolderSource(tmp_path, settle_s=1)
    assert source.arrived(None) == ([], 0, False)
    film.write_bytes(whole)
    ((study,), _, all_there) = source.arrived(0)
    assert all_there
    time.sleep(1)
    assert len(source.films(study)) == 1
    film.write_bytes(whole[:200])
    time.sleep(1)
    assert len(source.arrived(0)[0]) == 2  # the study that lost it, and one of the film alone


def test_a_study_that_still_grows_waits(dicom_bytes, tmp_path, monkeypatch):
    put_studies(tmp_path, dicom_bytes, range(1))
    source = FolderSource(tmp_path, settle_s=30)
    now, later = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: now() + later)
    ((study,), _, _) = source.arrived(None)
    assert source.films(study) is None
    later = 60.0
    assert len(source.films(study)) == 1
    old = now() - 3600
    os.utime(tmp_path / "0000" / "0.dcm", (old, old))
    assert source.films(study) is None  # not as it was when its header was read
    assert source.arrived(0)[0] == [study]
    later = 0.0
    assert source.films(study) is None  # a copy that keeps its original's time has come just now
    put_studies(tmp_path / "more", dicom_bytes, range(1), num_films=2)
    assert source.arrived(0)[0] == [study]
    assert source.films(study) is None
    later = 60.0
    assert len(source.films(study)) == 2  # one of them is a copy
    assert source.arrived(0)[0] == []
    for path in tmp_path.rglob("*.dcm"):
        path.unlink()
    assert source.arrived(0)[0] == []
    with pytest.raises(VanishedError):
        source.films(study)


def test_a_film_that_the_disk_does_not_give_is_asked_for_again_and_then_costs_its_study(
    dicom_bytes, server, tmp_path, monkeypatch
):
    put_studies(tmp_path / "in", dicom_bytes, range(2))
    read = LocalStorage.read

    def stale(self, name):
        if name == "0000/0.dcm":
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(self, name)

    monkeypatch.setattr(LocalStorage, "read", stale)
    with (
        httpx.Client(base_url=server.address, trust_env=False) as client,
        RouteState(tmp_path / "state", source="x") as state,
    ):
        ends = Ends(FolderSource(tmp_path / "in", settle_s=0), Server(client), FolderSink(tmp_path / "out"), None)
        route(ends, state, num_parallel=2, once=True, poll_s=0.02)
        assert state.counts() == {"answered": 1, "source-fails": 1}


def test_a_file_that_the_disk_does_not_give_now_is_tried_again(dicom_bytes, tmp_path, monkeypatch, capsys):
    put_studies(tmp_path, dicom_bytes, range(2))
    source = FolderSource(tmp_path, settle_s=0)
    read = LocalStorage.read_range

    def stale(self, name, start, num_bytes):
        if name == "0000/0.dcm":
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(self, name, start, num_bytes)

    monkeypatch.setattr(LocalStorage, "read_range", stale)
    (other,) = source.arrived(None)[0]
    assert source.arrived(0)[0] == []
    assert capsys.readouterr().err == "route: cannot read films (Stale file handle); tried again\n"
    monkeypatch.undo()
    (study,) = source.arrived(0)[0]
    assert study != other
    assert len(source.films(study)) == len(source.films(other)) == 1


@pytest.mark.parametrize(
    ("source", "arguments", "values", "code"),
    [
        ("in", ["--to", "OUT"], {}, "no-server"),
        ("in", [], {}, "no-target"),
        ("in", ["--to", "in/out"], {}, "bad-target"),
        ("nowhere", ["--to", "OUT"], {}, "no-folder"),
        ("in", ["--to", "OUT", "--from-now"], {}, "bad-option"),
        ("gs://bucket", ["--to", "OUT"], {}, "bad-address"),
        ("http://127.0.0.1:9", [], {}, "no-orthanc"),
        ("http://me:geheim@127.0.0.1:9", [], {}, "password-in-address"),
        ("in", ["--to", "OUT"], {"CXRFLOW_PACS_USER": "me"}, "bad-credentials"),
    ],
)
def test_what_cannot_work_is_one_error(tmp_path, monkeypatch, source, arguments, values, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    options = {"to": arguments[1] if "--to" in arguments else None, "from_now": "--from-now" in arguments}
    with pytest.raises(UserError) as caught:
        open_ends(source, server=UNUSED, fhir=None, settle_s=0, certificate=None, **options).server.limits()
    assert caught.value.code == code
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_certificate_that_cannot_be_read_is_one_error(tmp_path, text):
    file = tmp_path / "server.pem"
    if text is not None:
        file.write_text(text)
    options = {"to": str(tmp_path / "out"), "fhir": None, "from_now": False, "settle_s": 0}
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=f"the server's certificate cannot be read: {file}"):
        open_ends(str(tmp_path / "in"), server="https://127.0.0.1:9", certificate=str(file), **options)


def test_a_server_that_is_silent_for_too_long_ends_it(dicom_bytes, server, tmp_path):
    class Gone(Server):
        def ask(self, films):
            with httpx.Client(base_url=UNUSED, trust_env=False) as client:
                return Server(client).ask(films)

    source = tmp_path / "in"
    put_studies(source, dicom_bytes, range(3))
    with (
        httpx.Client(base_url=server.address, trust_env=False) as client,
        RouteState(tmp_path / "state", source="x") as state,
    ):
        ends = Ends(FolderSource(source, settle_s=0), Gone(client), FolderSink(tmp_path / "out"), None)
        with pytest.raises(UserError, match="the server did not answer for 1 s"):
            route(ends, state, num_parallel=2, once=True, poll_s=0.1, patience_s=1)
        assert len(state.waiting) == 3
        assert not state.counts()


def test_a_server_that_refuses_is_not_silent(dicom_bytes, server, tmp_path):
    class Busy(Server):
        asked = 0

        def ask(self, films):
            self.asked += 1
            if self.asked != 2:
                raise UnavailableError("server", "429") if self.asked < 4 else NoAnswerError("bad")
            time.sleep(0.8)  # longer than its patience
            raise UnusableFilmsError("film-truncated", places=range(len(films)))

    put_studies(tmp_path / "in", dicom_bytes, range(2))
    with (
        httpx.Client(base_url=server.address, trust_env=False, timeout=60) as client,
        RouteState(tmp_path / "state", source="x") as state,
    ):
        ends = Ends(FolderSource(tmp_path / "in", settle_s=0), Busy(client), FolderSink(tmp_path / "out"), None)
        route(ends, state, num_parallel=1, once=True, poll_s=0.05, patience_s=0.7)
        assert state.counts() == {"film-truncated": 1, "bad": 1}


def test_the_state_knows_what_was_done_and_keeps_news(tmp_path):
    with RouteState(tmp_path, source="a") as state:
        assert state.seen is None
        state.add(["one", "two"], seen=5)
        taken = state.waiting["one"]
        state.add(["one"], seen=6)  # news while it is being answered
        state.finish("one", Done("films", None, "1.2"), news=taken)
        state.finish("two", Done("", "no-film", None), news=state.waiting["two"])
        with pytest.raises(UserError, match="another router works here"):
            RouteState(tmp_path, source="a")
    with RouteState(tmp_path, source="a") as state:
        assert (state.seen, list(state.waiting)) == (6, ["one"])
        assert state.done("one") == Done("films", None, "1.2")
        assert state.counts() == {"answered": 1, "no-film": 1}
    with pytest.raises(UserError, match="of another source"):
        RouteState(tmp_path, source="b")


def test_a_folder_of_films_that_cannot_be_reported_says_so(server, dicom_bytes, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    put_studies(source, dicom_bytes, range(1), SeriesInstanceUID="")
    put_studies(source, dicom_bytes, range(1, 2), SOPClassUID="1.2.3.4")  # which highdicom looks up
    done = routed(source, tmp_path / "state", server.address, "--to", str(out), "--settle", "0")
    assert "without an answer: 2 header-unfit" in done.stderr
    assert not reports_in(out)
    assert "Traceback" not in done.stderr
