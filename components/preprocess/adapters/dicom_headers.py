"""What a film's first bytes say about whose it is, for many files at once."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import MediaStorageDirectoryStorage

from components.cxr.films.dicom import is_dicom, quiet
from components.cxr.storage.storage import Storage

__all__ = ["Header", "read_headers"]

_START = 1 << 16
"""Bytes that hold nearly every header up to Rows; else the whole file is read."""
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
    """Each file with its header, in the order of `sizes`; None for a file that is no DICOM."""
    if storage.folder is not None:  # threads would wait for one another: parsing takes the time
        yield from ((name, _read(storage, name, size)) for name, size in sizes.items())
        return
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        for chunk in _chunks(sizes, 100 * _NUM_THREADS):
            yield from zip(chunk, pool.map(lambda name: _read(storage, name, sizes[name]), chunk), strict=True)


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
        header = _parse(start)
        if size > _START and (header is None or not (header.is_image and header.study_id)):
            header = _parse(storage.read(name).data)
    except OSError:
        header = None
    return header or Header("", "", "", is_image=True)


def _parse(data: bytes) -> Header | None:
    """None when the bytes cannot be parsed."""
    try:
        with quiet():
            dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=_TAGS, force=True)
            study_id, image_id, patient_id = (
                _text(dataset, keyword) for keyword in ("StudyInstanceUID", "SOPInstanceUID", "PatientID")
            )
            named = image_id or dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage
            return Header(study_id, image_id, patient_id, is_image=bool(dataset.get("Rows")) or not named)
    except Exception:  # pydicom raises whatever its parsers met, and quotes the file
        return None


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip(" \0")
