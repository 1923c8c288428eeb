"""Writes a film as the DICOM file a CR or DX unit would send."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID

from pipeline.synthetic.films.syntaxes import Syntax, store_pixels
from pipeline.synthetic.keys import Stream, dicom_id, generator, uid

if TYPE_CHECKING:
    from pipeline.synthetic.films.films import Film
    from pipeline.synthetic.studies import Study, View

__all__ = ["ImageRecord", "describe_image", "write_dicom"]

CR_STORAGE = "1.2.840.10008.5.1.4.1.1.1"
DX_STORAGE = "1.2.840.10008.5.1.4.1.1.1.1"
"""Digital X-Ray Image Storage, For Presentation."""

_VIEW_CODES = {
    "AP": ("399348003", "antero-posterior"),
    "PA": ("272479007", "postero-anterior"),
    "LATERAL": ("399067008", "lateral"),
    "LL": ("399173006", "left lateral"),
}
"""SNOMED CT codes of CID 4010 (PS3.16)."""


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """What the tables say of an image; columns as in mimic-cxr-2.0.0-metadata.csv."""

    dicom_id: str
    subject_id: int
    study_id: int
    procedure_step: str
    view_position: str
    """AP, PA, LATERAL, LL, or empty where only the code names the view."""
    rows: int
    columns: int
    study_date: str
    study_time: str
    procedure: str
    view_code: str
    orientation: str


def describe_image(study: Study, image: int, *, rows: int, columns: int) -> ImageRecord:
    """The metadata of image number `image`."""
    rng = generator(study.patient.seed, Stream.GAPS, study.patient.index, study.index, image)
    view: View = study.views[image]
    return ImageRecord(
        dicom_id=dicom_id(study.patient.seed, study.study_id, image),
        subject_id=study.patient.subject_id,
        study_id=study.study_id,
        procedure_step=study.procedure,
        view_position="" if rng.random() < 0.03 else view,
        rows=rows,
        columns=columns,
        study_date=study.when.strftime("%Y%m%d"),
        study_time=f"{study.when:%H%M%S}.{int(rng.integers(1000)):03d}",
        procedure="" if rng.random() < 0.02 else study.procedure,
        view_code=_VIEW_CODES[view][1],
        orientation=("Recumbent" if rng.random() < 0.3 else "Erect") if rng.random() < 0.9 else "",
    )


def write_dicom(
    path: Path, film: Film, record: ImageRecord, study: Study, image: int, *, syntax: Syntax = "explicit-little"
) -> None:
    """Write 12 bits in 16 (PS3.3 C.7.6.3; PS3.5 8.1) in the transfer syntax; the same bytes every time.

    About 15 % are MONOCHROME1, 8 % carry no window, 15 % two windows, and some CR a rescale slope and intercept.
    """
    patient = study.patient
    rng = generator(patient.seed, Stream.STORAGE, patient.index, study.index, image)
    is_dx = rng.random() < (0.3 if study.views[image] == "AP" else 0.6)
    inverted, window, two_windows, rescaled = rng.random(4)
    pixels, center, width = film.pixels, film.window_center, film.window_width
    ds = Dataset()
    ds.PhotometricInterpretation = "MONOCHROME2"
    if inverted < 0.15:
        ds.PhotometricInterpretation = "MONOCHROME1"
        pixels, center = np.uint16(4095) - pixels, 4095 - center
    if rescaled < 0.25 and not is_dx:
        slope, intercept = (1.0, 0.0) if rescaled < 0.17 else (0.5, -100.0)
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = f"{slope:g}", f"{intercept:g}", "US"
        center, width = slope * center + intercept, slope * width
    if window >= 0.08:
        ds.WindowCenter, ds.WindowWidth = f"{center:g}", f"{width:g}"
        if two_windows < 0.15:
            ds.WindowCenter, ds.WindowWidth = [f"{center:g}", f"{center:g}"], [f"{width:g}", f"{1.4 * width:g}"]
            ds.WindowCenterWidthExplanation = ["NORMAL", "SOFTER"]
    _identify(ds, record, study, image, is_dx=is_dx)
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 1, 16, 12, 11, 0
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.ImplementationClassUID, meta.ImplementationVersionName = UID(uid(0, "implementation")), "CXRFLOW_SYNTH"
    ds.file_meta = meta
    store_pixels(ds, pixels, syntax=syntax, number=study.patient.index + study.index + image)
    dcmwrite(path, ds, enforce_file_format=True)


def _identify(ds: Dataset, record: ImageRecord, study: Study, image: int, *, is_dx: bool) -> None:
    seed, patient = study.patient.seed, study.patient
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY"] if is_dx else ["DERIVED", "PRIMARY", "POST_PROCESSED"]
    ds.SOPClassUID, ds.Modality = (DX_STORAGE, "DX") if is_dx else (CR_STORAGE, "CR")
    ds.SOPInstanceUID = uid(seed, "image", study.study_id, image)
    ds.StudyInstanceUID = uid(seed, "study", study.study_id)
    ds.SeriesInstanceUID = uid(seed, "series", study.study_id, image)
    ds.StudyDate, ds.StudyTime = record.study_date, record.study_time
    ds.ContentDate, ds.ContentTime = record.study_date, record.study_time
    ds.AccessionNumber, ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "", str(record.study_id), image + 1, 1
    ds.Manufacturer, ds.ManufacturerModelName = "cxrflow", "synthetic films"
    ds.ReferringPhysicianName, ds.PatientName = "", ""
    ds.PatientID, ds.PatientBirthDate, ds.PatientSex = str(record.subject_id), "", patient.sex
    ds.PatientAge = f"{study.age_years:03d}Y"
    ds.BodyPartExamined, ds.ViewPosition = "CHEST", record.view_position
    ds.PatientOrientation = ["L", "F"] if study.views[image] in ("PA", "AP") else ["A", "F"]
    ds.PerformedProcedureStepDescription = record.procedure_step
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "00"
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", 1
    if is_dx:
        ds.PresentationIntentType = "FOR PRESENTATION"
        ds.PresentationLUTShape = "INVERSE" if ds.PhotometricInterpretation == "MONOCHROME1" else "IDENTITY"
        ds.ImagerPixelSpacing = [f"{430 / max(record.rows, record.columns):.6f}"] * 2
    code = Dataset()
    code.CodeValue, code.CodeMeaning = _VIEW_CODES[study.views[image]]
    code.CodingSchemeDesignator = "SCT"
    ds.ViewCodeSequence = DicomSequence([code])
