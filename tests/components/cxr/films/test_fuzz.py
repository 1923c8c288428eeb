"""Damaged films of every codec: each is a film or a reject, and nothing else happens to the process that reads them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.film_files import make_film, transcode
from components.cxr.films.isolated import FilmReader
from components.cxr.films.limits import DecodeLimits
from components.cxr.films.pixels import FilmError, encode_png
from tests.components.cxr.films.pixel_films import DISPLAY, film_values, sample

CODES = {
    "bit-depth", "burned-in", "codec", "decoder-crashed", "decoder-hung", "flat", "for-processing", "multi-frame",
    "no-pixels", "photometric", "too-large", "truncated", "undecodable", "unknown-format",
}  # fmt: skip
JPEG = "1.2.840.10008.1.2.4."
SYNTAXES = {
    "plain": ("1.2.840.10008.1.2.1", 12),
    "implicit": ("1.2.840.10008.1.2", 12),
    "big endian": ("1.2.840.10008.1.2.2", 12),
    "deflated": ("1.2.840.10008.1.2.1.99", 12),
    "RLE": ("1.2.840.10008.1.2.5", 12),
    "JPEG baseline": (JPEG + "50", 8),
    "JPEG extended": (JPEG + "51", 12),
    "JPEG lossless": (JPEG + "57", 12),
    "JPEG lossless SV1": (JPEG + "70", 16),
    "JPEG-LS": (JPEG + "80", 12),
    "JPEG-LS near": (JPEG + "81", 8),
    "JPEG 2000": (JPEG + "90", 12),
    "HTJ2K": (JPEG + "201", 12),
}
SAMPLES = {
    "JPEG color": "SC_rgb_jpeg_dcmtk.dcm",
    "JPEG-LS color": "SC_rgb_jls_lossy_line.dcm",
    "12 bits": "JPGExtended.dcm",
}
STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x02\0\0\0\x40\0\0\0", b"\xe0\x7f\x10\0", b"\x7f\xe0\0\x10")
Mutation = Callable[[bytearray, int, np.random.Generator], None]


def originals() -> dict[str, bytes]:
    films = {name: transcode(make_film(40, 36, bits=bits), syntax) for name, (syntax, bits) in SYNTAXES.items()}
    films |= {name: sample(file) for name, file in SAMPLES.items()}
    films["PNG"] = encode_png(film_values(0, 255, np.uint8))
    films["PNG, 16 bits"] = cv2.imencode(".png", film_values(0, 4095))[1].tobytes()
    films["JPEG"] = cv2.imencode(".jpg", film_values(0, 255, np.uint8))[1].tobytes()
    films["JPEG, progressive"] = cv2.imencode(
        ".jpg", cv2.merge([film_values(0, 255, np.uint8)] * 3), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    )[1].tobytes()
    return films


def mutants(number: int, *, seed: int) -> Iterator[tuple[str, bytes]]:
    """As many damaged films, each codec in turn: damage in the header, at the start of the stream, or anywhere."""
    rng, films = np.random.default_rng(seed), originals()
    names = list(films)
    for i in range(number):
        data = bytearray(films[names[i % len(names)]])
        stream = max(0, *(data.rfind(start) for start in STARTS))
        low, high = [(0, stream or 60), (stream, stream + 60), (stream, stream + 700), (0, len(data))][rng.integers(4)]
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(low, max(low + 1, min(high, len(data) - 1))))
            MUTATIONS[rng.integers(len(MUTATIONS))](data, at, rng)
        yield names[i % len(names)], bytes(data)


def _other_byte(data: bytearray, at: int, rng: np.random.Generator) -> None:
    data[at : at + 1] = bytes([rng.integers(256)])


def _flip(data: bytearray, at: int, rng: np.random.Generator) -> None:
    data[at : at + 1] = bytes([(data[at] if at < len(data) else 0) ^ 1 << int(rng.integers(8))])


def _extreme(data: bytearray, at: int, rng: np.random.Generator) -> None:
    width = int(rng.integers(1, 5))
    data[at : at + width] = [b"\0", b"\xff", b"\x7f", b"\x80"][rng.integers(4)] * width


def _cut(data: bytearray, at: int, rng: np.random.Generator) -> None:
    del data[at : at + int(rng.integers(1, 40))]


def _repeat(data: bytearray, at: int, rng: np.random.Generator) -> None:
    data[at:at] = data[at : at + int(rng.integers(1, 40))]


def _marker(data: bytearray, at: int, rng: np.random.Generator) -> None:
    data[at : at + 2] = bytes([0xFF, rng.integers(0xC0, 0x100)])


def _end(data: bytearray, at: int, rng: np.random.Generator) -> None:
    del data[at + int(rng.integers(0, len(data))) :]


MUTATIONS: list[Mutation] = [_other_byte, _other_byte, _flip, _extreme, _extreme, _cut, _repeat, _marker, _end]


@pytest.mark.parametrize(
    ("number", "seed"),
    [
        (500, 1),
        pytest.param(20_000, 2, marks=[pytest.mark.soak, pytest.mark.timeout(7200)]),
    ],
)
def test_damaged_films_are_films_or_rejects(
    number: int, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    start = time.monotonic()
    with FilmReader(DecodeLimits(seconds=10, memory_bytes=256 << 20)) as reader:
        for i, (name, data) in enumerate(mutants(number, seed=seed)):
            try:
                film = reader.read(data, preset=DISPLAY)
            except FilmError as error:
                found[error.code] += 1
                if error.code.startswith("decoder-"):
                    bad[f"{name}: {error.code}"] += 1
                    (tmp_path / f"{error.code}-{i}").write_bytes(data)
            else:
                found["read"] += 1
                assert film.pixels.shape == (DISPLAY.size, DISPLAY.size)
        for data in originals().values():
            assert reader.read(data, preset=DISPLAY).pixels.any()
        processes = reader.process_ids()
        assert len(processes) == 1
    with capsys.disabled():
        print(f"\n{number} damaged films in {time.monotonic() - start:.0f} s: {dict(found.most_common())}; {dict(bad)}")
    assert set(found) <= {*CODES, "read"}
    assert found["read"] > number / 20
    assert sum(found.values()) - found["read"] > number / 4
    assert not any(Path(f"/proc/{process}").exists() for process in processes)
