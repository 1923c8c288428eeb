"""Files with missing or wrong preamble, file meta and transfer syntax."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pydicom
import pytest
from PIL import ExifTags, Image, ImageOps
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from benchmarks.film_files import make_film, transcode
from components.cxr.films.limits import DecodeLimits
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import FilmError, read_film
from components.cxr.films.raster import read_raster
from tests.components.cxr.films.pixel_films import (
    DISPLAY,
    MIMIC_JPG,
    SIZE,
    DicomWriter,
    code_of,
    film_values,
    sample,
)


@pytest.mark.parametrize("preset", [DISPLAY, MIMIC_JPG])
def test_without_preamble(dicom_bytes: DicomWriter, preset: PixelPreset) -> None:
    values = film_values(0, 4095)
    with_preamble = read_film(dicom_bytes(values, bits_stored=12), preset=preset).pixels
    assert np.array_equal(
        read_film(dicom_bytes(values, bits_stored=12, preamble=False), preset=preset).pixels, with_preamble
    )


def test_a_png_of_16_bits_is_stretched_over_its_own_range() -> None:
    values = film_values(1000, 2000)
    values[0, 0], values[0, 1] = 1000, 2000
    written, data = cv2.imencode(".png", values)
    assert written
    found = read_film(data.tobytes(), preset=DISPLAY).pixels
    assert np.abs(found - 255 * (values - 1000.0) / 1000).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_color_picture_becomes_its_luminance(kind: str) -> None:
    rng = np.random.default_rng(3)
    image_HW3 = np.kron(rng.integers(0, 256, (SIZE // 16, SIZE // 16, 3)), np.ones((16, 16, 1), int)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(image_HW3).save(file, kind, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {}))
    expected = image_HW3 @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read_film(file.getvalue(), preset=DISPLAY).pixels - expected).max() <= (1 if kind == "PNG" else 4)


def test_implicit_little_endian_without_file_meta(dicom_bytes: DicomWriter) -> None:
    data = dicom_bytes(film_values(0, 4095), bits_stored=12)
    dataset = pydicom.dcmread(io.BytesIO(data))
    buffer = io.BytesIO()
    bare = Dataset(dataset)
    pydicom.dcmwrite(buffer, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    expected = read_film(data, preset=DISPLAY).pixels
    assert buffer.getvalue()[:2] == b"\x08\x00"
    assert np.array_equal(read_film(buffer.getvalue(), preset=DISPLAY).pixels, expected)


def test_real_radiograph_is_not_inverted() -> None:
    film = read_film(sample("RG1_UNCR.dcm"), preset=PixelPreset(size=128))
    assert (film.view_position, film.sex) == ("PA", "F")
    lungs, spine = film.pixels[30:70, 30:45].mean(), film.pixels[60:80, 60:68].mean()
    assert lungs < spine - 30


@pytest.mark.parametrize(
    ("has", "says"),
    [
        (ImplicitVRLittleEndian, ExplicitVRLittleEndian),
        (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
        (ExplicitVRBigEndian, ExplicitVRLittleEndian),
        (ExplicitVRLittleEndian, ExplicitVRBigEndian),
        (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian),
        (ExplicitVRLittleEndian, JPEG2000Lossless),
        (ExplicitVRLittleEndian, RLELossless),
        (RLELossless, ExplicitVRLittleEndian),
        (RLELossless, JPEGLSLossless),
        (JPEG2000Lossless, ExplicitVRLittleEndian),
        (JPEG2000Lossless, JPEGBaseline8Bit),
        (JPEGLSLossless, JPEG2000),
        (JPEGLosslessSV1, JPEGExtended12Bit),
        (JPEGLosslessSV1, None),
        (JPEG2000Lossless, None),
        (RLELossless, None),
        (ExplicitVRBigEndian, None),
    ],
)
def test_a_wrong_or_missing_transfer_syntax_changes_nothing(has: str, says: str | None) -> None:
    plain = make_film(SIZE, SIZE + 9)
    data = with_syntax(transcode(plain, has), says)
    if says is not None:
        assert str(says).encode() in data
    expected = read_film(plain, preset=DISPLAY).pixels
    assert np.array_equal(read_film(data, preset=DISPLAY).pixels, expected)


def with_syntax(data: bytes, syntax: str | None) -> bytes:
    """The file with another (0002,0010), or without its file meta."""
    start = data.index(b"\x02\x00\x10\x00UI")
    length = int.from_bytes(data[start + 6 : start + 8], "little")
    if syntax is None:
        group = data[140:144]
        return data[144 + int.from_bytes(group, "little") :]
    value = str(syntax).encode() + b"\0" * (len(syntax) % 2)
    changed = int.from_bytes(data[140:144], "little") + len(value) - length
    head = data[:140] + changed.to_bytes(4, "little") + data[144 : start + 6]
    return head + len(value).to_bytes(2, "little") + value + data[start + 8 + length :]


def test_progressive_jpeg_is_read_whatever_the_file_says(dicom_bytes: DicomWriter) -> None:
    ramp = np.tile(np.linspace(0, 255, SIZE).astype(np.uint8), (SIZE, 1))
    _, jpeg = cv2.imencode(".jpg", ramp, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_QUALITY, 100])
    data = transcode(make_film(SIZE, SIZE, bits=8), JPEGBaseline8Bit)
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.PhotometricInterpretation, dataset.WindowWidth, dataset.WindowCenter = "MONOCHROME2", None, None
    dataset.PixelData = encapsulate([jpeg.tobytes()])
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    assert np.abs(read_film(buffer.getvalue(), preset=DISPLAY).pixels.astype(int) - ramp).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_an_image_is_turned_as_its_exif_orientation_says(form: str, orientation: int) -> None:
    gray = np.zeros((40, 64), np.uint8)
    gray[:8], gray[:, :16] = 90, 200
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(gray).save(buffer, form, exif=exif)
    turned = np.asarray(ImageOps.exif_transpose(Image.open(buffer)))
    assert np.array_equal(read_raster(buffer.getvalue(), DecodeLimits()), turned)


def test_pixels_of_another_size_than_the_header_says_are_refused() -> None:
    for syntax in (JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1, RLELossless):
        data = transcode(make_film(SIZE, SIZE), syntax)
        larger = data.replace(b"\x28\0\x10\0US\x02\0\x20\0", b"\x28\0\x10\0US\x02\0\x21\0", 1)
        assert larger != data
        assert code_of(larger) == "undecodable"


def test_a_deflated_bomb_is_refused() -> None:
    data = transcode(make_film(200, 200), DeflatedExplicitVRLittleEndian)
    assert read_film(data, preset=DISPLAY).pixels.any()
    with pytest.raises(FilmError, match="inflates to more than 80000 bytes") as caught:
        read_film(data, preset=DISPLAY, limits=DecodeLimits(max_decoded_bytes=80_000))
    assert caught.value.code == "too-large"
