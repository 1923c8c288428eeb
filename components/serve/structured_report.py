"""One study's answer as a DICOM Structured Report: a measurement report (TID 1500) beside the films that it is of.

The same films, model and thresholds give the same SOP Instance UID, so that sending a report again makes no second one.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence

from highdicom import PatientSexValues, sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.valuerep import DA, TM

from components.serve.schemas import INTENDED_USE, Overall, PredictReply

__all__ = [
    "ALGORITHM", "MANUFACTURER", "SCHEME",
    "finding_code", "overall_code", "remarks", "report_uid", "state_code", "structured_report", "title_code",
    "version_of",
]  # fmt: skip

VERSION = 2
"""Of the report's form: another one is another report."""

SCHEME = "99CXRFLOW"
"""Private scheme of what no public one names for sure; its code values are the names themselves."""

ALGORITHM = "cxrflow chest X-ray classifier"
MANUFACTURER = "cxrflow"

_SCT = {
    "Cardiomegaly": Code("8186001", "SCT", "Cardiomegaly"),
    "Edema": Code("19242006", "SCT", "Pulmonary edema"),
    "Pneumonia": Code("233604007", "SCT", "Pneumonia"),
    "Atelectasis": Code("46621007", "SCT", "Atelectasis"),
    "Pneumothorax": Code("36118008", "SCT", "Pneumothorax"),
    "Pleural Effusion": Code("60046008", "SCT", "Pleural effusion"),
}
"""Pathologies that SNOMED CT has a concept of the same meaning for."""

_STATES: dict[int, Code] = {1: codes.SCT.Present, 0: codes.SCT.Absent, -1: codes.SCT.Uncertain}
_OVERALL: dict[Overall, str] = {
    "findings": "At least one finding is positive",
    "no-finding": "No finding is positive or uncertain",
    "open": "Neither a finding nor their absence",
    "not-a-chest-film": "Refused: a film is taken for no chest film",
}
_CONTAINS = sr.RelationshipTypeValues.CONTAINS
_NO_UNIT = codes.UCUM.NoUnits
_MOST_CHARS = 64
"""Of a code's meaning and of a serial number in DICOM."""
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_EMPTY_ALLOWED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""Attributes of type 2, which a film must have and may leave empty."""
_OF_DICOM: dict[str, Callable[[str], object]] = {
    "PatientSex": PatientSexValues, "PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM,
}  # fmt: skip
"""Those of which some archives hold what DICOM does not allow, such as 1950-01-01; a report leaves it empty."""
_Sources = list[sr.SourceImageForMeasurementGroup]


def finding_code(pathology: str) -> Code:
    """The concept of a pathology: SNOMED CT's where it has the same meaning, else a private one."""
    return _SCT.get(pathology) or _private(pathology)


def state_code(state: int) -> Code:
    """Present, absent or uncertain."""
    return _STATES[state]


def overall_code(overall: Overall) -> Code:
    """The statement of a whole study."""
    return _private(overall, _OVERALL[overall])


def title_code(reply: PredictReply) -> Code:
    """What a report is called; one without an answer is called that."""
    if reply.in_distribution is False:
        return _private("no-answer", "NO ANSWER: a film is taken for no chest film, research use only")
    return _private("research-report", "Imaging measurement report, research use only")


def remarks(reply: PredictReply, num_films: int, left_out: Mapping[str, int] | None = None) -> list[str]:
    """Sentences that a reader needs beside the answer; a film's number in them is its place among those answered.

    Args:
        num_films: that the answer rests on.
        left_out: numbers of the study's other films, which could not be used, by reason.
    """
    found = []
    if left_out:
        number = sum(left_out.values())
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        were = "was" if number == 1 else "were"
        found.append(f"{number} of {number + num_films} films could not be used and {were} left out: {reasons}.")
    return found + [caution.message for caution in reply.warnings]


def report_uid(reply: PredictReply, films: Sequence[Dataset], *, left_out: Mapping[str, int] | None = None) -> str:
    """SOP Instance UID of the report of these films, and not of those left out, by this model with these thresholds."""
    thresholds = [f"{name}={answer.threshold!r}" for name, answer in reply.answers.items()]
    shown = sorted(str(film.SOPInstanceUID) for film in films)
    others = [f"{reason}={count}" for reason, count in sorted((left_out or {}).items())]
    model = [reply.bundle_hash, reply.model_version or "", reply.condition]
    return _uid("report", str(VERSION), *model, *thresholds, *shown, *others)


def structured_report(
    reply: PredictReply, films: Sequence[Dataset], *, left_out: Mapping[str, int] | None = None
) -> sr.ComprehensiveSR:
    """The report, in the films' study and with their patient.

    Each pathology is a group with its finding, probability, threshold and state. The answer to a study with a film that
    is taken for no chest film is said to be none by its title and its series, without numbers.

    Args:
        films: those that the answer rests on, without pixels or with them; at least one, of one study.
        left_out: as remarks'.

    Raises:
        ValueError: films that lack UIDs, or are of several studies.
    """
    evidence = [_complete(film) for film in films]
    if len({film.StudyInstanceUID for film in evidence}) != 1:
        raise ValueError("films of several studies")
    uid = report_uid(reply, evidence, left_out=left_out)
    algorithm = sr.AlgorithmIdentification(
        name=ALGORITHM,
        version=version_of(reply),
        parameters=[f"bundle SHA-256 {reply.bundle_hash}", f"input condition {reply.condition}", INTENDED_USE],
    )
    sources = [sr.SourceImageForMeasurementGroup(film.SOPClassUID, film.SOPInstanceUID) for film in evidence]
    groups = [_whole(reply, uid, algorithm, sources)]
    is_answer = reply.in_distribution is not False
    if is_answer:
        groups += [_group(name, reply, uid, algorithm, sources) for name in reply.answers]
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(reply)),
        procedure_reported=Code("399208008", "SCT", "Plain X-ray of chest"),
        imaging_measurements=groups,
        title=title_code(reply),
    )
    items = content[0].ContentSequence
    for remark in remarks(reply, len(films), left_out):
        items.insert(len(items) - 1, sr.TextContentItem(codes.DCM.Comment, remark, _CONTAINS))  # before the numbers
    return sr.ComprehensiveSR(
        evidence=evidence,
        content=content,
        series_instance_uid=_uid("series", evidence[0].StudyInstanceUID, uid),
        series_number=9900,
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=ALGORITHM,
        software_versions=version_of(reply),
        device_serial_number=reply.bundle_hash,
        series_description="cxrflow, research use only" if is_answer else "cxrflow: NO ANSWER, taken for no chest film",
        is_complete=is_answer and not left_out,
        is_final=False,
        is_verified=False,
        specific_character_set="ISO_IR 192",
        coding_schemes=[CodingSchemeIdentificationItem(SCHEME, name="cxrflow", responsible_organization="cxrflow")],
    )


def _whole(
    reply: PredictReply, uid: str, algorithm: sr.AlgorithmIdentification, sources: _Sources
) -> sr.MeasurementsAndQualitativeEvaluations:
    """What is said of the study."""
    name = _private("overall", "Statement of the whole study")
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=_uid(uid, "whole"), identifier="study"),
        finding_type=_private("study", "Study as a whole"),
        algorithm_id=algorithm,
        qualitative_evaluations=[sr.QualitativeEvaluation(name, overall_code(reply.overall))],
        source_images=sources,
    )


def _group(
    name: str, reply: PredictReply, uid: str, algorithm: sr.AlgorithmIdentification, sources: _Sources
) -> sr.MeasurementsAndQualitativeEvaluations:
    """What is said of one pathology."""
    answer = reply.answers[name]
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=_uid(uid, name), identifier=name),
        finding_type=finding_code(name),
        algorithm_id=algorithm,
        measurements=[
            sr.Measurement(_private("probability", "Calibrated probability"), answer.probability, _NO_UNIT),
            sr.Measurement(_private("uncertain", "Probability of uncertain"), answer.uncertain, _NO_UNIT),
            sr.Measurement(_private("threshold", "Threshold of positive"), answer.threshold, _NO_UNIT),
        ],
        qualitative_evaluations=[sr.QualitativeEvaluation(_private("state", "State"), state_code(answer.state))],
        source_images=sources,
    )


def version_of(reply: PredictReply) -> str:
    """The model's version in the registry, else the start of its hash."""
    return reply.model_version or reply.bundle_hash[:12]


def _observer(reply: PredictReply) -> sr.ObserverContext:
    """The model as the device that observed."""
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=_uid("device", reply.bundle_hash),
        name=ALGORITHM,
        manufacturer_name=MANUFACTURER,
        model_name=version_of(reply),
        serial_number=reply.bundle_hash,
    )
    return sr.ObserverContext(codes.DCM.Device, device)


def _complete(film: Dataset) -> Dataset:
    """The film's attributes that a report takes over; what may be empty is there."""
    missing = [name for name in _NEEDED if not film.get(name)]
    if missing:
        raise ValueError(f"a film lacks {', '.join(missing)}")
    found = Dataset()
    found.update({element.tag: element for element in film if element.tag < 0x00280000})
    for name in _EMPTY_ALLOWED:
        if name not in found:
            setattr(found, name, "")
    found.PatientSex = str(found.PatientSex).strip().upper()
    for name, of_dicom in _OF_DICOM.items():
        try:
            of_dicom(str(found.get(name)))
        except ValueError:
            setattr(found, name, "")
    return found


def _private(value: str, meaning: str | None = None) -> Code:
    return Code(value, SCHEME, (meaning or value)[:_MOST_CHARS])


def _uid(*parts: str) -> str:
    """A UID of DICOM PS3.5 B.2 that the same parts give again."""
    digest = hashlib.sha256("\0".join(("cxrflow", *parts)).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"
