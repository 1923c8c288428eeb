"""Decoders that do to their process what damaged films do, planted in the real process of films by its start-up file.

A run-length encoded film's shape says what its decoder does: spin in pylibjpeg, which holds the interpreter's lock; end
the process as GDCM does; ask for memory without end; or write down its environment.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
from pydicom.encaps import get_frame
from pydicom.uid import RLELossless

from tests.components.cxr.films.pixel_films import DicomWriter, film_values, sample

__all__ = ["ABORTS", "FILLS", "REPORTS", "SPINS", "bad_film", "good_film", "height_0", "plant"]

REPOSITORY = Path(__file__).parents[4]
SPINS, ABORTS, FILLS, REPORTS = (61, 67), (61, 68), (61, 69), (61, 70)

START_UP = f"""
import os, sys
if "components.cxr.films.decoder_process" in sys.orig_argv:
    from pathlib import Path
    from components.cxr.films import special_decoders
    real = special_decoders.decode_rle

    def decode_rle(stream, *, rows, columns, allocated):
        if (rows, columns) == {SPINS}:
            import libjpeg.utils
            libjpeg.utils.decode(Path(__file__).with_name("height-0").read_bytes())
        if (rows, columns) == {ABORTS}:
            os.abort()
        if (rows, columns) == {FILLS}:
            kept = []
            while True:
                kept.append(bytes(1 << 20))
        if (rows, columns) == {REPORTS}:
            Path(__file__).with_name("environment").write_text(" ".join(os.environ))
        return real(stream, rows=rows, columns=columns, allocated=allocated)

    special_decoders.decode_rle = decode_rle
"""


def plant(folder: Path) -> str:
    """Write the start-up file; returns the PYTHONPATH with which it counts."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(START_UP)
    (folder / "height-0").write_bytes(height_0())
    return f"{folder}:{REPOSITORY}"


def height_0() -> bytes:
    """A JPEG-LS stream whose frame header has a height of 0, which pylibjpeg decodes for ever."""
    dataset = pydicom.dcmread(io.BytesIO(sample("MR_small_jpeg_ls_lossless.dcm")))
    stream = bytearray(get_frame(dataset.PixelData, 0, number_of_frames=1))
    frame = stream.find(b"\xff\xf7")
    stream[frame + 5 : frame + 7] = b"\0\0"
    return bytes(stream)


def bad_film(dicom_bytes: DicomWriter, what: tuple[int, int]) -> bytes:
    """A film whose decoder does `what`."""
    rows, columns = what
    values = np.arange(rows * columns, dtype=np.uint16).reshape(rows, columns) % 4096
    return dicom_bytes(values, bits_stored=12, transfer_syntax=RLELossless)


def good_film(dicom_bytes: DicomWriter) -> bytes:
    """A run-length encoded film that can be read."""
    return dicom_bytes(film_values(0, 4095), bits_stored=12, transfer_syntax=RLELossless)
