"""Explicit and implicit VR: the bytes of a length are never taken for a VR, wherever they are letters."""

from __future__ import annotations

import contextlib
import io
import itertools
import string

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from components.cxr.films.dicom import open_dicom
from components.cxr.films.encoding import is_explicit
from components.cxr.films.pixels import FilmError, read_film
from tests.components.cxr.films.pixel_films import DISPLAY, SIZE, DicomWriter, film_values

LETTERS = [first + second for first, second in itertools.product(string.ascii_uppercase, repeat=2)]
SYNTAXES = st.sampled_from([ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])


def rewritten(data: bytes, syntax: str, *, meta: bool = True) -> bytes:
    """The film with its data set in another encoding, whatever its file meta says."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    if syntax == ExplicitVRBigEndian and dataset.BitsAllocated == 16:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    bare = dataset if meta else Dataset(dataset)
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    if meta:
        pydicom.dcmwrite(buffer, bare, enforce_file_format=True)
    else:
        pydicom.dcmwrite(buffer, bare, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
    return buffer.getvalue()


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 400),
    columns=st.integers(1, 400),
    allocated=st.sampled_from([8, 16]),
    syntax=SYNTAXES,
    meta=st.booleans(),
)
def test_every_shape_is_read_as_pydicom_does(
    dicom_bytes: DicomWriter, rows: int, columns: int, allocated: int, syntax: str, meta: bool
) -> None:
    values = np.arange(rows * columns).reshape(rows, columns).astype(f"u{allocated // 8}")
    written = dicom_bytes(values, WindowCenter=100, WindowWidth=200)
    data = rewritten(written, syntax, meta=meta)
    file = open_dicom(data, max_inflated=0)
    assert file.length is not None
    stored = np.frombuffer(file.body, f"{'<' if file.little else '>'}u{allocated // 8}", rows * columns, file.start)
    expected = pydicom.dcmread(io.BytesIO(rewritten(written, syntax))).pixel_array
    assert np.array_equal(stored.reshape(rows, columns), expected)


@pytest.mark.parametrize("more", [0, 1, 0x4142])
def test_pixels_of_a_length_of_letters(dicom_bytes: DicomWriter, more: int) -> None:
    """Each of the 676 pairs of letters as the low bytes of an implicit length."""
    data = rewritten(dicom_bytes(film_values(0, 255)), ImplicitVRLittleEndian)
    element = data.rindex(b"\xe0\x7f\x10\x00")
    for pair in LETTERS:
        length = int.from_bytes(pair.encode(), "little") | more << 16
        file = open_dicom(data[: element + 4] + length.to_bytes(4, "little") + bytes(16), max_inflated=0)
        assert (file.start, file.length) == (element + 8, length), pair


@pytest.mark.parametrize("pair", ["AE", "CS", "OB", "OW", "SQ", "UN", "UI", "DA", "LO", "ZZ"])
@pytest.mark.parametrize("more", [0, 1])
def test_a_first_element_of_a_length_of_letters(dicom_bytes: DicomWriter, pair: str, more: int) -> None:
    """The first element decides how the data set is read, and may be a long one."""
    plain = dicom_bytes(film_values(0, 4095), bits_stored=12)
    data = rewritten(plain, ImplicitVRLittleEndian)
    start = 144 + int.from_bytes(data[140:144], "little")
    length = int.from_bytes(pair.encode(), "little") + (more << 16)
    text = b"\x08\0\x81\0" + (length - 16).to_bytes(4, "little") + b"x" * (length - 16)
    sequence = (
        b"\x08\0\x06\0" + length.to_bytes(4, "little") + b"\xfe\xff\0\xe0" + len(text).to_bytes(4, "little") + text
    )
    data = data[:start] + sequence + data[start:]
    assert np.array_equal(read_film(data, preset=DISPLAY).pixels, read_film(plain, preset=DISPLAY).pixels)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_kind_of_a_data_set_is_found(dicom_bytes: DicomWriter, syntax: str) -> None:
    data = rewritten(dicom_bytes(film_values(0, 4095)), syntax, meta=False)
    assert is_explicit(data, 0, little=syntax != ExplicitVRBigEndian) == (syntax != ImplicitVRLittleEndian)
    assert open_dicom(data, max_inflated=0).little == (syntax != ExplicitVRBigEndian)
    # Of a data set cut off in its first element both may be; letters are then a VR.
    assert is_explicit(b"\x08\0\x60\0CS", 0, little=True)


def test_an_implicit_element_among_explicit_ones(dicom_bytes: DicomWriter) -> None:
    values = np.zeros((60, 150), np.uint16)
    values[:, 75:] = 1000
    data = dicom_bytes(values)
    at = data.rindex(b"\xe0\x7f\x10\x00")
    mixed = data[: at + 4] + data[at + 8 :]  # 18000 bytes: "PF", as no VR is
    assert np.array_equal(read_film(mixed, preset=DISPLAY).pixels, read_film(data, preset=DISPLAY).pixels)


def test_damage_in_the_first_elements_is_an_error_or_a_film(dicom_bytes: DicomWriter) -> None:
    rng = np.random.default_rng(0)
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        data = rewritten(dicom_bytes(film_values(0, 4095)), syntax, meta=False)
        for _ in range(100):
            damaged = bytearray(data)
            for at in rng.integers(0, 40, 2):
                damaged[at] = int(rng.integers(0, 256))
            with contextlib.suppress(FilmError):
                assert read_film(bytes(damaged), preset=DISPLAY).pixels.shape == (SIZE, SIZE)
