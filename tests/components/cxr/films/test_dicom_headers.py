"""Headers of many files, read before anything vouches for them."""

from __future__ import annotations

import io
import time
import tracemalloc
import zlib
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid

from components.cxr.films.dicom_headers import Header, read_headers
from components.cxr.storage.storage import open_storage

MIB = 1 << 20


def deflated(num_bytes: int) -> tuple[bytes, Header]:
    """A file whose pixels are that many zeros, and its header."""
    uids = [str(generate_uid()) for _ in range(2)]
    dataset = Dataset()
    dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.PatientID, dataset.Rows = uids[0], uids[1], "P1", 512
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    written = io.BytesIO()
    pydicom.dcmwrite(written, dataset, enforce_file_format=False)
    data = written.getvalue()
    body = zlib.decompress(data[(start := data.index(DeflatedExplicitVRLittleEndian.encode()) + 22) :], -zlib.MAX_WBITS)
    body += b"\xe0\x7f\x10\x00OW\0\0" + num_bytes.to_bytes(4, "little")
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    parts = [deflate.compress(body), *(deflate.compress(bytes(MIB)) for _ in range(num_bytes // MIB)), deflate.flush()]
    return data[:start] + b"".join(parts), Header(uids[1], uids[0], "P1", is_image=True)


def read_one(folder: Path, data: bytes) -> Header | None:
    (folder / "film.dcm").write_bytes(data)
    ((_, header),) = read_headers(open_storage(str(folder)), {"film.dcm": len(data)})
    return header


def test_a_deflated_film_says_whose_it_is(tmp_path: Path) -> None:
    data, header = deflated(MIB)
    assert read_one(tmp_path, data) == header


def test_a_deflated_bomb_takes_bounded_memory(tmp_path: Path) -> None:
    data, header = deflated(600 * MIB)
    assert len(data) < MIB
    tracemalloc.start()
    found = read_one(tmp_path, data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == header, "the first bytes say it"
    assert peak < 200 * MIB


def test_a_deflated_bomb_whose_ids_are_not_at_its_start_is_left_to_the_reading_of_films(tmp_path: Path) -> None:
    data, _ = deflated(600 * MIB)
    head = data[: data.index(DeflatedExplicitVRLittleEndian.encode()) + 22]
    body = zlib.compress(bytes(600 * MIB), 9, wbits=-zlib.MAX_WBITS)
    tracemalloc.start()
    found = read_one(tmp_path, head + body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == Header("", "", "", is_image=True)
    assert peak < 450 * MIB


def test_a_header_of_a_million_empty_items_takes_bounded_time_and_keeps_its_patient(tmp_path: Path) -> None:
    dataset = Dataset()
    dataset.SOPInstanceUID, dataset.PatientID = "1.2.3", "P1"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    written = io.BytesIO()
    pydicom.dcmwrite(written, dataset, enforce_file_format=False)
    meant = bytes(MIB) + b"\x11\0\x10\x10SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\0\0\0\0" * (3 * MIB // 8)
    start = time.process_time()
    assert read_one(tmp_path, written.getvalue() + meant) == Header("", "1.2.3", "P1", is_image=True)
    assert time.process_time() - start < 6
