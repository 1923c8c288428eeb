"""A study's answer as DICOM SR and as FHIR: what it says, of whom, and that others can read it."""

from __future__ import annotations

import copy
import io
import json
import shutil
import subprocess

import httpx
import pydicom
import pytest
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from highdicom import sr
from pydicom.valuerep import PersonName

from components.cxr.labels import PATHOLOGIES
from components.serve.fhir_report import fhir_report
from components.serve.schemas import INTENDED_USE, PredictReply
from components.serve.structured_report import SCHEME, finding_code, report_uid, structured_report
from tests.components.serve.routing import SECRET, comments_of, put_studies


@pytest.fixture(scope="module")
def films(dicom_bytes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    put_studies(folder, dicom_bytes, range(1), num_films=2, AccessionNumber="A17")
    return [path.read_bytes() for path in sorted(folder.rglob("*.dcm"))]


@pytest.fixture(scope="module")
def headers(films):
    return [pydicom.dcmread(io.BytesIO(film), stop_before_pixels=True) for film in films]


@pytest.fixture(scope="module")
def reply(server, films):
    return ask(server, films)


def ask(server, films):
    files = [("files", ("f", film)) for film in films]
    response = httpx.post(f"{server.address}/v1/predict", files=files, trust_env=False, timeout=60)
    return PredictReply.model_validate_json(response.content)


def written(report):
    buffer = io.BytesIO()
    report.save_as(buffer)
    return buffer.getvalue()


def groups_of(dataset):
    """By finding its numbers, states and images."""
    found = {}
    (measurements,) = (i for i in dataset.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010")
    for group in measurements.ContentSequence:
        items = {}
        for item in group.ContentSequence:
            name = item.ConceptNameCodeSequence[0].CodeMeaning
            match item.ValueType:
                case "NUM":
                    (value,) = item.MeasuredValueSequence
                    items[name] = float(value.get("FloatingPointValue", value.NumericValue))
                case "CODE":
                    items[name] = item.ConceptCodeSequence[0].CodeMeaning
                case "TEXT":
                    items.setdefault(name, []).append(item.TextValue)
                case "IMAGE":
                    items.setdefault("images", []).append(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        found[items["Finding"]] = items
    return found


def test_the_report_says_what_the_server_said(reply, headers):
    read = pydicom.dcmread(io.BytesIO(written(structured_report(reply, headers))))
    groups = groups_of(read)
    assert len(groups) == 1 + len(reply.answers)
    for name, answer in reply.answers.items():
        group = groups[finding_code(name).meaning]
        assert group["Calibrated probability"] == answer.probability
        assert group["Probability of uncertain"] == answer.uncertain
        assert group["Threshold of positive"] == answer.threshold
        assert group["State"].split()[0] == {1: "Present", 0: "Absent", -1: "Uncertain"}[answer.state]
        assert group["images"] == [film.SOPInstanceUID for film in headers]
        assert reply.bundle_hash in str(group["Algorithm Parameters"])
        assert INTENDED_USE in group["Algorithm Parameters"]
    assert "research use only" in read.ConceptNameCodeSequence[0].CodeMeaning
    assert "research use only" in read.SeriesDescription
    assert (read.VerificationFlag, read.PreliminaryFlag, read.Modality) == ("UNVERIFIED", "PRELIMINARY", "SR")
    assert read.DeviceSerialNumber == reply.bundle_hash


def test_it_is_of_the_films_study_and_patient(reply, headers):
    read = pydicom.dcmread(io.BytesIO(written(structured_report(reply, headers))))
    for name in ("StudyInstanceUID", "PatientID", "StudyDate", "StudyTime", "AccessionNumber"):
        assert read.get(name) == headers[0].get(name), name
    assert read.PatientName == PersonName(SECRET)
    (study,) = read.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == headers[0].StudyInstanceUID
    evidence = {i.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence for i in s.ReferencedSOPSequence}
    assert evidence == {film.SOPInstanceUID for film in headers}
    assert read.SeriesInstanceUID != headers[0].SeriesInstanceUID


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PatientSex", "f", "F"),
        ("PatientSex", "W", ""),
        ("PatientBirthDate", "1950-01-01", ""),
        ("StudyDate", ["20200101", "20200102"], ""),
        ("StudyTime", "12:30:00", ""),
        ("StudyTime", "123000.25", "123000.25"),
    ],
)
def test_a_value_that_dicom_does_not_allow_costs_no_report(reply, headers, name, value, told):
    film = copy.deepcopy(headers[0])
    setattr(film, name, value)
    read = pydicom.dcmread(io.BytesIO(written(structured_report(reply, [film]))))
    assert read[name].value == told
    assert read.PatientName == PersonName(SECRET)


def test_the_same_films_and_model_are_the_same_report(reply, headers):
    uid = report_uid(reply, headers)
    nearly = {n: a.model_copy(update={"probability": a.probability * 0.999999}) for n, a in reply.answers.items()}
    assert structured_report(reply, headers).SOPInstanceUID == uid
    assert report_uid(reply.model_copy(update={"answers": nearly}), headers[::-1]) == uid
    assert report_uid(reply, headers[:1]) != uid
    assert report_uid(reply.model_copy(update={"bundle_hash": "0" * 64}), headers) != uid
    moved = {n: a.model_copy(update={"threshold": a.threshold / 2}) for n, a in reply.answers.items()}
    assert report_uid(reply.model_copy(update={"answers": moved}), headers) != uid


def test_a_refused_study_is_said_to_be_one_without_numbers(reply, headers):
    refused = reply.model_copy(update={"in_distribution": False, "overall": "not-a-chest-film"})
    read = structured_report(refused, headers)
    (group,) = groups_of(read).values()
    assert group["Statement of the whole study"].startswith("Refused")
    assert read.CompletionFlag == "PARTIAL"
    assert read.ConceptNameCodeSequence[0].CodeMeaning.startswith("NO ANSWER: a film is taken for no chest film")
    assert read.ConceptNameCodeSequence[0].CodeMeaning.endswith("research use only")
    assert "NO ANSWER" in read.SeriesDescription
    assert report_uid(refused, headers) == report_uid(reply, headers)
    report = fhir_report(refused, headers)
    assert len(report["result"]) == 1
    assert report["code"]["text"].startswith("NO ANSWER")
    assert report["conclusion"].startswith("Refused")


def test_what_the_server_warns_of_is_in_both_reports(server, dicom_bytes, tmp_path):
    put_studies(tmp_path, dicom_bytes, range(1), num_films=2, PatientAge="061Y", ViewPosition="RAO")
    put_studies(tmp_path, dicom_bytes, range(1), PatientAge="016Y")
    films = [path.read_bytes() for path in sorted(tmp_path.rglob("*.dcm"))]
    reply = ask(server, films)
    assert {caution.code for caution in reply.warnings} == {"films-differ", "unusual-view"}
    headers = [pydicom.dcmread(io.BytesIO(film), stop_before_pixels=True) for film in films]
    said = ["1 of 3 films could not be used and was left out: 1 film-flat.", *(each.message for each in reply.warnings)]
    report = structured_report(reply, headers, left_out={"film-flat": 1})
    read = pydicom.dcmread(io.BytesIO(written(report)))
    assert comments_of(read) == said
    assert (read.CompletionFlag, structured_report(reply, headers).CompletionFlag) == ("PARTIAL", "COMPLETE")
    assert read.SOPInstanceUID == report_uid(reply, headers, left_out={"film-flat": 1}) != report_uid(reply, headers)
    assert len(groups_of(read)) == 1 + len(reply.answers)
    assert len(sr.srread(io.BytesIO(written(report))).content.get_image_measurement_groups()) == 1 + len(reply.answers)
    told = DiagnosticReport.model_validate(fhir_report(reply, headers, left_out={"film-flat": 1}))
    assert [note.text for note in told.contained[1].note] == [*said, INTENDED_USE]
    assert all(sentence in told.conclusion for sentence in said)


def test_codes_are_of_public_schemes_or_said_to_be_private():
    found = {name: finding_code(name) for name in PATHOLOGIES}
    assert {code.scheme_designator for code in found.values()} == {"SCT", SCHEME}
    assert found["Pneumothorax"].value == "36118008"
    assert len({(code.scheme_designator, code.value) for code in found.values()}) == len(PATHOLOGIES)


@pytest.mark.parametrize("damage", ["SOPInstanceUID", "StudyInstanceUID"])
def test_films_without_their_ids_or_of_two_studies_have_no_report(reply, headers, damage):
    broken = copy.deepcopy(headers[1])
    broken.StudyInstanceUID = "1.2.3"
    if damage == "SOPInstanceUID":
        del broken.SOPInstanceUID
    with pytest.raises(ValueError, match=r"lacks SOPInstanceUID|several studies"):
        structured_report(reply, [headers[0], broken])


def test_dcmtk_reads_it(reply, headers, tmp_path):
    if shutil.which("dsrdump") is None:
        pytest.skip("no dsrdump of dcmtk")
    path = tmp_path / "report.dcm"
    path.write_bytes(written(structured_report(reply, headers, left_out={"film-truncated": 1})))
    done = subprocess.run(["dsrdump", "+Pl", path], capture_output=True, text=True, check=True)
    assert not [line for line in done.stderr.splitlines() if line.startswith(("E:", "F:"))]
    assert "1 of 3 films could not be used" in done.stdout
    assert done.stdout.count("Calibrated probability") == len(reply.answers)


def test_the_fhir_report_is_one(reply, headers):
    report = fhir_report(reply, headers)
    DiagnosticReport.model_validate(report)
    read = DiagnosticReport.model_validate_json(json.dumps(report))
    assert (read.status, read.identifier[0].value) == ("preliminary", f"urn:oid:{report_uid(reply, headers)}")
    assert read.imagingStudy[0].identifier.value == f"urn:oid:{headers[0].StudyInstanceUID}"
    assert INTENDED_USE in read.conclusion
    contained = {each.id: each for each in read.contained}
    results = [contained[each.reference.removeprefix("#")] for each in read.result]
    assert contained["model"].serialNumber == reply.bundle_hash
    for observation, (name, answer) in zip(results[1:], reply.answers.items(), strict=True):
        assert observation.code.text == name
        assert float(observation.component[0].valueQuantity.value) == answer.probability
        assert observation.device.reference == "#model"
        assert observation.status == "preliminary"
