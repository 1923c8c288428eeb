"""What a film's first bytes say about whose it is, for many files at once."""

from __future__ import annotations

import io
import itertools
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from components.cxr.films.dicom import is_dicom, quiet
from components.cxr.storage.storage import DamagedFileError, Storage, cannot_read

__all__ = ["Header", "film_headers", "read_headers"]

_START = 1 << 16
"""Bytes that hold nearly every header up to Rows."""
_MORE = 1 << 20
"""Bytes that are read else."""
_MOST = 1 << 24
"""Bytes that are read where a header is longer still."""
_MOST_ITEMS = 1 << 17
"""Items of sequences, as many as a megabyte holds: pydicom takes up to 10 s for them."""
_ITEMS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
"""Tag (FFFE,E000) in either order of bytes."""
_META = 1 << 10
"""Bytes within which a file's meta names its transfer syntax."""
_NUM_THREADS = 10
"""Requests to a bucket at a time: as many as the client keeps connections."""
_TAGS = ["SOPInstanceUID", "PatientID", "StudyInstanceUID", "Rows"]


class Header(NamedTuple):
    """Ids of a DICOM object, empty where it has none."""

    study_id: str
    """(0020,000D)"""
    image_id: str
    """(0008,0018)"""
    patient_id: str
    """(0010,0020)"""
    is_image: bool
    """Whether it has Rows (0028,0010), or neither that nor an id: the reading of films then says what is wrong."""


def read_headers(storage: Storage, sizes: Mapping[str, int]) -> Iterator[tuple[str, Header | None]]:
    """Each file with its header, in the order of `sizes`; None for a file that is no DICOM.

    Raises:
        UserError: the disk or network fails, which says nothing about the file.
    """
    if storage.folder is not None:  # threads would wait for one another: parsing takes the time
        yield from ((name, _read(storage, name, size)) for name, size in sizes.items())
        return
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        for chunk in _chunks(sizes, 100 * _NUM_THREADS):
            yield from zip(chunk, pool.map(lambda name: _read(storage, name, sizes[name]), chunk), strict=True)


def film_headers(
    storage: Storage, sizes: Mapping[str, int], left_out: Counter[str], *, unread: str
) -> Iterator[tuple[str, Header]]:
    """Each film with its header, the first of those with equal SOPInstanceUIDs.

    Args:
        left_out: where all other files are counted, by reason.
        unread: the reason of a file that is no DICOM.

    Raises:
        UserError: see read_headers.
    """
    seen: set[str] = set()
    for name, header in read_headers(storage, sizes):
        if header is None:
            left_out[unread] += 1
        elif not header.is_image:
            left_out["DICOM objects without an image"] += 1
        elif header.image_id and header.image_id in seen:
            left_out["copies of a film"] += 1
        else:
            seen.add(header.image_id)
            yield name, header


def _chunks(names: Iterable[str], length: int) -> Iterator[list[str]]:
    remaining = iter(names)
    while chunk := list(itertools.islice(remaining, length)):
        yield chunk


def _read(storage: Storage, name: str, size: int) -> Header | None:
    if not size:
        return None
    try:
        start = storage.read_start(name, _START)
        if not is_dicom(start):
            return None
        header, num_read = _parse(start), _START
        for longer in (_MORE, _MOST):
            if size <= num_read or (header is not None and header.is_image and header.study_id):
                break
            known, header, num_read = header, _parse(storage.read_start(name, longer)), longer
            if header is None and known is not None:
                header = known._replace(is_image=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError, DamagedFileError):
        header = None  # the reading of films says what is wrong
    except OSError as error:  # a film whose header is not known would be a patient of its own
        remedy = "Check the disk or the mount and run the same command again."
        raise cannot_read("films", storage.uri, error, remedy=remedy) from None
    return header or Header("", "", "", is_image=True)


def _parse(data: bytes) -> Header | None:
    """None when the bytes cannot be parsed."""
    try:
        with quiet():
            dataset = _dataset(data)
            study_id, image_id, patient_id = (
                _text(dataset, keyword) for keyword in ("StudyInstanceUID", "SOPInstanceUID", "PatientID")
            )
            kind = getattr(dataset, "file_meta", Dataset()).get("MediaStorageSOPClassUID")
            named = image_id or kind == MediaStorageDirectoryStorage
            return Header(study_id, image_id, patient_id, is_image=bool(dataset.get("Rows")) or not named)
    except Exception:  # pydicom raises whatever its parsers met, and quotes the file
        return None


def _dataset(data: bytes) -> Dataset:
    file = io.BytesIO(data)
    if DeflatedExplicitVRLittleEndian.encode() not in data[:_META]:
        _check_items(data)
        return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS, force=True)
    # pydicom would inflate 0.9 MB to 900 MB
    file.seek(132 if data[128:132] == b"DICM" else 0)
    read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
    body = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[file.tell() :], max(len(data), _MORE))
    _check_items(body)
    tags: list[BaseTag | int] = [Tag(name) for name in _TAGS]
    return read_dataset(
        io.BytesIO(body), False, True, stop_when=lambda tag, _vr, _length: tag > tags[-1], specific_tags=tags
    )


def _check_items(data: bytes) -> None:
    if sum(map(data.count, _ITEMS)) > _MOST_ITEMS:
        raise ValueError("too many items")


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip(" \0")
