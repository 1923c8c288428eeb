"""Pixels against pydicom's own transforms in full precision, and one clear refusal for each unusable film."""

from __future__ import annotations

import io
import logging
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, RLELossless

from components.cxr.pixel_preset import PixelPreset
from components.cxr.pixels import FilmError, encode_png, fit, read_film, view_of

SIZE = 32
DISPLAY = PixelPreset(size=SIZE)
MIMIC_JPG = PixelPreset(name="mimic-jpg", size=SIZE)
DicomWriter = Callable[..., bytes]


def film_values(low: int, high: int, dtype: Any = np.uint16) -> npt.NDArray[Any]:
    """SIZE x SIZE integers that include both ends."""
    values = np.random.default_rng(7).integers(low, high + 1, (SIZE, SIZE))
    values.flat[0], values.flat[1] = low, high
    return values.astype(dtype)


def oracle(data: bytes, *, low: float, high: float) -> npt.NDArray[np.float64]:
    """pydicom's modality and VOI transform in float64, brightness low..high scaled to 0..255, inverted by the tag."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    voi = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float64)
    bright = np.clip((voi - low) / (high - low), 0, 1)
    return 255 * (1 - bright if dataset.PhotometricInterpretation == "MONOCHROME1" else bright)


def assert_close(found: npt.NDArray[np.uint8], expected: npt.NDArray[np.float64]) -> None:
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 0.51
    assert np.ptp(found) > 20


def sample(name: str) -> bytes:
    """One of pydicom's own test files."""
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("the package pydicom-data is not installed")
    return Path(str(path)).read_bytes()


def code_of(data: bytes, preset: PixelPreset = DISPLAY) -> str:
    with pytest.raises(FilmError) as caught:
        read_film(data, preset=preset)
    assert "19999999" not in str(caught.value)
    assert "Doe" not in str(caught.value)
    return caught.value.code


# Transforms


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": 2000, "WindowWidth": 1500},
        {"WindowCenter": [2000, 100], "WindowWidth": [1500, 10]},
        {"WindowCenter": 2000, "WindowWidth": 1500, "RescaleSlope": 2, "RescaleIntercept": -1024},
        {"WindowCenter": 2000, "WindowWidth": 1500, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": 2000, "WindowWidth": 700, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 1999.5, "WindowWidth": 1},
    ],
)
def test_window(dicom_bytes: DicomWriter, interpretation: str, tags: dict[str, Any]) -> None:
    data = dicom_bytes(film_values(100, 4000), bits_stored=12, PhotometricInterpretation=interpretation, **tags)
    # pydicom scales a window's output to the range of the modality values of all bits stored.
    slope, intercept = tags.get("RescaleSlope", 1), tags.get("RescaleIntercept", 0)
    expected = oracle(data, low=intercept, high=4095 * slope + intercept)
    assert_close(read_film(data, preset=DISPLAY).pixels, expected)


@pytest.mark.parametrize("tags", [{}, {"WindowCenter": 5, "WindowWidth": 0}, {"WindowCenter": 5, "WindowWidth": -3}])
@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_without_a_usable_window_the_range_is_stretched(
    dicom_bytes: DicomWriter, tags: dict[str, Any], interpretation: str
) -> None:
    values = film_values(300, 3000)
    data = dicom_bytes(values, bits_stored=12, PhotometricInterpretation=interpretation, **tags)
    bright = (values - 300.0) / 2700
    expected = 255 * (1 - bright if interpretation == "MONOCHROME1" else bright)
    pixels = read_film(data, preset=DISPLAY).pixels
    assert_close(pixels, expected)
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_negative_slope_inverts(dicom_bytes: DicomWriter) -> None:
    values = film_values(0, 4095)
    plain = read_film(dicom_bytes(values, bits_stored=12), preset=DISPLAY).pixels
    negative = dicom_bytes(values, bits_stored=12, RescaleSlope=-1, RescaleIntercept=4095)
    assert np.array_equal(read_film(negative, preset=DISPLAY).pixels, 255 - plain)


def lut(descriptor: list[int], data: list[int]) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", descriptor)
    item.add_new("LUTData", "US", data)
    item.LUTExplanation = "test"
    return Sequence([item])


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_voi_lut_goes_before_the_window_and_scales_by_its_own_entries(
    dicom_bytes: DicomWriter, interpretation: str
) -> None:
    entries = [int(v) for v in 1000 * np.sqrt(np.linspace(0, 1, 3000))]  # 0..1000 where the descriptor says 16 bits
    data = dicom_bytes(
        film_values(0, 4095),
        bits_stored=12,
        PhotometricInterpretation=interpretation,
        VOILUTSequence=lut([3000, 500, 16], entries),
        WindowCenter=10,
        WindowWidth=5,
    )
    assert_close(read_film(data, preset=DISPLAY).pixels, oracle(data, low=0, high=1000))


def test_voi_lut_of_a_rescaled_film_starts_below_zero(dicom_bytes: DicomWriter) -> None:
    entries = [int(v) for v in np.linspace(0, 4000, 2000)]
    values = film_values(0, 4095)
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024, "VOILUTSequence": lut([2000, 65536 - 1000, 12], entries)}
    found = read_film(dicom_bytes(values, bits_stored=12, **tags), preset=DISPLAY).pixels
    table = np.array(entries)[np.clip(values.astype(int) - 1024 + 1000, 0, 1999)]
    assert_close(found, 255 * table / 4000)


def test_modality_lut_comes_first(dicom_bytes: DicomWriter) -> None:
    entries = [int(v) for v in 60000 * np.linspace(0, 1, 4096) ** 2]
    data = dicom_bytes(
        film_values(0, 4095),
        bits_stored=12,
        ModalityLUTSequence=lut([4096, 0, 16], entries),
        WindowCenter=20000,
        WindowWidth=30000,
    )
    values = pydicom.dcmread(io.BytesIO(data)).pixel_array
    bright = np.clip((np.array(entries)[values] - 19999.5) / 29999 + 0.5, 0, 1)
    assert_close(read_film(data, preset=DISPLAY).pixels, 255 * bright)


def test_presentation_lut_shape_does_not_invert_again(dicom_bytes: DicomWriter) -> None:
    values = film_values(0, 4095)
    once = dicom_bytes(values, bits_stored=12, PhotometricInterpretation="MONOCHROME1")
    said_twice = dicom_bytes(
        values, bits_stored=12, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"
    )
    plain = read_film(dicom_bytes(values, bits_stored=12), preset=DISPLAY).pixels
    assert np.array_equal(read_film(once, preset=DISPLAY).pixels, 255 - plain)
    assert np.array_equal(read_film(said_twice, preset=DISPLAY).pixels, 255 - plain)


# Stored values


def test_signed_pixels(dicom_bytes: DicomWriter) -> None:
    values = film_values(-1000, 1500, np.int16)
    found = read_film(dicom_bytes(values, bits_stored=12), preset=DISPLAY).pixels
    assert_close(found, 255 * (values + 1000.0) / 2500)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_garbage_above_bits_stored_is_dropped(dicom_bytes: DicomWriter, dtype: Any) -> None:
    values = film_values(0, 2047, dtype)
    garbage = (values.view(np.uint16) | np.uint16(0xA000)).view(dtype)
    clean = read_film(dicom_bytes(values, bits_stored=12), preset=DISPLAY).pixels
    assert np.array_equal(read_film(dicom_bytes(garbage, bits_stored=12), preset=DISPLAY).pixels, clean)


def test_bits_below_the_stored_ones_are_dropped(dicom_bytes: DicomWriter) -> None:
    values = film_values(0, 1023)
    shifted = values << 2 | 3
    clean = read_film(dicom_bytes(values, bits_stored=10), preset=DISPLAY).pixels
    assert np.array_equal(read_film(dicom_bytes(shifted, bits_stored=10, HighBit=11), preset=DISPLAY).pixels, clean)


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_background_and_out_of_the_range(dicom_bytes: DicomWriter, interpretation: str) -> None:
    values = film_values(1000, 2000)[:, ::-1].copy()
    values[:, :6] = 4095
    data = dicom_bytes(values, bits_stored=12, PhotometricInterpretation=interpretation, PixelPaddingValue=4095)
    pixels = read_film(data, preset=DISPLAY).pixels
    assert not pixels[:, :6].any()
    bright = (values[:, 6:] - 1000.0) / 1000
    assert_close(pixels[:, 6:], 255 * (1 - bright if interpretation == "MONOCHROME1" else bright))


def test_padding_range_of_signed_pixels_written_unsigned(dicom_bytes: DicomWriter) -> None:
    values = film_values(0, 1000, np.int16)[::-1].copy()
    values[:3], values[3:5] = -2000, -1990
    data = dicom_bytes(values)
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)
    dataset.add_new("PixelPaddingRangeLimit", "US", 65536 - 1990)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    pixels = read_film(buffer.getvalue(), preset=DISPLAY).pixels
    assert not pixels[:5].any()
    assert_close(pixels[5:], values[5:] * 0.255)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_lossless_codecs_change_nothing(dicom_bytes: DicomWriter, syntax: str, dtype: Any) -> None:
    values = film_values(-900 if dtype is np.int16 else 0, 1500, dtype)
    plain = read_film(dicom_bytes(values, bits_stored=12), preset=DISPLAY).pixels
    packed = dicom_bytes(values, bits_stored=12, transfer_syntax=syntax)
    assert np.array_equal(read_film(packed, preset=DISPLAY).pixels, plain)


@pytest.mark.parametrize("how", ["RLE", "bigendian", "implicit", "jp2klossless", "jpeg_ls_lossless"])
def test_one_film_stored_in_many_ways(how: str) -> None:
    plain = read_film(sample("MR_small.dcm"), preset=DISPLAY).pixels
    assert np.array_equal(read_film(sample(f"MR_small_{how}.dcm"), preset=DISPLAY).pixels, plain)


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "SC_rgb_jpeg_gdcm.dcm", "JPEGLSNearLossless_16.dcm"])
def test_lossy_codecs(name: str) -> None:
    assert np.ptp(read_film(sample(name), preset=DISPLAY).pixels) > 100


@pytest.mark.parametrize("preset", [DISPLAY, MIMIC_JPG])
def test_without_preamble(dicom_bytes: DicomWriter, preset: PixelPreset) -> None:
    values = film_values(0, 4095)
    with_preamble = read_film(dicom_bytes(values, bits_stored=12), preset=preset).pixels
    assert np.array_equal(
        read_film(dicom_bytes(values, bits_stored=12, preamble=False), preset=preset).pixels, with_preamble
    )


def test_implicit_little_endian_without_file_meta(dicom_bytes: DicomWriter) -> None:
    data = dicom_bytes(film_values(0, 4095), bits_stored=12)
    dataset = pydicom.dcmread(io.BytesIO(data))
    buffer = io.BytesIO()
    bare = Dataset(dataset)
    pydicom.dcmwrite(buffer, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    expected = read_film(data, preset=DISPLAY).pixels
    assert buffer.getvalue()[:2] == b"\x08\x00"
    assert np.array_equal(read_film(buffer.getvalue(), preset=DISPLAY).pixels, expected)


def test_color_becomes_luminance(dicom_bytes: DicomWriter) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    expected = rgb @ np.array([0.299, 0.587, 0.114])
    assert_close(read_film(dicom_bytes(rgb), preset=DISPLAY).pixels, expected)


def test_real_radiograph_is_not_inverted() -> None:
    film = read_film(sample("RG1_UNCR.dcm"), preset=PixelPreset(size=128))
    assert (film.view_position, film.sex) == ("PA", "F")
    lungs, spine = film.pixels[30:70, 30:45].mean(), film.pixels[60:80, 60:68].mean()
    assert lungs < spine - 30


# Resize


@pytest.mark.parametrize(
    ("shape", "box"), [((64, 32), (0, 8, 32, 24)), ((32, 64), (8, 0, 24, 32)), ((32, 31), (0, 0, 32, 31))]
)
def test_aspect_is_kept_and_padding_centered(shape: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    square = fit(np.full(shape, 200, np.uint8), size=SIZE)
    top, left, bottom, right = box
    expected = np.zeros((SIZE, SIZE), np.uint8)
    expected[top:bottom, left:right] = 200
    assert np.array_equal(square, expected)


def test_shrinking_averages_areas(dicom_bytes: DicomWriter) -> None:
    values = np.random.default_rng(3).integers(0, 4096, (4 * SIZE, 4 * SIZE)).astype(np.uint16)
    values.flat[0], values.flat[1] = 0, 4095
    means = values.reshape(SIZE, 4, SIZE, 4).mean(axis=(1, 3))
    assert_close(read_film(dicom_bytes(values, bits_stored=12), preset=DISPLAY).pixels, 255 * means / 4095)


# PNG, JPEG, presets


def test_own_output_is_the_identity(dicom_bytes: DicomWriter) -> None:
    pixels = film_values(10, 200, np.uint8)
    assert np.array_equal(read_film(encode_png(pixels), preset=DISPLAY).pixels, pixels)
    assert np.array_equal(read_film(dicom_bytes(pixels), preset=DISPLAY).pixels, pixels)
    first = read_film(dicom_bytes(film_values(0, 4095), bits_stored=12), preset=DISPLAY).pixels
    assert np.array_equal(read_film(encode_png(first), preset=DISPLAY).pixels, first)


def test_png_and_dicom_of_the_same_bytes_agree_when_resized(dicom_bytes: DicomWriter) -> None:
    pixels = np.random.default_rng(5).integers(10, 200, (50, 70)).astype(np.uint8)
    from_png = read_film(encode_png(pixels), preset=DISPLAY).pixels.astype(int)
    assert np.abs(read_film(dicom_bytes(pixels), preset=DISPLAY).pixels - from_png).max() <= 1


def test_16_bit_png_is_stretched() -> None:
    values = film_values(1000, 9000)
    _, data = cv2.imencode(".png", values)
    assert_close(read_film(data.tobytes(), preset=DISPLAY).pixels, 255 * (values - 1000.0) / 8000)


def test_jpeg_and_color_png() -> None:
    ramp = np.tile(np.linspace(0, 255, SIZE).astype(np.uint8), (SIZE, 1))
    _, jpeg = cv2.imencode(".jpg", ramp, [cv2.IMWRITE_JPEG_QUALITY, 100])
    assert np.abs(read_film(jpeg.tobytes(), preset=DISPLAY).pixels.astype(int) - ramp).max() <= 3
    _, rgba = cv2.imencode(".png", np.dstack([ramp, ramp, ramp, np.full_like(ramp, 9)]))
    assert np.array_equal(read_film(rgba.tobytes(), preset=DISPLAY).pixels, ramp)


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
def test_mimic_jpg_recipe(dicom_bytes: DicomWriter, interpretation: str) -> None:
    values = film_values(100, 3000)
    data = dicom_bytes(values, bits_stored=12, PhotometricInterpretation=interpretation, WindowCenter=50, WindowWidth=9)
    shifted = values.astype(np.float64) - values.min()
    gray = (shifted / shifted.max() * 255).astype(np.uint8)
    gray = cv2.bitwise_not(gray) if interpretation == "MONOCHROME1" else gray
    assert np.array_equal(read_film(data, preset=MIMIC_JPG).pixels, cv2.equalizeHist(gray))


# Header


@pytest.mark.parametrize(
    ("age", "years"),
    [
        ("063Y", 63.0),
        ("006M", 0.5),
        ("052W", 52 * 7 / 365.25),
        ("003D", 3 / 365.25),
        ("63", None),
        ("", None),
        ("old", None),
    ],
)
def test_age(dicom_bytes: DicomWriter, age: str, years: float | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = dicom_bytes(film_values(0, 255), PatientAge=age)
    assert read_film(data, preset=DISPLAY).age_years == (None if years is None else pytest.approx(years))


@pytest.mark.parametrize(("sex", "kept"), [("F", "F"), ("M", "M"), ("O", None), ("", None)])
def test_sex(dicom_bytes: DicomWriter, sex: str, kept: str | None) -> None:
    assert read_film(dicom_bytes(film_values(0, 255), PatientSex=sex), preset=DISPLAY).sex == kept


def test_view_position_or_view_code(dicom_bytes: DicomWriter) -> None:
    code = Dataset()
    code.CodeMeaning = "postero-anterior"
    only_code = dicom_bytes(film_values(0, 255), ViewCodeSequence=Sequence([code]))
    both = dicom_bytes(film_values(0, 255), ViewCodeSequence=Sequence([code]), ViewPosition="AP")
    assert read_film(only_code, preset=DISPLAY).view_position == "PA"
    assert read_film(both, preset=DISPLAY).view_position == "AP"
    assert read_film(dicom_bytes(film_values(0, 255)), preset=DISPLAY).view_position is None
    assert view_of(" ll ") == "LL"
    assert view_of("", "left lateral") == "LL"
    assert view_of(None, "Erect") is None


# Refusals


def test_refusals(dicom_bytes: DicomWriter) -> None:
    good = film_values(0, 4095)
    data = dicom_bytes(good, bits_stored=12)
    assert code_of(dicom_bytes(np.full((8, 8), 7, np.uint16))) == "flat"
    assert code_of(dicom_bytes(good, bits_stored=12, WindowCenter=50000, WindowWidth=10)) == "flat"
    assert code_of(dicom_bytes(np.full((8, 8), 7, np.uint16), PixelPaddingValue=7)) == "flat"
    assert code_of(dicom_bytes(good, NumberOfFrames=2)) == "multi-frame"
    assert code_of(dicom_bytes(good, BurnedInAnnotation="YES")) == "burned-in"
    assert code_of(dicom_bytes(good, PhotometricInterpretation="PALETTE COLOR")) == "photometric"
    assert code_of(dicom_bytes(good, PixelData=None)) == "no-pixels"
    assert code_of(dicom_bytes(good, Rows=60000, Columns=60000)) == "too-large"
    assert code_of(data[: len(data) // 2]) == "truncated"
    assert code_of(data[:-2]) == "truncated"
    assert code_of(data[:200]) in ("truncated", "no-pixels", "undecodable")
    assert code_of(b"") == "unknown-format"
    assert code_of(b"GIF89a" + bytes(500)) == "unknown-format"
    assert read_film(dicom_bytes(good, NumberOfFrames=1, BurnedInAnnotation="NO"), preset=DISPLAY).pixels.any()


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_truncated_compressed_pixels(dicom_bytes: DicomWriter, syntax: str) -> None:
    data = dicom_bytes(film_values(0, 4095), bits_stored=12, transfer_syntax=syntax)
    for part in (0.6, 0.9):
        assert code_of(data[: int(len(data) * part)]) in ("truncated", "undecodable", "no-pixels")


def test_truncated_jpeg_in_a_dicom() -> None:
    data = sample("JPGExtended.dcm")
    assert code_of(data[: int(len(data) * 0.7)]) in ("truncated", "undecodable", "no-pixels")


def test_missing_codec_names_the_transfer_syntax(dicom_bytes: DicomWriter) -> None:
    data = dicom_bytes(film_values(0, 255)).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.99", 1)
    with pytest.raises(FilmError, match=r"codec: .*1\.2\.840\.10008\.1\.2\.99") as caught:
        read_film(data, preset=DISPLAY)
    assert caught.value.code == "codec"


def test_damaged_images() -> None:
    png = encode_png(film_values(0, 255, np.uint8))
    _, encoded = cv2.imencode(".jpg", film_values(0, 255, np.uint8))
    jpeg = encoded.tobytes()
    assert code_of(png[:-20]) == "truncated"
    assert code_of(png[:20]) == "truncated"
    assert code_of(jpeg[: len(jpeg) // 2]) == "truncated"
    assert code_of(jpeg[:12]) == "truncated"
    assert code_of(png[:60] + bytes(40) + png[100:]) == "undecodable"
    header = b"IHDR" + struct.pack(">II", 90000, 90000) + png[24:29]
    assert code_of(png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]) == "too-large"
    huge_chunk = png[:33] + struct.pack(">I", 1 << 30) + png[37:]
    assert code_of(huge_chunk) == "truncated"
    assert code_of(encode_png(np.zeros((9, 9), np.uint8))) == "flat"


def test_random_damage_is_always_a_film_error_or_a_film(dicom_bytes: DicomWriter) -> None:
    """Flipped bytes anywhere give pixels or a FilmError, never another exception."""
    rng = np.random.default_rng(0)
    tags: dict[str, Any] = {"WindowCenter": 2000, "WindowWidth": 900, "PatientAge": "063Y", "PixelPaddingValue": 0}
    originals = [
        dicom_bytes(film_values(0, 4095), bits_stored=12, **tags),
        dicom_bytes(film_values(0, 4095), bits_stored=12, transfer_syntax=RLELossless, **tags),
        encode_png(film_values(0, 255, np.uint8)),
    ]
    refused = 0
    for i in range(240):
        data = bytearray(originals[i % 3])
        header = min(len(data), 900)
        for position in rng.integers(0, header, 6):
            data[position] = int(rng.integers(0, 256))
        try:
            assert read_film(bytes(data), preset=DISPLAY).pixels.shape == (SIZE, SIZE)
        except FilmError:
            refused += 1
    assert 20 < refused < 240


# Silence and threads


def test_no_warning_and_no_log_quotes_the_file(dicom_bytes: DicomWriter, caplog: pytest.LogCaptureFixture) -> None:
    data = dicom_bytes(film_values(0, 255)).replace(b"19999999", b"19999!\x01\x9f")
    data = data.replace(b"DX", b"d\xff", 1)
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        read_film(data, preset=DISPLAY)
    assert not caught
    assert not [record for record in caplog.records if "pydicom" in record.name]


def test_warning_filters_survive_many_threads(dicom_bytes: DicomWriter) -> None:
    data = dicom_bytes(film_values(0, 255))
    before = list(warnings.filters)
    errors: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(10):
                read_film(data, preset=DISPLAY)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert list(warnings.filters) == before


def test_never_imports_torch() -> None:
    modules = "components.cxr.pixels, components.cxr.text, components.cxr.shards, components.preprocess.collect"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_preset_hash_changes_with_every_field() -> None:
    assert len({DISPLAY.hash, MIMIC_JPG.hash, PixelPreset(size=64).hash}) == 3
    assert PixelPreset(size=SIZE).hash == DISPLAY.hash
