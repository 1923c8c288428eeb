"""How the polarity and the colors of a film are named, in every spelling, and what is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from components.cxr.films.pixels import read_film
from tests.components.cxr.films.pixel_films import DISPLAY, MIMIC_JPG, SIZE, DicomWriter, code_of, film_values


def named(data: bytes, name: bytes) -> bytes:
    """The film with another value of (0028,0004) of 11 bytes and the padding, written MONOCHROME2."""
    assert len(name) == 12
    assert data.count(b"MONOCHROME2 ") == 1
    return data.replace(b"MONOCHROME2 ", name)


@pytest.mark.parametrize("preset", [DISPLAY, MIMIC_JPG])
@pytest.mark.parametrize("digit", [b"1", b"2"])
@pytest.mark.parametrize(
    "form",
    [b"MONOCHROME%b ", b"Monochrome%b ", b"monochrome%b\0", b" MONOCHROME%b", b"MONOCHROME%b\0", b"MONOCHROME %b"],
)
def test_every_spelling_of_gray(dicom_bytes: DicomWriter, preset: object, digit: bytes, form: bytes) -> None:
    data = dicom_bytes(film_values(0, 4095), bits_stored=12, WindowCenter=1500, WindowWidth=2500)
    expected = read_film(named(data, b"MONOCHROME%b " % digit), preset=preset).pixels  # type: ignore[arg-type]
    found = read_film(named(data, form % digit), preset=preset).pixels  # type: ignore[arg-type]
    assert np.array_equal(found, expected)
    if preset is DISPLAY and digit == b"1":
        plain = read_film(data, preset=DISPLAY).pixels
        assert np.abs(found.astype(int) - (255 - plain)).max() <= 1


def test_the_mimic_recipe_inverts_monochrome1(dicom_bytes: DicomWriter) -> None:
    values = film_values(0, 4095).astype(np.int64)
    gray = ((values - values.min()) / np.ptp(values) * 255).astype(np.uint8)
    for kind, shown in (("MONOCHROME1", 255 - gray), ("MONOCHROME2", gray)):
        data = dicom_bytes(values.astype(np.uint16), bits_stored=12, PhotometricInterpretation=kind)
        assert np.array_equal(read_film(data, preset=MIMIC_JPG).pixels, cv2.equalizeHist(shown))


@pytest.mark.parametrize(
    "name", [b"MONOCHROME3 ", b"MONOCHROME  ", b"HSV         ", b"ARGB        ", b"CMYK        ", b"?           ",
             b"MONO\\CHROME1", b"\xff\xfe\x80\x00        ", b"RGB         ", b"YBR_FULL    "]
)  # fmt: skip
@pytest.mark.parametrize("preset", [DISPLAY, MIMIC_JPG])
def test_what_is_no_kind_of_gray_is_refused(dicom_bytes: DicomWriter, name: bytes, preset: object) -> None:
    data = dicom_bytes(film_values(0, 4095), bits_stored=12)
    assert code_of(named(data, name), preset) == "photometric"  # type: ignore[arg-type]


def test_without_one_the_shape_of_the_presentation_lut_says_it(dicom_bytes: DicomWriter) -> None:
    values = film_values(0, 4095)
    plain = read_film(dicom_bytes(values, bits_stored=12), preset=DISPLAY).pixels
    assert code_of(dicom_bytes(values, bits_stored=12, PhotometricInterpretation=None)) == "photometric"
    assert code_of(dicom_bytes(values, bits_stored=12, PhotometricInterpretation="")) == "photometric"
    for shape, expected in (("IDENTITY", plain), ("INVERSE", 255 - plain)):
        data = dicom_bytes(values, bits_stored=12, PhotometricInterpretation=None, PresentationLUTShape=shape)
        assert np.array_equal(read_film(data, preset=DISPLAY).pixels, expected)


def test_colors_in_every_spelling(dicom_bytes: DicomWriter) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    data = dicom_bytes(rgb)
    expected = read_film(data, preset=DISPLAY).pixels
    for name in (b"rgb ", b"Rgb\0"):
        assert np.array_equal(read_film(data.replace(b"RGB ", name, 1), preset=DISPLAY).pixels, expected)
    three_grays = dicom_bytes(np.dstack([rgb[..., 0]] * 3), PhotometricInterpretation="MONOCHROME2")
    assert np.array_equal(read_film(three_grays, preset=DISPLAY).pixels, rgb[..., 0])
    assert code_of(dicom_bytes(rgb, PhotometricInterpretation="MONOCHROME1")) == "photometric"
    assert code_of(dicom_bytes(rgb, PhotometricInterpretation="PALETTE COLOR")) == "photometric"
    assert code_of(dicom_bytes(rgb, PhotometricInterpretation="HSV")) == "photometric"
