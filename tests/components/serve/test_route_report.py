"""What the router's reports say of films that cannot be used, and of studies that are no chest films."""

from __future__ import annotations

import json
from functools import partial

import httpx
import pydicom

from components.cxr.storage.storage import open_storage
from components.serve.config import ServeConfig
from components.serve.golden import running_server
from components.serve.predict import predict_studies
from components.serve.predict_parts import Model
from components.serve.route_state import RouteState
from components.serve.schemas import INTENDED_USE
from components.serve.studies import studies_in_folder
from tests.components.serve.routing import comments_of, enlarge, put_studies, reports_in, routed, shorten


def test_films_that_cannot_be_used_are_left_out_and_the_rest_is_answered(server, dicom_bytes, tmp_path):
    source, out, state, fhir = (tmp_path / name for name in ("in", "out", "state", "fhir"))
    put_studies(source, dicom_bytes, range(5), num_films=3)
    film = {(study, i): source / f"{study:04}" / f"{i}.dcm" for study in range(5) for i in range(3)}
    shorten(film[0, 1])
    for study, i in ((1, 0), (2, 0), (2, 2)):
        enlarge(film[study, i])  # beyond the server's limit
    shorten(film[1, 2])
    shorten(film[2, 1])  # and so none of the third
    unfit = pydicom.dcmread(film[3, 1])
    unfit.SeriesInstanceUID = ""
    unfit.save_as(film[3, 1])
    arguments = ("--to", str(out), "--settle", "0", "--fhir", str(fhir))
    done = routed(source, state, server.address, *arguments)
    assert done.returncode == 0, done.stderr
    expected = {
        0: ([0, 2], "1 of 3 films could not be used and was left out: 1 film-truncated."),
        1: ([1], "2 of 3 films could not be used and were left out: 1 film-too-large, 1 film-truncated."),
        3: ([0, 2], "1 of 3 films could not be used and was left out: 1 header-unfit."),
        4: ([0, 1, 2], None),
    }
    reports = {int(report.PatientID[1:]): report for report in map(pydicom.dcmread, reports_in(out))}
    assert sorted(reports) == sorted(expected)
    for study, (used, remark) in expected.items():
        (evidence,) = reports[study].CurrentRequestedProcedureEvidenceSequence
        shown = {i.ReferencedSOPInstanceUID for s in evidence.ReferencedSeriesSequence for i in s.ReferencedSOPSequence}
        assert shown == {pydicom.dcmread(film[study, i], stop_before_pixels=True).SOPInstanceUID for i in used}
        assert comments_of(reports[study]) == ([remark] if remark else [])
        told = json.loads((fhir / f"{reports[study].SOPInstanceUID}.json").read_text())
        notes = [each["text"] for each in told["contained"][1]["note"]]
        assert notes == ([remark] if remark else []) + [INTENDED_USE]
        assert ("left out" in told["conclusion"]) == (remark is not None)
    line = done.stderr.splitlines()[-1]
    assert line.startswith(
        "route: 4 studies answered, 0 waiting; without an answer: 1 film-too-large; films left out of"
    )
    assert {*line.split("answers: ")[1].split(", ")} == {"2 film-truncated", "1 film-too-large", "1 header-unfit"}
    assert "P3" not in done.stderr.replace(str(tmp_path), "")
    with RouteState(state, source=str(source)) as kept:
        assert kept.left_out() == {"film-truncated": 2, "film-too-large": 1, "header-unfit": 1}
    (tmp_path / "state").rename(tmp_path / "lost")
    routed(source, state, server.address, *arguments)
    assert len(reports_in(out)) == 4  # by the same UIDs


def test_films_that_cannot_be_used_do_not_make_a_study_too_large(server, dicom_bytes, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    put_studies(source, dicom_bytes, range(4), num_films=12)  # the server takes three
    for i in range(12):
        place = {study: source / f"{study:04}" / f"{i}.dcm" for study in range(4)}
        if i % 4:
            shorten(place[0]) if i % 2 else enlarge(place[0])
        if i < 8:
            shorten(place[1])
        shorten(place[2])
        if i > 2:
            unfit = pydicom.dcmread(place[3])
            unfit.SeriesInstanceUID = ""
            unfit.save_as(place[3])
    done = routed(source, tmp_path / "state", server.address, "--to", str(out), "--settle", "0")
    assert "route: 2 studies answered, 0 waiting" in done.stderr
    assert {"1 too-many-films", "1 film-truncated"} <= {*_counts(done.stderr, "without an answer: ")}
    reports = {report.PatientID: report for report in map(pydicom.dcmread, reports_in(out))}
    of_twelve = "9 of 12 films could not be used and were left out: "
    assert comments_of(reports["P0"]) == [of_twelve + "3 film-too-large, 6 film-truncated."]
    assert comments_of(reports["P3"]) == [of_twelve + "9 header-unfit."]
    assert len(reports) == 2


def test_another_picture_costs_itself_where_a_chest_film_is_beside_it(checked, chest_films, dicom_bytes, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    put_studies(source, dicom_bytes, range(3), num_films=3)  # ramps
    put_studies(source, dicom_bytes, range(3, 4), num_films=9)
    for study, films in {0: (1,), 1: (0, 2), 3: (4, 8)}.items():
        for i in films:
            film = pydicom.dcmread(source / f"{study:04}" / f"{i}.dcm")
            shown = chest_films[300 + i]
            film.Rows, film.Columns = shown.shape
            film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 8, 8, 7, 0
            film.PixelData = shown.tobytes()
            film.save_as(source / f"{study:04}" / f"{i}.dcm")
    config = ServeConfig()
    with running_server(config, checked.bundle, checked.evaluation) as server:
        done = routed(source, tmp_path / "state", server.address, "--to", str(out), "--settle", "0")
        told = httpx.get(f"{server.address}/metrics", trust_env=False).text
    asked = 'cxrflow_requests_total{path="/v1/predict",status="200"} '
    assert f"{asked}{2 + 2 + 1 + 9 + 1}.0" in told.splitlines(), "once more for all pictures of a study"
    assert "route: 4 studies answered" in done.stderr
    assert _counts(done.stderr, "films left out of answers: ") == ["10 not-a-chest-film"]
    reports = {int(report.PatientID[1:]): report for report in map(pydicom.dcmread, reports_in(out))}
    remark = "{} of {} films could not be used and {} left out: {} not-a-chest-film."
    for study, (left_out, of, were) in {0: (2, 3, "were"), 1: (1, 3, "was"), 3: (7, 9, "were")}.items():
        assert comments_of(reports[study]) == [remark.format(left_out, of, were, left_out)]
        assert "NO ANSWER" not in reports[study].SeriesDescription
    assert "NO ANSWER" in reports[2].SeriesDescription  # all of them
    assert len(comments_of(reports[2])) == 3

    model = Model(checked.bundle.uri, checked.evaluation.uri, None, None)  # the same, without server and router
    find = partial(studies_in_folder, open_storage(str(source)), max_films=config.max_files)
    table = predict_studies(config, model=model, find=find, out=str(tmp_path / "out.parquet"), num_processes=1)
    rows = {row["study"]: row for row in table.to_pylist()}
    for study, num_left_out in {0: 2, 1: 1, 2: 0, 3: 7}.items():
        row = rows[reports[study].StudyInstanceUID]
        assert row["left_out_reasons"] == num_left_out * ["not-a-chest-film"]
        assert len(row["films"]) == {3: 9}.get(study, 3) - num_left_out
        assert row["in_distribution"] == (study != 2)
        assert row["warnings"] == (3 * ["not-a-chest-film"] if study == 2 else [])
        assert row["reason"] is None


def _counts(said, title):
    """The counts in the last line behind a title."""
    return said.splitlines()[-1].split(title)[1].split("; ")[0].split(", ")


def test_a_study_that_is_taken_for_no_chest_film_is_sent_as_no_answer(checked, dicom_bytes, tmp_path):
    source, out, fhir = tmp_path / "in", tmp_path / "out", tmp_path / "fhir"
    put_studies(source, dicom_bytes, range(1))  # a ramp
    with running_server(ServeConfig(), checked.bundle, checked.evaluation) as server:
        arguments = ("--to", str(out), "--settle", "0", "--fhir", str(fhir))
        done = routed(source, tmp_path / "state", server.address, *arguments)
    assert "route: 1 studies answered" in done.stderr
    (report,) = map(pydicom.dcmread, reports_in(out))
    (told,) = (json.loads(path.read_text()) for path in fhir.iterdir())
    warning = "The film looks unlike a chest film: another picture, turned or inverted?"
    assert comments_of(report) == [warning]
    assert "NO ANSWER" in report.SeriesDescription
    assert report.ConceptNameCodeSequence[0].CodeMeaning.startswith("NO ANSWER")
    assert told["code"]["text"].startswith("NO ANSWER")
    assert told["conclusion"].startswith(f"Refused: a film is taken for no chest film. {warning}")
