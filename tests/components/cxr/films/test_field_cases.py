"""Small films that failed in the field, with the right values, and the same ones rebuilt here."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian, JPEGBaseline8Bit

from benchmarks.film_files import transcode
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import read_film
from tests.components.cxr.films.pixel_films import DicomWriter

PRESET = PixelPreset()
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
REFERENCE = 92.5478
"""Mean of the reference film's image."""


@pytest.fixture(scope="module")
def field_cases(real_data: Path) -> Path:
    folder = real_data / "field-cases"
    if not folder.is_dir():
        pytest.skip("no ../shared/data/field-cases beside the repository")
    return folder


def read(data: bytes) -> np.ndarray:
    return read_film(data, preset=PRESET).pixels.astype(int)


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("ok_reference_150x120", REFERENCE),
        ("empty_lut_in_VOILUTSequence", REFERENCE),
        ("implicit_length_letters_60x150", 46.3968),
        ("jpeg_100_zero_bytes_after_EOI", 92.4787),
        ("nulls_instead_of_sequence_delimiter", 92.4787),
        ("pixel_aspect_ratio_1_2", REFERENCE),
        ("photometric_Monochrome1_mixed_case", 111.2245),
        ("palette_little_endian", 91.7124),
    ],
)
def test_real_files(field_cases: Path, name: str, mean: float) -> None:
    assert read((field_cases / f"{name}.dcm").read_bytes()).mean() == pytest.approx(mean, abs=0.05)


def test_real_files_are_the_reference(field_cases: Path) -> None:
    def film(name: str) -> bytes:
        return (field_cases / f"{name}.dcm").read_bytes()

    reference = read(film("ok_reference_150x120"))
    assert np.array_equal(read(film("empty_lut_in_VOILUTSequence")), reference)
    long = np.abs(read(film("pixel_aspect_ratio_1_2")) - reference)
    assert long.mean() < 1
    assert (long > 10).mean() < 0.04  # at edges, which half the columns show less sharply
    inside = slice(22, 22 + 179)  # 120 of 150 columns
    inverted = read(film("photometric_Monochrome1_mixed_case"))
    assert np.abs(inverted + reference - 255)[:, inside].max() <= 1
    for name in ("jpeg_100_zero_bytes_after_EOI", "nulls_instead_of_sequence_delimiter"):
        assert np.abs(read(film(name)) - reference).max() <= 8
    implicit = film("implicit_length_letters_60x150")
    assert np.array_equal(read(transcode(implicit, "1.2.840.10008.1.2.1")), read(implicit))
    palette = film("palette_little_endian")
    dataset = pydicom.dcmread(io.BytesIO(palette))
    dataset["PixelData"].VR = "OB"  # bytes in any order, where OW would have them swapped
    for color in ("Red", "Green", "Blue"):
        element = dataset[f"{color}PaletteColorLookupTableData"]
        element.value = np.frombuffer(element.value, "<u2").astype(">u2").tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    assert np.array_equal(read(transcode(buffer.getvalue(), "1.2.840.10008.1.2.2")), read(palette))


def smooth(rows: int = 150, columns: int = 120, most: int = 4095) -> np.ndarray:
    y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)[None]
    return np.rint(most * (0.3 + 0.3 * x * y + 0.25 * y**2)).astype(np.uint16 if most > 255 else np.uint8)


def test_an_implicit_film_whose_length_is_letters(dicom_bytes: DicomWriter) -> None:
    explicit = dicom_bytes(smooth(60, 150), bits_stored=12, **WINDOW)
    implicit = transcode(explicit, ImplicitVRLittleEndian)
    assert b"\xe0\x7f\x10\x00PF" in implicit  # 18000 bytes
    assert np.array_equal(read(implicit), read(explicit))


def test_an_empty_voi_lut_beside_a_window(dicom_bytes: DicomWriter) -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", None)
    item.LUTExplanation = ""
    item.add_new("LUTData", "US", None)
    values = smooth()
    found = read(dicom_bytes(values, bits_stored=12, **WINDOW, VOILUTSequence=Sequence([item])))
    assert np.array_equal(found, read(dicom_bytes(values, bits_stored=12, **WINDOW)))


def test_a_jpeg_with_padding_and_one_without_a_delimiter(dicom_bytes: DicomWriter) -> None:
    values = smooth(most=255)
    plain = dicom_bytes(values)
    written, jpeg = cv2.imencode(".jpg", values, [cv2.IMWRITE_JPEG_QUALITY, 100])
    assert written

    def film(padding: bytes) -> bytes:
        dataset = pydicom.dcmread(io.BytesIO(plain))
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.PixelData = encapsulate([jpeg.tobytes() + padding])
        dataset["PixelData"].is_undefined_length = True
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        return buffer.getvalue()

    for data in (film(b""), film(bytes(100)), film(bytes(100_000)), film(b"")[:-8], film(b"")[:-8] + bytes(16)):
        assert np.abs(read(data) - read(plain)).max() <= 3


def test_pixels_twice_as_wide_as_high(dicom_bytes: DicomWriter) -> None:
    whole = np.repeat(smooth()[:, ::2], 2, axis=1)
    found = read(dicom_bytes(whole[:, ::2], bits_stored=12, **WINDOW, PixelAspectRatio=[1, 2]))
    expected = read(dicom_bytes(whole, bits_stored=12, **WINDOW))
    assert np.abs(found - expected).max() <= 2
    assert np.array_equal(found.any(axis=0), expected.any(axis=0))


def test_a_polarity_in_mixed_case(dicom_bytes: DicomWriter) -> None:
    data = dicom_bytes(smooth(), bits_stored=12, **WINDOW, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(read(data.replace(b"MONOCHROME1", b"Monochrome1")), read(data))
