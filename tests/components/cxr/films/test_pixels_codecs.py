"""Every codec gives the film, lossless ones the identical film, and a missing one is a clear reject."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSLossless, RLELossless

from benchmarks.film_files import make_film, transcode
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import FilmError, read_film
from tests.components.cxr.films.pixel_films import (
    DISPLAY,
    DicomWriter,
    code_of,
    film_values,
    sample,
)


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


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_truncated_compressed_pixels(dicom_bytes: DicomWriter, syntax: str) -> None:
    data = dicom_bytes(film_values(0, 4095), bits_stored=12, transfer_syntax=syntax)
    for part in (0.6, 0.9):
        assert code_of(data[: int(len(data) * part)]) in ("truncated", "undecodable", "no-pixels")


def test_truncated_jpeg_in_a_dicom() -> None:
    data = sample("JPGExtended.dcm")
    assert code_of(data[: int(len(data) * 0.7)]) in ("truncated", "undecodable", "no-pixels")


def test_missing_codec_names_the_transfer_syntax(dicom_bytes: DicomWriter) -> None:
    data = dicom_bytes(film_values(0, 255), bits_stored=12, transfer_syntax=RLELossless)
    known = read_film(data, preset=DISPLAY).pixels
    data = data.replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.99", 1)
    unknown = data.replace(b"\x02\0\0\0\x40\0\0\0", b"\x63\0\0\0\x40\0\0\0", 1)  # no longer an RLE header
    assert np.array_equal(read_film(data, preset=DISPLAY).pixels, known)
    with pytest.raises(FilmError, match=r"codec: .*1\.2\.840\.10008\.1\.2\.99") as caught:
        read_film(unknown, preset=DISPLAY)
    assert caught.value.code == "codec"


JPEG = "1.2.840.10008.1.2.4."
PLAIN = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]
LOSSLESS = [*PLAIN, "1.2.840.10008.1.2.5", JPEG + "57", JPEG + "70", JPEG + "80", JPEG + "90", JPEG + "201"]


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_every_lossless_encoding_of_a_film_gives_the_identical_image(bits: int) -> None:
    plain = make_film(83, 70, bits=bits)
    expected = read_film(plain, preset=DISPLAY).pixels
    for syntax in LOSSLESS:
        if bits == 10 and syntax == str(RLELossless):
            continue  # no encoder here packs 10 bits
        assert np.array_equal(read_film(transcode(plain, syntax), preset=DISPLAY).pixels, expected), UID(syntax).name


@pytest.mark.parametrize(
    ("syntax", "bits"), [(JPEG + "50", 8), (JPEG + "51", 12), (JPEG + "81", 12), (JPEG + "91", 12), (JPEG + "203", 12)]
)
def test_lossy_encodings_are_close(syntax: str, bits: int) -> None:
    plain = make_film(83, 70, bits=bits)
    difference = read_film(transcode(plain, syntax), preset=DISPLAY).pixels - read_film(
        plain, preset=DISPLAY
    ).pixels.astype(int)
    assert np.abs(difference).max() <= 4


WITHOUT = """
import sys
for name in sys.argv[2].split(","):
    sys.modules[name] = None  # as if it were not installed
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import FilmError, read_film
try:
    print(int(read_film(open(sys.argv[1], "rb").read(), preset=PixelPreset(size=32)).pixels.sum()))
except FilmError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("syntax", "first", "others"),
    [
        (RLELossless, "pylibjpeg,rle", ""),
        pytest.param(JPEGBaseline8Bit, "PIL", "pylibjpeg,gdcm", marks=pytest.mark.slow),
        pytest.param(JPEGExtended12Bit, "pylibjpeg", "gdcm,PIL", marks=pytest.mark.slow),
        pytest.param(JPEG + "70", "gdcm", "pylibjpeg", marks=pytest.mark.slow),
        (JPEGLSLossless, "gdcm", "pylibjpeg,jpeg_ls"),
        pytest.param(JPEG2000Lossless, "pylibjpeg", "gdcm,PIL", marks=pytest.mark.slow),
    ],
)
def test_a_missing_decoder_falls_back_to_the_next_and_none_is_a_clear_reject(
    tmp_path: Path, syntax: str, first: str, others: str
) -> None:
    film = tmp_path / "film"
    film.write_bytes(transcode(make_film(40, 40, bits=8 if syntax == JPEGBaseline8Bit else 12), syntax))
    expected = int(read_film(film.read_bytes(), preset=DISPLAY).pixels.sum())
    assert abs(int(_without(first, film)) - expected) <= 100  # decoders of lossy films round differently
    if others:
        assert _without(f"{first},{others}", film).startswith(
            f"codec: no decoder for transfer syntax {UID(syntax).name}"
        )


def _without(modules: str, film: Path) -> str:
    command = [sys.executable, "-c", WITHOUT, str(film), modules]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


DAMAGE = """
import contextlib, sys
import numpy as np
from components.cxr.films.pixel_preset import PixelPreset
from components.cxr.films.pixels import FilmError, read_film
rng = np.random.default_rng(3)
for path in sys.argv[1:]:
    data = open(path, "rb").read()
    start = max(data.rfind(b"\\xff\\xd8\\xff"), data.rfind(b"\\xff\\x4f\\xff\\x51"))
    for _ in range(150):
        damaged = bytearray(data)
        for position in rng.integers(start, start + 60, int(rng.integers(1, 4))):
            damaged[position] = int(rng.integers(0, 256))
        with contextlib.suppress(FilmError):
            read_film(bytes(damaged), preset=PixelPreset(size=32))
print("alive")
"""


def test_a_damaged_stream_never_ends_the_process(tmp_path: Path) -> None:
    """GDCM aborts, or reads where it may not, at some damaged headers: these must not reach it."""
    films = []
    for name, bits in (("50", 8), ("51", 12), ("57", 12), ("80", 12), ("90", 12)):
        films.append(tmp_path / name)
        films[-1].write_bytes(transcode(make_film(40, 36, bits=bits), JPEG + name))
    done = subprocess.run([sys.executable, "-c", DAMAGE, *map(str, films)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "alive")


def test_reduced_jpeg_2000_is_close_and_another_preset() -> None:
    preset = PixelPreset(size=32, reduced_jpeg2000=True)
    assert preset.hash != DISPLAY.hash
    plain = make_film(300, 260)
    found = read_film(transcode(plain, JPEG2000Lossless), preset=preset).pixels
    exact = read_film(plain, preset=DISPLAY).pixels.astype(int)
    assert found.shape == exact.shape
    assert 0 < np.abs(found - exact).mean() < 6
    assert np.array_equal(read_film(plain, preset=preset).pixels, exact)
    small = make_film(40, 40)
    assert np.array_equal(
        read_film(transcode(small, JPEG2000Lossless), preset=preset).pixels, read_film(small, preset=DISPLAY).pixels
    )
