"""Every film at hand and many made-up ones: within one gray level of the reference, or rejected with a known code."""

from __future__ import annotations

import fnmatch
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from benchmarks.film_files import transcode
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import FilmError, read_film
from tests.components.cxr.films.pixel_films import DicomWriter, lut, sample
from tests.components.cxr.films.reference_pixels import FlatError, reference

SIZE = 48
PRESET = PixelPreset(size=SIZE)

REJECTED = {
    "bit-depth": "rtdose*_1frame.dcm SC_rgb*_32bit.dcm",
    "flat": "17166 17196",
    "multi-frame": """*2frame.dcm color3d_jpeg_baseline.dcm eCT_Supplemental.dcm emri_small*.dcm examples_ybr_color.dcm
        liver.dcm liver_expb.dcm rtdose.dcm rtdose_expb.dcm rtdose_rle.dcm""",
    "no-pixels": """*NoMeta.dcm chrJapMulti*.dcm chrKoreanMulti.dcm chrSQEncoding*.dcm DICOMDIR* IM0000* UN_sequence.dcm
        empty_charset_LEI.dcm fall.dcm hotiron.dcm hotmetalblue.dcm no_meta_group_length.dcm pet*.dcm priv_SQ.dcm
        reportsi*.dcm rtplan*.dcm rtstruct.dcm spring.dcm summer.dcm test-SR.dcm waveform_ecg.dcm winter.dcm""",
    "truncated": "MR_truncated.dcm",
    "undecodable": """JPEG2000-embedded-sequence-delimiter.dcm badVR.dcm meta_missing_tsyntax.dcm
        nested_priv_SQ.dcm""",
    "unknown-format": "README no_meta.dcm *.dump *.gz *.icc *.json *.md *.py *.pyc *.sha256 *.txt *.xml *.zip",
}
"""Which of the files are no usable film, by the code of their reject."""
ONLY_HERE = "JPEG-lossy.dcm"
"""pydicom decodes this 12-bit film with none of its plugins; JPGExtended.dcm is the same film."""


def fixtures() -> list[Path]:
    """All of pydicom's own data files and of the package pydicom-data."""
    import data_store

    folders = Path(pydicom.__file__).parent / "data", Path(data_store.__file__).parent / "data"
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def expected_code(path: Path) -> str | None:
    codes = [
        code for code, names in REJECTED.items() if any(fnmatch.fnmatch(path.name, name) for name in names.split())
    ]
    assert len(codes) <= 1, path.name
    return codes[0] if codes else None


@pytest.mark.filterwarnings("ignore")  # pydicom's own reading of damaged files
def test_every_fixture_is_read_as_the_reference_does_or_rejected_as_the_table_says() -> None:
    wrong, read = [], 0
    for path in fixtures():
        data = path.read_bytes()
        try:
            pixels = read_film(data, preset=PRESET).pixels
        except FilmError as error:
            if error.code != expected_code(path):
                wrong.append(f"{path.name}: {error}")
            continue
        read += 1
        if expected_code(path) is not None:
            wrong.append(f"{path.name}: read, expected {expected_code(path)}")
        elif path.name != ONLY_HERE and np.abs(pixels - np.rint(reference(data, size=SIZE))).max() > 1:
            wrong.append(f"{path.name}: differs")
    assert not wrong, "\n".join(wrong)
    assert read > 120


def test_the_film_that_only_gdcm_reads() -> None:
    found = read_film(sample(ONLY_HERE), preset=PRESET).pixels
    assert np.abs(found.astype(int) - read_film(sample("JPGExtended.dcm"), preset=PRESET).pixels).max() <= 1


@st.composite
def films(draw: st.DrawFn) -> tuple[npt.NDArray[Any], dict[str, Any], str]:
    """Stored values, tags and transfer syntax of a film."""
    dtype = draw(st.sampled_from([np.uint8, np.uint16, np.int16]))
    allocated = np.dtype(dtype).itemsize * 8
    bits = draw(st.integers(6, allocated) if allocated == 8 else st.sampled_from([8, 10, 12, 14, 15, 16]))
    high_bit = draw(st.sampled_from([bits - 1, bits - 1, allocated - 1]))
    rows, columns = draw(st.integers(1, 120)), draw(st.integers(1, 120))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype is np.int16 else (0, (1 << bits) - 1)
    ends = sorted(draw(st.tuples(st.integers(low, high), st.integers(low, high))))
    values = rng.integers(ends[0], ends[1] + 1, (rows, columns))
    if draw(st.booleans()):  # a picture rather than noise
        values = np.sort(values, axis=draw(st.integers(0, 1)))
    tags: dict[str, Any] = {"bits_stored": bits, "HighBit": high_bit}
    tags["PhotometricInterpretation"] = draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"]))
    if draw(st.booleans()):
        sides = st.sampled_from([[1, 1], [1, 2], [4, 3], [0, 0], [5, 1]])
        spacings = st.sampled_from([[0.2, 0.2], [0.14, 0.15], [0.1, 0.2], [0, 0.1], [0.0001, 1], 0.2])
        tags["PixelAspectRatio"] = draw(st.none() | sides)
        tags |= {keyword: draw(st.none() | spacings) for keyword in ("PixelSpacing", "ImagerPixelSpacing")}
        tags = {keyword: value for keyword, value in tags.items() if value is not None}
    if draw(st.booleans()):
        tags["RescaleSlope"] = draw(st.sampled_from([1, 2, 0.5, -1, 0.0123]))
        tags["RescaleIntercept"] = draw(st.sampled_from([0, -1024, 7.5]))
    center = st.integers(low - 100, high + 100) | st.floats(low, high).map(lambda c: round(c, 2))
    width = st.sampled_from([-4, 0, 0.5, 1, 1.5, 2, 3, 50.5, 400, 1024, 3000, 40000])
    if draw(st.booleans()):
        count = draw(st.integers(1, 3))
        tags["WindowCenter"] = [draw(center) for _ in range(count)]
        tags["WindowWidth"] = [draw(width) for _ in range(count)]
        tags["VOILUTFunction"] = draw(st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]))
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        if draw(st.integers(0, 4)) == 0:
            length, most = draw(st.sampled_from([2, 255, 4096])), draw(st.sampled_from([255, 1000, 65535]))
            entries = (
                np.sort(rng.integers(0, most + 1, length)) if draw(st.booleans()) else rng.integers(0, most, length)
            )
            first = draw(st.integers(0, 300) | st.sampled_from([0, 5, 1 << 15, 65536 - 1000, 65536 - 300]))
            tags[keyword] = lut([length, first, 16], entries.tolist())
            if draw(st.booleans()):
                tags[keyword].insert(0, Dataset())
    if draw(st.integers(0, 3)) == 0:
        tags["padding"] = draw(st.sampled_from([ends[0], ends[1], low, high]))
        tags["padding_limit"] = draw(st.sampled_from([None, tags["padding"], (ends[0] + ends[1]) // 2]))
    for kind in ("Shutter", "Collimator"):
        if draw(st.integers(0, 3)) == 0:
            top, bottom = sorted(draw(st.tuples(st.integers(0, rows + 1), st.integers(1, rows + 1))))
            left, right = sorted(draw(st.tuples(st.integers(0, columns + 1), st.integers(1, columns + 1))))
            names = ("UpperHorizontalEdge", "LowerHorizontalEdge", "LeftVerticalEdge", "RightVerticalEdge")
            tags[f"{kind}Shape"] = "RECTANGULAR"
            tags |= dict(zip((kind + name for name in names), (top, bottom, left, right), strict=True))
    words = (values << (high_bit + 1 - bits)).astype(np.int64)
    if draw(st.booleans()) and bits < allocated:  # something else in the unused bits
        unused = ((1 << allocated) - 1) & ~(((1 << bits) - 1) << (high_bit + 1 - bits))
        words = (words & ~unused) | (rng.integers(0, 1 << allocated, words.shape) & unused)
    stored = (words & ((1 << allocated) - 1)).astype(f"u{allocated // 8}").view(dtype)
    syntaxes = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]
    if bits > 8 or allocated == 8:  # pydicom's run-length encoder packs by BitsStored
        syntaxes.append("1.2.840.10008.1.2.5")
    syntax = draw(st.sampled_from(syntaxes))
    return stored, tags, syntax


def check(write: DicomWriter, film: tuple[npt.NDArray[Any], dict[str, Any], str]) -> None:
    stored, tags, syntax = film
    tags = dict(tags)
    padding, limit = tags.pop("padding", None), tags.pop("padding_limit", None)
    kind = "SS" if stored.dtype.kind == "i" else "US"
    data = write(stored, **tags)
    if padding is not None:
        data = with_padding(data, padding, limit, kind)
    data = transcode(data, syntax)
    if stored.size % 2:
        data = data.replace(b"MONOCHROME1", b"Monochrome1", 1)
    try:
        expected = reference(data, size=SIZE)
    except FlatError:
        with pytest.raises(FilmError, match="flat"):
            read_film(data, preset=PRESET)
        return
    if min(stored.shape) == max(stored.shape) == SIZE and stored.dtype == np.uint8:
        return
    found = read_film(data, preset=PRESET).pixels
    assert np.abs(found - np.rint(expected)).max() <= 1


def with_padding(data: bytes, padding: int, limit: int | None, kind: str) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.add_new("PixelPaddingValue", kind, padding)
    if limit is not None:
        dataset.add_new("PixelPaddingRangeLimit", kind, limit)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large]
PHASES = [Phase.explicit, Phase.generate, Phase.shrink]


@pytest.mark.filterwarnings("ignore:The number of bytes of compressed")
@settings(max_examples=150, deadline=None, derandomize=True, phases=PHASES, suppress_health_check=CHECKS)
@given(film=films())
def test_made_up_films(dicom_bytes: DicomWriter, film: tuple[npt.NDArray[Any], dict[str, Any], str]) -> None:
    check(dicom_bytes, film)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The number of bytes of compressed")
@settings(max_examples=600, deadline=None, phases=PHASES, suppress_health_check=CHECKS, database=None)
@given(film=films())
def test_many_made_up_films(dicom_bytes: DicomWriter, film: tuple[npt.NDArray[Any], dict[str, Any], str]) -> None:
    check(dicom_bytes, film)
