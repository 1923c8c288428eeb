"""A folder laid out like MIMIC-CXR, of any size, with made-up ids, films and reports."""

from __future__ import annotations

import csv
import gzip
import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from components.cxr.labels import PATHOLOGIES

__all__ = ["FilmMaker", "write_mimic"]

_UID = "1.2.826.0.1.3680043.8.498.1"
_FILMS_OF_A_STUDY = (1, 2, 2, 1, 2, 2, 1, 2, 2, 2, 1, 2, 1, 2, 2, 1, 2, 2, 1, 2)  # 1.65, as 377,110 films of 227,835
_STUDIES_OF_A_PATIENT = (1, 2, 3, 4, 5, 6, 3, 4, 4, 3)  # 3.5, as 227,835 studies of 65,379
_REPORT = " INDICATION:  Cough and fever, case {}.\n\n FINDINGS:  The lungs are clear.\n\n IMPRESSION:  No change.\n"


class _Film(NamedTuple):
    patient: str
    study: str
    image: str
    split: str

    @property
    def folder(self) -> str:
        return f"files/p{self.patient[:2]}/p{self.patient}/s{self.study}"


class FilmMaker:
    """Uncompressed 12-bit DX films of one size: a header is made once, pixels and UID are replaced in its bytes."""

    def __init__(self, height: int, width: int, *, distinct: int) -> None:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1")
        meta.MediaStorageSOPInstanceUID = UID(f"{_UID}{0:09}")
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        film = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        film.Modality, film.PatientAge, film.PatientSex, film.ViewPosition = "DX", "061Y", "F", "PA"
        film.Rows, film.Columns, film.SamplesPerPixel, film.PhotometricInterpretation = height, width, 1, "MONOCHROME2"
        film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
        film.WindowCenter, film.WindowWidth = 2048, 4000
        film.PixelData = bytes(height * width * 2)
        film["PixelData"].VR = "OW"
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, film, enforce_file_format=True)
        self._header = buffer.getvalue()[: -height * width * 2]
        rng = np.random.default_rng(7)
        ramp = np.linspace(200, 3600, width, dtype=np.float32)[None, :]
        self._pixels = [
            (ramp + rng.normal(0, 60, (height, width)).astype(np.float32)).clip(0, 4095).astype("<u2").tobytes()
            for _ in range(distinct)
        ]

    def __call__(self, number: int) -> bytes:
        """A film's file; only its UID and a corner's pixels are its own where `distinct` is used up."""
        uid = f"{_UID}{number:09}".encode()
        pixels = self._pixels[number % len(self._pixels)]
        corner = (number % 4096).to_bytes(2, "little") * 16
        return self._header.replace(f"{_UID}{0:09}".encode(), uid) + corner + pixels[len(corner) :]


def write_mimic(folder: Path, num_films: int, *, film: Callable[[int], bytes] | None) -> None:
    """Write tables, reports and films; without `film` both are empty files, enough to make a plan from."""
    films = list(_films(num_films))
    for number, row in enumerate(films):
        place = folder / row.folder
        if number == 0 or films[number - 1].study != row.study:
            place.mkdir(parents=True, exist_ok=True)
            place.with_suffix(".txt").write_text(_REPORT.format(number) if film else "")
        (place / f"{row.image}.dcm").write_bytes(film(number) if film else b"")
    first_of_study = {row.study: row for row in reversed(films)}
    rng = random.Random(3)
    states = ("1.0", "0.0", "-1.0", "", "", "", "")
    _write(
        folder / "cxr-record-list.csv.gz",
        ["subject_id", "study_id", "dicom_id", "path"],
        ([row.patient, row.study, row.image, f"{row.folder}/{row.image}.dcm"] for row in films),
    )
    _write(
        folder / "mimic-cxr-2.0.0-split.csv.gz",
        ["dicom_id", "study_id", "subject_id", "split"],
        ([row.image, row.study, row.patient, row.split] for row in films),
    )
    _write(
        folder / "mimic-cxr-2.0.0-metadata.csv.gz",
        ["dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns",
         "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
         "PatientOrientationCodeSequence_CodeMeaning"],
        ([row.image, row.patient, row.study, "CHEST (PA AND LAT)", rng.choice(("PA", "AP", "LATERAL", "")), "3056",
          "2544", "21800506", "213014.531", "CHEST (PA AND LAT)", "postero-anterior", "Erect"] for row in films),
    )  # fmt: skip
    _write(
        folder / "mimic-cxr-2.0.0-chexpert.csv.gz",
        ["subject_id", "study_id", *PATHOLOGIES],
        ([row.patient, study, *(rng.choice(states) for _ in PATHOLOGIES)] for study, row in first_of_study.items()),
    )


def _films(num_films: int) -> Iterator[_Film]:
    rng = random.Random(1)
    patient = study = film = 0
    while True:
        split = "train" if patient % 50 else "validate" if patient % 100 else "test"
        for _ in range(_STUDIES_OF_A_PATIENT[patient % len(_STUDIES_OF_A_PATIENT)]):
            for _ in range(_FILMS_OF_A_STUDY[study % len(_FILMS_OF_A_STUDY)]):
                image = "-".join(f"{rng.getrandbits(32):08x}" for _ in range(5))
                yield _Film(f"{10_000_000 + 31 * patient}", f"{50_000_000 + 17 * study}", image, split)
                film += 1
                if film == num_films:
                    return
            study += 1
        patient += 1


def _write(path: Path, header: list[str], rows: Iterator[list[Any]]) -> None:
    with gzip.open(path, "wt", newline="", compresslevel=3) as file:
        csv.writer(file).writerows([header])
        csv.writer(file).writerows(rows)
