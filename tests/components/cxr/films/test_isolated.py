"""A film never ends, freezes or fills the process that wants it read; the decoders and their processes are real."""

from __future__ import annotations

import dataclasses
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, RLELossless

from benchmarks.film_files import make_film, transcode
from components.cxr.films.isolated import FilmReader, plain_pixels_at
from components.cxr.films.limits import DecodeLimits
from components.cxr.films.pixels import FilmError, encode_png, read_film
from tests.components.cxr.films.bad_decoders import ABORTS, FILLS, REPORTS, SPINS, bad_film, good_film, plant
from tests.components.cxr.films.pixel_films import DISPLAY, DicomWriter, film_values, sample
from tests.components.processes import is_busy, lives, peak_bytes, wait_for

MIB = 1 << 20
LONG = DecodeLimits(seconds=60)
SHORT = DecodeLimits(seconds=2, memory_bytes=256 * MIB)


@pytest.fixture(scope="module")
def reader() -> Iterator[FilmReader]:
    with FilmReader(LONG) as reader:
        yield reader


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FilmReader]:
    """A reader whose decoders do what bad_decoders.py says."""
    monkeypatch.setattr(sys, "path", [*plant(tmp_path / "hook").split(":"), *sys.path])
    with FilmReader(SHORT) as reader:
        yield reader


def code(reader: FilmReader, data: bytes) -> str:
    with pytest.raises(FilmError) as caught:
        reader.read(data, preset=DISPLAY)
    return caught.value.code


# The same films


def test_films_are_the_same_as_in_this_process(reader: FilmReader, dicom_bytes: DicomWriter) -> None:
    values = film_values(0, 1500)
    tags = {"PatientAge": "063Y", "PatientSex": "F", "ViewPosition": "AP"}
    films = [dicom_bytes(values, bits_stored=12, transfer_syntax=s, **tags) for s in (RLELossless, JPEG2000Lossless)]
    films.append(dicom_bytes(values, bits_stored=12, transfer_syntax=RLELossless, PatientAge="400Y"))
    films[:0] = [encode_png(film_values(0, 255, np.uint8)), cv2.imencode(".jpg", values.astype(np.uint8))[1].tobytes()]
    plain = dicom_bytes(values, bits_stored=12, **tags)
    for data in [*films, plain, sample("MR_small_bigendian.dcm"), transcode(plain, "1.2.840.10008.1.2.1.99")]:
        found, expected = reader.read(data, preset=DISPLAY), read_film(data, preset=DISPLAY)
        assert np.array_equal(found.pixels, expected.pixels)
        assert found.pixels.flags.writeable
        assert dataclasses.replace(found, pixels=expected.pixels) == expected
    assert read_film(films[-1], preset=DISPLAY).refused_age
    assert len(reader.process_ids()) == 1


def test_plain_films_need_no_process(dicom_bytes: DicomWriter) -> None:
    with FilmReader(LONG) as reader:
        for data in (
            dicom_bytes(film_values(0, 4095), bits_stored=12),
            transcode(make_film(40, 50), "1.2.840.10008.1.2"),
            transcode(make_film(40, 50), "1.2.840.10008.1.2.2"),
            make_film(40, 50) + bytes(100),
        ):
            assert plain_pixels_at(data) is not None
            assert np.array_equal(reader.read(data, preset=DISPLAY).pixels, read_film(data, preset=DISPLAY).pixels)
        assert code(reader, b"GIF89a" + bytes(500)) == "unknown-format"
        assert reader.process_ids() == []
        assert code(reader, make_film(40, 50)[:-100]) == "truncated"
        assert len(reader.process_ids()) == 1


def test_refusals_are_the_same_as_in_this_process(reader: FilmReader, dicom_bytes: DicomWriter) -> None:
    flat = dicom_bytes(np.full((9, 9), 7, np.uint16), transfer_syntax=RLELossless)
    assert (code(reader, flat), code(reader, encode_png(np.zeros((9, 9), np.uint8)))) == ("flat", "flat")
    assert code(reader, good_film(dicom_bytes)[:-200]) in ("truncated", "undecodable")
    before = reader.process_ids()
    reader.read(good_film(dicom_bytes), preset=DISPLAY)
    assert reader.process_ids() == before


def test_the_rest_of_a_longer_film_does_not_show_in_the_next(reader: FilmReader, dicom_bytes: DicomWriter) -> None:
    values = film_values(0, 1500)
    short = dicom_bytes(values, bits_stored=12, transfer_syntax=RLELossless)
    long = dicom_bytes(np.tile(values, (5, 5)), bits_stored=12, transfer_syntax=RLELossless)
    assert len(long) > 2 * len(short)
    for data in (short, long, short):
        assert np.array_equal(reader.read(data, preset=DISPLAY).pixels, read_film(data, preset=DISPLAY).pixels)
    reader.read(long, preset=DISPLAY)
    assert code(reader, short[:-200]) in ("truncated", "undecodable")


def test_fragments_are_no_plain_pixels_whatever_they_hold() -> None:
    """A code stream may hold what looks like a pixel data element up to the file's end."""
    data = transcode(make_film(400, 400), RLELossless)
    at = len(data) - 5000
    looks = b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", 5000 - 12)
    assert plain_pixels_at(data) is None
    assert plain_pixels_at(data[:at] + looks + data[at + 12 :]) is None


# Bad films


def test_a_film_that_ends_its_process_costs_itself_alone(planted: FilmReader, dicom_bytes: DicomWriter) -> None:
    good = good_film(dicom_bytes)
    expected = planted.read(good, preset=DISPLAY).pixels
    first = planted.process_ids()
    assert code(planted, bad_film(dicom_bytes, ABORTS)) == "decoder-crashed"
    assert np.array_equal(planted.read(good, preset=DISPLAY).pixels, expected)
    assert (planted.crashed, planted.hung) == (1, 0)
    assert len(planted.process_ids()) == 1
    assert planted.process_ids() != first


def test_a_film_that_spins_in_its_decoder_is_given_up(planted: FilmReader, dicom_bytes: DicomWriter) -> None:
    good = good_film(dicom_bytes)
    planted.start()
    (first,) = planted.process_ids()
    start = time.monotonic()
    assert code(planted, bad_film(dicom_bytes, SPINS)) == "decoder-hung"
    assert 1.9 < time.monotonic() - start < 20
    assert not lives(first)
    assert planted.read(good, preset=DISPLAY).pixels.any()
    assert (planted.crashed, planted.hung) == (0, 1)


def test_a_film_that_takes_all_memory_is_given_up(planted: FilmReader, dicom_bytes: DicomWriter) -> None:
    assert code(planted, bad_film(dicom_bytes, FILLS)) == "too-large"
    assert planted.read(good_film(dicom_bytes), preset=DISPLAY).pixels.any()


def test_other_threads_go_on_while_one_film_spins(planted: FilmReader, dicom_bytes: DicomWriter) -> None:
    good, bad = good_film(dicom_bytes), bad_film(dicom_bytes, SPINS)
    planted.start()
    with ThreadPoolExecutor(2) as pool:
        spins = pool.submit(code, planted, bad)
        wait_for(lambda: bool(planted.process_ids()))
        time.sleep(0.2)
        assert pool.submit(planted.read, good, preset=DISPLAY).result().pixels.any()
        assert spins.result() == "decoder-hung"


def test_a_process_that_somebody_kills_costs_no_film(planted: FilmReader, dicom_bytes: DicomWriter) -> None:
    planted.start()
    for number in (signal.SIGKILL, signal.SIGABRT):
        os.kill(planted.process_ids()[0], number)
        assert planted.read(good_film(dicom_bytes), preset=DISPLAY).pixels.any()
    assert planted.crashed == 0


def test_closing_gives_up_a_film_that_spins(planted: FilmReader, dicom_bytes: DicomWriter) -> None:
    planted.limits = DecodeLimits(seconds=600)
    planted.start()
    (process,) = planted.process_ids()
    with ThreadPoolExecutor(1) as pool:
        spins = pool.submit(planted.read, bad_film(dicom_bytes, SPINS), preset=DISPLAY)
        time.sleep(0.5)
        planted.close()
        with pytest.raises(RuntimeError, match="closed"):
            spins.result(timeout=20)
    assert not lives(process)
    with pytest.raises(RuntimeError, match="closed"):
        planted.read(good_film(dicom_bytes), preset=DISPLAY)


def test_decoders_know_no_secret_and_leave_no_core(
    planted: FilmReader, dicom_bytes: DicomWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXRFLOW_ID_KEY", "a key of this test only")
    planted.read(bad_film(dicom_bytes, REPORTS), preset=DISPLAY)
    names = (tmp_path / "hook" / "environment").read_text().split()
    assert "PYTHONPATH" in names
    assert "CXRFLOW_ID_KEY" not in names
    limits = Path(f"/proc/{planted.process_ids()[0]}/limits").read_text()
    assert next(line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")) == ["0", "0"]


# The end of a process


def test_a_process_outlives_the_thread_that_needed_it_first(dicom_bytes: DicomWriter) -> None:
    with FilmReader(LONG) as reader:
        thread = threading.Thread(target=reader.read, args=(good_film(dicom_bytes),), kwargs={"preset": DISPLAY})
        thread.start()
        thread.join()
        (process,) = reader.process_ids()
        time.sleep(0.3)
        assert lives(process)
        reader.read(good_film(dicom_bytes), preset=DISPLAY)
        assert reader.process_ids() == [process]


def test_a_reader_that_is_forgotten_leaves_no_process(dicom_bytes: DicomWriter) -> None:
    reader = FilmReader(LONG)
    reader.start()
    (process,) = reader.process_ids()
    del reader
    wait_for(lambda: not lives(process))


PARENT = """
import sys, time
from components.cxr.films.isolated import FilmReader
from components.cxr.films.limits import DecodeLimits
from components.cxr.films.pixel_preset import PixelPreset
reader = FilmReader(DecodeLimits(seconds=600))
reader.start()
print(*reader.process_ids(), flush=True)
if len(sys.argv) > 1:
    reader.read(open(sys.argv[1], "rb").read(), preset=PixelPreset(size=32))
time.sleep(600)
"""


@pytest.mark.parametrize("what", ["idle", "spins"])
def test_after_sigkill_of_its_parent_no_process_stays(what: str, tmp_path: Path, dicom_bytes: DicomWriter) -> None:
    (tmp_path / "film").write_bytes(bad_film(dicom_bytes, SPINS))
    environment = {**os.environ, "PYTHONPATH": plant(tmp_path / "hook")}
    command = [sys.executable, "-c", PARENT, *([str(tmp_path / "film")] if what == "spins" else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        process = int(parent.stdout.readline())
        assert lives(process)
        if what == "spins":
            wait_for(lambda: is_busy(process), 60)
        parent.kill()
        parent.wait()
        wait_for(lambda: not lives(process), 5)


def test_a_process_whose_parent_is_already_gone_ends_at_once() -> None:
    command = [sys.executable, "-m", "components.cxr.films.decoder_process", "1", "0", str(64 * MIB)]
    done = subprocess.run(command, cwd=Path(__file__).parents[4], timeout=60, check=False, stdin=subprocess.PIPE)
    assert done.returncode == 1


# Memory and pixels


def bomb_png(rows: int, columns: int, *, bits: int = 8, color: int = 0) -> bytes:
    """A PNG of zeros."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer, row = zlib.compressobj(1), bytes(1 + columns * bits // 8 * {0: 1, 2: 3, 6: 4}[color])
    body = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", columns, rows, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def bomb_dicom(megabytes: int) -> bytes:
    """A deflated data set of that many megabytes of zeros as pixels."""
    data = make_film(16, 16)
    meta_end = 132 + 12 + struct.unpack_from("<I", data, 140)[0]
    meta, body = data[:meta_end], data[meta_end:]
    meta = meta.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99", 1)
    grown = len(b"1.2.840.10008.1.2.1.99") - len(b"1.2.840.10008.1.2.1\0")
    at = meta.find(b"1.2.840.10008.1.2.1.99") - 2
    meta = meta[:at] + struct.pack("<H", 22) + meta[at + 2 :]
    meta = meta[:140] + struct.pack("<I", struct.unpack_from("<I", data, 140)[0] + grown) + meta[144:]
    packer = zlib.compressobj(1, wbits=-15)
    packed = packer.compress(body) + b"".join(packer.compress(bytes(MIB)) for _ in range(megabytes))
    return meta + packed + packer.flush()


def test_a_small_file_of_many_pixels_is_refused_before_it_takes_memory() -> None:
    """Such files took 1.7 and 1.8 GB."""
    bombs = [bomb_dicom(800), bomb_png(30_000, 30_000), bomb_png(7900, 7900, bits=16, color=6)]
    assert all(len(data) < 5 * MIB for data in bombs)
    with FilmReader(LONG) as reader:
        reader.start()
        (process,) = reader.process_ids()
        idle = peak_bytes(process)
        for data in bombs:
            assert code(reader, data) == "too-large"
        assert reader.process_ids() == [process]
        taken = peak_bytes(process) - idle
        print(f"{taken / MIB:.0f} MiB above {idle / MIB:.0f}")
        assert taken < 450 * MIB


def test_a_header_of_empty_items_is_given_up() -> None:
    """63 MB of them: minutes, and gigabytes, of parsing."""
    data = make_film(16, 16)
    at = data.find(b"\x28\x00\x02\x00")  # SamplesPerPixel
    items = b"\x20\x00\x40\x92SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * 8_000_000
    data = data[:at] + items + b"\xfe\xff\xdd\xe0\0\0\0\0" + data[at:]
    assert plain_pixels_at(data) is None
    with FilmReader(SHORT) as reader:
        start = time.monotonic()
        assert code(reader, data) in ("decoder-hung", "too-large")
        assert time.monotonic() - start < 60


def test_limits_are_those_of_the_configuration(dicom_bytes: DicomWriter) -> None:
    film = dicom_bytes(np.arange(10_000, dtype=np.uint16).reshape(100, 100) % 4096, bits_stored=12)
    for limits in (DecodeLimits(max_pixels=9_999), DecodeLimits(max_decoded_bytes=19_999)):
        with FilmReader(limits) as reader:
            assert code(reader, film) == "too-large"
    with FilmReader(DecodeLimits(max_pixels=10_000, max_decoded_bytes=20_000)) as reader:
        assert reader.read(film, preset=DISPLAY).pixels.any()
