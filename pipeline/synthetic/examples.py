"""`python -m pipeline.synthetic.examples`: draw the three example studies that the server's page offers to try."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import typer
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from components.cxr.cli import run_cli
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import read_film
from components.cxr.text.text import TextConfig, request_text
from pipeline.synthetic.dataset import draw_data
from pipeline.synthetic.films.dicoms import describe_image, write_dicom
from pipeline.synthetic.films.films import render_film
from pipeline.synthetic.presets import Settings
from pipeline.synthetic.studies import Study

__all__ = ["EXAMPLES", "draw_examples"]

EXAMPLES = Path(__file__).parents[2] / "components" / "serve" / "examples"
SETTINGS = Settings(seed=20, preset="easy", prevalence="floor")
NUM_STUDIES = 60
SIZE = 384
"""Long side in pixels."""
QUALITY = 80
"""Of JPEG: a film of this size takes some 20 kB."""


class _Example(NamedTuple):
    """One study of the data set of SETTINGS."""

    number: int
    title: str
    dicom: bool
    """Else its films are JPEG files, whose age, sex and views the request must give."""


CHOSEN = (
    _Example(34, "No finding, two views", dicom=True),
    _Example(39, "Pneumothorax, two views", dicom=True),
    _Example(31, "Effusion, portable", dicom=False),
)


def draw_examples(out: Path) -> None:
    """Write the films and `examples.json`: the same pixels every time.

    Args:
        out: folder, made where there is none.
    """
    out.mkdir(parents=True, exist_ok=True)
    drawn = draw_data(NUM_STUDIES, settings=SETTINGS)
    readings = [reading for patient in drawn.readings for reading in patient]
    listed = []
    for i, example in enumerate(CHOSEN, start=1):
        study = readings[example.number].study
        report = drawn.reports[study.patient.subject_id, study.study_id]
        names = []
        for image in range(len(study.views)):
            names.append(f"example-{i}-{image + 1}.{'dcm' if example.dicom else 'jpg'}")
            _write_film(out / names[-1], study, image, dicom=example.dicom)
        listed.append(
            {
                "title": example.title,
                "films": names,
                "view_positions": [""] * len(names) if example.dicom else list(study.views),
                "text": request_text(report, config=TextConfig()),
                "age_years": None if example.dicom else study.age_years,
                "sex": None if example.dicom else study.patient.sex,
            }
        )
    (out / "examples.json").write_text(json.dumps(listed, indent=1) + "\n")


def _write_film(path: Path, study: Study, image: int, *, dicom: bool) -> None:
    film = render_film(study, image, size=SIZE)
    rows, columns = film.pixels.shape
    write_dicom(path, film, describe_image(study, image, rows=rows, columns=columns), study, image)
    pixels = _trimmed(read_film(path.read_bytes(), preset=PixelPreset(size=SIZE)).pixels, rows, columns)
    written, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert written
    if not dicom:
        path.write_bytes(jpeg.tobytes())
        return
    dataset = dcmread(path)
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth"):
        if keyword in dataset:
            del dataset[keyword]
    dataset.PhotometricInterpretation, dataset.PresentationLUTShape = "MONOCHROME2", "IDENTITY"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.LossyImageCompression, dataset.LossyImageCompressionMethod = "01", "ISO_10918_1"
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([jpeg.tobytes()])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.save_as(path, enforce_file_format=True)


def _trimmed(square: npt.NDArray[np.uint8], rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """A film of its own shape again, without the padding around it."""
    top, left = (SIZE - rows) // 2, (SIZE - columns) // 2
    return square[top : top + rows, left : left + columns]


def main(out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")] = EXAMPLES) -> None:
    """Draw the example studies."""
    draw_examples(out)
    files = sorted(path for path in out.iterdir() if path.is_file())
    print(f"synthetic: {len(files)} files, {sum(path.stat().st_size for path in files)} bytes in {out}")


if __name__ == "__main__":
    run_cli(main)
