"""One study's answer as a FHIR R4 DiagnosticReport: one JSON object that contains its observations and the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from components.serve.schemas import INTENDED_USE, PathologyAnswer, PredictReply
from components.serve.structured_report import (
    ALGORITHM,
    MANUFACTURER,
    finding_code,
    overall_code,
    remarks,
    report_uid,
    state_code,
    title_code,
    version_of,
)

__all__ = ["fhir_report"]

_SYSTEMS = {"SCT": "http://snomed.info/sct", "99CXRFLOW": "urn:x-cxrflow:codes"}
_DICOM = "urn:dicom:uid"


def fhir_report(
    reply: PredictReply, films: Sequence[Dataset], *, left_out: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """The report as JSON values; preliminary, as nobody has read it.

    Its identifier is the SOP Instance UID of the structured report of the same answer.

    Args:
        films: those that the answer rests on, of one study; at least one.
        left_out: as remarks'.
    """
    first, uid = films[0], report_uid(reply, films, left_out=left_out)
    said = remarks(reply, len(films), left_out)
    subject = {"identifier": {"value": str(first.PatientID)}} if first.get("PatientID") else None
    observations = [_whole(reply, said)]
    if reply.in_distribution is not False:
        observations += [_observation(i, name, reply.answers[name]) for i, name in enumerate(reply.answers, start=1)]
    for observation in observations:
        observation["device"] = {"reference": "#model"}
        if subject:
            observation["subject"] = subject
    report: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "contained": [_device(reply), *observations],
        "identifier": [{"system": _DICOM, "value": f"urn:oid:{uid}"}],
        "status": "preliminary",
        "category": [_concept("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology")],
        "code": _concept("http://loinc.org", "18748-4", "Diagnostic imaging study")
        | {"text": title_code(reply).meaning},
        "imagingStudy": [{"identifier": {"system": _DICOM, "value": f"urn:oid:{first.StudyInstanceUID}"}}],
        "result": [{"reference": f"#{observation['id']}"} for observation in observations],
        "conclusion": " ".join([f"{overall_code(reply.overall).meaning}.", *said, INTENDED_USE]),
    }
    if subject:
        report["subject"] = subject
    return report


def _whole(reply: PredictReply, said: Sequence[str]) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": "study",
        "status": "preliminary",
        "code": {"text": "Statement of the whole study"},
        "valueCodeableConcept": _coded(overall_code(reply.overall)),
        "note": [{"text": text} for text in (*said, INTENDED_USE)],
    }


def _observation(number: int, pathology: str, answer: PathologyAnswer) -> dict[str, Any]:
    numbers = {
        "Calibrated probability": answer.probability,
        "Probability of uncertain": answer.uncertain,
        "Threshold of positive": answer.threshold,
    }
    return {
        "resourceType": "Observation",
        "id": f"finding-{number}",
        "status": "preliminary",
        "code": _coded(finding_code(pathology)) | {"text": pathology},
        "valueCodeableConcept": _coded(state_code(answer.state)),
        "component": [
            {
                "code": {"text": name},
                "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": "1"},
            }
            for name, value in numbers.items()
        ],
        "note": [{"text": INTENDED_USE}],
    }


def _device(reply: PredictReply) -> dict[str, Any]:
    return {
        "resourceType": "Device",
        "id": "model",
        "manufacturer": MANUFACTURER,
        "serialNumber": reply.bundle_hash,
        "deviceName": [{"name": ALGORITHM, "type": "model-name"}],
        "version": [{"value": version_of(reply)}],
        "note": [{"text": INTENDED_USE}],
    }


def _coded(code: Code) -> dict[str, Any]:
    return _concept(_SYSTEMS[code.scheme_designator], code.value, code.meaning)


def _concept(system: str, code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": display}]}
